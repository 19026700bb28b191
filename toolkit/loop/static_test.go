package loop

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// static returns a bench where widgets with the label are static, and counts what is called.
func newStaticBench(t *testing.T, w *widget) (*bench, *[]string) {
	b := newBench(t, Policy{}, w)
	calls := &[]string{}
	b.engine.c.Static = func(w *widget) bool { return w.Labels["static"] == "yes" }
	b.do.reconcile = func(context.Context, *widget, *Run) error {
		*calls = append(*calls, "reconcile")
		return nil
	}
	b.do.finalize = func(context.Context, *widget, *Run) error {
		*calls = append(*calls, "finalize")
		return nil
	}
	return b, calls
}

func newStatic() *widget {
	w := newWidget()
	w.Labels = map[string]string{"static": "yes"}
	return w
}

// helmrepository 1, 3: nothing is done for a static object, and nothing written.
func TestStaticObject(t *testing.T) {
	w := newStatic()
	w.Finalizers, w.Status = nil, widgetStatus{}
	b, calls := newStaticBench(t, w)
	if result := b.step(); result.RequeueAfter != 0 {
		t.Errorf("the object is looked at again after %s", result.RequeueAfter)
	}
	if len(*calls) != 0 || b.writes != 0 || len(b.events.take()) != 0 {
		t.Errorf("calls = %v, writes = %d", *calls, b.writes)
	}
}

// helmrepository 2, 4, 35: what an object has left of a time when it was not static is removed once.
func TestStaticMigration(t *testing.T) {
	w := newStatic()
	w.Status = widgetStatus{
		ObservedGeneration: 1, Inventory: []string{"a"},
		Conditions: []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: "Succeeded"}},
	}
	w.Spec.Suspend = true
	b, calls := newStaticBench(t, w)
	b.step()
	if len(*calls) != 0 || b.writes != 0 {
		t.Errorf("a suspended object was touched: calls = %v, writes = %d", *calls, b.writes)
	}

	b.change(func(w *widget) { w.Spec.Suspend = false })
	if result := b.step(); result.RequeueAfter != 0 {
		t.Errorf("the object is looked at again after %s", result.RequeueAfter)
	}
	after := b.get()
	if diff := cmp.Diff(widgetStatus{}, after.Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	if len(after.Finalizers) != 0 {
		t.Errorf("finalizers = %v", after.Finalizers)
	}
	if diff := cmp.Diff([]string{"finalize"}, *calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	b.writes = 0
	b.step()
	if len(*calls) != 1 || b.writes != 0 {
		t.Errorf("the migration is repeated: calls = %v, writes = %d", *calls, b.writes)
	}

	b.change(func(w *widget) { w.Labels = nil })
	b.step()
	if after := b.get(); condition(after, meta.ReadyCondition) == "-" || len(after.Finalizers) != 1 {
		t.Errorf("an object that is static no longer is not reconciled: %+v", after)
	}
}

// A migration that fails is told and tried again, and nothing is thrown away meanwhile.
func TestStaticMigrationFails(t *testing.T) {
	w := newStatic()
	w.Status.Inventory = []string{"a"}
	b, _ := newStaticBench(t, w)
	b.do.finalize = func(context.Context, *widget, *Run) error { return errTest }
	if _, err := b.run(); err == nil {
		t.Error("the failure is not retried")
	}
	after := b.get()
	if len(after.Finalizers) != 1 || len(after.Status.Inventory) != 1 || condition(after, meta.ReadyCondition) != "False ReconciliationFailed: boom" {
		t.Errorf("after the failure: %+v", after)
	}
}

// helmrepository 34: a deleted object goes, also a suspended one.
func TestStaticDeletion(t *testing.T) {
	w := newStatic()
	w.Spec.Suspend = true
	b, calls := newStaticBench(t, w)
	if err := b.client.Delete(t.Context(), b.get()); err != nil {
		t.Fatal(err)
	}
	b.step()
	if err := b.client.Get(t.Context(), widgetKey, &widget{}); err == nil {
		t.Error("the object is still there")
	}
	if diff := cmp.Diff([]string{"finalize"}, *calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
