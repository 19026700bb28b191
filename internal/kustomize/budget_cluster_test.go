package kustomize

import (
	"fmt"
	"strings"
	"testing"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
)

// files are ConfigMaps a0, a1 and so on.
func files(n int) map[string]string {
	out := map[string]string{"README": "not a manifest"}
	for i := range n {
		name := fmt.Sprint("a", i)
		out[name+".yaml"] = configMap(name, "one")
	}
	return out
}

func (l *lab) count() int {
	l.t.Helper()
	n := 0
	for i := range 10 {
		if l.has(fmt.Sprint("a", i)) {
			n++
		}
	}
	return n
}

// annotate sets one annotation, or removes it.
func (l *lab) annotate(key, value string) {
	l.t.Helper()
	l.edit(func(o *kustomizev1.Kustomization) {
		if o.Annotations == nil {
			o.Annotations = map[string]string{}
		}
		o.Annotations[key] = value
	})
}

// heldFor returns the value that would approve what is held; empty: nothing is.
func (l *lab) heldFor() string {
	l.t.Helper()
	obj := l.get()
	if h := obj.Status.History; strings.HasPrefix(l.condition("Ready"), "False Held: ") && h[0].LastReconciledStatus == kustomizev1.HeldReason {
		return approval(h[0].Metadata["revision"], h[0].Digest)
	}
	return ""
}

// reliability 151: a revision that would delete too much is held before its first write, told once, and goes on when it is approved.
func TestHeld(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.publish("main@sha1:1", files(4))
	l.create(func(o *kustomizev1.Kustomization) {
		o.Annotations = map[string]string{kustomizev1.PruneLimitAnnotation: "1"}
	})
	l.step()
	before := l.get()
	l.told()

	// Nothing of it happens: no deletion, no creation, no change.
	next := files(1)
	next["a0.yaml"], next["b.yaml"] = configMap("a0", "two"), configMap("b", "one")
	l.publish("main@sha1:2", next)
	l.step()
	ready := l.condition("Ready")
	for _, want := range []string{
		"False Held: revision main@sha1:2 is held: it would delete 3 of 4 objects, more than 1. Nothing of it is applied.",
		"`flux approve kustomization app -n NS`", "ConfigMap/NS/a3\nConfigMap/NS/a2\nConfigMap/NS/a1",
		kustomizev1.ApproveAnnotation + " to main@sha1:2/sha256:",
	} {
		if !strings.Contains(ready, want) {
			t.Errorf("Ready = %q, want %q in it", ready, want)
		}
	}
	if told := l.told(); len(told) != 1 || !strings.HasPrefix(told[0], "error Held: revision main@sha1:2 is held") {
		t.Errorf("events: %q", told)
	}
	if l.count() != 4 || l.has("b") {
		t.Error("something of the held revision was applied")
	}
	held := l.get()
	expect(t, "inventory", before.Status.Inventory, held.Status.Inventory)
	expect(t, "revisions", []string{"main@sha1:2", "main@sha1:1"}, []string{held.Status.LastAttemptedRevision, held.Status.LastAppliedRevision})
	l.step()
	expect(t, "version after a routine run", held.ResourceVersion, l.get().ResourceVersion)
	expect(t, "number of events of a routine run", 0, len(l.told()))

	// The approval of another revision, or of another content of this one, is none.
	approved := l.heldFor()
	for _, wrong := range []string{"main@sha1:2", strings.Replace(approved, "sha1:2", "sha1:1", 1), approved[:len(approved)-1] + "x"} {
		l.annotate(kustomizev1.ApproveAnnotation, wrong)
		l.step()
		expect(t, "approval", approved, l.heldFor())
	}
	l.publish("main@sha1:3", next)
	l.annotate(kustomizev1.ApproveAnnotation, approved)
	l.step()
	if got := l.heldFor(); !strings.HasPrefix(got, "main@sha1:3/") {
		t.Errorf("the approval of another revision let it pass: %s", l.condition("Ready"))
	}

	l.annotate(kustomizev1.ApproveAnnotation, l.heldFor())
	spent := l.heldFor()
	l.step()
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:3", l.condition("Ready"))
	if l.count() != 1 || !l.has("b") {
		t.Error("the approved revision was not applied")
	}

	// It is spent: the same revision that comes back deletes other objects.
	l.publish("main@sha1:4", files(8))
	l.step()
	l.publish("main@sha1:3", next)
	l.step()
	expect(t, "approval", spent, l.heldFor())
	expect(t, "objects", 8, l.count())

	// A revision within the budget ends the wait.
	l.publish("main@sha1:5", files(7))
	l.step()
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:5", l.condition("Ready"))
	expect(t, "objects", 7, l.count())
}

// kustomization 30; reliability 151: a build that is suddenly empty is a success, as in 2.9, and prunes everything; with a budget it
// is held.
func TestEmptyBuild(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*kustomizev1.Kustomization)
		flag   string
		want   string
		left   int
	}{
		"no budget": {func(*kustomizev1.Kustomization) {}, "", "True ReconciliationSucceeded: ", 0},
		"an annotation": {func(o *kustomizev1.Kustomization) {
			o.Annotations = map[string]string{kustomizev1.PruneLimitAnnotation: "99%"}
		}, "", "False Held: ", 3},
		"the flag": {func(*kustomizev1.Kustomization) {}, "50%", "False Held: ", 3},
		"the flag, taken back": {func(o *kustomizev1.Kustomization) {
			o.Annotations = map[string]string{kustomizev1.PruneLimitAnnotation: "none"}
		}, "50%", "True ReconciliationSucceeded: ", 0},
		"prune off": {func(o *kustomizev1.Kustomization) { o.Spec.Prune = false }, "0", "True ReconciliationSucceeded: ", 3},
		"a protected kind": {func(o *kustomizev1.Kustomization) {
			o.Annotations = map[string]string{kustomizev1.PruneProtectAnnotation: "Secret,ConfigMap"}
		}, "", "False Held: ", 3},
		"an unreadable limit": {func(o *kustomizev1.Kustomization) {
			o.Annotations = map[string]string{kustomizev1.PruneLimitAnnotation: "few"}
		}, "", "False ReconciliationFailed: annotation kustomize.toolkit.fluxcd.io/prune-limit: \"few\" is neither", 3},
		"deletion is never held": {func(o *kustomizev1.Kustomization) {
			o.Annotations = map[string]string{kustomizev1.PruneLimitAnnotation: "0"}
		}, "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.publish("main@sha1:1", files(3))
			l.create()
			l.step()
			var err error
			if l.k.Budget, err = ParseBudget(tt.flag, ""); err != nil {
				t.Fatal(err)
			}
			l.edit(tt.change)
			if tt.want == "" {
				if err := l.client.Delete(t.Context(), l.get()); err != nil {
					t.Fatal(err)
				}
				l.step()
				expect(t, "objects left", tt.left, l.count())
				return
			}
			l.publish("main@sha1:2", files(0))
			l.step()
			if got := l.condition("Ready"); !strings.HasPrefix(got, tt.want) {
				t.Errorf("Ready = %q, want %q", got, tt.want)
			}
			expect(t, "objects left", tt.left, l.count())
		})
	}
}

// reliability 151: only what would really be deleted counts, not what is gone, marked, or somebody else's.
func TestHeldForDeletionsOnly(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.publish("main@sha1:1", files(4))
	l.create(func(o *kustomizev1.Kustomization) {
		o.Annotations = map[string]string{kustomizev1.PruneLimitAnnotation: "0"}
	})
	l.step()
	for name, patch := range map[string]string{
		"a0": `{"metadata":{"annotations":{"kustomize.toolkit.fluxcd.io/prune":"disabled"}}}`,
		"a1": `{"metadata":{"labels":{"kustomize.toolkit.fluxcd.io/name":"other"}}}`,
	} {
		l.patch(name, patch)
	}
	l.remove("a2")
	next := files(4)
	for _, name := range []string{"a0.yaml", "a1.yaml", "a2.yaml"} {
		delete(next, name)
	}
	l.publish("main@sha1:2", next)
	l.step()
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:2", l.condition("Ready"))
	expect(t, "objects left", 3, l.count())
}
