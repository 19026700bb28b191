package kustomize

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
)

const driftLines = "ConfigMap/NS/a differs in /data/key\nConfigMap/NS/b is missing"

// kustomization 67: what a correction put right is told, by path.
func TestDriftIsTold(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.publish("main@sha1:1", map[string]string{"a.yaml": configMap("a", "one"), "b.yaml": configMap("b", "one")})
	l.create()
	l.step()
	l.told()
	l.patch("a", `{"data":{"key":"top-secret"}}`)
	l.remove("b")
	// A process that has just started knows of drift from the status.
	l.memory().Forget(owner(l.get()))
	l.step()
	expect(t, "events", []string{
		"info Progressing: ConfigMap/NS/a configured\nConfigMap/NS/b created",
		"info DriftCorrected: drift was corrected:\n" + driftLines + " (local)", finished,
	}, l.told())
	expect(t, "Drifted", "-", l.condition("Drifted"))
	expect(t, "value", "one", l.configMap("a").Data["key"])

	// A new manifest is no drift.
	l.publish("main@sha1:2", map[string]string{"a.yaml": configMap("a", "two"), "b.yaml": configMap("b", "one")})
	l.step()
	if told := strings.Join(l.told(), "\n"); strings.Contains(told, "Drift") {
		t.Errorf("events: %s", told)
	}
}

// With the annotation drift is told, once for each state, and left alone until the annotation goes.
func TestDriftReportOnly(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.publish("main@sha1:1", map[string]string{"a.yaml": configMap("a", "one"), "b.yaml": configMap("b", "one")})
	l.create(func(o *kustomizev1.Kustomization) {
		o.Annotations = map[string]string{kustomizev1.DriftAnnotation: "report"}
	})
	l.step()
	l.told()
	expect(t, "Drifted", "-", l.condition("Drifted"))
	l.patch("a", `{"data":{"key":"top-secret"}}`)
	l.remove("b")
	for i, forget := range []bool{true, false} {
		if forget {
			l.memory().Forget(owner(l.get()))
		}
		l.step()
		var want []string
		if i == 0 {
			want = []string{"error DriftDetected: drift is not corrected:\n" + driftLines}
		}
		expect(t, "events", want, l.told())
		expect(t, "Drifted", "True DriftDetected: "+driftLines, l.condition("Drifted"))
		expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:1", l.condition("Ready"))
		expect(t, "value", "top-secret", l.configMap("a").Data["key"])
		expect(t, "b is there", false, l.has("b"))
	}

	// A new manifest is applied all the same.
	l.told()
	l.publish("main@sha1:2", map[string]string{"a.yaml": configMap("a", "two"), "b.yaml": configMap("b", "one"), "c.yaml": configMap("c", "one")})
	l.step()
	expect(t, "value", "two", l.configMap("a").Data["key"])
	expect(t, "c is there", true, l.has("c"))

	l.patch("a", `{"data":{"key":"top-secret"}}`)
	l.memory().Forget(owner(l.get()))
	l.step()
	l.annotate(kustomizev1.DriftAnnotation, "correct")
	l.step()
	expect(t, "value", "two", l.configMap("a").Data["key"])
	expect(t, "Drifted", "-", l.condition("Drifted"))
}

// Architecture 5b; kustomization 77: an inventory that cannot be stored is refused before the first write, with the remedy.
func TestInventoryTooLarge(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.publish("main@sha1:1", files(4))
	l.create()
	l.step()
	before := l.get()
	size := 0
	for _, e := range inventory(before) {
		size += len(e.ID) + len(e.Version) + len(`{"id":"","v":""},`)
	}
	l.k.MaxInventory = size + 10
	next := files(3)
	next["a0.yaml"], next["b.yaml"] = configMap("a0", "two"), configMap("b", "one")
	l.publish("main@sha1:2", next)
	l.step()
	expect(t, "Ready", "False ReconciliationFailed: the inventory of 5 objects, 1 of them to be replaced, would take 0 KiB, more than the 0 KiB that an object can hold: split the Kustomization into several ones", l.condition("Ready"))
	expect(t, "inventory", before.Status.Inventory, l.get().Status.Inventory)
	expect(t, "value", "one", l.configMap("a0").Data["key"])

	// One that is stored already may stay as large as it is, and shrink.
	l.k.MaxInventory = 10
	l.publish("main@sha1:3", files(3))
	l.step()
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:3", l.condition("Ready"))
	expect(t, "objects", 3, l.count())

	// The API server takes an inventory of the greatest size, beside all else an object holds, and none that is much larger.
	fill := func(size int) error {
		obj := l.get()
		entry := meta.InventoryEntry{ID: strings.Repeat("x", 300-len(`{"id":"","v":""},`)-2), Version: "v1"}
		obj.Status.Inventory = &meta.Inventory{Entries: []meta.InventoryEntry{}}
		for range size / 300 {
			obj.Status.Inventory.Entries = append(obj.Status.Inventory.Entries, entry)
		}
		return l.client.Status().Update(t.Context(), obj, client.FieldOwner(fieldManager))
	}
	if err := fill(maxInventory); err != nil {
		t.Errorf("the API server refuses what the limit allows: %v", err)
	}
	if err := fill(maxInventory + 1<<19); err == nil {
		t.Error("the API server takes more: the limit is too strict")
	}
	if err := fill(0); err != nil {
		t.Error(err)
	}
}
