package oci

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/secret"
	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

const (
	// memory is how long the answer to a question serves others who ask the same.
	memory = 3 * time.Second
	// sessionAge is when a registry is asked anew how it wants to be talked to.
	sessionAge = time.Hour
	// maxLinks, maxSessions and maxProbes bound what a pool keeps.
	maxLinks, maxSessions, maxProbes = 256, 1024, 4096
)

// Pool is what clients share: connections of equal TLS and proxy settings;
// sessions, which are what a registry said about signing in and the token it
// gave, of equal credentials too; and answers to equal questions. Its use costs
// nothing but memory, and no client sees what credentials other than its own
// have opened.
type Pool struct {
	clock clock.PassiveClock

	mu       sync.Mutex // guards what follows
	links    map[digest]*link
	sessions map[sessionKey]*session
	probes   map[probeKey]*probe
}

// NewPool returns an empty pool; a nil clock is the system's.
func NewPool(c clock.PassiveClock) *Pool {
	if c == nil {
		c = clock.RealClock{}
	}
	return &Pool{clock: c, links: map[digest]*link{}, sessions: map[sessionKey]*session{}, probes: map[probeKey]*probe{}}
}

type digest [sha256.Size]byte

func digestOf(parts ...any) digest {
	h := sha256.New()
	// The parts are texts, flags and bytes, which always have a JSON form.
	_ = json.NewEncoder(h).Encode(parts)
	return digest(h.Sum(nil))
}

// link is a set of connections.
type link struct {
	key digest
	// transport has the client certificate, stranger does not: it is for where
	// redirects lead.
	transport, stranger *http.Transport
}

func (l *link) close() {
	l.transport.CloseIdleConnections()
	l.stranger.CloseIdleConnections()
}

// link returns the connections for the options.
func (p *Pool) link(o Options) (*link, error) {
	proxy := ""
	if o.Proxy != nil {
		proxy = o.Proxy.String()
	}
	key := digestOf(o.TLS, o.Insecure, proxy, o.UserAgent, o.Limits)
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.links[key]; l != nil {
		return l, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case o.TLS != nil:
		var err error
		if config, err = o.TLS.ConfigWithSystemRoots(); err != nil {
			return nil, err
		}
	case o.Insecure:
		config.InsecureSkipVerify = true
	}
	l := &link{key: key, transport: newTransport(o, config)}
	l.stranger = l.transport
	if len(config.Certificates) > 0 {
		config = config.Clone()
		config.Certificates = nil
		l.stranger = newTransport(o, config)
	}
	for other := range p.links {
		if len(p.links) < maxLinks {
			break
		}
		p.links[other].close()
		delete(p.links, other)
	}
	p.links[key] = l
	return l, nil
}

func newTransport(o Options, config *tls.Config) *http.Transport {
	proxy := http.ProxyFromEnvironment
	if o.Proxy != nil {
		proxy = http.ProxyURL(o.Proxy)
	}
	return &http.Transport{
		Proxy:                 proxy,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   30 * time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		// Digests are those of the bytes as they are stored.
		DisableCompression: true,
	}
}

// sessionKey tells sessions apart: no two credentials share one.
type sessionKey struct {
	link, login digest
	registry    string
}

// session is a conversation with a registry that knows how to sign in.
type session struct {
	key     sessionKey
	puller  *remote.Puller
	secrets []string
	born    time.Time
	// used is set once a call has ended: what fails then can be due to what has
	// changed since.
	used atomic.Bool
}

// session returns the session of the client's credentials for the repository.
func (c *Client) session(ctx context.Context, repo name.Repository) (*session, error) {
	auth, err := authn.Resolve(ctx, c.options.Keychain, repo)
	if err != nil {
		return nil, fmt.Errorf("find credentials for %s: %w", repo.RegistryStr(), err)
	}
	login, err := authn.Authorization(ctx, auth)
	if err != nil {
		return nil, fmt.Errorf("find credentials for %s: %w", repo.RegistryStr(), err)
	}
	key := sessionKey{
		link: c.link.key, registry: repo.Scheme() + "://" + repo.RegistryStr(),
		login: digestOf(login.Username, login.Password, login.Auth, login.IdentityToken, login.RegistryToken),
	}
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	if s := p.sessions[key]; s != nil && now.Sub(s.born) < sessionAge {
		return s, nil
	}
	puller, err := remote.NewPuller(append(c.remoteOptions(), remote.WithAuth(auth))...)
	if err != nil {
		return nil, fmt.Errorf("configure the registry client: %w", err)
	}
	for other := range p.sessions {
		if len(p.sessions) < maxSessions {
			break
		}
		delete(p.sessions, other)
	}
	s := &session{key: key, puller: puller, born: now, secrets: append(secret.Login(login.Username, login.Password), login.Auth, login.IdentityToken, login.RegistryToken)}
	p.sessions[key] = s
	return s, nil
}

// doubt ends a session unless its failure was a plain answer.
func (p *Pool) doubt(s *session, err error) {
	if statusOf(err) == notFound || throttle.Delay(err) > 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[s.key] == s {
		delete(p.sessions, s.key)
	}
}

// probeKey tells questions apart.
type probeKey struct {
	session    sessionKey
	repository string
	reference  Reference
}

// probe is a question, with its answer once done is closed.
type probe struct {
	asked    time.Time
	done     chan struct{}
	answered time.Time
	resolved Resolved
	err      error
	// gone tells that the one who asked could not wait for the answer.
	gone bool
}

// ask answers a question, with what another caller was or is being told where
// it was asked late enough.
func (p *Pool) ask(ctx context.Context, key probeKey, notBefore time.Time, f func() (Resolved, error)) (Resolved, error) {
	for {
		q, mine := p.probe(key, notBefore)
		if mine {
			return p.answer(ctx, key, q, f)
		}
		select {
		case <-q.done:
		case <-ctx.Done():
			return Resolved{}, context.Cause(ctx)
		}
		if !q.gone {
			return q.resolved, q.err
		}
	}
}

// probe returns the question to wait for, or one that the caller has to answer.
func (p *Pool) probe(key probeKey, notBefore time.Time) (q *probe, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	if q := p.probes[key]; q != nil && q.asked.After(notBefore) && (q.answered.IsZero() || now.Sub(q.answered) < memory) {
		return q, false
	}
	if len(p.probes) >= maxProbes {
		for other, q := range p.probes {
			if !q.answered.IsZero() {
				delete(p.probes, other)
			}
		}
	}
	q = &probe{asked: now, done: make(chan struct{})}
	p.probes[key] = q
	return q, true
}

// answer asks the registry, tells those who wait, and remembers what is no
// failure.
func (p *Pool) answer(ctx context.Context, key probeKey, q *probe, f func() (Resolved, error)) (Resolved, error) {
	// A panic leaves the question to the next one who asks.
	q.gone = true
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		q.answered = p.clock.Now()
		if (q.gone || q.err != nil) && p.probes[key] == q {
			delete(p.probes, key)
		}
		close(q.done)
	}()
	q.resolved, q.err = f()
	q.gone = q.err != nil && ctx.Err() != nil
	return q.resolved, q.err
}
