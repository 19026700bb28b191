package loop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlevent "sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// TestVerdictTable is the table of the package documentation, cell by cell (_common 24, 25, 26, 28).
func TestVerdictTable(t *testing.T) {
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "widgets"}, "w", errTest)
	tests := []struct {
		name        string
		policy      Policy
		verdict     error
		ready       string
		stalled     string
		reconciling string
		observed    int64
		events      []event.Event
		after       time.Duration
		backoff     bool
		writes      int
	}{
		{name: "success", verdict: nil,
			ready: "True Succeeded: done", stalled: "-", reconciling: "-", observed: 2, after: 10 * time.Minute, writes: 1},
		{name: "_common 9, 24: fail retries by backoff", verdict: Fail("Broken", errTest),
			ready: "False Broken: boom", stalled: "-", reconciling: "True ProgressingWithRetry: working", observed: 1,
			events: []event.Event{{Severity: event.Error, Reason: "Broken", Message: "boom"}}, backoff: true, writes: 1},
		{name: "_common 24: any error is a fail", verdict: errTest,
			ready: "False ReconciliationFailed: boom", stalled: "-", reconciling: "True ProgressingWithRetry: working", observed: 1,
			events: []event.Event{{Severity: event.Error, Reason: "ReconciliationFailed", Message: "boom"}}, backoff: true, writes: 1},
		{name: "kustomization 101: fail with a retry time of its own", verdict: Fail("Broken", errTest).After(time.Minute),
			ready: "False Broken: boom", stalled: "-", reconciling: "True ProgressingWithRetry: working", observed: 1,
			events: []event.Event{{Severity: event.Error, Reason: "Broken", Message: "boom"}}, after: time.Minute, writes: 1},
		{name: "kustomization 92: the event says more", verdict: Fail("Broken", errTest).Saying("health check failed: boom").After(time.Minute),
			ready: "False Broken: boom", stalled: "-", reconciling: "True ProgressingWithRetry: working", observed: 1,
			events: []event.Event{{Severity: event.Error, Reason: "Broken", Message: "health check failed: boom"}}, after: time.Minute, writes: 1},
		{name: "_common 24: a Kustomization waits without Reconciling", verdict: Wait("DependencyNotReady", 30*time.Second, errTest),
			ready: "False DependencyNotReady: boom", stalled: "-", reconciling: "-", observed: 1, after: 30 * time.Second, writes: 1},
		{name: "_common 28: a source waits with Reconciling", policy: Policy{WaitKeepsReconciling: true},
			verdict: Wait("NotFound", 30*time.Second, errTest).Announce(event.Event{Severity: event.Trace, Reason: "NotFound", Message: "boom"}),
			ready:   "False NotFound: boom", stalled: "-", reconciling: "True ProgressingWithRetry: working", observed: 1,
			events: []event.Event{{Severity: event.Trace, Reason: "NotFound", Message: "boom"}}, after: 30 * time.Second, writes: 1},
		{name: "_common 25, 28: stall", verdict: Stall("URLInvalid", errTest),
			ready: "False URLInvalid: boom", stalled: "True URLInvalid: boom", reconciling: "-", observed: 2,
			events: []event.Event{{Severity: event.Error, Reason: "URLInvalid", Message: "boom"}}, writes: 1},
		{name: "kustomization 94: interrupted", verdict: Interrupted("HealthCheckCanceled", errTest),
			ready: "False HealthCheckCanceled: boom", stalled: "-", reconciling: "True Progressing: working", observed: 1,
			events: []event.Event{{Severity: event.Info, Reason: "HealthCheckCanceled", Message: "boom"}}, after: time.Millisecond, writes: 1},
		{name: "helmrelease 21: a HelmRelease keeps its progress while it waits", policy: Policy{WaitKeepsReconciling: true, KeepsProgress: true},
			verdict: Wait("SourceNotReady", 30*time.Second, errTest),
			ready:   "False SourceNotReady: boom", stalled: "-", reconciling: "True Progressing: working", observed: 1, after: 30 * time.Second, writes: 1},
		{name: "helmrelease 57: and when it fails", policy: Policy{KeepsProgress: true}, verdict: Fail("InstallFailed", errTest).Quiet(),
			ready: "False InstallFailed: boom", stalled: "-", reconciling: "True Progressing: working", observed: 1, backoff: true, writes: 1},
		{name: "helmrelease 9, 55: a failure that is all that can be done now", policy: Policy{KeepsProgress: true},
			verdict: Fail("InstallFailed", errTest).Quiet().After(time.Minute).Observed(),
			ready:   "False InstallFailed: boom", stalled: "-", reconciling: "True Progressing: working", observed: 2, after: time.Minute, writes: 1},
		{name: "helmrelease 50: stalled for another reason than Ready", verdict: Stall("InstallFailed", errTest).StalledAs("RetriesExceeded", "no more").Quiet(),
			ready: "False InstallFailed: boom", stalled: "True RetriesExceeded: no more", reconciling: "-", observed: 2, writes: 1},
		{name: "too early to say anything", verdict: Early(3*time.Second, errTest),
			ready: "-", stalled: "-", reconciling: "-", observed: 1, after: 3 * time.Second},
		{name: "a conflict is silent", verdict: fmt.Errorf("writing: %w", conflict),
			ready: "-", stalled: "-", reconciling: "-", observed: 1, after: conflictDelay},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWidget()
			w.Generation, w.Status.ObservedGeneration = 2, 1
			b := newBench(t, test.policy, w)
			b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error {
				run.Progress("working")
				if test.verdict == nil {
					return run.Ready("done")
				}
				return test.verdict
			}
			result, err := b.run()
			if (err != nil) != test.backoff {
				t.Errorf("error for the queue = %v, want backoff %t", err, test.backoff)
			}
			if result.RequeueAfter != test.after {
				t.Errorf("requeue after %s, want %s", result.RequeueAfter, test.after)
			}
			got := b.get()
			want := map[string]string{meta.ReadyCondition: test.ready, meta.StalledCondition: test.stalled, meta.ReconcilingCondition: test.reconciling}
			for conditionType, text := range want {
				if c := condition(got, conditionType); c != text {
					t.Errorf("%s = %q, want %q", conditionType, c, text)
				}
			}
			if got.Status.ObservedGeneration != test.observed {
				t.Errorf("observedGeneration = %d, want %d", got.Status.ObservedGeneration, test.observed)
			}
			if diff := cmp.Diff(test.events, b.events.take()); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if b.writes != test.writes {
				t.Errorf("%d writes, want %d", b.writes, test.writes)
			}
		})
	}
}

// An interval run that finds nothing new writes nothing; the failure of the last run is gone once a run does not report it.
func TestConditionsComeFromTheRun(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error {
		run.Set("ArtifactInStorage", metav1.ConditionTrue, "Succeeded", "stored")
		return Fail("GitOperationFailed", errTest).On("FetchFailed")
	}
	if _, err := b.run(); err == nil {
		t.Fatal("the failure did not reach the queue")
	}
	if got := condition(b.get(), "FetchFailed"); got != "True GitOperationFailed: boom" {
		t.Errorf("FetchFailed = %q", got)
	}
	b.events.take()

	b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error { return run.Ready("stored") }
	b.step()
	got := b.get()
	if c := condition(got, "FetchFailed"); c != "-" {
		t.Errorf("a failure that nobody reported stayed: %q", c)
	}
	if c := condition(got, "ArtifactInStorage"); c != "True Succeeded: stored" {
		t.Errorf("a sticky condition was lost: %q", c)
	}
	want := []event.Event{{Severity: event.Info, Reason: "Succeeded", Message: "stored"}}
	if diff := cmp.Diff(want, b.events.take()); diff != "" {
		t.Errorf("_common 33: recovery event (-want +got):\n%s", diff)
	}

	writes := b.writes
	b.clock.Step(time.Minute)
	b.step()
	if b.writes != writes {
		t.Errorf("an unchanged interval run wrote %d times", b.writes-writes)
	}
	if events := b.events.take(); len(events) != 0 {
		t.Errorf("an unchanged interval run sent %v", events)
	}
}

// _common 33: a run that tells its good end itself sends no recovery event besides.
func TestNewsReplacesRecovery(t *testing.T) {
	w := newWidget()
	w.Status.Conditions = []metav1.Condition{{Type: "FetchFailed", Status: metav1.ConditionTrue, Reason: "X"}}
	b := newBench(t, Policy{}, w)
	b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error {
		if !run.Recovered() {
			t.Error("the run does not know that it recovers")
		}
		run.Annotate("revision", "main@sha1:1")
		run.Event(event.Event{Severity: event.Info, Reason: "NewArtifact", Metadata: map[string]string{"digest": "d"}})
		run.News()
		return run.Ready("stored")
	}
	b.step()
	want := []event.Event{{Severity: event.Info, Reason: "NewArtifact", Metadata: map[string]string{"revision": "main@sha1:1", "digest": "d"}}}
	if diff := cmp.Diff(want, b.events.take()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// _common 2: the finalizer comes before any work.
func TestFinalizerFirst(t *testing.T) {
	w := newWidget()
	w.Finalizers = nil
	b := newBench(t, Policy{}, w)
	b.do.reconcile = func(context.Context, *widget, *Run) error {
		if f := b.get().Finalizers; len(f) != 1 || f[0] != meta.Finalizer {
			t.Errorf("finalizers at work = %v", f)
		}
		return nil
	}
	b.step()
}

// _common 3: the delete branch runs also when suspended; the finalizer goes only after Finalize has succeeded.
func TestDeletion(t *testing.T) {
	w := newWidget()
	w.Spec.Suspend = true
	deleted := metav1.NewTime(now)
	w.DeletionTimestamp = &deleted
	b := newBench(t, Policy{}, w)
	var gone []string
	b.engine.o.Gone = func(kind, namespace, name string) { gone = append(gone, kind+" "+namespace+"/"+name) }
	b.do.finalize = func(context.Context, *widget, *Run) error { return Fail("PruneFailed", errTest) }
	if _, err := b.run(); err == nil {
		t.Error("a failed finalization is not retried")
	}
	if len(gone) != 0 {
		t.Errorf("%v is told to be gone before it is", gone)
	}
	if got := condition(b.get(), meta.ReadyCondition); got != "False PruneFailed: boom" {
		t.Errorf("Ready = %q", got)
	}
	b.do.finalize = func(context.Context, *widget, *Run) error { return nil }
	b.step()
	if err := b.client.Get(context.Background(), widgetKey, &widget{}); !apierrors.IsNotFound(err) {
		t.Errorf("the object is still there: %v", err)
	}
	if want := "Widget " + widgetKey.String(); len(gone) != 1 || gone[0] != want {
		t.Errorf("told to be gone: %v, want %s (_common 50)", gone, want)
	}
}

// _common 3: an object that is going and does not carry our finalizer is left alone.
func TestDeletionWithoutOurFinalizer(t *testing.T) {
	w := newWidget()
	deleted := metav1.NewTime(now)
	w.DeletionTimestamp, w.Finalizers = &deleted, []string{"example.com/other"}
	b := newBench(t, Policy{}, w)
	b.do.finalize = func(context.Context, *widget, *Run) error { t.Error("finalized"); return nil }
	b.step()
	if b.writes != 0 {
		t.Errorf("%d writes", b.writes)
	}
}

// _common 4: suspended objects, by the policies of the kinds.
func TestSuspended(t *testing.T) {
	ready := func(s metav1.ConditionStatus) []metav1.Condition {
		return []metav1.Condition{{Type: meta.ReadyCondition, Status: s, Reason: "Succeeded", ObservedGeneration: 1}}
	}
	tests := []struct {
		name       string
		policy     Policy
		conditions []metav1.Condition
		observed   int64
		stamp      int64
		others     int64
		writes     int
	}{
		{name: "source, ready", policy: Policy{SuspendRestamps: true}, conditions: ready("True"), observed: 2, stamp: 2, writes: 1},
		{name: "source, failing", policy: Policy{SuspendRestamps: true}, conditions: ready("False"), observed: 2, stamp: 2, writes: 1},
		{name: "Kustomization, ready", policy: Policy{SuspendObserves: WhenReadyTrue}, conditions: ready("True"), observed: 2, stamp: 1, writes: 1},
		{name: "Kustomization, failing", policy: Policy{SuspendObserves: WhenReadyTrue}, conditions: ready("False"), observed: -1, stamp: 1},
		{name: "from birth", policy: Policy{SuspendRestamps: true}, observed: -1},
		{name: "HelmRelease from birth", policy: Policy{SuspendObserves: Always, SuspendRestampsAll: true}, observed: 2, writes: 1},
		{name: "HelmRelease, failing", policy: Policy{SuspendObserves: Always, SuspendRestampsAll: true},
			conditions: append(ready("False"), metav1.Condition{Type: "Released", Status: "False", Reason: "InstallFailed", ObservedGeneration: 1}),
			observed:   2, stamp: 2, others: 2, writes: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWidget()
			w.Spec.Suspend, w.Generation, w.Status.Conditions = true, 2, test.conditions
			b := newBench(t, test.policy, w)
			b.do.reconcile = func(context.Context, *widget, *Run) error { t.Error("a suspended object was worked on"); return nil }
			if result := b.step(); result != (reconcile.Result{}) {
				t.Errorf("requeued: %v", result)
			}
			got := b.get()
			if got.Status.ObservedGeneration != test.observed {
				t.Errorf("observedGeneration = %d, want %d", got.Status.ObservedGeneration, test.observed)
			}
			if c := status.Find(got.Status.Conditions, meta.ReadyCondition); c != nil && c.ObservedGeneration != test.stamp {
				t.Errorf("Ready.observedGeneration = %d, want %d", c.ObservedGeneration, test.stamp)
			}
			if c := status.Find(got.Status.Conditions, "Released"); c != nil && c.ObservedGeneration != test.others {
				t.Errorf("Released.observedGeneration = %d, want %d", c.ObservedGeneration, test.others)
			}
			if b.writes != test.writes {
				t.Errorf("%d writes, want %d", b.writes, test.writes)
			}
			b.change(func(w *widget) { w.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "token"} })
			b.step()
			if got := b.get().Status.LastHandledReconcileAt; got != "token" {
				t.Errorf("a request on a suspended object is recorded as %q", got)
			}
		})
	}
}

// _common 7, 40: tokens are recorded at the end of every run, and force is honoured once, only with the request.
func TestRequests(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	var requested, forced bool
	b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error {
		requested, forced = run.Requested(), run.Forced()
		return run.Ready("ok")
	}
	steps := []struct {
		name               string
		request, force     string
		requested, forced  bool
		handled, handledAt string
	}{
		{name: "first run", requested: true},
		{name: "routine"},
		{name: "requested", request: "a", requested: true, handled: "a"},
		{name: "handled", request: "a", handled: "a"},
		{name: "force with another token", request: "b", force: "x", requested: true, handled: "b", handledAt: "x"},
		{name: "forced", request: "c", force: "c", requested: true, forced: true, handled: "c", handledAt: "c"},
		{name: "force already handled", request: "c", force: "c", handled: "c", handledAt: "c"},
	}
	for _, step := range steps {
		b.change(func(w *widget) {
			w.Annotations = map[string]string{meta.ReconcileRequestAnnotation: step.request, meta.ForceRequestAnnotation: step.force}
		})
		b.step()
		got := b.get().Status
		if requested != step.requested || forced != step.forced {
			t.Errorf("%s: requested %t forced %t, want %t %t", step.name, requested, forced, step.requested, step.forced)
		}
		if got.LastHandledReconcileAt != step.handled || got.LastHandledForceAt != step.handledAt {
			t.Errorf("%s: handled %q %q, want %q %q", step.name, got.LastHandledReconcileAt, got.LastHandledForceAt, step.handled, step.handledAt)
		}
	}
}

// helmrelease 35: the same for forgetting failures.
func TestResets(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	var reset bool
	b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error {
		reset = run.Reset()
		return run.Ready("ok")
	}
	for _, step := range []struct {
		request, reset string
		want           bool
	}{{"", "", false}, {"a", "x", false}, {"b", "b", true}, {"b", "b", false}} {
		b.change(func(w *widget) {
			w.Annotations = map[string]string{meta.ReconcileRequestAnnotation: step.request, meta.ResetRequestAnnotation: step.reset}
		})
		b.step()
		if reset != step.want {
			t.Errorf("request %q, reset %q: reset %t, want %t", step.request, step.reset, reset, step.want)
		}
		if got := b.get().Status.LastHandledResetAt; got != step.reset {
			t.Errorf("request %q: handled %q, want %q", step.request, got, step.reset)
		}
	}
}

// helmrelease 55: a run says when it is repeated.
func TestRetrying(t *testing.T) {
	b := newBench(t, Policy{KeepsProgress: true}, newWidget())
	b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error {
		run.Retrying("retrying after %s", "1m")
		return Fail("InstallFailed", errTest).After(time.Minute)
	}
	b.step()
	if got, want := condition(b.get(), meta.ReconcilingCondition), "True ProgressingWithRetry: retrying after 1m"; got != want {
		t.Errorf("Reconciling = %q, want %q", got, want)
	}
}

// A request waits for the end of a parked wait where the policy says so; a new spec never does.
func TestTokensWait(t *testing.T) {
	for _, wait := range []bool{false, true} {
		b := newBench(t, Policy{TokensWait: wait}, newWidget())
		ctx, cancel := context.WithCancelCause(context.Background())
		b.engine.parking.attend(widgetKey)
		b.engine.parking.read(widgetKey, newWidget(), !wait)
		b.engine.parking.enter(widgetKey, cancel)
		asked, changed := newWidget(), newWidget()
		asked.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "a"}
		changed.Generation = 2
		queued(t, func(q queue) {
			b.engine.own().Update(context.Background(), ctrlevent.UpdateEvent{ObjectOld: newWidget(), ObjectNew: asked}, q)
		})
		if ended := ctx.Err() != nil; ended == wait {
			t.Errorf("TokensWait %t: the request has ended the wait: %t", wait, ended)
		}
		queued(t, func(q queue) {
			b.engine.own().Update(context.Background(), ctrlevent.UpdateEvent{ObjectOld: newWidget(), ObjectNew: changed}, q)
		})
		if ctx.Err() == nil {
			t.Errorf("TokensWait %t: a new spec has not ended the wait", wait)
		}
	}
}

// _common 7: a failed run handles the request too.
func TestFailureHandlesRequest(t *testing.T) {
	w := newWidget()
	w.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "a"}
	b := newBench(t, Policy{}, w)
	b.do.reconcile = func(context.Context, *widget, *Run) error { return errTest }
	if _, err := b.run(); err == nil {
		t.Error("no error for the queue")
	}
	if got := b.get().Status.LastHandledReconcileAt; got != "a" {
		t.Errorf("lastHandledReconcileAt = %q", got)
	}
}

// _common 14, 15: a patch that loses a race keeps foreign conditions and the union of inventories.
func TestLostRace(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	b.do.reconcile = func(_ context.Context, w *widget, run *Run) error {
		w.Status.Inventory = []string{"new"}
		return run.Ready("ok")
	}
	raced := false
	b.before = func() {
		if raced {
			return
		}
		raced = true
		w := b.get()
		w.Status.Inventory = []string{"theirs"}
		w.Status.Conditions = []metav1.Condition{{Type: "Foreign", Status: metav1.ConditionTrue, Reason: "Mine"}}
		if err := b.client.Status().Update(context.Background(), w); err != nil {
			t.Fatal(err)
		}
	}
	b.step()
	got := b.get()
	if diff := cmp.Diff([]string{"new", "theirs"}, got.Status.Inventory); diff != "" {
		t.Errorf("inventory (-want +got):\n%s", diff)
	}
	if c := condition(got, "Foreign"); c != "True Mine: " {
		t.Errorf("foreign condition = %q", c)
	}
	if c := condition(got, meta.ReadyCondition); c != "True Succeeded: ok" {
		t.Errorf("Ready = %q", c)
	}
}

// _common 10: a panic fails its object, is written to it, and reaches controller-runtime, which contains and counts it.
func TestPanicIsContained(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	b.do.reconcile = func(context.Context, *widget, *Run) error { panic("kaboom") }
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed: nobody counts it")
			}
		}()
		_, _ = b.run()
	}()
	if got := condition(b.get(), meta.ReadyCondition); !strings.Contains(got, "panic while reconciling: kaboom") {
		t.Errorf("Ready = %q", got)
	}
	b.do.reconcile = func(context.Context, *widget, *Run) error { return nil }
	b.step()
}

// The more runs are in progress, the later each of them tells about its own.
func TestPatience(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	for running, want := range map[int64]time.Duration{1: phaseBeforeWrite, 200: phaseBeforeWrite, 1000: 25 * time.Second} {
		b.engine.running.Store(running)
		if got := b.engine.patience(); got != want {
			t.Errorf("%d runs: %s, want %s", running, got, want)
		}
	}
	b.engine.running.Store(0)
	b.do.reconcile = func(context.Context, *widget, *Run) error {
		if n := b.engine.running.Load(); n != 1 {
			t.Errorf("%d runs while one is in progress", n)
		}
		return nil
	}
	b.step()
	if n := b.engine.running.Load(); n != 0 {
		t.Errorf("%d runs after the only one has ended", n)
	}
}

// A phase that outlasts five seconds is written; a quick run costs one write.
func TestProgressOfLongPhase(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	written := make(chan struct{}, 2)
	b.after = func() { written <- struct{}{} }
	b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error {
		run.Pending("Reconciliation in progress")
		run.Progress("Fetching")
		b.clock.Step(phaseBeforeWrite - time.Millisecond)
		if b.writes != 0 {
			t.Error("progress was written too early")
		}
		b.clock.Step(time.Millisecond)
		<-written
		got := b.get()
		if c := condition(got, meta.ReconcilingCondition); c != "True Progressing: Fetching" {
			t.Errorf("Reconciling = %q", c)
		}
		if c := condition(got, meta.ReadyCondition); c != "Unknown Progressing: Reconciliation in progress" {
			t.Errorf("Ready = %q", c)
		}
		return run.Ready("ok")
	}
	b.step()
	if b.writes != 2 {
		t.Errorf("%d writes, want 2", b.writes)
	}
}

// The write-ahead: what Persist writes is there before the run goes on, and a failure later keeps it.
func TestPersist(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	b.do.reconcile = func(ctx context.Context, w *widget, run *Run) error {
		w.Status.Inventory = []string{"a"}
		run.Progress("Applying")
		if err := run.Persist(ctx); err != nil {
			return err
		}
		if diff := cmp.Diff([]string{"a"}, b.get().Status.Inventory); diff != "" {
			t.Errorf("inventory (-want +got):\n%s", diff)
		}
		return errTest
	}
	if _, err := b.run(); !errors.Is(err, errTest) {
		t.Errorf("error = %v", err)
	}
	got := b.get()
	if len(got.Status.Inventory) != 1 || condition(got, meta.ReadyCondition) != "False ReconciliationFailed: boom" {
		t.Errorf("status = %+v", got.Status)
	}
}

// helmrelease 10: our own write that the cache does not show yet puts a run off; the cache catching up starts it.
func TestStaleCache(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	runs := 0
	b.do.reconcile = func(context.Context, *widget, *Run) error { runs++; return nil }
	b.engine.writes.note(widgetKey, "999999")
	if result := b.step(); result.RequeueAfter != cacheCatchUp || runs != 0 {
		t.Errorf("ran %d times on a stale copy, requeue %s", runs, result.RequeueAfter)
	}
	if b.engine.writes.caughtUp(widgetKey, "999998") {
		t.Error("an older version counts as caught up")
	}
	if !b.engine.writes.caughtUp(widgetKey, "999999") {
		t.Error("the awaited version does not count")
	}
	if b.engine.writes.caughtUp(widgetKey, "1000000") {
		t.Error("told twice")
	}
	b.step()
	if runs != 1 {
		t.Errorf("%d runs", runs)
	}
}

// parkable lets runs of the bench park. It returns the keys that the queue is asked for.
func (b *bench) parkable(most int) chan types.NamespacedName {
	woken := make(chan types.NamespacedName, 10)
	b.engine.parking.most = most
	b.engine.parking.openFor(func(key types.NamespacedName) { woken <- key })
	return woken
}

// A parked run holds no worker and is ended by an interruption; its verdict is Interrupted's, and the worker that comes
// for it has its result. What the queue has delivered meanwhile is looked at again.
func TestPark(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	woken := b.parkable(1)
	b.do.reconcile = func(ctx context.Context, _ *widget, run *Run) error {
		err := run.Park(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if !errors.Is(err, ErrInterrupted) {
			t.Errorf("the wait ended with %v", err)
		}
		return Interrupted("HealthCheckCanceled", err)
	}
	limits := &limiter{workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, time.Minute), b.engine.parking}
	request := reconcile.Request{NamespacedName: widgetKey}
	limits.When(request)
	for range 2 {
		if result := b.step(); result != (reconcile.Result{}) {
			t.Errorf("the worker of a parked run has the result %v", result)
		}
		limits.Forget(request)
	}
	if len(woken) > 0 {
		t.Error("the queue is asked for a run that waits")
	}
	b.engine.parking.interrupt(widgetKey)
	if got := <-woken; got != widgetKey {
		t.Errorf("the queue is asked for %s", got)
	}
	if n := limits.NumRequeues(request); n != 1 {
		t.Errorf("%d failures are counted, want 1", n)
	}
	if result := b.step(); result.RequeueAfter == 0 {
		t.Errorf("result = %v", result)
	}
	if got := status.Find(b.get().Status.Conditions, meta.ReadyCondition); got == nil || got.Reason != "HealthCheckCanceled" {
		t.Errorf("Ready = %v", got)
	}
	if got := <-woken; got != widgetKey {
		t.Errorf("what was delivered meanwhile is lost: %s", got)
	}
	if limits.Forget(request); limits.NumRequeues(request) != 0 {
		t.Error("failures are counted after the end")
	}
	if b.engine.parking.drain(); b.engine.parking.parked != 0 {
		t.Errorf("%d runs are parked", b.engine.parking.parked)
	}
}

// Where no more may park, a run keeps its worker.
func TestParkFull(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	woken := b.parkable(0)
	b.do.reconcile = func(ctx context.Context, _ *widget, run *Run) error {
		return run.Park(ctx, func(context.Context) error { return nil })
	}
	b.step()
	if got := status.Find(b.get().Status.Conditions, meta.ReadyCondition); got == nil || got.Status != metav1.ConditionTrue || len(woken) > 0 {
		t.Errorf("Ready = %v, %d asked for", got, len(woken))
	}
}

// A shutdown ends parked runs without a worker, and silently; the process waits for that.
func TestParkShutdown(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	woken := b.parkable(1)
	finished := false
	b.do.reconcile = func(ctx context.Context, _ *widget, run *Run) error {
		err := run.Park(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		finished = true
		return Fail("Broken", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := b.engine.Reconcile(ctx, reconcile.Request{NamespacedName: widgetKey}); err != nil {
		t.Fatal(err)
	}
	cancel()
	b.engine.parking.drain()
	if !finished || b.writes != 0 || len(b.events.take()) != 0 {
		t.Errorf("finished: %t, %d writes", finished, b.writes)
	}
	<-woken
}

// A panic after a wait reaches the worker, which contains it.
func TestParkPanic(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	woken := b.parkable(1)
	b.do.reconcile = func(ctx context.Context, _ *widget, run *Run) error {
		_ = run.Park(ctx, func(context.Context) error { return nil })
		panic("at the end")
	}
	b.step()
	<-woken
	defer func() {
		if r := recover(); r != "at the end" {
			t.Errorf("recovered %v", r)
		}
		if got := status.Find(b.get().Status.Conditions, meta.ReadyCondition); got == nil || !strings.Contains(got.Message, "panic while reconciling") {
			t.Errorf("Ready = %v", got)
		}
	}()
	b.step()
}

// What changes between the start of a run and its wait ends the wait: controller-runtime tells it again only after the run. What the run
// knows already does not, also when its event comes late.
func TestOutdatedBeforeParking(t *testing.T) {
	changed, asked := newWidget(), newWidget()
	changed.Generation = 2
	asked.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "a"}
	own := func(obj *widget) func(*bench) {
		return func(b *bench) {
			queued(t, func(q queue) {
				b.engine.own().Update(context.Background(), ctrlevent.UpdateEvent{ObjectOld: newWidget(), ObjectNew: obj}, q)
			})
		}
	}
	source := func(version string) *widget {
		w := newWidget()
		w.UID, w.ResourceVersion = "source", version
		return w
	}
	watch := func(interrupts bool) Watch {
		return Watch{Map: func(_, _ client.Object) []types.NamespacedName { return []types.NamespacedName{widgetKey} }, Interrupts: interrupts}
	}
	updated := func(version string) func(*bench) {
		return func(b *bench) {
			queued(t, func(q queue) {
				b.engine.mapped(watch(true)).Update(context.Background(), ctrlevent.UpdateEvent{ObjectOld: source("1"), ObjectNew: source(version)}, q)
			})
		}
	}
	for _, c := range []struct {
		name      string
		read      string // version of the source that the run has read; empty: none
		event     func(*bench)
		waiting   bool // the event comes while the run waits
		interrupt bool
	}{
		{"a new generation", "", own(changed), false, true},
		{"a request", "", own(asked), false, true},
		{"the generation it works on", "", own(newWidget()), false, false},
		{"a source it has read", "5", updated("6"), false, true},
		{"a source it has read, while it waits", "5", updated("6"), true, true},
		{"a source it has read as it is", "6", updated("6"), false, false},
		{"a source it has read as it is, while it waits", "6", updated("6"), true, false},
		{"a source it has read as it became later", "7", updated("6"), true, false},
		{"a source it is yet to read", "", updated("6"), false, false},
		{"a source it has not read, while it waits", "", updated("6"), true, true},
		{"a source that is gone", "5", func(b *bench) {
			queued(t, func(q queue) {
				b.engine.mapped(watch(true)).Delete(context.Background(), ctrlevent.DeleteEvent{Object: source("5")}, q)
			})
		}, false, true},
		{"a source, at the start of the process", "5", func(b *bench) {
			queued(t, func(q queue) {
				b.engine.mapped(watch(true)).Create(context.Background(), ctrlevent.CreateEvent{Object: source("6"), IsInInitialList: true}, q)
			})
		}, false, false},
		{"something that only wakes", "5", func(b *bench) {
			queued(t, func(q queue) {
				b.engine.mapped(watch(false)).Update(context.Background(), ctrlevent.UpdateEvent{ObjectOld: source("5"), ObjectNew: source("6")}, q)
			})
		}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, Policy{}, newWidget())
			b.do.reconcile = func(ctx context.Context, _ *widget, run *Run) error {
				if c.read != "" {
					note(ctx, source(c.read))
				}
				if !c.waiting {
					c.event(b)
				}
				err := run.Park(ctx, func(ctx context.Context) error {
					if c.waiting {
						c.event(b)
					}
					return ctx.Err()
				})
				if err != nil {
					return Interrupted("HealthCheckCanceled", err)
				}
				return nil
			}
			b.step()
			ready := status.Find(b.get().Status.Conditions, meta.ReadyCondition)
			if interrupted := ready.Status != metav1.ConditionTrue; interrupted != c.interrupt {
				t.Errorf("the wait was interrupted: %t; Ready is %v", interrupted, ready)
			}
		})
	}
	for generation, want := range map[int64]bool{1: true, 2: false} {
		p, ended, read := newParking(0), false, newWidget()
		read.Generation = generation
		p.attend(widgetKey)
		p.outdate(widgetKey, changed, true)
		p.read(widgetKey, read, true)
		p.enter(widgetKey, func(error) { ended = true })
		if ended != want {
			t.Errorf("generation 2 came while generation %d was read: the wait has ended: %t", generation, ended)
		}
	}
}

// Clients note what runs read, and only that.
func TestNoting(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	p := newParking(0)
	run, _ := p.attend(widgetKey)
	ctx := context.WithValue(context.Background(), readsKey{}, run.reads)
	var w widget
	if err := NotingReader(b.client).Get(ctx, types.NamespacedName{Name: "absent"}, &w); err == nil {
		t.Fatal("an object that does not exist was read")
	}
	if n := len(p.runs[widgetKey].reads.versions); n != 0 {
		t.Errorf("%d objects were noted", n)
	}
	if err := Noting(b.client).Get(ctx, widgetKey, &w); err != nil {
		t.Fatal(err)
	}
	if err := Noting(b.client).Get(context.Background(), widgetKey, &w); err != nil {
		t.Errorf("outside of a run: %v", err)
	}
	if _, current := p.runs[widgetKey].reads.verdictOn(&w); !current {
		t.Error("what was read was not noted")
	}
}

// A shutdown in the middle of a run leaves the object untouched.
func TestShutdownIsSilent(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	ctx, cancel := context.WithCancel(context.Background())
	b.do.reconcile = func(ctx context.Context, _ *widget, _ *Run) error {
		cancel()
		return Fail("Broken", ctx.Err())
	}
	if _, err := b.engine.Reconcile(ctx, reconcile.Request{NamespacedName: widgetKey}); err != nil {
		t.Errorf("error = %v", err)
	}
	if b.writes != 0 || len(b.events.take()) != 0 {
		t.Error("a shutdown was told")
	}
}

// _common 1: an object that is gone ends silently.
func TestNotFound(t *testing.T) {
	b := newBench(t, Policy{})
	if result := b.step(); result != (reconcile.Result{}) {
		t.Errorf("requeued: %v", result)
	}
}

// imagerepository 9, imagepolicy 33: a kind that knows when the next run is due says so, and no jitter moves it.
func TestAgain(t *testing.T) {
	for _, after := range []time.Duration{0, 90 * time.Second} {
		b := newBench(t, Policy{}, newWidget())
		b.engine.o.JitterPercent = 50
		b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error {
			run.Again(after)
			return run.Ready("done")
		}
		if result, err := b.run(); err != nil || result.RequeueAfter != after {
			t.Errorf("looked at again after %s (error %v), want %s", result.RequeueAfter, err, after)
		}
	}
}

// _common 8: the interval is spread by the jitter, within its bounds.
func TestJitter(t *testing.T) {
	b := newBench(t, Policy{})
	b.engine.o.JitterPercent = 5
	different := false
	for range 200 {
		d := b.engine.jitter(100 * time.Second)
		if d < 95*time.Second || d > 105*time.Second {
			t.Fatalf("jitter = %s", d)
		}
		different = different || d != 100*time.Second
	}
	if !different {
		t.Error("no jitter at all")
	}
}

// _common 5, artifactgenerator 1: which updates start a run.
func TestPredicate(t *testing.T) {
	with := func(generation int64, token string) *widget {
		w := newWidget()
		w.Generation = generation
		if token != "" {
			w.Annotations = map[string]string{meta.ReconcileRequestAnnotation: token}
		}
		return w
	}
	tests := []struct {
		name          string
		before, after *widget
		want          bool
	}{
		{"status only", with(1, ""), with(1, ""), false},
		{"generation", with(1, ""), with(2, ""), true},
		{"token appears", with(1, ""), with(1, "a"), true},
		{"token changes", with(1, "a"), with(1, "b"), true},
		{"token disappears", with(1, "a"), with(1, ""), false},
	}
	for _, test := range tests {
		if got := asksForRun(test.before, test.after); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// What went well is logged once, for `flux logs`; a failure is logged where it is judged, not by its event again.
func TestGoodNewsIsLogged(t *testing.T) {
	b := newBench(t, Policy{}, newWidget())
	b.do.reconcile = func(_ context.Context, _ *widget, run *Run) error {
		run.Event(event.Event{Severity: event.Info, Reason: "NewArtifact", Message: "stored artifact"})
		run.Event(event.Event{Severity: event.Trace, Reason: "ArtifactUpToDate", Message: "up to date"})
		return Fail("Broken", errTest)
	}
	var lines []string
	logger := funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
	_, _ = b.engine.Reconcile(log.IntoContext(context.Background(), logger), reconcile.Request{NamespacedName: widgetKey})
	if len(lines) != 1 || !strings.Contains(lines[0], `"msg"="stored artifact" "reason"="NewArtifact"`) {
		t.Errorf("logged %q", lines)
	}
}
