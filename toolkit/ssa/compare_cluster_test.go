package ssa_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// compare returns the changes a run would make, and fails if asking for them wrote anything.
func (l *lab) compare(text string, prune bool, change ...func(*ssa.Request)) ([]ssa.Difference, error) {
	l.t.Helper()
	req := ssa.Request{Owner: l.owner, Objects: l.normalised(text), Inventory: l.inv}
	for _, c := range change {
		c(&req)
	}
	return l.applier.Compare(l.t.Context(), req, prune)
}

func (l *lab) told(found []ssa.Difference) []string {
	var out []string
	for _, d := range found {
		if d.Action != ssa.Unchanged {
			out = append(out, strings.ReplaceAll(d.Change.String(), l.ns, "ns"))
		}
	}
	return out
}

// cli 43, kustomization 61-72, 80-83: a comparison tells what an apply and a prune then do.
func TestCompareTellsWhatApplyDoes(t *testing.T) {
	l := newLab(t)
	const before = `
apiVersion: v1
kind: ConfigMap
metadata: {name: same}
data: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: drifted}
data: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: fixed, annotations: {kustomize.toolkit.fluxcd.io/force: enabled}}
immutable: true
data: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: left, annotations: {kustomize.toolkit.fluxcd.io/reconcile: disabled}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: stale}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kept, annotations: {kustomize.toolkit.fluxcd.io/prune: disabled}}
`
	l.mustApply(before)
	l.patch("ConfigMap", "drifted", "somebody", `{"data":{"a":"changed"}}`)
	after := strings.Replace(before[:strings.Index(before, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: stale}")], "immutable: true\ndata: {a: b}", "immutable: true\ndata: {a: c}", 1) + `
---
apiVersion: v1
kind: ConfigMap
metadata: {name: new}
`
	l.log.take()
	found, err := l.compare(after, true)
	if err != nil {
		t.Fatal(err)
	}
	for request, n := range l.log.take() {
		if strings.HasPrefix(request, "DELETE") || strings.HasPrefix(request, "POST") && !strings.Contains(request, "dry-run") {
			t.Errorf("it made %d requests %s", n, request)
		}
	}
	want := []string{
		"ConfigMap/ns/drifted configured", "ConfigMap/ns/fixed created", "ConfigMap/ns/left skipped", "ConfigMap/ns/new created",
		"ConfigMap/ns/stale deleted", "ConfigMap/ns/kept skipped",
	}
	if diff := cmp.Diff(want, l.told(found)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, d := range found {
		switch d.ID.Name {
		case "fixed":
			if !d.Recreate {
				t.Error("an immutable object is not told to be recreated")
			}
		case "drifted":
			live, _, _ := unstructured.NestedString(d.Live.Object, "data", "a")
			next, _, _ := unstructured.NestedString(d.Next.Object, "data", "a")
			if live != "changed" || next != "b" {
				t.Errorf("it differs in %q and %q", live, next)
			}
		}
	}
	if v := field(l.get("ConfigMap", "drifted"), "data", "a"); v != "changed" {
		t.Errorf("the comparison has written %q", v)
	}
	without, err := l.compare(after, false)
	if err != nil || len(l.told(without)) != 4 {
		t.Errorf("without prune it tells %v, %v", l.told(without), err)
	}
}

// cli 43, kustomization 75: what is not corrected is no difference.
func TestCompareIgnores(t *testing.T) {
	l := newLab(t)
	const text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b, c: d}\n"
	l.mustApply(text)
	ignore, err := ssa.NewIgnore([]meta.IgnoreRule{{Paths: []string{"/data/a"}}})
	if err != nil {
		t.Fatal(err)
	}
	ignoring := func(r *ssa.Request) { r.Ignore = ignore }
	l.patch("ConfigMap", "a", "somebody", `{"data":{"a":"changed"}}`)
	if found, err := l.compare(text, false, ignoring); err != nil || len(l.told(found)) > 0 {
		t.Errorf("an ignored field differs: %v, %v", l.told(found), err)
	}
	l.patch("ConfigMap", "a", "somebody", `{"data":{"c":"changed"}}`)
	found, err := l.compare(text, false, ignoring)
	if err != nil || len(l.told(found)) != 1 {
		t.Fatalf("another field does not differ: %v, %v", l.told(found), err)
	}
	if v := field(found[0].Next, "data", "a"); v != "changed" {
		t.Errorf("an ignored field would become %q", v)
	}
}

// cli 43: what stands on a namespace or a kind of the same set would be created.
func TestCompareWhatTheSetBrings(t *testing.T) {
	l := newLab(t)
	group := l.ns + ".example.com"
	found, err := l.compare(`
apiVersion: v1
kind: Namespace
metadata: {name: `+l.ns+`-new}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.`+group+`}
spec:
  group: `+group+`
  names: {kind: Thing, plural: things}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
---
apiVersion: `+group+`/v1
kind: Thing
metadata: {name: thing, namespace: `+l.ns+`}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: inside, namespace: `+l.ns+`-new}
`, true)
	if err != nil {
		t.Fatal(err)
	}
	told := l.told(found)
	slices.Sort(told)
	want := []string{
		"ConfigMap/ns-new/inside created", "CustomResourceDefinition/things.ns.example.com created", "Namespace/ns-new created", "Thing/ns/thing created",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err = l.compare(`
apiVersion: other.example.com/v1
kind: Thing
metadata: {name: thing}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: lost, namespace: `+l.ns+`-none}
`, true)
	var refused ssa.Errors
	if !errors.As(err, &refused) || len(refused) != 2 {
		t.Errorf("an unknown kind and a missing namespace are %v", err)
	}
}
