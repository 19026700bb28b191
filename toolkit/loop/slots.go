package loop

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// slots are the work slots of a controller: a run holds one while it works and none while it is parked, so
// that a hundred waits do not delay the hundred-and-first object.
type slots chan struct{}

func newSlots(n int) slots { return make(slots, n) }

func (s slots) take(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s slots) give() { <-s }

// parking knows the parked runs, so that a newer event can end their wait. controller-runtime redelivers a
// key only after Reconcile returned, therefore the interruption is ours to signal.
type parking struct {
	mu     sync.Mutex // guards parked
	parked map[types.NamespacedName]context.CancelCauseFunc
}

func newParking() *parking {
	return &parking{parked: map[types.NamespacedName]context.CancelCauseFunc{}}
}

func (p *parking) enter(key types.NamespacedName, cancel context.CancelCauseFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parked[key] = cancel
}

func (p *parking) leave(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.parked, key)
}

// interrupt ends the wait of a key, if it is parked.
func (p *parking) interrupt(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cancel, ok := p.parked[key]; ok {
		cancel(ErrInterrupted)
	}
}
