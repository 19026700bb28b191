package ssa

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// remembered is a Memory that knows one object, applied at resource version 10.
type remembered struct {
	*Memory
	clock   *clocktesting.FakeClock
	touches []time.Duration
	owner   kube.Owner
	id      ID
	state   kube.State
}

func newRemembered() *remembered {
	r := &remembered{
		clock: clocktesting.NewFakeClock(time.Unix(1_000_000, 0)),
		owner: kube.Owner{Namespace: "ns", Name: "app"},
		id:    ID{Namespace: "ns", Name: "a", Kind: "ConfigMap"},
	}
	r.state = kube.State{UID: "u1", ResourceVersion: "10", Owner: r.owner, Ours: true, Fields: 1, Meta: 1, Verdict: kube.Verdict{Status: kube.Current}}
	r.Memory = NewMemory(MemoryOptions{Clock: r.clock, OnTouched: func(o kube.Owner, d time.Duration) {
		if o == r.owner {
			r.touches = append(r.touches, d)
		}
	}})
	r.commit(r.owner, r.id, learned{desired: 1, state: r.state})
	return r
}

func (r *remembered) change(before, after *kube.State) kube.Change {
	return kube.Change{Kind: schema.GroupKind{Kind: r.id.Kind, Group: r.id.Group}, Namespace: "ns", Name: "a", Before: before, After: after}
}

func (r *remembered) with(f func(*kube.State)) *kube.State {
	s := r.state
	f(&s)
	return &s
}

// architecture 5b.4: what counts as touched.
func TestObserve(t *testing.T) {
	for _, tc := range []struct {
		name    string
		after   func(*kube.State)
		touched bool
	}{
		{"our own write", func(s *kube.State) {}, false},
		{"an older state, late", func(s *kube.State) { s.ResourceVersion, s.Fields = "9", 7 }, false},
		{"a status update", func(s *kube.State) { s.ResourceVersion = "11"; s.Verdict.Status = kube.InProgress }, false},
		{"a foreign annotation", func(s *kube.State) { s.ResourceVersion, s.Meta = "11", 7 }, false},
		{"one of our fields", func(s *kube.State) { s.ResourceVersion, s.Fields = "11", 7 }, true},
		{"another owner", func(s *kube.State) { s.ResourceVersion = "11"; s.Owner.Name = "other" }, true},
		{"another object", func(s *kube.State) { s.ResourceVersion, s.UID = "11", "u2" }, true},
		{"being deleted", func(s *kube.State) { s.ResourceVersion, s.Deleting = "11", true }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRemembered()
			r.Observe(r.change(&r.state, r.with(tc.after)))
			if got := len(r.touches) > 0; got != tc.touched {
				t.Errorf("touched: %v, want %v", got, tc.touched)
			}
		})
	}
	t.Run("deleted", func(t *testing.T) {
		r := newRemembered()
		r.Observe(r.change(&r.state, nil))
		if len(r.touches) != 1 {
			t.Error("nobody noticed")
		}
	})
	t.Run("pruned by ourselves", func(t *testing.T) {
		r := newRemembered()
		r.drop(r.owner, r.id)
		r.Observe(r.change(&r.state, nil))
		if len(r.touches) != 0 {
			t.Error("our own delete was taken for somebody else's")
		}
	})
	t.Run("a predecessor deleted", func(t *testing.T) {
		r := newRemembered()
		r.Observe(r.change(r.with(func(s *kube.State) { s.UID = "u0" }), nil))
		if len(r.touches) != 0 {
			t.Error("the delete of a recreation was taken for somebody else's")
		}
	})
	t.Run("a job that is done and deletes itself", func(t *testing.T) {
		r := newRemembered()
		r.id = ID{Namespace: "ns", Name: "a", Group: "batch", Kind: "Job"}
		r.commit(r.owner, r.id, learned{desired: 1, state: r.state})
		r.Observe(r.change(&r.state, nil))
		if len(r.touches) != 0 {
			t.Error("it would run for ever")
		}
		r.Observe(r.change(r.with(func(s *kube.State) { s.Verdict.Status = kube.InProgress }), nil))
		if len(r.touches) != 1 {
			t.Error("a job deleted half way was not noticed")
		}
	})
	t.Run("an object of a kind without generation and ownership", func(t *testing.T) {
		r := newRemembered()
		r.commit(r.owner, r.id, learned{desired: 1, state: *r.with(func(s *kube.State) { s.Ours = false })})
		r.Observe(r.change(nil, r.with(func(s *kube.State) { s.Ours, s.ResourceVersion = false, "11" })))
		if len(r.touches) != 1 {
			t.Error("nobody noticed")
		}
	})
	t.Run("one with generation but without ownership", func(t *testing.T) {
		r := newRemembered()
		unowned := func(f func(*kube.State)) *kube.State {
			return r.with(func(s *kube.State) { s.Ours, s.Generation = false, 3; f(s) })
		}
		r.commit(r.owner, r.id, learned{desired: 1, state: *unowned(func(*kube.State) {})})
		r.Observe(r.change(nil, unowned(func(s *kube.State) { s.ResourceVersion = "11" })))
		if len(r.touches) != 0 {
			t.Error("a status update was taken for a change")
		}
		r.Observe(r.change(nil, unowned(func(s *kube.State) { s.ResourceVersion, s.Generation = "12", 4 })))
		if len(r.touches) != 1 {
			t.Error("nobody noticed")
		}
	})
	t.Run("unknown objects and owners", func(t *testing.T) {
		r := newRemembered()
		c := r.change(nil, &r.state)
		c.Name = "b"
		r.Observe(c)
		r.Forget(r.owner)
		r.Observe(r.change(nil, r.with(func(s *kube.State) { s.ResourceVersion, s.Fields = "11", 7 })))
		if len(r.touches) != 0 {
			t.Error("something unknown was touched")
		}
	})
}

// Our own write is recognised also when the watch event overtakes the response.
func TestOvertaking(t *testing.T) {
	wrote := func(r *remembered) kube.State {
		return *r.with(func(s *kube.State) { s.ResourceVersion, s.Fields = "12", 5 })
	}
	t.Run("our own event", func(t *testing.T) {
		r := newRemembered()
		r.begin(r.owner, r.id)
		s := wrote(r)
		r.Observe(r.change(&r.state, &s))
		r.commit(r.owner, r.id, learned{desired: 2, state: s})
		if len(r.touches) != 0 {
			t.Error("our own write was taken for somebody else's")
		}
	})
	t.Run("and somebody else's right behind it", func(t *testing.T) {
		r := newRemembered()
		r.begin(r.owner, r.id)
		s := wrote(r)
		r.Observe(r.change(&r.state, &s))
		r.Observe(r.change(&s, r.with(func(s *kube.State) { s.ResourceVersion, s.Fields = "13", 6 })))
		if len(r.touches) != 0 {
			t.Error("touched while our write is under way")
		}
		r.commit(r.owner, r.id, learned{desired: 2, state: s})
		if len(r.touches) != 1 {
			t.Error("the foreign write was lost")
		}
	})
	t.Run("a write that failed leaves nothing known", func(t *testing.T) {
		r := newRemembered()
		r.begin(r.owner, r.id)
		r.abort(r.owner, r.id)
		if got := r.recall(r.owner, r.id, 1); got != (recall{}) {
			t.Errorf("recall: %+v", got)
		}
	})
}

// reliability 119
func TestDampingDelays(t *testing.T) {
	r := newRemembered()
	var contested []int
	for i := range 13 {
		r.Observe(r.change(nil, r.with(func(s *kube.State) { s.ResourceVersion, s.UID = "99", types.UID("x") })))
		if r.commit(r.owner, r.id, learned{desired: 1, state: r.state, corrected: true}) {
			contested = append(contested, i)
		}
	}
	s := time.Second
	want := []time.Duration{0, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 64 * s, 128 * s, 256 * s, 512 * s, 600 * s, 600 * s, 600 * s}
	if diff := cmp.Diff(want, r.touches); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{2}, contested); diff != "" {
		t.Errorf("contested at (-want +got):\n%s", diff)
	}
	r.clock.Step(dampingMost + dampingRest + time.Second)
	r.commit(r.owner, r.id, learned{desired: 1, state: r.state, corrected: true})
	r.touches = nil
	r.Observe(r.change(nil, r.with(func(s *kube.State) { s.ResourceVersion, s.UID = "99", types.UID("x") })))
	if diff := cmp.Diff([]time.Duration{dampingFirst}, r.touches); diff != "" {
		t.Errorf("delay after a rest (-want +got):\n%s", diff)
	}
}

// architecture 5b.4: once a day, jittered, everything is dry-run anyway.
func TestClaimFull(t *testing.T) {
	r := newRemembered()
	for _, tc := range []struct {
		after time.Duration
		want  bool
	}{{0, false}, {21 * time.Hour, false}, {6 * time.Hour, true}, {0, false}, {21 * time.Hour, false}, {6 * time.Hour, true}} {
		r.clock.Step(tc.after)
		if got := r.claimFull(r.owner); got != tc.want {
			t.Errorf("after %s: %v", tc.after, got)
		}
	}
}

// Settled looks at all objects, and at the time of the next complete dry-run.
func TestSettled(t *testing.T) {
	managed := kube.NewManaged(kube.ManagedOptions{})
	r := newRemembered()
	r.Memory.o.Managed = managed
	if r.Settled(r.owner, []ID{r.id}) {
		t.Error("an object that no watch shows is settled")
	}
	if r.Settled(r.owner, []ID{{Namespace: "ns", Name: "other", Kind: "ConfigMap"}}) {
		t.Error("an object that was never applied is settled")
	}
	if r.Settled(kube.Owner{Name: "nobody"}, nil) {
		t.Error("an owner that never applied anything is settled")
	}
	if !r.Settled(r.owner, nil) {
		t.Error("an owner without objects is not settled")
	}
	r.clock.Step(2 * DefaultFullEvery)
	if r.Settled(r.owner, nil) {
		t.Error("an owner is settled though a complete dry-run is due")
	}
}
