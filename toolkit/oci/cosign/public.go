package cosign

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tuf"
	"github.com/theupdateframework/go-tuf/v2/metadata/fetcher"
	"k8s.io/utils/clock"
)

const (
	// retryAfter spares the public service (contract: ocirepository 44).
	retryAfter   = time.Minute
	refreshAfter = 24 * time.Hour
	// expireAfter keeps whoever cuts off the service from freezing what was once
	// trusted.
	expireAfter = 7 * 24 * time.Hour

	downloadTime = 20 * time.Second
	retries      = 2
)

// PublicRoot is the trusted root of the public Sigstore service, kept in memory
// and refreshed once a day. One serves a whole process.
type PublicRoot struct {
	fetch func() (root.TrustedMaterial, error)
	clock clock.PassiveClock

	mu      sync.Mutex // guards what follows
	root    root.TrustedMaterial
	fetched time.Time
	err     error
	next    time.Time     // no attempt is made before
	running chan struct{} // closed at the end of the attempt under way
}

// NewPublicRoot returns a root that is fetched when it is first needed, through
// the transport; nil is the default one.
func NewPublicRoot(transport http.RoundTripper) *PublicRoot {
	return newPublicRoot(clock.RealClock{}, func() (root.TrustedMaterial, error) {
		download := fetcher.NewDefaultFetcher()
		download.SetHTTPClient(&http.Client{Transport: transport, Timeout: downloadTime})
		download.SetRetry(time.Second, retries)
		options := tuf.DefaultOptions().WithDisableLocalCache().WithFetcher(download)
		trusted, err := root.FetchTrustedRootWithOptions(options)
		if err != nil {
			return nil, err
		}
		return trusted, nil
	})
}

func newPublicRoot(c clock.PassiveClock, fetch func() (root.TrustedMaterial, error)) *PublicRoot {
	return &PublicRoot{fetch: fetch, clock: c}
}

// Get returns the root, and fetches it if there is none or it is old. A failure
// is remembered for a minute; what is younger than a week stays good meanwhile
// (contract: ocirepository 44).
func (p *PublicRoot) Get(ctx context.Context) (root.TrustedMaterial, error) {
	p.mu.Lock()
	now := p.clock.Now()
	if p.running == nil && !now.Before(p.next) {
		p.running = make(chan struct{})
		go p.refresh(p.running)
	}
	running := p.running
	trusted, err := p.usable(now)
	p.mu.Unlock()
	if trusted != nil || running == nil {
		return trusted, err
	}
	select {
	case <-running:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the public trusted root: %w", ctx.Err())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.usable(p.clock.Now())
}

func (p *PublicRoot) usable(now time.Time) (root.TrustedMaterial, error) {
	if p.root != nil && now.Sub(p.fetched) < expireAfter {
		return p.root, nil
	}
	return nil, p.err
}

func (p *PublicRoot) refresh(done chan struct{}) {
	trusted, err := p.fetch()
	if err == nil && trusted == nil {
		err = errors.New("it is empty")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	if err != nil {
		p.err = fmt.Errorf("fetching the public trusted root: %w; give one in trustedRootSecretRef where the public service cannot be reached", err)
		p.next = now.Add(retryAfter)
	} else {
		p.root, p.fetched, p.err, p.next = trusted, now, nil, now.Add(refreshAfter)
	}
	p.running = nil
	close(done)
}
