package cluster

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/cluster/clustertest"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// slots counts how often a slot was given and taken, and fails when it is given twice.
type slots struct {
	t     *testing.T
	mu    sync.Mutex
	held  bool
	parks int
}

func (s *slots) park(ctx context.Context, wait func(context.Context) error) error {
	s.set(true, false)
	err := wait(ctx)
	s.set(false, true)
	return err
}

func (s *slots) set(before, after bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != before {
		s.t.Errorf("the slot is held: %t", s.held)
	}
	s.held = after
	if !after {
		s.parks++
	}
}

// reliability 081: however many requests are slow at once, the slot is given back once, and is there again when the work goes on.
func TestYield(t *testing.T) {
	s := &slots{t: t, held: true}
	y := &yield{park: s.park}
	for range 100 {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { y.begin(t.Context())() })
		}
		all.Wait()
		y.wait()
		s.mu.Lock()
		if !s.held {
			t.Fatal("the work goes on without a slot")
		}
		s.mu.Unlock()
	}
	if s.parks == 0 {
		t.Error("the slot was never given back")
	}
}

// reliability 043, 081: a request that hangs gives the slot back, until it has ended; one to the controller's own cluster never does.
func TestYielding(t *testing.T) {
	s := &slots{t: t, held: true}
	parked, answer := make(chan struct{}), make(chan struct{})
	remote := clustertest.NewServer(t, "one")
	remote.Instead = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/kube-system") {
			return false
		}
		<-answer
		return false
	}
	l := newLab(t, func(o *Options) { o.Remote.Slow = time.Millisecond })
	l.secret("fleet", map[string]string{"value": remote.Kubeconfig()})
	r := to("a", "fleet")
	c := l.reach(r)
	ctx, done := c.Yielding(t.Context(), func(ctx context.Context, wait func(context.Context) error) error {
		return s.park(ctx, func(ctx context.Context) error {
			close(parked)
			return wait(ctx)
		})
	})
	ended := make(chan error)
	go func() {
		_, err := c.AccountExists(ctx, kube.Identity{Namespace: "apps", ServiceAccount: "team"})
		ended <- err
	}()
	<-parked
	close(answer)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	done()
	if !s.held || s.parks != 1 {
		t.Errorf("the slot is held: %t, after %d parks", s.held, s.parks)
	}
	own, done := l.Home().Yielding(t.Context(), s.park)
	done()
	if own != t.Context() {
		t.Error("requests to the own cluster have a slot to give")
	}
}

// A wait that is parked has no slot that its requests could give: none is asked for, though a later request was found slow meanwhile.
func TestParking(t *testing.T) {
	asked, noticed := make(chan struct{}, 1), make(chan struct{})
	remote := clustertest.NewServer(t, "one")
	remote.Instead = func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/kube-system") {
			asked <- struct{}{}
			<-noticed
		}
		return false
	}
	l := newLab(t, func(o *Options) { o.Remote.Slow = time.Millisecond })
	l.secret("fleet", map[string]string{"value": remote.Kubeconfig()})
	c := l.reach(to("a", "fleet"))
	ask := func(ctx context.Context) error {
		_, err := c.AccountExists(ctx, kube.Identity{Namespace: "apps", ServiceAccount: "team"})
		return err
	}
	var given atomic.Int32
	ended := make(chan error, 1)
	go func() {
		ctx := kube.WhenSlow(t.Context(), func() func() { given.Add(1); return func() {} })
		ended <- Parking(l.park)(ctx, ask)
	}()
	<-asked
	later := ask(kube.WhenSlow(t.Context(), func() func() { close(noticed); return func() {} }))
	if err := errors.Join(<-ended, later); err != nil || given.Load() != 0 {
		t.Errorf("%v; the slot was given %d times", err, given.Load())
	}
}
