package git

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/secret"
	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

const (
	// Some servers recognise Git clients by this prefix.
	userAgent    = "git/flux"
	infoRefs     = "/info/refs"
	maxRedirects = 10
	maxReason    = 512
)

// The services of a server: one hands out packs, the other takes them.
const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
)

// remote opens conversations with a service of a repository's server.
type remote interface {
	open(ctx context.Context, service string) (conversation, error)
	close()
}

// conversation is one exchange of the pack protocol, version 0.
type conversation interface {
	// advertisement returns the stream that starts with the references.
	advertisement(ctx context.Context) (io.Reader, error)
	// request sends a request and returns the stream of its answer.
	request(ctx context.Context, body []byte) (io.Reader, error)
	// explain adds what the server said elsewhere to the error of reading a
	// stream.
	explain(err error) error
	close()
}

type httpRemote struct {
	base      *url.URL // without credentials
	transport *http.Transport
	client    *http.Client
}

func newHTTPRemote(u *url.URL, o Options) (*httpRemote, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.Auth.TLS != nil {
		var err error
		if config, err = o.Auth.TLS.ConfigWithSystemRoots(); err != nil {
			return nil, authError(u, err)
		}
	}
	base := *u
	base.User, base.Fragment = nil, ""
	base.Path = strings.TrimSuffix(base.Path, "/")
	proxy := http.ProxyFromEnvironment
	if o.Proxy != nil {
		proxy = http.ProxyURL(o.Proxy)
	}
	transport := &http.Transport{
		Proxy:               proxy,
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 30 * time.Second,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     30 * time.Second,
	}
	bound := &boundCredentials{
		origin:     origin(&base),
		basic:      o.Auth.basic(u),
		bearer:     o.Auth.Bearer,
		clientCert: len(config.Certificates) > 0,
		next:       transport,
	}
	return &httpRemote{
		base:      &base,
		transport: transport,
		client:    &http.Client{Transport: bound, CheckRedirect: checkRedirect},
	}, nil
}

func (h *httpRemote) open(_ context.Context, service string) (conversation, error) {
	base := *h.base
	return &httpConversation{client: h.client, base: &base, service: service}, nil
}

func (h *httpRemote) close() { h.transport.CloseIdleConnections() }

// boundCredentials adds credentials to the requests of one origin and to no
// other, wherever redirects lead.
type boundCredentials struct {
	origin     string
	basic      *secret.Basic
	bearer     string
	clientCert bool
	next       http.RoundTripper
}

func (b *boundCredentials) RoundTrip(r *http.Request) (*http.Response, error) {
	if origin(r.URL) != b.origin {
		if b.clientCert {
			return nil, fmt.Errorf("refusing to present the client certificate for %s to %s", b.origin, origin(r.URL))
		}
		return b.next.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	switch {
	case b.bearer != "":
		r.Header.Set("Authorization", "Bearer "+b.bearer)
	case b.basic != nil:
		r.SetBasicAuth(b.basic.Username, b.basic.Password)
	}
	return b.next.RoundTrip(r)
}

// origin is what credentials are bound to: scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "ssh": defaultSSHPort}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case r.Method != http.MethodGet:
		return errors.New("refusing to follow a redirect of the pack request")
	case len(via) >= maxRedirects:
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	case r.URL.Scheme != "https" && (r.URL.Scheme != "http" || via[0].URL.Scheme == "https"):
		return fmt.Errorf("refusing a redirect from %s to %s", via[0].URL.Scheme, r.URL.Scheme)
	}
	// A location with a user would send that user's credentials.
	r.URL.User = nil
	return nil
}

type httpConversation struct {
	client  *http.Client
	base    *url.URL
	service string
	bodies  []io.ReadCloser
}

func (c *httpConversation) advertisement(ctx context.Context) (io.Reader, error) {
	u := *c.base
	u.Path, u.RawPath = u.Path+infoRefs, ""
	query := u.Query()
	query.Set("service", c.service)
	u.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "*/*")
	answer, err := c.do(r)
	if err != nil {
		return nil, err
	}
	final := answer.Request.URL
	path, ok := strings.CutSuffix(final.Path, infoRefs)
	if !ok {
		return nil, fmt.Errorf("%w answer: redirected to %s, which is not the list of references of a repository", ErrMalformed, final.Redacted())
	}
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/html") {
		return nil, fmt.Errorf("%w answer: %s sent a web page instead of references", ErrMalformed, final.Redacted())
	}
	c.base.Scheme, c.base.Host, c.base.Path, c.base.RawPath = final.Scheme, final.Host, path, ""
	return answer.Body, nil
}

func (c *httpConversation) request(ctx context.Context, body []byte) (io.Reader, error) {
	return c.post(ctx, body, http.Header{})
}

func (c *httpConversation) requestV2(ctx context.Context, body []byte) (io.Reader, error) {
	before := c.bodies
	c.bodies = nil
	r, err := c.post(ctx, body, http.Header{"Git-Protocol": {"version=2"}})
	// The long list is read on if this was in vain.
	c.bodies = append(c.bodies, before...)
	return r, err
}

func (c *httpConversation) post(ctx context.Context, body []byte, header http.Header) (io.Reader, error) {
	u := *c.base
	u.Path, u.RawPath = u.Path+"/"+c.service, ""
	c.close()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header = header
	r.Header.Set("Accept", "application/x-"+c.service+"-result")
	r.Header.Set("Content-Type", "application/x-"+c.service+"-request")
	answer, err := c.do(r)
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

func (c *httpConversation) do(r *http.Request) (*http.Response, error) {
	r.Header.Set("User-Agent", userAgent)
	var ended atomic.Bool
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			ended.Store(errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET))
		},
	}))
	answer, err := c.client.Do(r)
	switch {
	case err != nil && ended.Load():
		// The end of a connection alone does not tell what it was in.
		return nil, fmt.Errorf("the server ended the TLS handshake: %w", err)
	case err != nil:
		return nil, err
	}
	c.bodies = append(c.bodies, answer.Body)
	return answer, statusError(answer)
}

func statusError(r *http.Response) error {
	if r.StatusCode == http.StatusOK {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxReason))
	reason := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "")), " ")
	switch r.StatusCode {
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: %s", ErrAuthentication, reason)
	case http.StatusForbidden:
		return fmt.Errorf("%w: %s", ErrAuthorization, reason)
	case http.StatusNotFound:
		return fmt.Errorf("%w: %s", ErrNotFound, reason)
	}
	err := fmt.Errorf("unexpected client error: unexpected requesting %q status code: %d", secret.RedactURL(r.Request.URL.String()), r.StatusCode)
	return throttle.Wrap(err, r.StatusCode, r.Header, time.Now())
}

func (c *httpConversation) explain(err error) error { return err }

// close reads the bodies to their end, if that is where they are, so that the
// connection can serve the next request.
func (c *httpConversation) close() {
	for _, b := range c.bodies {
		_, _ = io.CopyN(io.Discard, b, 1)
		_ = b.Close()
	}
	c.bodies = nil
}
