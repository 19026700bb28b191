package kustomize

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
)

func on(names ...string) func(*kustomizev1.Kustomization) {
	return func(o *kustomizev1.Kustomization) {
		for _, name := range names {
			o.Spec.DependsOn = append(o.Spec.DependsOn, meta.DependencyReference{Name: name})
		}
	}
}

func leaving(o *kustomizev1.Kustomization) {
	o.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
}

// reliability 146: who has to go before a Kustomization.
func TestDepartureOf(t *testing.T) {
	elsewhere := func(o *kustomizev1.Kustomization) { o.Namespace = "other" }
	for name, test := range map[string]struct {
		self             *kustomizev1.Kustomization
		others           []*kustomizev1.Kustomization
		leaving, staying []string
	}{
		"nobody":                            {named("a"), []*kustomizev1.Kustomization{named("b"), named("c", leaving)}, nil, nil},
		"both sorts, by name":               {named("a"), []*kustomizev1.Kustomization{named("d", on("a"), leaving), named("c", on("x", "a"), leaving), named("b", on("a"))}, []string{"c", "d"}, []string{"b"}},
		"only direct ones":                  {named("a"), []*kustomizev1.Kustomization{named("b", on("a")), named("c", on("b"), leaving)}, nil, []string{"b"}},
		"one's namesake elsewhere":          {named("a"), []*kustomizev1.Kustomization{named("b", on("a"), leaving, elsewhere)}, nil, nil},
		"itself":                            {named("a", on("a")), nil, nil, nil},
		"a cycle of two":                    {named("a", on("b")), []*kustomizev1.Kustomization{named("b", on("a"), leaving)}, nil, nil},
		"a cycle of three, and a bystander": {named("a", on("b")), []*kustomizev1.Kustomization{named("b", on("c"), leaving), named("c", on("a"), leaving), named("d", on("a"), leaving)}, []string{"d"}, nil},
		"a cycle further on":                {named("a"), []*kustomizev1.Kustomization{named("b", on("a", "c"), leaving), named("c", on("b"), leaving)}, []string{"b"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			all := []kustomizev1.Kustomization{*test.self}
			for _, o := range test.others {
				all = append(all, *o)
			}
			got := departureOf(test.self, all)
			plain := func(keys []types.NamespacedName) []string {
				var out []string
				for _, key := range keys {
					out = append(out, key.Name)
				}
				return out
			}
			if diff := cmp.Diff([][]string{test.leaving, test.staying}, [][]string{plain(got.leaving), plain(got.staying)}); diff != "" {
				t.Errorf("leaving, staying (-want +got):\n%s", diff)
			}
		})
	}
}

// reliability 146: a deletion that waits for dependents is woken by them, not by a timer.
func TestDepartureEvents(t *testing.T) {
	objects := map[string]*kustomizev1.Kustomization{"going": named("going", leaving), "here": named("here")}
	wakes := onDeparture(func(key types.NamespacedName) *kustomizev1.Kustomization { return objects[key.Name] })
	dependent := func(change ...func(*kustomizev1.Kustomization)) client.Object {
		return named("app", append(change, on("going", "here", "none"))...)
	}
	second := func(o *kustomizev1.Kustomization) { o.Generation = 2 }
	for name, test := range map[string]struct {
		before, after client.Object
		wakes         bool
	}{
		"created":              {nil, dependent(), false},
		"gone":                 {dependent(), nil, true},
		"going":                {dependent(), dependent(leaving), true},
		"depends on something": {dependent(), named("app", second), true},
		"only its status":      {dependent(), dependent(withReady(metav1.ConditionTrue, "1")), false},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			if test.wakes {
				want = []string{"going"}
			}
			if got := names(wakes(test.before, test.after)); !slices.Equal(got, want) {
				t.Errorf("woken: %v, want %v", got, want)
			}
		})
	}
}

func TestList(t *testing.T) {
	keys := make([]types.NamespacedName, maxNamed+2)
	for i := range keys {
		keys[i] = types.NamespacedName{Namespace: "n", Name: string(rune('a' + i))}
	}
	want := "Kustomization/n/a, Kustomization/n/b, Kustomization/n/c, Kustomization/n/d, Kustomization/n/e, and 2 more"
	if got := list(keys); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
