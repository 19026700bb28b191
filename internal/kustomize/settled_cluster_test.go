package kustomize

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// kustomization 22, 66, the way they are here: a routine run whose inputs and objects are those of the last one does not even
// open the artifact. Anything else does.
func TestSettled(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	vars := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "vars"}, Data: map[string]string{"v": "one"}}
	must(t, l.client.Create(t.Context(), vars))
	l.publish("main@sha1:1", map[string]string{"a.yaml": configMap("a", `"${v}"`)})
	l.create(func(o *kustomizev1.Kustomization) {
		o.Spec.Wait = true
		o.Spec.PostBuild = &kustomizev1.PostBuild{SubstituteFrom: []kustomizev1.SubstituteReference{{Kind: "ConfigMap", Name: "vars"}}}
	})
	l.step()
	uid := l.get().UID
	// From when the watch has shown what was applied, nothing is asked any more.
	id := l.k.settled.get(uid).applied.Objects[0].ID
	own := owner(l.get())
	for !l.memory().Settled(own, []ssa.ID{id}) {
		if t.Context().Err() != nil {
			t.Fatal("the watch never showed the object")
		}
	}
	// Who opens the artifact now finds none.
	_, err := l.store.RemoveAll("GitRepository", l.ns, "repo")
	must(t, err)
	_, err = l.k.Artifacts.TrimCache(-time.Hour)
	must(t, err)
	const well, lost = "True ReconciliationSucceeded: Applied revision: main@sha1:1", "False ArtifactFailed: Source artifact not found, retrying in TIME"
	before := l.get().ResourceVersion
	l.step()
	expect(t, "Ready of a routine run", well, l.condition("Ready"))
	expect(t, "version after it", before, l.get().ResourceVersion)

	for name, change := range map[string]func(){
		"a request":  func() { l.request("1") },
		"a variable": func() { vars.Data["v"] = "two"; must(t, l.client.Update(t.Context(), vars)) },
		"the spec":   func() { l.edit(func(o *kustomizev1.Kustomization) { o.Spec.NamePrefix = "p-" }) },
		"a mark": func() {
			l.edit(func(o *kustomizev1.Kustomization) {
				o.Annotations = map[string]string{kustomizev1.GroupVersion.Group + "/mark": "x"}
			})
		},
		"an object": func() {
			a := &corev1.ConfigMap{}
			must(t, l.client.Get(t.Context(), types.NamespacedName{Namespace: l.ns, Name: "a"}, a))
			a.Data["key"] = "touched"
			must(t, l.client.Update(t.Context(), a))
			for l.memory().Settled(own, []ssa.ID{id}) {
				if t.Context().Err() != nil {
					t.Fatal("the watch never showed the change")
				}
			}
		},
		"the inventory": func() {
			obj := l.get()
			obj.Status.Inventory.Entries = []meta.InventoryEntry{}
			must(t, l.client.Status().Update(t.Context(), obj))
		},
	} {
		last := l.k.settled.get(uid)
		change()
		l.step()
		expect(t, "Ready after a change of "+name, lost, l.condition("Ready"))
		if l.k.settled.get(uid) != nil {
			t.Errorf("%s: a run that failed counts as settled", name)
		}
		// As it was.
		l.k.settled.set(uid, last)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
