package ssa

import "github.com/seed-79636ae9/flux/toolkit/kube"

// Settled reports whether another Apply of the same objects, all of them named by ids, would ask the API server nothing:
// nobody has touched one since it was applied, and no complete dry-run is due.
func (m *Memory) Settled(owner kube.Owner, ids []ID) bool {
	desired := make([]uint64, len(ids))
	m.mu.Lock()
	r := m.owners[owner]
	known := r != nil && m.o.Clock.Now().Before(r.nextFull)
	for i, id := range ids {
		if !known {
			break
		}
		o := r.objects[id]
		if known = o != nil && o.known && !o.skipped; known {
			desired[i] = o.desired
		}
	}
	m.mu.Unlock()
	for i, id := range ids {
		if !known {
			break
		}
		known = m.recall(owner, id, desired[i]).same
	}
	return known
}
