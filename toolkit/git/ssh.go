package git

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
	"golang.org/x/net/proxy"
)

const (
	defaultSSHUser = "git"
	defaultSSHPort = "22"
	// farewell is how long a server has to end a conversation after its last
	// byte, or to say why it ended early.
	farewell = 5 * time.Second
)

type sshRemote struct {
	address string
	path    string
	config  *ssh.ClientConfig
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
}

func newSSHRemote(u *url.URL, o Options) (*sshRemote, error) {
	signer, err := parseIdentity(u, o.Auth.SSH)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = defaultSSHPort
	}
	address := net.JoinHostPort(u.Hostname(), port)
	checkHost, err := hostKeyCallback(o.Auth.SSH.KnownHosts)
	if err != nil {
		return nil, authError(u, err)
	}
	user := u.User.Username()
	if user == "" {
		user = defaultSSHUser
	}
	algorithms := o.HostKeyAlgos
	// With authorities the server's certificate may be of any type.
	if len(algorithms) == 0 && !bytes.Contains(o.Auth.SSH.KnownHosts, []byte("@cert-authority")) {
		algorithms = hostKeyAlgorithms(checkHost, address)
	}
	dial, err := sshDialer(o.Proxy)
	if err != nil {
		return nil, err
	}
	return &sshRemote{
		address: address,
		path:    remotePath(u),
		dial:    dial,
		config: &ssh.ClientConfig{
			Config:            ssh.Config{KeyExchanges: o.KexAlgos},
			User:              user,
			Auth:              []ssh.AuthMethod{ssh.PublicKeys(signer)},
			HostKeyCallback:   checkHost,
			HostKeyAlgorithms: algorithms,
			ClientVersion:     "SSH-2.0-flux",
		},
	}, nil
}

// remotePath is the path as the server's git sees it; like git, /~user stands
// for that user's home.
func remotePath(u *url.URL) string {
	if strings.HasPrefix(u.Path, "/~") {
		return u.Path[1:]
	}
	return u.Path
}

// hostKeyCallback checks host keys against known_hosts text. The library reads
// files only, so the text makes a short visit to one.
func hostKeyCallback(text []byte) (ssh.HostKeyCallback, error) {
	f, err := os.CreateTemp("", "known_hosts-*")
	if err != nil {
		return nil, fmt.Errorf("read 'known_hosts': %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read 'known_hosts': %w", err)
	}
	check, err := knownhosts.New(f.Name())
	if err != nil {
		return nil, errors.New(strings.ReplaceAll("'known_hosts' cannot be read: "+err.Error(), f.Name()+":", "line "))
	}
	return check, nil
}

// hostKeyAlgorithms returns the algorithms of the keys known for a host, so
// that the server proves itself with one of them; nil when none is known. RSA
// keys sign with SHA-2 (contract: gitrepository 19).
func hostKeyAlgorithms(check ssh.HostKeyCallback, address string) []string {
	probe, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return nil
	}
	var known *knownhosts.KeyError
	if !errors.As(check(address, &net.TCPAddr{IP: net.IPv4zero}, probe), &known) {
		return nil
	}
	var algorithms []string
	for _, k := range known.Want {
		kinds := []string{k.Key.Type()}
		if k.Key.Type() == ssh.KeyAlgoRSA {
			kinds = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSA}
		}
		for _, kind := range kinds {
			if !slices.Contains(algorithms, kind) {
				algorithms = append(algorithms, kind)
			}
		}
	}
	return algorithms
}

func sshDialer(u *url.URL) (func(context.Context, string, string) (net.Conn, error), error) {
	direct := &net.Dialer{Timeout: 30 * time.Second}
	switch {
	case u == nil:
		return proxy.Dial, nil
	case u.Scheme == "http" || u.Scheme == "https":
		return (&connectProxy{u}).DialContext, nil
	}
	d, err := proxy.FromURL(u, direct)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidAuth, err)
	}
	return d.(proxy.ContextDialer).DialContext, nil
}

// connectProxy dials through an HTTP proxy (RFC 9110, section 9.3.6).
type connectProxy struct{ url *url.URL }

func (p *connectProxy) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, "tcp", proxyAddress(p.url))
	if err != nil {
		return nil, fmt.Errorf("connect to the proxy: %w", err)
	}
	if conn, err = p.handshake(ctx, conn, address); err != nil {
		return nil, fmt.Errorf("connect through the proxy: %w", err)
	}
	return conn, nil
}

func (p *connectProxy) handshake(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	raw := conn
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	conn, err := secureProxy(ctx, p.url, conn)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := p.url.User; user != nil {
		password, _ := user.Password()
		basic := &http.Request{Header: http.Header{}}
		basic.SetBasicAuth(user.Username(), password)
		request.Header.Set("Proxy-Authorization", basic.Header.Get("Authorization"))
	}
	reader := bufio.NewReader(conn)
	err = request.Write(conn)
	var answer *http.Response
	if err == nil {
		answer, err = http.ReadResponse(reader, request)
	}
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the proxy answered %s", answer.Status)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &bufferedConn{Conn: conn, r: reader}, nil
}

func proxyAddress(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}

func secureProxy(ctx context.Context, u *url.URL, conn net.Conn) (net.Conn, error) {
	if u.Scheme != "https" {
		return conn, nil
	}
	secure := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12})
	return secure, secure.HandshakeContext(ctx)
}

// bufferedConn gives back what was read ahead of the tunnel's first byte.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *bufferedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

func (s *sshRemote) close() {}

func (s *sshRemote) open(ctx context.Context, service string) (conversation, error) {
	conn, err := s.dial(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	c := &sshConversation{conn: conn}
	// Closing the connection is the one thing that ends every stall: in the
	// handshake, in a blocked write, behind a dead peer.
	c.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := c.start(s, service); err != nil {
		c.close()
		return nil, sshError(err)
	}
	return c, nil
}

func sshError(err error) error {
	var unknown *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	switch {
	case errors.As(err, &unknown), errors.As(err, &revoked):
		return &propertyError{ErrHostKey, err}
	case strings.Contains(err.Error(), "unable to authenticate"):
		return &propertyError{ErrAuthentication, err}
	}
	return err
}

type sshConversation struct {
	conn    net.Conn
	stop    func() bool
	client  *ssh.Client
	session *ssh.Session
	stdin   io.WriteCloser
	stdout  io.Reader
	stderr  *errorText
	ended   chan struct{}
}

func (c *sshConversation) start(s *sshRemote, service string) error {
	conn, channels, requests, err := ssh.NewClientConn(c.conn, s.address, s.config)
	if err != nil {
		return err
	}
	c.client = ssh.NewClient(conn, channels, requests)
	if c.session, err = c.client.NewSession(); err != nil {
		return err
	}
	c.stderr = &errorText{}
	c.session.Stderr = c.stderr
	if c.stdin, err = c.session.StdinPipe(); err != nil {
		return err
	}
	if c.stdout, err = c.session.StdoutPipe(); err != nil {
		return err
	}
	if err := c.session.Start(service + " " + quote(s.path)); err != nil {
		return err
	}
	c.ended = make(chan struct{})
	go func() {
		defer close(c.ended)
		_ = c.session.Wait()
	}()
	return nil
}

// quote makes one word of a POSIX shell.
func quote(s string) string {
	return "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(s) + "'"
}

func (c *sshConversation) advertisement(context.Context) (io.Reader, error) {
	return c.stdout, nil
}

func (c *sshConversation) request(_ context.Context, body []byte) (io.Reader, error) {
	if _, err := c.stdin.Write(body); err != nil {
		return nil, err
	}
	return bufio.NewReader(c.stdout), nil
}

// explain waits a moment for what the server says on its error channel when it
// gives up: the data stream then just ends.
func (c *sshConversation) explain(err error) error {
	if !errors.Is(err, packp.ErrEmptyInput) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	select {
	case <-c.ended:
	case <-time.After(farewell):
	}
	if said := c.stderr.String(); said != "" {
		return serverError(said)
	}
	return err
}

func (c *sshConversation) close() {
	c.stop()
	if c.stdin != nil {
		// A flush packet in place of a request is how a client takes its leave.
		_ = c.conn.SetWriteDeadline(time.Now().Add(farewell))
		_, _ = c.stdin.Write([]byte("0000"))
	}
	if c.client != nil {
		_ = c.client.Close()
	}
	_ = c.conn.Close()
}

// errorText keeps the beginning of what a server writes to its error channel.
type errorText struct {
	mu   sync.Mutex
	head headBuffer // guarded by mu
}

func (e *errorText) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.head.max = 4 * maxReason
	return e.head.Write(p)
}

func (e *errorText) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return string(bytes.TrimSpace(e.head.content))
}
