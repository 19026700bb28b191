package cluster

import (
	"context"
	"sync"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// Yielding returns a context for requests to the cluster. While they are slow, the work slot of the run is given to others: whoever runs
// another cluster decides how long it takes, and must not decide how long everybody else waits (reliability 043, 081). The function
// waits until the run has its slot again. Waits on the context are to be parked by Parking.
func (c *Cluster[W]) Yielding(ctx context.Context, park Park) (context.Context, func()) {
	if !c.Remote() {
		return ctx, func() {}
	}
	y := &yield{park: park}
	return kube.WhenSlow(ctx, func() func() { return y.begin(ctx) }), y.wait
}

// Parking is a Park for waits within Yielding: their requests have no slot to give.
func Parking(park Park) Park {
	return func(ctx context.Context, wait func(context.Context) error) error {
		return park(kube.WhenSlow(ctx, nil), wait)
	}
}

// yield parks a run beside its work while requests of it are slow.
type yield struct {
	park Park

	mu    sync.Mutex // guards what follows
	slow  int        // requests under way
	quiet chan struct{}
	back  chan struct{}
}

// begin gives the slot back with the first slow request; end, after the last of them, takes it again.
func (y *yield) begin(ctx context.Context) (end func()) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.slow++; y.slow == 1 {
		y.leave(ctx)
	}
	back := y.back
	return func() {
		y.mu.Lock()
		if y.slow--; y.slow == 0 {
			close(y.quiet)
		}
		y.mu.Unlock()
		<-back
	}
}

// leave parks the run beside its work; the caller holds mu. News does not end this wait: an apply is not broken off half way.
func (y *yield) leave(ctx context.Context) {
	before, quiet, back := y.back, make(chan struct{}), make(chan struct{})
	y.quiet, y.back = quiet, back
	go func() {
		defer close(back)
		if before != nil {
			// A slot that is not back yet cannot be given again.
			<-before
		}
		// The only error is the end of the process, which the work itself comes to feel.
		_ = y.park(ctx, func(context.Context) error {
			<-quiet
			return nil
		})
	}()
}

// wait returns when nothing is parked any more.
func (y *yield) wait() {
	y.mu.Lock()
	back := y.back
	y.mu.Unlock()
	if back != nil {
		<-back
	}
}
