// Package oci talks to OCI registries: it resolves references, reads manifests
// and layers, and pushes artifacts.
//
// Registries are not trusted: what they send is bounded by Limits and checked
// against its digest, credentials go to the registry and to the token service
// it names and nowhere redirects lead, and layers are never fetched from
// addresses a manifest names.
package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// URLPrefix starts the URL of every repository.
const URLPrefix = "oci://"

// UserAgent is what registries see (contract: ocirepository 27).
const UserAgent = "flux/v2"

// Options describe how registries are reached.
type Options struct {
	// Keychain holds the credentials; nil: anonymous.
	Keychain authn.Keychain
	// TLS adds authorities to those of the system, and a client certificate; nil:
	// neither (contract: ocirepository 24).
	TLS *secret.TLSMaterial
	// Insecure allows plain HTTP where HTTPS does not answer. Without TLS,
	// certificates are not checked either (contract: ocirepository 25).
	Insecure bool
	// Proxy is an http, https or socks5 proxy with its credentials; nil leaves the
	// choice to the environment (contract: ocirepository 26).
	Proxy *url.URL
	// UserAgent defaults to the constant of this name.
	UserAgent string
	// Limits bound what registries may send; zero fields take the default.
	Limits Limits
	// Pool shares connections, sessions and answers with other clients; nil: the
	// client has one of its own.
	Pool *Pool
	// Fresh is set where a change that has just been made must be seen: answers to
	// questions asked before New was called do not count.
	Fresh bool
	// Since is when there was something to see, where that is known: answers to
	// questions asked before do not count. Zero: all do.
	Since time.Time
}

// Limits bound what is read from a registry.
type Limits struct {
	// Tags is the number of tags of a repository.
	Tags int
	// TagBytes is the size of one page of the list of tags.
	TagBytes int64
	// ManifestBytes is the size of a manifest or an index.
	ManifestBytes int64
	// AnnotationBytes is the size of all annotations of a manifest: they go into the
	// status of objects.
	AnnotationBytes int
	// Layers is the number of layers of a manifest.
	Layers int
	// LayerBytes is the size of a layer as it is stored.
	LayerBytes int64
}

// DefaultLimits admits every repository that can sensibly be reconciled.
func DefaultLimits() Limits {
	return Limits{
		Tags:            200_000,
		TagBytes:        16 << 20,
		ManifestBytes:   4 << 20,
		AnnotationBytes: 256 << 10,
		Layers:          512,
		LayerBytes:      2 << 30,
	}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	return Limits{
		Tags:            cmp.Or(l.Tags, d.Tags),
		TagBytes:        cmp.Or(l.TagBytes, d.TagBytes),
		ManifestBytes:   cmp.Or(l.ManifestBytes, d.ManifestBytes),
		AnnotationBytes: cmp.Or(l.AnnotationBytes, d.AnnotationBytes),
		Layers:          cmp.Or(l.Layers, d.Layers),
		LayerBytes:      cmp.Or(l.LayerBytes, d.LayerBytes),
	}
}

// Client reads from and writes to registries. Several goroutines may use it.
type Client struct {
	options   Options
	pool      *Pool
	link      *link
	notBefore time.Time
}

// New checks the options and returns a client; it does not connect.
func New(o Options) (*Client, error) {
	o.Limits = o.Limits.orDefault()
	o.UserAgent = cmp.Or(o.UserAgent, UserAgent)
	if o.Keychain == nil {
		o.Keychain = authn.NewMultiKeychain()
	}
	c := &Client{options: o, pool: o.Pool, notBefore: o.Since}
	if c.pool == nil {
		c.pool = NewPool(nil)
	}
	if o.Fresh {
		c.notBefore = c.pool.clock.Now()
	}
	var err error
	if c.link, err = c.pool.link(o); err != nil {
		return nil, fmt.Errorf("configure TLS: %w", err)
	}
	return c, nil
}

// ParseRepository parses the URL of a repository, oci://<host>/<path>; insecure
// allows plain HTTP. Its errors have the property ErrInvalidURL (contract:
// ocirepository 6, 8).
func ParseRepository(url string, insecure bool) (name.Repository, error) {
	plain, ok := strings.CutPrefix(url, URLPrefix)
	if !ok {
		return name.Repository{}, &propertyError{ErrInvalidURL, errors.New("URL must be in format 'oci://<domain>/<org>/<repo>'")}
	}
	var options []name.Option
	if insecure {
		options = append(options, name.Insecure)
	}
	repo, err := name.NewRepository(plain, options...)
	if err != nil {
		return name.Repository{}, &propertyError{ErrInvalidURL, err}
	}
	return repo, nil
}

// Repository is ParseRepository with what the client allows.
func (c *Client) Repository(url string) (name.Repository, error) {
	return ParseRepository(url, c.options.Insecure)
}

// NameOptions are the options names of this client's repositories are parsed
// with: they decide about plain HTTP.
func (c *Client) NameOptions() []name.Option {
	if c.options.Insecure {
		return []name.Option{name.Insecure}
	}
	return nil
}

// RemoteOptions lets other code, such as checks of signatures, talk to
// registries as the client does: over its connections, with its credentials,
// proxy and limits (contract: ocirepository 58, 61).
func (c *Client) RemoteOptions(ctx context.Context) []remote.Option {
	return append(c.remoteOptions(), remote.WithContext(ctx), remote.WithAuthFromKeychain(c.options.Keychain))
}

// remoteOptions leave the retries to the caller, who knows when the next look is
// due and must not wait with a work slot.
func (c *Client) remoteOptions() []remote.Option {
	return []remote.Option{
		remote.WithTransport(&guard{link: c.link, limits: c.options.Limits, insecure: c.options.Insecure, clock: c.pool.clock}),
		remote.WithUserAgent(c.options.UserAgent),
		remote.WithRetryStatusCodes(),
		remote.WithRetryPredicate(func(error) bool { return false }),
		remote.WithJobs(concurrentLayers),
		remote.WithPageSize(tagsPerPage),
	}
}

// concurrentLayers is how many layers are read at once with the same credentials.
const concurrentLayers = 32

// attempts is how often a call is made when what failed may be the session and
// not the call.
const attempts = 2

// do runs f with a session for the repository. A session that a failure made
// doubtful is not used again.
func (c *Client) do(ctx context.Context, repo name.Repository, f func(*remote.Puller) error) error {
	for attempt := 1; ; attempt++ {
		s, err := c.session(ctx, repo)
		if err != nil {
			return err
		}
		err = f(s.puller)
		used := s.used.Swap(true)
		if err == nil {
			return nil
		}
		c.pool.doubt(s, err)
		// What the registry expects may have changed since the session began.
		outdated := used && statusOf(err) == unauthorized
		if attempt < attempts && ctx.Err() == nil && (outdated || gaveUp(err)) {
			continue
		}
		return c.explain(err, s)
	}
}

// gaveUp tells of an error that is due to the context of a caller: of the one
// who opened the session, when the own has not ended.
func gaveUp(err error) bool {
	var network *net.OpError
	return (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) && !errors.As(err, &network)
}

// explain gives an error its property, and keeps secrets and books out of its text.
func (c *Client) explain(err error, s *session) error {
	secrets := s.secrets
	if p := c.options.Proxy; p != nil && p.User != nil {
		password, _ := p.User.Password()
		secrets = append(secret.Login(p.User.Username(), password), secrets...)
	}
	err = &boundedError{err: err, secrets: secrets}
	switch statusOf(err) {
	case unauthorized, forbidden:
		return &propertyError{ErrUnauthorized, err}
	case notFound:
		return &propertyError{ErrNotFound, err}
	}
	return err
}
