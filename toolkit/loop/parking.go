package loop

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/api/meta"
)

// parking knows the runs under way. A run has a goroutine of its own and, while it works, one of the controller's
// workers that waits for it. When it parks, the worker turns to other objects: a hundred waits do not delay the
// hundred-and-first object, and cost no worker. When the wait is over, the queue is asked for a worker again, and the
// one that comes waits for the rest of the run, so that controller-runtime gets the result.
//
// Parking also lets a newer event end a wait: controller-runtime redelivers a key only to a worker, therefore the
// interruption is ours to signal. An event that comes before the run waits is kept for the wait: nothing would end it
// otherwise.
type parking struct {
	// most is how many runs may be parked; more of them keep their workers.
	most int

	mu     sync.Mutex // guards what follows and what is in runs
	runs   map[types.NamespacedName]*stay
	parked int
	idle   *sync.Cond // no run is under way
	// wake asks the queue for a worker; nil before the controller has a queue, when nothing parks.
	wake func(types.NamespacedName)
}

// stay is one run under way.
type stay struct {
	read     bool                    // the run has read its object, and now reads what else it needs
	seen     version                 // of the object that the run works on
	reads    *reads                  // what else it has read
	outdated bool                    // something newer is to be done
	cancel   context.CancelCauseFunc // ends the wait; nil: the run does not wait

	parked  bool          // the run has no worker
	over    bool          // its wait has ended, it waits for one
	again   bool          // the queue has delivered the key meanwhile: the object is looked at again
	yielded chan struct{} // tells the worker that the run parks
	turn    chan struct{} // tells the run that it has a worker again
	done    chan ending   // what became of it
}

// ending is how a run has ended.
type ending struct {
	result   reconcile.Result
	err      error
	panicked any
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

func newParking(most int) *parking {
	p := &parking{most: most, runs: map[types.NamespacedName]*stay{}}
	p.idle = sync.NewCond(&p.mu)
	return p
}

// openFor lets runs park, now that there is a queue to wake them by.
func (p *parking) openFor(wake func(types.NamespacedName)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wake = wake
}

// attend is called by a worker. It returns a run that the worker is to wait for, and whether the worker is to start it;
// nil: a run of the object waits, and the object is looked at again when it has ended.
func (p *parking) attend(key types.NamespacedName) (s *stay, start bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s = p.runs[key]
	switch {
	case s == nil:
		return p.add(key), true
	case !s.over:
		s.again = true
		return nil, false
	}
	s.parked, s.over = false, false
	p.parked--
	s.turn <- struct{}{}
	return s, false
}

func (p *parking) add(key types.NamespacedName) *stay {
	s := &stay{
		reads: &reads{versions: map[types.UID]string{}}, yielded: make(chan struct{}, 1), turn: make(chan struct{}, 1), done: make(chan ending, 1),
	}
	p.runs[key] = s
	return s
}

// wait is a worker's: it returns when the run parks or has ended.
func (s *stay) wait() (reconcile.Result, error) {
	select {
	case <-s.yielded:
		return reconcile.Result{}, nil
	case o := <-s.done:
		if o.panicked != nil {
			panic(o.panicked)
		}
		return o.result, o.err
	}
}

// yield lets the worker of a run go, if there is room for one more parked run.
func (p *parking) yield(key types.NamespacedName) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.runs[key]
	if s == nil || p.wake == nil || p.parked >= p.most {
		return false
	}
	p.parked++
	s.parked = true
	s.yielded <- struct{}{}
	return true
}

// resume asks for a worker for a run that has yielded, and returns when it has one, or when ctx has ended.
func (p *parking) resume(ctx context.Context, key types.NamespacedName) error {
	p.mu.Lock()
	s := p.runs[key]
	s.over = true
	p.wake(key)
	p.mu.Unlock()
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// isParked reports whether the worker that was last at work on the key has left its run parked.
func (p *parking) isParked(key types.NamespacedName) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.runs[key]
	return s != nil && s.parked
}

// end is called by a run that is over.
func (p *parking) end(key types.NamespacedName, o ending) {
	p.mu.Lock()
	s := p.runs[key]
	delete(p.runs, key)
	if s.parked {
		p.parked--
	}
	if len(p.runs) == 0 {
		p.idle.Broadcast()
	}
	p.mu.Unlock()
	if s.again {
		p.wake(key)
	}
	s.done <- o
}

// drain returns when no run is under way.
func (p *parking) drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.runs) > 0 {
		p.idle.Wait()
	}
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
