package loop

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// queued returns the keys a handler put into the queue.
func queued(t *testing.T, feed func(q queue)) []string {
	t.Helper()
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer q.ShutDown()
	feed(q)
	var out []string
	for q.Len() > 0 {
		item, _ := q.Get()
		out = append(out, item.String())
		q.Done(item)
	}
	return out
}

// _common 5, 6; kustomization 1; gitrepository 5: what the watch of the own kind makes of events.
func TestOwnEvents(t *testing.T) {
	b := newBench(t, Policy{})
	asked := func(token string) *widget {
		w := newWidget()
		w.Annotations = map[string]string{meta.ReconcileRequestAnnotation: token}
		return w
	}
	labelled := newWidget()
	labelled.Labels = map[string]string{"a": "b"}
	changed := newWidget()
	changed.Generation = 2
	ctx, h := context.Background(), b.engine.own()
	for name, test := range map[string]struct {
		feed func(q queue)
		want []string
	}{
		"_common 6: every object at the start": {func(q queue) {
			h.Create(ctx, ctrlevent.CreateEvent{Object: newWidget(), IsInInitialList: true}, q)
		}, []string{"ns/w"}},
		"_common 6: a new object": {func(q queue) { h.Create(ctx, ctrlevent.CreateEvent{Object: newWidget()}, q) }, []string{"ns/w"}},
		"_common 5: a new generation": {func(q queue) {
			h.Update(ctx, ctrlevent.UpdateEvent{ObjectOld: newWidget(), ObjectNew: changed}, q)
		}, []string{"ns/w"}},
		"_common 5: a request": {func(q queue) {
			h.Update(ctx, ctrlevent.UpdateEvent{ObjectOld: newWidget(), ObjectNew: asked("1")}, q)
		}, []string{"ns/w"}},
		"_common 5: a request taken back": {func(q queue) {
			h.Update(ctx, ctrlevent.UpdateEvent{ObjectOld: asked("1"), ObjectNew: newWidget()}, q)
		}, nil},
		"_common 5: a label": {func(q queue) {
			h.Update(ctx, ctrlevent.UpdateEvent{ObjectOld: newWidget(), ObjectNew: labelled}, q)
		}, nil},
		"a deletion": {func(q queue) { h.Delete(ctx, ctrlevent.DeleteEvent{Object: newWidget()}, q) }, []string{"ns/w"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, queued(t, test.feed)); diff != "" {
				t.Errorf("queued (-want +got):\n%s", diff)
			}
		})
	}
}

// _common 21: an object that is gone when its status is to be written is no error.
func TestStatusOfWhatIsGone(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	b.do.reconcile = func(ctx context.Context, w *widget, run *Run) error {
		live := b.get()
		live.Finalizers = nil
		if err := b.client.Update(ctx, live); err != nil {
			return err
		}
		if err := b.client.Delete(ctx, live); err != nil {
			return err
		}
		return run.Ready("ok")
	}
	if result := b.step(); result != (reconcile.Result{}) {
		t.Errorf("result = %+v, want nothing more to do", result)
	}
	if err := b.client.Get(context.Background(), widgetKey, &widget{}); !apierrors.IsNotFound(err) {
		t.Errorf("the object is back: %v", err)
	}
}

// _common 22: a run that finds nothing new leaves Ready=True alone from its start to its end, also when it lasts.
// _common 23: the progress of a long run is there to read, with what it works on.
func TestReadyOfLongRuns(t *testing.T) {
	w := newWidget()
	w.Status.ObservedGeneration = 1
	w.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: "Succeeded", Message: "ok"}}
	b := newBench(t, Policy{}, w)
	written := make(chan struct{}, 4)
	b.after = func() { written <- struct{}{} }
	pass := func() {
		b.clock.Step(phaseBeforeWrite + time.Millisecond)
		<-written
	}
	b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error {
		run.Progress("reconciliation in progress")
		pass()
		if got := condition(b.get(), meta.ReadyCondition); got != "True Succeeded: ok" {
			t.Errorf("Ready meanwhile = %q", got)
		}
		if got := condition(b.get(), meta.ReconcilingCondition); got != "True Progressing: reconciliation in progress" {
			t.Errorf("Reconciling meanwhile = %q", got)
		}
		return run.Ready("ok")
	}
	b.step()
	if got := condition(b.get(), meta.ReconcilingCondition); got != "-" {
		t.Errorf("Reconciling = %q after the run (_common 25)", got)
	}
}

// _common 31: a run that ends well is Ready, whatever the object looked like before.
func TestSuccessIsReady(t *testing.T) {
	w := newWidget()
	for _, conditionType := range []string{"FetchFailed", meta.StalledCondition} {
		w.Status.Conditions = append(w.Status.Conditions, metav1.Condition{Type: conditionType, Status: metav1.ConditionTrue, Reason: "Broken"})
	}
	w.Status.Conditions = append(w.Status.Conditions, metav1.Condition{Type: meta.ReadyCondition, Status: metav1.ConditionFalse, Reason: "Broken"})
	b := newBench(t, Policy{}, w)
	b.step()
	for conditionType, want := range map[string]string{
		meta.ReadyCondition: "True Succeeded: Reconciliation succeeded", "FetchFailed": "-", meta.StalledCondition: "-", meta.ReconcilingCondition: "-",
	} {
		if got := condition(b.get(), conditionType); got != want {
			t.Errorf("%s = %q, want %q", conditionType, got, want)
		}
	}
}

// _common 32: a failure is one Warning with the reason of the condition.
func TestFailureEvent(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	b.do.reconcile = func(context.Context, *widget, *Run) error { return Fail("Broken", errTest).On("FetchFailed") }
	if _, err := b.run(); !errors.Is(err, errTest) {
		t.Errorf("error = %v", err)
	}
	want := []event.Event{{Severity: event.Error, Reason: "Broken", Message: "boom"}}
	if diff := cmp.Diff(want, b.events.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if got := condition(b.get(), "FetchFailed"); got != "True Broken: boom" {
		t.Errorf("FetchFailed = %q", got)
	}
}

// A conflict is not a failure of the object: it stays as it is, and the run is repeated.
func TestConflictIsSilent(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	before := b.get()
	b.do.reconcile = func(context.Context, *widget, *Run) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "widgets"}, "w", errTest)
	}
	if result := b.step(); result.RequeueAfter <= 0 {
		t.Errorf("result = %+v, want another run", result)
	}
	if diff := cmp.Diff(before, b.get()); diff != "" || len(b.events.take()) != 0 {
		t.Errorf("the object changed, or an event was sent (-want +got):\n%s", diff)
	}
}

// artifactgenerator 4, 5: a kind may have a finalizer of its own, and say of a suspended object that it is.
func TestSuspendedAloud(t *testing.T) {
	w := newWidget()
	w.Spec.Suspend, w.Finalizers = true, nil
	b := newBench(t, Policy{
		SuspendReady: &metav1.Condition{Reason: "Disabled", Message: "never ran"},
		SuspendEvent: &event.Event{Severity: event.Trace, Reason: "Disabled", Message: "is disabled"},
	}, w)
	b.engine.c.Finalizer = "example.com/own"
	b.do.reconcile = func(context.Context, *widget, *Run) error { return Fail("Broken", errTest) }
	for range 2 {
		b.step()
		if got := condition(b.get(), meta.ReadyCondition); got != "True Disabled: never ran" {
			t.Errorf("Ready = %q", got)
		}
		if diff := cmp.Diff([]event.Event{{Severity: event.Trace, Reason: "Disabled", Message: "is disabled"}}, b.events.take()); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	}
	if got := b.get().Finalizers; len(got) != 1 || got[0] != "example.com/own" {
		t.Errorf("finalizers = %v", got)
	}
	// A verdict of a former run stays.
	b.change(func(w *widget) { w.Spec.Suspend = false })
	if _, err := b.run(); err == nil {
		t.Error("the resumed object did not run")
	}
	b.change(func(w *widget) { w.Spec.Suspend = true })
	b.step()
	if got := condition(b.get(), meta.ReadyCondition); got != "False Broken: boom" {
		t.Errorf("Ready = %q, want that of the last run", got)
	}
	if err := b.client.Delete(t.Context(), b.get()); err != nil {
		t.Fatal(err)
	}
	b.step()
	if err := b.client.Get(t.Context(), widgetKey, &widget{}); !apierrors.IsNotFound(err) {
		t.Errorf("the finalizer is still there: %v", err)
	}
}
