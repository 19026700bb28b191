package depend

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func key(name string) Key {
	kind := "Kustomization"
	if strings.HasPrefix(name, "git") {
		kind = "GitRepository"
	}
	return Key{Kind: kind, Namespace: "apps", Name: name}
}

func keys(names string) []Key {
	var out []Key
	for _, name := range strings.Fields(names) {
		out = append(out, key(name))
	}
	return out
}

// graph reads "a: b c; b: c".
func graph(text string) *Graph {
	g := NewGraph()
	for line := range strings.SplitSeq(text, ";") {
		dependent, on, _ := strings.Cut(line, ":")
		g.Set(key(strings.TrimSpace(dependent)), keys(on))
	}
	return g
}

func TestDependents(t *testing.T) {
	for _, tc := range []struct{ name, graph, on, want string }{
		{"nobody", "a: git-1", "git-2", ""},
		{"direct only", "a: git-1; b: a; c: b", "git-1", "a"},
		{"all", "a: git-1; b: git-1; c: git-2", "git-1", "a b"},
		{"twice the same edge", "a: git-1 git-1", "git-1", "a"},
		{"kustomization 4: dependencies first", "a: git-1 b; b: git-1 c; c: git-1; d: git-1", "git-1", "c d b a"},
		{"kustomization 4: a diamond", "a: git-1 b c; b: git-1 d; c: git-1 d; d: git-1", "git-1", "d b c a"},
		{"kustomization 4: a cycle comes last", "a: git-1 b; b: git-1 a; c: git-1", "git-1", "c a b"},
		{"waiting for itself", "a: git-1 a; b: git-1", "git-1", "b a"},
		{"edges to others do not matter", "a: git-1 z; b: git-1", "git-1", "a b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(keys(tc.want), graph(tc.graph).Dependents(key(tc.on))); diff != "" {
				t.Errorf("dependents (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSetReplacesAndRemoveForgets(t *testing.T) {
	g := graph("a: git-1 b; b: git-1")
	g.Set(key("a"), keys("git-2"))
	if got := g.Dependents(key("git-1")); !slices.Equal(got, keys("b")) {
		t.Errorf("after a new set: %v", got)
	}
	if got := g.Dependents(key("b")); got != nil {
		t.Errorf("the old edge stayed: %v", got)
	}
	g.Set(key("a"), nil)
	g.Remove(key("b"))
	g.Remove(key("never set"))
	if len(g.on)+len(g.from) != 0 {
		t.Errorf("left %v and %v", g.on, g.from)
	}
	g = graph("a: b")
	g.Remove(key("b"))
	if got := g.Dependents(key("b")); !slices.Equal(got, keys("a")) {
		t.Errorf("removing an object took the edges of others: %v", got)
	}
	on := keys("x y")
	g.Set(key("c"), on)
	on[0] = key("changed")
	if got := g.Dependents(key("x")); !slices.Equal(got, keys("c")) {
		t.Error("the graph shares the caller's slice")
	}
}

func TestCycle(t *testing.T) {
	for _, tc := range []struct{ name, graph, from, want string }{
		{"none", "a: b; b: c; c: git-1", "a", ""},
		{"itself", "a: a", "a", "a a"},
		{"two", "a: b; b: a", "a", "a b a"},
		{"the shortest way", "a: b d; b: c; c: a; d: a", "a", "a d a"},
		{"not on the cycle", "a: b; b: c; c: b", "a", ""},
		{"unknown", "a: b", "z", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(keys(tc.want), graph(tc.graph).Cycle(key(tc.from))); diff != "" {
				t.Errorf("cycle (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever happened before, both directions agree.
func TestGraphStaysConsistent(t *testing.T) {
	g := NewGraph()
	var wg sync.WaitGroup
	for seed := range uint64(4) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 0))
			for range 2000 {
				dependent := key(fmt.Sprint(r.IntN(30)))
				switch r.IntN(4) {
				case 0:
					g.Remove(dependent)
				case 1:
					g.Dependents(dependent)
					g.Cycle(dependent)
				default:
					on := make([]Key, r.IntN(5))
					for i := range on {
						on[i] = key(fmt.Sprint(r.IntN(30)))
					}
					g.Set(dependent, on)
				}
			}
		})
	}
	wg.Wait()
	edges := 0
	for dependent, on := range g.on {
		for _, k := range on {
			edges++
			if got := g.Dependents(k); !slices.Contains(got, dependent) || len(got) != len(g.from[k]) {
				t.Fatalf("%v depends on %v, which knows %v", dependent, k, got)
			}
		}
	}
	for _, dependents := range g.from {
		edges -= len(dependents)
	}
	if edges != 0 {
		t.Errorf("%d edges have no counterpart", edges)
	}
}

func large() *Graph {
	g := NewGraph()
	for i := range 10_000 {
		g.Set(key(fmt.Sprint(i)), []Key{key(fmt.Sprintf("git-%d", i/200)), key(fmt.Sprint(i / 2)), key("git")})
	}
	return g
}

func BenchmarkSet(b *testing.B) {
	g := large()
	for i := 0; b.Loop(); i++ {
		g.Set(key("5000"), []Key{key(fmt.Sprintf("git-%d", i%2)), key("17"), key("git")})
	}
}

func BenchmarkDependents(b *testing.B) {
	g := large()
	for b.Loop() {
		if len(g.Dependents(key("git-25"))) != 200 {
			b.Fatal("dependents are missing")
		}
	}
}

func BenchmarkCycle(b *testing.B) {
	g := large()
	for b.Loop() {
		g.Cycle(key("9999"))
	}
}
