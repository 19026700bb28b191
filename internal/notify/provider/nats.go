package provider

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

const (
	natsExample = "nats://nats.nats.svc:4222"
	// natsTimeout is for callers without a deadline, whom the library does not serve, natsPatience for each of several servers.
	natsTimeout, natsPatience = time.Minute, 10 * time.Second
	// natsIncoming is how many bytes a server may send: what it tells of itself, and little more.
	natsIncoming = 1 << 20
)

// nats publishes events as messages (provider 27, wire contract 13). It returns when the server has taken the message.
func nats() Type {
	return Type{
		Name: "nats", Title: "NATS", Group: Bus,
		Address: "URL of the server, such as `" + natsExample + "`; several with commas between them", Channel: "the subject",
		Secret: "`creds`: a credentials file; or `nkey`: the seed of an NKey; or `username` and `password` (all optional)",
		New: func(c Config) (Notifier, error) {
			n, err := newNATS(&c)
			if err != nil {
				return nil, err
			}
			return NotifierFunc(n.notify), nil
		},
	}
}

type natsNotifier struct {
	config  *Config
	servers string
	login   natsgo.Option
}

func newNATS(c *Config) (*natsNotifier, error) {
	if c.Address == "" {
		return nil, errors.New("spec.address is empty: give the URL of the server, such as " + natsExample)
	}
	for server := range strings.SplitSeq(c.Address, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		u, err := url.Parse(server)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return nil, errors.New("spec.address is not the URL of a server: give one such as " + natsExample)
		}
	}
	if c.Channel == "" || strings.ContainsFunc(c.Channel, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, errors.New("spec.channel is not a subject: give one such as flux.events")
	}
	login, err := natsLogin(c)
	if err != nil {
		return nil, err
	}
	return &natsNotifier{config: c, servers: c.Address, login: login}, nil
}

// natsLogin returns how to log in: with a credentials file, or else an NKey, or else user name and password.
func natsLogin(c *Config) (natsgo.Option, error) {
	if creds := c.Secret["creds"]; len(creds) > 0 {
		// What has no decoration is taken for a JWT as it is.
		if token, err := nkeys.ParseDecoratedJWT(creds); err != nil || strings.Count(token, ".") != 2 {
			return nil, errors.New("the creds in the Secret of spec.secretRef are not a credentials file of NATS: they have no JWT")
		}
		if _, err := nkeys.ParseDecoratedNKey(creds); err != nil {
			return nil, errors.New("the creds in the Secret of spec.secretRef are not a credentials file of NATS: they have no NKey")
		}
		return natsgo.UserCredentialBytes(creds), nil
	}
	if seed := bytes.TrimSpace(c.Secret["nkey"]); len(seed) > 0 {
		pair, err := nkeys.FromSeed(seed)
		if err != nil {
			return nil, errors.New("the nkey in the Secret of spec.secretRef is not the seed of an NKey: give the one that begins with SU")
		}
		public, err := pair.PublicKey()
		if err != nil {
			return nil, errors.New("the nkey in the Secret of spec.secretRef has no public key: give the seed that begins with SU")
		}
		return natsgo.Nkey(public, pair.Sign), nil
	}
	if c.Username != "" && c.Password != "" {
		return natsgo.UserInfo(c.Username, c.Password), nil
	}
	return func(*natsgo.Options) error { return nil }, nil
}

func (n *natsNotifier) notify(ctx context.Context, e event.Payload) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding the event: %w", err)
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, natsTimeout)
		defer cancel()
	}
	if err := n.config.HTTP.repeat(ctx, func() error { return judgeNATS(ctx, n.publish(ctx, body)) }); err != nil {
		return fmt.Errorf("publishing the event: %w", err)
	}
	return nil
}

func (n *natsNotifier) publish(ctx context.Context, body []byte) error {
	deadline, _ := ctx.Deadline()
	dialer := &natsDialer{ctx: ctx, proxy: n.config.Proxy}
	defer dialer.close()
	options := []natsgo.Option{
		natsgo.Name(n.config.HTTP.UserAgent), natsgo.Timeout(min(time.Until(deadline), natsPatience)), natsgo.NoReconnect(),
		// Servers that the server names are none that were asked for; names are resolved where the proxy is.
		natsgo.IgnoreDiscoveredServers(), natsgo.SkipHostLookup(), natsgo.SetCustomDialer(dialer), n.login,
		// The library would write to the log; LastError tells the same.
		natsgo.ErrorHandler(func(*natsgo.Conn, *natsgo.Subscription, error) {}),
	}
	if n.config.TLS != nil {
		options = append(options, natsgo.Secure(n.config.TLS))
	}
	connection, err := natsgo.Connect(n.servers, options...)
	if err != nil {
		return errors.Join(err, dialer.err, ctx.Err())
	}
	defer connection.Close()
	if err := connection.Publish(n.config.Channel, body); err != nil {
		return err
	}
	if err := connection.FlushWithContext(ctx); err != nil {
		// What the server has said before it hung up tells more.
		return errors.Join(connection.LastError(), err)
	}
	return connection.LastError()
}

// natsAnswers are what a server refuses with, in words of the library. A server may also answer in words of its own, and nothing of that is
// repeated.
func natsAnswers() []error {
	return []error{
		natsgo.ErrAuthorization, natsgo.ErrAuthExpired, natsgo.ErrAuthRevoked, natsgo.ErrAccountAuthExpired, natsgo.ErrMaxPayload,
		natsgo.ErrSecureConnWanted, natsgo.ErrSecureConnRequired, natsgo.ErrNkeysNotSupported, natsgo.ErrBadSubject,
		natsgo.ErrMixingWebsocketSchemes,
	}
}

// judgeNATS tells what an error means, and which are worth another try.
func judgeNATS(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, natsgo.ErrPermissionViolation) {
		return errors.New("the user may not publish to the subject of spec.channel")
	}
	for _, answer := range natsAnswers() {
		if errors.Is(err, answer) {
			return answer
		}
	}
	late := errors.New("no server answers in time")
	if cause := ctx.Err(); errors.Is(cause, context.DeadlineExceeded) {
		return late
	} else if cause != nil {
		return cause
	}
	for _, passing := range []error{
		natsgo.ErrMaxConnectionsExceeded, natsgo.ErrMaxAccountConnectionsExceeded, natsgo.ErrStaleConnection, natsgo.ErrConnectionClosed,
		natsgo.ErrDisconnected, io.EOF,
	} {
		if errors.Is(err, passing) {
			return &retryable{error: passing}
		}
	}
	if dialed, ok := errors.AsType[*dialError](err); ok {
		return judgeTransport(ctx, dialed.error)
	}
	if untrusted, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return untrusted
	}
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return alert
	}
	broken, ok := errors.AsType[net.Error](err)
	switch {
	case ok && broken.Timeout(), errors.Is(err, natsgo.ErrTimeout), errors.Is(err, natsgo.ErrNoServers):
		return &retryable{error: late}
	case ok:
		return &retryable{error: errors.New("the connection was lost")}
	}
	return errors.New("the server has refused the connection, or does not speak NATS")
}
