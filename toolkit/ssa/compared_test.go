package ssa

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// architecture 5b.4: what others compare is watched like what is applied.
func TestCompared(t *testing.T) {
	touch := func(r *remembered) {
		r.Observe(r.change(&r.state, r.with(func(s *kube.State) { s.ResourceVersion, s.Fields = "11", 7 })))
	}
	for _, tc := range []struct {
		name    string
		found   func(*remembered) Comparison
		touched bool
	}{
		{"as desired", func(r *remembered) Comparison { return Comparison{Desired: 1, State: r.state} }, true},
		{"different", func(r *remembered) Comparison { return Comparison{State: r.state} }, true},
		{"seen as it now is", func(r *remembered) Comparison {
			return Comparison{State: *r.with(func(s *kube.State) { s.ResourceVersion, s.Fields = "11", 7 })}
		}, false},
		{"left alone", func(r *remembered) Comparison { return Comparison{Desired: 1, State: r.state, Skipped: true} }, false},
		{"of another owner", func(r *remembered) Comparison {
			return Comparison{Desired: 1, State: *r.with(func(s *kube.State) { s.Owner.Name = "other" })}
		}, false},
		{"missing", func(r *remembered) Comparison { return Comparison{} }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRemembered()
			r.Compared(r.owner, r.id, tc.found(r))
			touch(r)
			if got := len(r.touches) > 0; got != tc.touched {
				t.Errorf("touched: %v, want %v", got, tc.touched)
			}
		})
	}
}

// An object that differs and is left so may be put right by whoever made it differ, which takes nothing away from us: any change of it counts,
// but for the status of one that has a generation.
func TestComparedDifferent(t *testing.T) {
	for name, tt := range map[string]struct {
		before, after int64
		touched       bool
	}{
		"without generations": {0, 0, true},
		"a new generation":    {3, 4, true},
		"the same generation": {3, 3, false},
	} {
		r := newRemembered()
		state := *r.with(func(s *kube.State) { s.Generation = tt.before })
		r.Compared(r.owner, r.id, Comparison{State: state})
		r.Observe(r.change(&state, r.with(func(s *kube.State) { s.ResourceVersion, s.Generation = "11", tt.after })))
		if got := len(r.touches) > 0; got != tt.touched {
			t.Errorf("%s: touched %v, want %v", name, got, tt.touched)
		}
	}
}

// architecture 5b.4: a write of somebody who compares is the owner's own; a fight is damped, and told once.
func TestMemoryWrite(t *testing.T) {
	r := newRemembered()
	after := *r.with(func(s *kube.State) { s.ResourceVersion, s.Fields = "11", 7 })
	contested, err := r.Write(r.owner, r.id, 1, func() (kube.State, error) {
		// The event overtakes the answer.
		r.Observe(r.change(&r.state, &after))
		return after, nil
	})
	if err != nil || contested || len(r.touches) > 0 {
		t.Errorf("contested %v, %v, touches %v", contested, err, r.touches)
	}
	for range contestedAfter - 1 {
		contested, err = r.Write(r.owner, r.id, 1, func() (kube.State, error) { return after, nil })
	}
	if err != nil || !contested {
		t.Errorf("a fight is not told: %v", err)
	}
	r.Observe(r.change(&after, r.with(func(s *kube.State) { s.ResourceVersion, s.Fields = "12", 8 })))
	if diff := cmp.Diff([]time.Duration{4 * dampingFirst}, r.touches); diff != "" {
		t.Errorf("it is not damped (-want +got):\n%s", diff)
	}
	boom := errors.New("boom")
	if _, err := r.Write(r.owner, r.id, 1, func() (kube.State, error) { return kube.State{}, boom }); !errors.Is(err, boom) {
		t.Errorf("error: %v", err)
	}
	r.touches = nil
	r.Observe(r.change(&after, r.with(func(s *kube.State) { s.ResourceVersion, s.Fields = "13", 9 })))
	if len(r.touches) > 0 {
		t.Error("what a failed write left is taken for known")
	}
}

// helmrelease 84: rules about drift name their field, and may name anything.
func TestNewDriftIgnore(t *testing.T) {
	const field = "spec.driftDetection.ignore"
	if _, err := NewDriftIgnore(field, []meta.IgnoreRule{{Paths: []string{"", "/metadata/name", "/kind"}}}); err != nil {
		t.Error(err)
	}
	_, err := NewDriftIgnore(field, []meta.IgnoreRule{{Paths: []string{"spec"}}})
	if want := field + `[0].paths: "spec" is no JSON pointer`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	if _, err := NewDriftIgnore(field, make([]meta.IgnoreRule, maxIgnoreRules+1)); err == nil || !strings.HasPrefix(err.Error(), field+" has 101 rules") {
		t.Errorf("error %v", err)
	}
}

// helmrelease 84: an ignored field has in the dry run the value that it has on the cluster, and all else is as it was.
func TestSpare(t *testing.T) {
	const desired = "{metadata: {name: a}, spec: {replicas: 1, list: [x, y], named: [{name: app, image: one}, {name: side, image: one}]}}"
	for name, tc := range map[string]struct{ path, live, next, want string }{
		"a value":               {"/spec/replicas", "{spec: {replicas: 5}}", "{spec: {replicas: 1, a: b}}", "{spec: {replicas: 5, a: b}}"},
		"one that is not there": {"/spec/replicas", "{spec: {c: d}}", "{spec: {replicas: 1, a: b}}", "{spec: {a: b}}"},
		"one that would go":     {"/spec/replicas", "{spec: {replicas: 5}}", "{spec: {a: b}}", "{spec: {replicas: 5, a: b}}"},
		"one without a parent":  {"/spec/deep/replicas", "{spec: {deep: {replicas: 5}}}", "{spec: {a: b}}", "{spec: {a: b}}"},
		"an entry by its name": {
			"/spec/named/0/image", "{spec: {named: [{name: side, image: two}, {name: app, image: three}]}}",
			"{spec: {named: [{name: side, image: one}, {name: app, image: one}]}}", "{spec: {named: [{name: side, image: one}, {name: app, image: three}]}}",
		},
		"an entry of a plain list": {"/spec/list/1", "{spec: {list: [v, w]}}", "{spec: {list: [x, y]}}", "{spec: {list: [x, w]}}"},
		"a map":                    {"/metadata/labels", "{metadata: {labels: {a: b}}}", "{metadata: {labels: {c: d}}}", "{metadata: {labels: {a: b}}}"},
		"everything":               {"", "{spec: {replicas: 5}}", "{spec: {a: b}}", "{spec: {replicas: 5}}"},
	} {
		t.Run(name, func(t *testing.T) {
			ignore, err := NewDriftIgnore("ignore", []meta.IgnoreRule{{Paths: []string{tc.path}}})
			if err != nil {
				t.Fatal(err)
			}
			live, next := object(t, tc.live), object(t, tc.next)
			ignore.Spare(object(t, desired), live, next)
			if diff := cmp.Diff(object(t, tc.want).Object, next.Object); diff != "" {
				t.Errorf("next (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(object(t, tc.live).Object, live.Object); diff != "" {
				t.Errorf("the live object has changed (-want +got):\n%s", diff)
			}
		})
	}
}

// A comparison is needed again when what is ignored changes.
func TestIdentity(t *testing.T) {
	lens, o := kube.NewLens(kube.Ownership{}), object(t, "{metadata: {name: a}}")
	ignore, err := NewIgnore([]meta.IgnoreRule{{Paths: []string{"/spec"}}})
	if err != nil {
		t.Fatal(err)
	}
	var none *Ignore
	if none.Identity(lens, o) == ignore.Identity(lens, o) || ignore.Identity(lens, o) != ignore.Identity(lens, o.DeepCopy()) {
		t.Error("the digests do not tell the rules")
	}
}

// kustomization 75: entries of lists are known by numbers too.
func TestMeans(t *testing.T) {
	var set fieldpath.Set
	if err := set.FromJSON(strings.NewReader(`{"k:{\"port\":80,\"protocol\":\"TCP\"}":{},"v:5":{}}`)); err != nil {
		t.Fatal(err)
	}
	var port, five fieldpath.PathElement
	set.Members.Iterate(func(pe fieldpath.PathElement) {
		if pe.Key != nil {
			port = pe
		} else {
			five = pe
		}
	})
	for _, tc := range []struct {
		element fieldpath.PathElement
		entry   any
		want    bool
	}{
		{port, map[string]any{"port": int64(80), "protocol": "TCP", "name": "http"}, true},
		{port, map[string]any{"port": int64(81), "protocol": "TCP"}, false},
		{port, map[string]any{"port": int64(80)}, false},
		{port, "80", false},
		{five, int64(5), true},
		{five, int64(6), false},
	} {
		if got := Means(tc.element, tc.entry); got != tc.want {
			t.Errorf("%v means %v: %v", tc.element, tc.entry, got)
		}
	}
}
