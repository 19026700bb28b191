package ssa

import (
	"math/rand/v2"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// Damping of corrections on an object that somebody else keeps changing back: the pause doubles with each correction from
// dampingFirst to dampingMost, and is forgotten after a rest of dampingRest beyond the pause.
const (
	dampingFirst = 2 * time.Second
	dampingMost  = 10 * time.Minute
	dampingRest  = 10 * time.Minute
	// contestedAfter corrections the fight is worth one event.
	contestedAfter = 3
)

// DefaultFullEvery is how often every object is dry-run though nothing seems to have changed: it finds revoked rights and
// changed admission rules, which no watch tells (architecture 5b.4).
const DefaultFullEvery = 24 * time.Hour

// MemoryOptions is what a Memory needs.
type MemoryOptions struct {
	// Managed shows whether somebody touched an object. Nil, or where it sees nothing, every object is dry-run in each run.
	Managed *kube.Managed
	// FullEvery is the time between complete dry-runs per owner, jittered by a tenth; 0 means DefaultFullEvery.
	FullEvery time.Duration
	Clock     clock.PassiveClock
	// OnTouched is called when somebody else undid something of an owner's object: reconcile the owner after the delay.
	// It must not block. Optional.
	OnTouched func(owner kube.Owner, delay time.Duration)
}

// Memory remembers, per owner and object, what was applied and what the object looked like right after. It lives as long as the
// process; what it does not know is dry-run.
type Memory struct {
	o MemoryOptions

	mu     sync.Mutex // guards owners and all below it
	owners map[kube.Owner]*recollection
}

type recollection struct {
	nextFull time.Time
	objects  map[ID]*memo
}

// memo is what is remembered of one object.
type memo struct {
	known   bool
	desired uint64 // digest of the desired state
	content uint64 // digest of the stored state after our write; 0 if unknown
	skipped bool   // left alone because of marks on the live object
	differs bool   // and is left so: any change of it may be the end of that

	uid        types.UID
	rv         string
	generation int64
	ours       bool
	fields     uint64
	meta       uint64
	owner      kube.Owner // as the labels said, which commonMetadata may have overridden

	writing  bool         // a write of ours is under way
	overtook *kube.Change // the last change seen during it

	strikes   int       // corrections in a row
	corrected time.Time // the last one
}

// NewMemory makes an empty Memory. Its Observe belongs into the OnChange of the Managed.
func NewMemory(o MemoryOptions) *Memory {
	if o.FullEvery == 0 {
		o.FullEvery = DefaultFullEvery
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Memory{o: o, owners: map[kube.Owner]*recollection{}}
}

// Forget drops all about an owner.
func (m *Memory) Forget(owner kube.Owner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.owners, owner)
}

// of is what is remembered of an owner; the caller holds mu.
func (m *Memory) of(owner kube.Owner) *recollection {
	r := m.owners[owner]
	if r == nil {
		// Nothing is remembered yet, so the first run is full by itself.
		r = &recollection{objects: map[ID]*memo{}, nextFull: m.nextFull()}
		m.owners[owner] = r
	}
	return r
}

// claimFull reports whether the owner's objects are all to be dry-run now, and if so schedules the next time: a set that keeps
// failing must not be dry-run in full at each retry.
func (m *Memory) claimFull(owner kube.Owner) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.of(owner)
	if m.o.Clock.Now().Before(r.nextFull) {
		return false
	}
	r.nextFull = m.nextFull()
	return true
}

func (m *Memory) nextFull() time.Time {
	jitter := 0.9 + 0.2*rand.Float64()
	return m.o.Clock.Now().Add(time.Duration(float64(m.o.FullEvery) * jitter))
}

// retain forgets the objects that the owner no longer applies.
func (m *Memory) retain(owner kube.Owner, ids map[ID]struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.of(owner).objects {
		if _, ok := ids[id]; !ok {
			delete(m.owners[owner].objects, id)
		}
	}
}

// drop forgets one object, so that its going is no news.
func (m *Memory) drop(owner kube.Owner, id ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.owners[owner]; r != nil {
		delete(r.objects, id)
	}
}

// recall is what the Memory says about an object before anything is asked of the API server.
type recall struct {
	// same: applied in exactly this desired state, and nobody touched it since.
	same bool
	// damped: somebody touched it again right after we corrected it; leave it for now.
	damped bool
	// skipped: left alone for its marks, which have not changed.
	skipped bool
	// exact is the digest of the live content if it is known to the letter, else 0.
	exact uint64
	// corrects: the desired state is what we applied before, so a difference is somebody else's doing.
	corrects bool
	// present: the watch shows the object.
	present bool
	uid     types.UID
	verdict kube.Verdict
}

func (m *Memory) recall(owner kube.Owner, id ID, desired uint64) recall {
	// The watch is asked first: a write of ours that lands in between then looks older than the memo, never newer.
	var state kube.State
	var sight kube.Sight
	var seen string
	if m.o.Managed != nil {
		state, sight = m.o.Managed.Lookup(id.GroupKind(), id.Namespace, id.Name)
		seen = m.o.Managed.Seen(id.GroupKind())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.of(owner).objects[id]
	if o == nil || !o.known {
		return recall{present: sight == kube.Present, uid: state.UID}
	}
	r := recall{corrects: o.desired == desired, present: sight == kube.Present, uid: o.uid, verdict: state.Verdict}
	if sight == kube.Unseen {
		return r
	}
	untouched := false
	switch {
	case sight == kube.Present && state.ResourceVersion == o.rv:
		untouched = true
		r.exact = o.content
	case sight == kube.Present:
		untouched = !kube.NotOlder(state.ResourceVersion, o.rv) || o.matches(state)
	case sight == kube.Absent:
		// The watch may not have caught up with our own create.
		untouched = seen != "" && !kube.NotOlder(seen, o.rv)
	}
	switch {
	case untouched && r.corrects:
		r.same, r.skipped = true, o.skipped
	case !untouched && r.corrects && m.o.Clock.Now().Before(o.notBefore()):
		r.damped = true
	}
	return r
}

// at is the state of an object if the watch shows it in this very version.
func (m *Memory) at(id ID, uid types.UID, resourceVersion string) (kube.State, bool) {
	if m.o.Managed == nil {
		return kube.State{}, false
	}
	state, sight := m.o.Managed.Lookup(id.GroupKind(), id.Namespace, id.Name)
	return state, sight == kube.Present && state.UID == uid && state.ResourceVersion == resourceVersion
}

// matches reports whether a newer state than ours still is what we left, as far as we are concerned.
func (o *memo) matches(s kube.State) bool {
	switch {
	case s.UID != o.uid || s.Deleting || s.Owner != o.owner:
		return false
	case o.skipped:
		return s.Meta == o.meta
	case o.differs && o.generation == 0:
		return s.ResourceVersion == o.rv
	case o.differs:
		return s.Generation == o.generation && s.Meta == o.meta
	case o.ours || s.Ours:
		return o.ours == s.Ours && s.Fields == o.fields
	case o.generation > 0:
		return s.Generation == o.generation && s.Meta == o.meta
	}
	// No ownership is recorded and the kind has no generation: any write may have been to our fields.
	return s.ResourceVersion == o.rv
}

// pause is how long to wait after the last correction before the next.
func (o *memo) pause() time.Duration {
	if o.strikes == 0 {
		return 0
	}
	d := dampingFirst << min(o.strikes-1, 16)
	return min(d, dampingMost)
}

func (o *memo) notBefore() time.Time { return o.corrected.Add(o.pause()) }

// begin says that a write to an object starts: changes of it are ours until commit or abort.
func (m *Memory) begin(owner kube.Owner, id ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	objects := m.of(owner).objects
	if objects[id] == nil {
		objects[id] = &memo{}
	}
	objects[id].writing, objects[id].overtook = true, nil
}

// abort says that the write failed; what is stored is unknown.
func (m *Memory) abort(owner kube.Owner, id ID) { m.drop(owner, id) }

// learned is what a write or a comparison taught about an object.
type learned struct {
	desired, content uint64
	state            kube.State
	skipped          bool
	differs          bool
	// corrected: the desired state had not changed, so this write undid somebody else's.
	corrected bool
}

// commit remembers an object as it now is and ends a write. It reports whether a fight over the object just became worth an event.
func (m *Memory) commit(owner kube.Owner, id ID, l learned) (contested bool) {
	m.mu.Lock()
	objects := m.of(owner).objects
	o := objects[id]
	if o == nil {
		o = &memo{}
		objects[id] = o
	}
	overtook := o.overtook
	o.known, o.writing, o.overtook = true, false, nil
	o.desired, o.content, o.skipped, o.differs = l.desired, l.content, l.skipped, l.differs
	s := l.state
	o.uid, o.rv, o.generation, o.ours, o.fields, o.meta, o.owner = s.UID, s.ResourceVersion, s.Generation, s.Ours, s.Fields, s.Meta, s.Owner
	if l.corrected {
		now := m.o.Clock.Now()
		if now.Sub(o.corrected) > o.pause()+dampingRest {
			o.strikes = 0
		}
		o.strikes++
		o.corrected = now
		contested = o.strikes == contestedAfter
	}
	m.mu.Unlock()
	if overtook != nil {
		// Seen again with the memo complete: our own write is recognised now, a newer foreign one is not.
		m.Observe(*overtook)
	}
	return contested
}

// rebase notes that an object that nobody touched is also right for a new desired state.
func (m *Memory) rebase(owner kube.Owner, id ID, desired uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.of(owner).objects[id]; o != nil {
		o.desired = desired
	}
}

// Observe takes a change from the watch and, if it is neither our own write nor without meaning for us, reports the owner as
// touched.
func (m *Memory) Observe(c kube.Change) {
	id := ID{Namespace: c.Namespace, Name: c.Name, Group: c.Kind.Group, Kind: c.Kind.Kind}
	var owners [2]kube.Owner
	if c.Before != nil {
		owners[0] = c.Before.Owner
	}
	if c.After != nil && c.After.Owner != owners[0] {
		owners[1] = c.After.Owner
	}
	for _, owner := range owners {
		if owner == (kube.Owner{}) {
			continue
		}
		if delay, touched := m.touched(owner, id, c); touched && m.o.OnTouched != nil {
			m.o.OnTouched(owner, delay)
		}
	}
}

func (m *Memory) touched(owner kube.Owner, id ID, c kube.Change) (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.owners[owner]
	if r == nil || r.objects[id] == nil {
		return 0, false
	}
	o := r.objects[id]
	if o.writing {
		o.overtook = &c
		return 0, false
	}
	if c.After != nil {
		switch {
		case c.After.Deleting && c.After.UID == o.uid:
			// Nothing can be put right before it is gone; its going will be seen.
			return 0, false
		case !kube.NotOlder(c.After.ResourceVersion, o.rv), c.After.ResourceVersion == o.rv, o.matches(*c.After):
			return 0, false
		}
	} else if c.Before != nil && c.Before.UID != o.uid {
		// The predecessor of what we created anew.
		return 0, false
	} else if c.Before != nil && id.Kind == "Job" && id.Group == "batch" && c.Before.Verdict.Status == kube.Current {
		// A Job that is done is meant to go (ttlSecondsAfterFinished). Creating it anew at once would run it for ever; the
		// next interval does, as a user of 2.9 expects.
		return 0, false
	}
	return max(0, o.notBefore().Sub(m.o.Clock.Now())), true
}
