// Package depend is a stand-in.
package depend

import (
	"errors"
	"slices"
	"sync"
)

type Key struct{ Kind, Namespace, Name string }

type Graph struct {
	mu  sync.Mutex
	out map[Key][]Key
	in  map[Key][]Key
}

func NewGraph() *Graph { return &Graph{out: map[Key][]Key{}, in: map[Key][]Key{}} }

func (g *Graph) Set(d Key, on []Key) {
	g.Remove(d)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.out[d] = on
	for _, k := range on {
		g.in[k] = append(g.in[k], d)
	}
}

func (g *Graph) Remove(d Key) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range g.out[d] {
		g.in[k] = slices.DeleteFunc(g.in[k], func(x Key) bool { return x == d })
	}
	delete(g.out, d)
}

func (g *Graph) Dependents(k Key) []Key {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.in[k])
}

var ErrNotReady = errors.New("not ready")

type ExpressionError struct{ error }
