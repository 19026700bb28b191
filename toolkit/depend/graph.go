// Package depend knows who waits for whom: a graph of reverse edges, by which a change of one object wakes those that depend on it, and
// the check of spec.dependsOn that Kustomization and HelmRelease share.
package depend

import (
	"cmp"
	"slices"
	"sync"
)

// Key names an object of one of the kinds an edge can lead to.
type Key struct {
	Kind, Namespace, Name string
}

func compare(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
}

// Graph holds the edges from dependents to what they depend on, and answers in the other direction. Set and Remove cost as much as the
// object has edges, Dependents as much as it returns. A Graph is safe for concurrent use.
type Graph struct {
	mu   sync.RWMutex // guards both maps
	on   map[Key][]Key
	from map[Key]map[Key]struct{}
}

// NewGraph returns a graph without edges.
func NewGraph() *Graph { return &Graph{on: map[Key][]Key{}, from: map[Key]map[Key]struct{}{}} }

// Set replaces the edges of a dependent. Objects need not exist to be depended on.
func (g *Graph) Set(dependent Key, on []Key) {
	on = slices.Clone(on)
	slices.SortFunc(on, compare)
	on = slices.Compact(on)
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Equal(g.on[dependent], on) {
		// Nearly every reconciliation finds its edges as they were.
		return
	}
	g.remove(dependent)
	if len(on) == 0 {
		return
	}
	g.on[dependent] = on
	for _, key := range on {
		if g.from[key] == nil {
			g.from[key] = map[Key]struct{}{}
		}
		g.from[key][dependent] = struct{}{}
	}
}

// Remove drops the edges of a dependent. Edges of others to it stay.
func (g *Graph) Remove(dependent Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(dependent)
}

func (g *Graph) remove(dependent Key) {
	for _, key := range g.on[dependent] {
		delete(g.from[key], dependent)
		if len(g.from[key]) == 0 {
			delete(g.from, key)
		}
	}
	delete(g.on, dependent)
}

// Dependents returns who depends directly on the object, in an order in which nobody comes before another of them it depends on
// (kustomization 4). Members of a cycle come last.
func (g *Graph) Dependents(on Key) []Key {
	g.mu.RLock()
	defer g.mu.RUnlock()
	dependents := g.from[on]
	if len(dependents) == 0 {
		return nil
	}
	keys := make([]Key, 0, len(dependents))
	for key := range dependents {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compare)
	return g.order(keys)
}

// order sorts keys topologically among themselves, keeping their order otherwise. The caller holds mu.
func (g *Graph) order(keys []Key) []Key {
	waits := make(map[Key]int, len(keys))
	for _, key := range keys {
		waits[key] = 0
	}
	edges := false
	for _, key := range keys {
		for _, on := range g.on[key] {
			if _, ok := waits[on]; ok {
				waits[key]++
				edges = true
			}
		}
	}
	if !edges {
		return keys
	}
	ordered := make([]Key, 0, len(keys))
	for _, key := range keys {
		if waits[key] == 0 {
			ordered = append(ordered, key)
		}
	}
	for i := 0; i < len(ordered); i++ {
		freed := make([]Key, 0, len(g.from[ordered[i]]))
		for dependent := range g.from[ordered[i]] {
			if n, ok := waits[dependent]; ok {
				if waits[dependent] = n - 1; n == 1 {
					freed = append(freed, dependent)
				}
			}
		}
		slices.SortFunc(freed, compare)
		ordered = append(ordered, freed...)
	}
	for _, key := range keys {
		if waits[key] > 0 {
			ordered = append(ordered, key)
		}
	}
	return ordered
}

// Cycle returns a way from the object back to itself, with the object at both ends, and nil when there is none. No member of a cycle
// can ever become ready.
func (g *Graph) Cycle(from Key) []Key {
	g.mu.RLock()
	defer g.mu.RUnlock()
	// Breadth first, so that the message shows the shortest way.
	cameFrom := map[Key]Key{}
	queue := []Key{from}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		for _, next := range g.on[at] {
			if next == from {
				return g.path(from, at, cameFrom)
			}
			if _, seen := cameFrom[next]; !seen {
				cameFrom[next] = at
				queue = append(queue, next)
			}
		}
	}
	return nil
}

func (g *Graph) path(from, last Key, cameFrom map[Key]Key) []Key {
	path := []Key{from}
	for at := last; at != from; at = cameFrom[at] {
		path = append(path, at)
	}
	path = append(path, from)
	slices.Reverse(path)
	return path
}
