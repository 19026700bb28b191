package ssa

import "github.com/seed-79636ae9/flux/toolkit/kube"

// Comparison is what somebody who compares objects with the cluster, and writes in ways of their own, found out about one of them.
type Comparison struct {
	// Desired is the digest of the desired state if the object is as desired, or left alone; 0 if it differs.
	Desired uint64
	// State is the live object's.
	State kube.State
	// Skipped: left alone for the marks it carries on the cluster.
	Skipped bool
}

// Same reports whether nobody has touched an object since Compared, or Write, said that it is as desired.
func (m *Memory) Same(owner kube.Owner, id ID, desired uint64) bool {
	return m.recall(owner, id, desired).same
}

// Compared remembers what a comparison found. From then on whoever touches the object wakes its owner. An object that does not carry
// the owner's labels is not remembered, since no watch shows it.
func (m *Memory) Compared(owner kube.Owner, id ID, c Comparison) {
	if c.State.Owner != owner {
		m.drop(owner, id)
		return
	}
	m.commit(owner, id, learned{desired: c.Desired, state: c.State, skipped: c.Skipped, differs: c.Desired == 0})
}

// Write runs a write of an object of which the desired state has not changed, so that its events are taken for the owner's own. The
// desired state is the digest of what the object then is. It reports whether a fight over the object just became worth an event.
func (m *Memory) Write(owner kube.Owner, id ID, desired uint64, write func() (kube.State, error)) (contested bool, err error) {
	m.begin(owner, id)
	state, err := write()
	if err != nil || state.Owner != owner {
		m.abort(owner, id)
		return false, err
	}
	return m.commit(owner, id, learned{desired: desired, state: state, corrected: true}), nil
}

// ClaimFull reports whether all objects of an owner are to be looked at now, whatever is remembered, and if so schedules the next time.
func (m *Memory) ClaimFull(owner kube.Owner) bool { return m.claimFull(owner) }

// Retain forgets the objects that are not among the given ones.
func (m *Memory) Retain(owner kube.Owner, ids map[ID]struct{}) { m.retain(owner, ids) }

// Untouched reports whether another comparison of all objects of an owner, n of them, would ask the API server nothing: nobody has touched
// one since Compared, or Write, said that it is as desired, and no look at all of them is due.
func (m *Memory) Untouched(owner kube.Owner, n int) bool {
	m.mu.Lock()
	r := m.owners[owner]
	known := r != nil && len(r.objects) == n && m.o.Clock.Now().Before(r.nextFull)
	desired := map[ID]uint64{}
	if known {
		for id, o := range r.objects {
			desired[id] = o.desired
			known = known && o.known && !o.differs
		}
	}
	m.mu.Unlock()
	for id, d := range desired {
		known = known && m.recall(owner, id, d).same
	}
	return known
}
