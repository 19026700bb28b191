package helmrepo

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
)

// cacheLab is a cache whose indexes are read from nowhere.
type cacheLab struct {
	*Cache
	t     *testing.T
	clock *testclock.FakeClock
	opens int
}

func newCacheLab(t *testing.T, o CacheOptions) *cacheLab {
	t.Helper()
	l := &cacheLab{t: t, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))}
	o.Clock = l.clock
	var err error
	if l.Cache, err = NewCache(o); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *cacheLab) open(context.Context) (io.ReadCloser, error) {
	l.opens++
	return io.NopCloser(strings.NewReader(demoIndex)), nil
}

// want asks for an index, and expects that it is read, or not.
func (l *cacheLab) want(digest string, reads int) {
	l.t.Helper()
	l.opens = 0
	index, err := l.Index(l.t.Context(), key(), digest, l.open)
	if err != nil || index == nil || l.opens != reads {
		l.t.Errorf("%s: read %d times (error %v), want %d", digest, l.opens, err, reads)
	}
}

// helmrepository 31, 51-53: an index is read once, as long as it is asked for.
func TestCache(t *testing.T) {
	l := newCacheLab(t, CacheOptions{MaxItems: 2, TTL: 15 * time.Minute})
	l.want("a", 1)
	l.clock.Step(10 * time.Minute)
	l.want("a", 0)
	l.clock.Step(10 * time.Minute)
	l.want("a", 0)
	l.clock.Step(15 * time.Minute)
	l.want("a", 1)
	l.want("b", 1)
	l.want("a", 0)
	l.want("c", 1)
	l.want("a", 0)
	l.want("b", 1)
	if l.order.Len() != 2 || l.bytes <= 0 {
		t.Errorf("%d indexes of %d bytes", l.order.Len(), l.bytes)
	}
	l.clock.Step(15 * time.Minute)
	l.purge()
	if l.order.Len() != 0 || len(l.items) != 0 || l.bytes != 0 {
		t.Errorf("after a purge: %d indexes of %d bytes", l.order.Len(), l.bytes)
	}
}

// Without the flag an index is kept for the charts that wake together.
func TestCacheIsOff(t *testing.T) {
	registry := prometheus.NewRegistry()
	l := newCacheLab(t, CacheOptions{TTL: 15 * time.Minute, Registerer: registry})
	l.want("a", 1)
	l.want("a", 0)
	l.clock.Step(30 * time.Second)
	l.want("a", 1)
	if n, err := testutil.GatherAndCount(registry); err != nil || n != 0 {
		t.Errorf("%d series (error %v)", n, err)
	}
}

// The memory is bounded, whatever the flag says.
func TestCacheBytes(t *testing.T) {
	l := newCacheLab(t, CacheOptions{MaxItems: 1000, TTL: time.Hour})
	large := &Index{names: cacheBytes / 2}
	l.put("a", large)
	l.put("b", large)
	l.put("c", large)
	if l.get("a") != nil || l.get("b") == nil || l.get("c") == nil || l.bytes > cacheBytes {
		t.Errorf("%d bytes are kept", l.bytes)
	}
	l.put("d", &Index{names: cacheBytes + 1})
	if l.order.Len() != 0 || l.bytes != 0 {
		t.Errorf("an index is kept that is larger than all may be: %d", l.bytes)
	}
}

// helmrepository 32; wire 10
func TestCacheMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	l := newCacheLab(t, CacheOptions{MaxItems: 1, TTL: time.Hour, Registerer: registry})
	l.want("a", 1)
	l.want("a", 0)
	want := `
# HELP gotk_cache_events_total Total number of cache retrieval events for a Gitops Toolkit resource reconciliation.
# TYPE gotk_cache_events_total counter
gotk_cache_events_total{event_type="cache_hit",name="repo",namespace="apps"} 1
gotk_cache_events_total{event_type="cache_miss",name="repo",namespace="apps"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	l.Forget(types.NamespacedName{Namespace: "apps", Name: "repo"})
	if n, err := testutil.GatherAndCount(registry); err != nil || n != 0 {
		t.Errorf("%d series of an object that is gone (error %v)", n, err)
	}
	if _, err := NewCache(CacheOptions{MaxItems: 1, Registerer: registry}); err == nil {
		t.Error("two caches count in one series")
	}
}

// Charts that wake together read an index once, and a failure is nobody else's for long.
func TestCacheShares(t *testing.T) {
	l := newCacheLab(t, CacheOptions{})
	release, opened := make(chan struct{}), make(chan struct{}, 10)
	var wg sync.WaitGroup
	open := func(context.Context) (io.ReadCloser, error) {
		opened <- struct{}{}
		<-release
		return io.NopCloser(strings.NewReader(demoIndex)), nil
	}
	for range 5 {
		wg.Go(func() {
			if _, err := l.Index(t.Context(), key(), "a", open); err != nil {
				t.Error(err)
			}
		})
	}
	<-opened
	close(release)
	wg.Wait()
	if n := len(opened); n != 0 {
		t.Errorf("the index was read %d more times", n)
	}
	broken := errors.New("broken")
	if _, err := l.Index(t.Context(), key(), "b", func(context.Context) (io.ReadCloser, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	l.want("b", 1)
}

// The end of one caller's context does not fail the others.
func TestCacheOutlivesACaller(t *testing.T) {
	l := newCacheLab(t, CacheOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan struct{})
	first := make(chan error, 1)
	go func() {
		_, err := l.Index(ctx, key(), "a", func(ctx context.Context) (io.ReadCloser, error) {
			close(opened)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		first <- err
	}()
	<-opened
	cancel()
	if _, err := l.Index(t.Context(), key(), "a", l.open); err != nil {
		t.Errorf("error %v", err)
	}
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

// Start removes what is old until the process ends.
func TestCachePurges(t *testing.T) {
	l := newCacheLab(t, CacheOptions{PurgeInterval: time.Minute})
	l.want("a", 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Start(ctx) }()
	for left := 1; left > 0; {
		l.clock.Step(time.Minute)
		runtime.Gosched()
		l.mu.Lock()
		left = len(l.items)
		l.mu.Unlock()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
