package cosign

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	clocktesting "k8s.io/utils/clock/testing"
)

// ocirepository 44: the root is fetched once; a failure is remembered for a
// minute; an old root serves while a new one is not to be had, but not for ever.
func TestPublicRoot(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(time.Unix(0, 0))
	fetched, down := 0, errors.New("down")
	fail := down
	material := &root.BaseTrustedMaterial{}
	p := newPublicRoot(clock, func() (root.TrustedMaterial, error) {
		fetched++
		if fail != nil {
			return nil, fail
		}
		return material, nil
	})
	settled := func() {
		p.mu.Lock()
		running := p.running
		p.mu.Unlock()
		if running != nil {
			<-running
		}
	}
	expect := func(step string, attempts int, want error) {
		t.Helper()
		got, err := p.Get(t.Context())
		settled()
		if fetched != attempts || !errors.Is(err, want) || (got == nil) != (want != nil) {
			t.Errorf("%s: root %v, error %v, %d attempts; want error %v, %d attempts", step, got, err, fetched, want, attempts)
		}
	}
	advance := func(d time.Duration) { clock.SetTime(clock.Now().Add(d)) }

	expect("first failure", 1, down)
	advance(59 * time.Second)
	expect("failure remembered", 1, down)
	advance(time.Second)
	expect("second failure", 2, down)
	advance(time.Minute)
	fail = nil
	expect("success", 3, nil)
	advance(23 * time.Hour)
	expect("cached", 3, nil)
	advance(time.Hour)
	fail = down
	expect("old root while the refresh fails", 4, nil)
	advance(time.Second)
	expect("the failed refresh is remembered", 4, nil)
	advance(7 * 24 * time.Hour)
	expect("too old", 5, down)
	advance(time.Minute)
	fail = nil
	expect("fresh again", 6, nil)
}

// Many objects that need the root at once cost one attempt; whoever gives up
// waiting leaves it to the others.
func TestPublicRootShared(t *testing.T) {
	release, fetched := make(chan struct{}), 0
	p := newPublicRoot(clocktesting.NewFakePassiveClock(time.Unix(0, 0)), func() (root.TrustedMaterial, error) {
		<-release
		fetched++
		return &root.BaseTrustedMaterial{}, nil
	})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Get(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v; want that of the context", err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := p.Get(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	all.Wait()
	if fetched != 1 {
		t.Errorf("%d attempts", fetched)
	}
}

// The public service is asked through the given transport, and its failure is
// told with a remedy.
func TestPublicRootTransport(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer server.Close()
	p := NewPublicRoot(redirected(server.URL))
	_, err := p.Get(t.Context())
	if err == nil || !strings.Contains(err.Error(), "trustedRootSecretRef") {
		t.Errorf("error %v; want a remedy", err)
	}
	if asked.Load() == 0 {
		t.Error("the transport was not used")
	}
}

// redirected sends all requests to one server.
type redirected string

func (to redirected) RoundTrip(r *http.Request) (*http.Response, error) {
	again, err := http.NewRequestWithContext(r.Context(), r.Method, string(to)+r.URL.Path, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultTransport.RoundTrip(again)
}
