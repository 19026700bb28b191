package loop

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// cacheCatchUp is when an object is looked at again whose cached copy is older than our own last write, in
// case the watch event that ends the waiting sooner gets lost.
const cacheCatchUp = time.Second

// conflictDelay gives the cache a moment to show what we lost the race to.
const conflictDelay = 50 * time.Millisecond

// engine runs a Controller; one per controller and process.
type engine[O Object] struct {
	c       *Controller[O]
	o       Options
	parking *parking
	writes  *writes
	running atomic.Int64 // runs in progress
}

// patience is how long a phase lasts before its progress is written.
func (e *engine[O]) patience() time.Duration {
	return max(phaseBeforeWrite, time.Duration(e.running.Load())*progressEvery)
}

func newEngine[O Object](c *Controller[O], o Options) *engine[O] {
	o = o.withDefaults()
	return &engine[O]{c: c, o: o, parking: newParking(o.MaxParked), writes: newWrites()}
}

// Reconcile implements reconcile.Reconciler. It returns when the run has ended, or has parked.
func (e *engine[O]) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	stay, start := e.parking.attend(req.NamespacedName)
	if stay == nil {
		return reconcile.Result{}, nil
	}
	if start {
		go e.run(context.WithValue(ctx, readsKey{}, stay.reads), req)
	}
	return stay.wait()
}

// run is the goroutine of a run.
func (e *engine[O]) run(ctx context.Context, req reconcile.Request) {
	var o ending
	defer func() {
		o.panicked = recover()
		e.parking.end(req.NamespacedName, o)
	}()
	o.result, o.err = e.once(ctx, req)
}

// once looks at the object.
func (e *engine[O]) once(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	s := &session[O]{e: e, key: req.NamespacedName, start: e.o.Clock.Now()}
	obj := e.c.New()
	if err := e.o.Client.Get(ctx, req.NamespacedName, obj); err != nil {
		if apierrors.IsNotFound(err) {
			e.forget(req)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("reading %s %s: %w", e.c.Kind, req, err)
	}
	if e.writes.aheadOf(req.NamespacedName, obj.GetResourceVersion()) {
		return reconcile.Result{RequeueAfter: cacheCatchUp}, nil
	}
	e.parking.read(req.NamespacedName, obj, !e.c.Policy.TokensWait)
	s.open(ctx, obj.DeepCopyObject().(O))
	defer s.stopWatchdog()
	e.running.Add(1)
	defer e.running.Add(-1)
	return s.reconcile(ctx)
}

func (e *engine[O]) forget(req reconcile.Request) {
	e.writes.forget(req.NamespacedName)
	e.o.Metrics.forget(e.c.Kind, req.Name, req.Namespace)
	if e.o.Gone != nil {
		e.o.Gone(e.c.Kind, req.Namespace, req.Name)
	}
}

func (e *engine[O]) finalizer() Finalizer[O] {
	f, _ := e.c.Reconciler.(Finalizer[O])
	return f
}

// jitter spreads an interval so that objects created together do not stay together (_common 8).
func (e *engine[O]) jitter(d time.Duration) time.Duration {
	if p := float64(e.o.JitterPercent) / 100; p > 0 {
		return time.Duration(float64(d) * (1 + (2*rand.Float64()-1)*p))
	}
	return d
}

// reconcile leads the object through the request.
func (s *session[O]) reconcile(ctx context.Context) (reconcile.Result, error) {
	switch fin := s.e.finalizer(); {
	case s.e.c.Static != nil && s.e.c.Static(s.obj):
		return s.retire(ctx, fin)
	case !s.obj.GetDeletionTimestamp().IsZero():
		return s.finalize(ctx, fin)
	case fin != nil:
		if err := s.ensureFinalizer(ctx); err != nil {
			return s.quietly(ctx, fmt.Errorf("adding the finalizer: %w", err))
		}
	}
	if s.obj.IsSuspended() {
		return s.suspended(ctx)
	}
	panicked, err := s.guard(func() error { return s.work(ctx) })
	s.e.o.Metrics.observe(s.e.c.Kind, s.obj.GetName(), s.obj.GetNamespace(), s.e.o.Clock.Since(s.start))
	result, err := s.finish(ctx, err)
	if panicked != nil {
		panic(panicked)
	}
	return result, err
}

// work runs the kind, unless the spec holds a duration nobody can use: such an object stalls alone (CVE-2022-39272).
func (s *session[O]) work(ctx context.Context) error {
	if d, ok := any(s.obj).(meta.DurationChecker); ok {
		if err := d.DurationError(); err != nil {
			return Stall(s.e.c.FailReason, err)
		}
	}
	return s.e.c.Reconciler.Reconcile(ctx, s.obj, s.run)
}

// guard turns a panic into an error of the object, so that one bad object is told apart and the others go on.
// The panic is raised again after the status is written: controller-runtime counts it and contains it.
func (s *session[O]) guard(f func() error) (panicked any, err error) {
	defer func() {
		if panicked = recover(); panicked != nil {
			log.FromContext(s.ctx).Error(fmt.Errorf("%v", panicked), "panic while reconciling", "stack", string(debug.Stack()))
			err = Fail(s.e.c.FailReason, fmt.Errorf("internal error: panic while reconciling: %v", panicked))
		}
	}()
	return nil, f()
}

// quietly ends a request whose object stays untouched: conflicts and shutdowns are no news.
func (s *session[O]) quietly(ctx context.Context, err error) (reconcile.Result, error) {
	switch {
	case apierrors.IsNotFound(err), shuttingDown(ctx, err):
		return reconcile.Result{}, nil
	case apierrors.IsConflict(err):
		return reconcile.Result{RequeueAfter: conflictDelay}, nil
	}
	return reconcile.Result{}, err
}

// suspended does what 2.9 does with a suspended object: no work, no event, no requeue, but the request counts
// as handled and, where the kind's policy says so, the generation as observed (_common 4).
func (s *session[O]) suspended(ctx context.Context) (reconcile.Result, error) {
	conditions := s.obj.GetConditions()
	ready := status.Find(conditions, meta.ReadyCondition)
	if first := s.e.c.Policy.SuspendReady; first != nil && ready == nil {
		paused := metav1.Condition{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: first.Reason, Message: first.Message}
		conditions = s.progressing(conditions, status.Change{Set: []metav1.Condition{paused}})
		s.obj.SetConditions(conditions)
	}
	observes := ready != nil
	switch s.e.c.Policy.SuspendObserves {
	case WhenReadyTrue:
		observes = status.IsTrue(conditions, meta.ReadyCondition)
	case Always:
		observes = true
	}
	if observes {
		s.obj.SetObservedGeneration(s.run.Generation)
		s.restamp(conditions)
	}
	s.handleRequest()
	if err := s.write(ctx); err != nil {
		return s.quietly(ctx, fmt.Errorf("writing the status: %w", err))
	}
	if e := s.e.c.Policy.SuspendEvent; e != nil {
		s.run.Event(*e)
	}
	return reconcile.Result{}, nil
}

// restamp gives conditions the new generation, as the policy says.
func (s *session[O]) restamp(conditions []metav1.Condition) {
	p := s.e.c.Policy
	for i := range conditions {
		if p.SuspendRestampsAll || p.SuspendRestamps && conditions[i].Type == meta.ReadyCondition {
			conditions[i].ObservedGeneration = s.run.Generation
		}
	}
	if p.SuspendRestamps || p.SuspendRestampsAll {
		status.Sort(conditions)
		s.obj.SetConditions(conditions)
	}
}

// finalize undoes the object's work and lets it go. The delete branch also runs for a suspended object, and an
// object without our finalizer is not ours to keep (_common 3).
func (s *session[O]) finalize(ctx context.Context, fin Finalizer[O]) (reconcile.Result, error) {
	if fin == nil || !controllerutil.ContainsFinalizer(s.obj, s.e.c.finalizer()) {
		return reconcile.Result{}, nil
	}
	panicked, err := s.guard(func() error { return fin.Finalize(ctx, s.obj, s.run) })
	if err == nil {
		if err = s.removeFinalizer(ctx); err == nil {
			s.e.forget(reconcile.Request{NamespacedName: s.key})
			return reconcile.Result{}, nil
		}
		return s.quietly(ctx, fmt.Errorf("removing the finalizer: %w", err))
	}
	result, err := s.finish(ctx, err)
	if panicked != nil {
		panic(panicked)
	}
	return result, err
}

// finish gives the verdict on a run: conditions, status, event, and when to look again.
func (s *session[O]) finish(ctx context.Context, err error) (reconcile.Result, error) {
	if err != nil && (apierrors.IsConflict(err) && !Judged(err) || shuttingDown(ctx, err)) {
		return s.quietly(ctx, err)
	}
	v := judge(err, s.e.c.FailReason)
	if v != nil && v.outcome == early {
		return s.next(ctx, v)
	}
	s.conclude(v)
	s.handleRequest()
	writeErr := s.write(ctx)
	s.tell(v, s.readyBefore)
	if writeErr != nil {
		if apierrors.IsNotFound(writeErr) {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("writing the status: %w", writeErr)
	}
	return s.next(ctx, v)
}

// conclude computes the conditions and observedGeneration of the verdict table.
func (s *session[O]) conclude(v *Verdict) {
	change := s.run.conditions()
	var progress *metav1.Condition
	kept := change.Set[:0]
	var readySet *metav1.Condition
	for _, c := range change.Set {
		switch c.Type {
		case meta.ReconcilingCondition:
			progress = &c
		case meta.ReadyCondition:
			readySet = &c
		default:
			kept = append(kept, c)
		}
	}
	change.Set = kept
	if v == nil {
		ready := metav1.Condition{
			Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: s.e.c.Conditions.ReadyReason, Message: "Reconciliation succeeded",
		}
		if readySet != nil {
			ready.Message = readySet.Message
			if readySet.Status == metav1.ConditionTrue && readySet.Reason != "" {
				ready.Reason = readySet.Reason
			}
		}
		change.Set = append(change.Set, ready)
	} else {
		change.Set = append(change.Set, s.unready(v, progress, change.Set)...)
	}
	s.obj.SetConditions(s.e.c.Conditions.Compute(s.obj.GetConditions(), change, s.run.Generation, s.e.o.Clock.Now()))
	if v == nil || v.outcome == stalled || v.observed {
		s.obj.SetObservedGeneration(s.run.Generation)
	}
}

// unready returns the conditions of a verdict that is no success.
func (s *session[O]) unready(v *Verdict, progress *metav1.Condition, set []metav1.Condition) []metav1.Condition {
	out := []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionFalse, Reason: v.reason, Message: v.Error()}}
	if v.condition != "" && status.Find(set, v.condition) == nil {
		out = append(out, metav1.Condition{Type: v.condition, Status: metav1.ConditionTrue, Reason: v.reason, Message: v.Error()})
	}
	if v.outcome == stalled {
		end := metav1.Condition{Type: meta.StalledCondition, Status: metav1.ConditionTrue, Reason: v.reason, Message: v.Error()}
		if v.end != nil {
			end.Reason, end.Message = v.end.Reason, v.end.Message
		}
		return append(out, end)
	}
	if v.outcome == waiting && !s.e.c.Policy.WaitKeepsReconciling {
		return out
	}
	reconciling := metav1.Condition{Type: meta.ReconcilingCondition, Status: metav1.ConditionTrue, Message: "reconciliation in progress"}
	if progress != nil {
		if s.e.c.Policy.KeepsProgress {
			return append(out, *progress)
		}
		reconciling.Message = progress.Message
	}
	reconciling.Reason = meta.ProgressingWithRetryReason
	if v.outcome == interrupted {
		reconciling.Reason = meta.ProgressingReason
	}
	return append(out, reconciling)
}

// handleRequest records the request tokens as handled (_common 7, 40).
func (s *session[O]) handleRequest() {
	if token := s.obj.GetAnnotations()[meta.ReconcileRequestAnnotation]; token != "" {
		s.obj.SetLastHandledReconcileRequest(token)
	}
	if r, ok := any(s.obj).(resettable); ok {
		if token := s.obj.GetAnnotations()[meta.ResetRequestAnnotation]; token != "" {
			r.SetLastHandledResetRequest(token)
		}
	}
	if f, ok := any(s.obj).(forceable); ok {
		if token := s.obj.GetAnnotations()[meta.ForceRequestAnnotation]; token != "" {
			f.SetLastHandledForceRequest(token)
		}
	}
}

// tell sends the event of the verdict. Waiting, stalled and interrupted runs repeat themselves only when asked.
func (s *session[O]) tell(v *Verdict, before *metav1.Condition) {
	if v == nil {
		if s.run.recovered && !s.run.changed && s.e.c.Conditions.RecoveryReason != "" {
			ready := status.Find(s.obj.GetConditions(), meta.ReadyCondition)
			s.run.Event(event.Event{Severity: event.Info, Reason: s.e.c.Conditions.RecoveryReason, Message: ready.Message})
		}
		return
	}
	news := s.run.asked || s.run.requested && v.outcome != waiting || before == nil || before.Reason != v.reason || before.Message != v.Error()
	if v.announce != nil && news {
		s.run.Event(*v.announce)
	}
	if v.quiet || v.announce != nil || v.outcome == waiting || v.outcome != failed && !news {
		return
	}
	out := event.Event{Severity: event.Error, Reason: v.reason, Message: v.Error()}
	if v.message != "" {
		out.Message = v.message
	}
	if v.outcome == interrupted {
		out.Severity = event.Info
	}
	s.run.Event(out)
}

// next says when the object is looked at again.
func (s *session[O]) next(ctx context.Context, v *Verdict) (reconcile.Result, error) {
	if v == nil {
		if after := s.run.again; after != nil {
			return reconcile.Result{RequeueAfter: *after}, nil
		}
		return reconcile.Result{RequeueAfter: s.e.jitter(s.obj.GetInterval())}, nil
	}
	switch v.outcome {
	case waiting, early:
		return reconcile.Result{RequeueAfter: v.after}, nil
	case stalled:
		return reconcile.Result{}, nil
	case interrupted:
		return reconcile.Result{RequeueAfter: time.Millisecond}, nil
	}
	after := v.after
	if after == 0 && s.e.c.Retry != nil && s.obj.GetDeletionTimestamp().IsZero() {
		after = s.e.c.Retry(s.obj)
	}
	if after > 0 {
		log.FromContext(ctx).Error(v.err, "Reconciliation failed", "nextTry", after.String())
		return reconcile.Result{RequeueAfter: after}, nil
	}
	return reconcile.Result{}, v.err
}
