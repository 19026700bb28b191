package loop

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
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

// parking knows the runs under way, so that a newer event can end their wait. controller-runtime redelivers a
// key only after Reconcile returned, therefore the interruption is ours to signal. An event that comes before the
// run waits is kept for the wait: nothing would end it otherwise.
type parking struct {
	mu   sync.Mutex // guards runs and what is in them
	runs map[types.NamespacedName]*stay
}

// stay is one run under way.
type stay struct {
	read     bool                    // the run has read its object, and now reads what else it needs
	seen     version                 // of the object that the run works on
	reads    *reads                  // what else it has read
	outdated bool                    // something newer is to be done
	cancel   context.CancelCauseFunc // ends the wait; nil: the run does not wait
}

// version is what tells one wish about an object from another.
type version struct {
	generation int64
	token      string
}

func versionOf(obj client.Object) version {
	return version{obj.GetGeneration(), obj.GetAnnotations()[meta.ReconcileRequestAnnotation]}
}

// after reports whether v asks for something that other does not know.
func (v version) after(other version, tokens bool) bool {
	return v.generation > other.generation || tokens && v.token != "" && v.generation == other.generation && v.token != other.token
}

func newParking() *parking {
	return &parking{runs: map[types.NamespacedName]*stay{}}
}

// begin registers a run that is about to read its object. The reads of the context it returns are those of the run.
func (p *parking) begin(ctx context.Context, key types.NamespacedName) context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &stay{reads: &reads{versions: map[types.UID]string{}}}
	p.runs[key] = s
	return context.WithValue(ctx, readsKey{}, s.reads)
}

// read tells the object that the run works on. Whatever else has changed until now, the run is yet to read.
func (p *parking) read(key types.NamespacedName, obj client.Object, tokens bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.runs[key]; s != nil {
		v := versionOf(obj)
		s.read, s.outdated = true, s.seen.after(v, tokens)
		s.seen = v
	}
}

func (p *parking) end(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.runs, key)
}

// enter lets cancel end the wait of a run, at once if the run is outdated already.
func (p *parking) enter(key types.NamespacedName, cancel context.CancelCauseFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.runs[key]; s != nil {
		s.cancel = cancel
		s.endWait()
	}
}

func (p *parking) leave(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.runs[key]; s != nil {
		s.cancel = nil
	}
}

// interrupt ends the wait of a run, for its object is gone.
func (p *parking) interrupt(key types.NamespacedName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.runs[key]; s != nil {
		s.outdated = true
		s.endWait()
	}
}

// changed ends the wait of a run because of an object that matters to it, unless the run knows the object as it is. A run that is yet to
// wait will not, if it has read the object as it was before; what it has not read, it will read as it is.
func (p *parking) changed(key types.NamespacedName, obj client.Object, deleted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.runs[key]
	if s == nil {
		return
	}
	older, current := s.reads.verdictOn(obj)
	if deleted {
		older, current = older || current, false
	}
	if older || s.cancel != nil && !current {
		s.outdated = true
		s.endWait()
	}
}

// outdate interrupts a run that works on an older generation of its object than this one, or, if tokens count, has
// not seen this request.
func (p *parking) outdate(key types.NamespacedName, obj client.Object, tokens bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, v := p.runs[key], versionOf(obj)
	switch {
	case s == nil:
	case !s.read:
		s.seen = v
	case v.after(s.seen, tokens):
		s.outdated = true
		s.endWait()
	}
}

func (s *stay) endWait() {
	if s.outdated && s.cancel != nil {
		s.cancel(ErrInterrupted)
	}
}
