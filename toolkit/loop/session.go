package loop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

const (
	// patchAttempts bounds the tries of a patch that meets a conflict (_common 14).
	patchAttempts = 5
	// patchTimeout bounds the final writes, which must not die with the context of the run.
	patchTimeout = 30 * time.Second
)

// session is one request: the object, its run, and what the API server knows of it.
type session[O Object] struct {
	e     *engine[O]
	ctx   context.Context
	key   types.NamespacedName
	start time.Time
	obj   O // the working copy; only the request's goroutine touches it
	run   *Run
	// readyBefore is the Ready condition the run started from; nil: none.
	readyBefore *metav1.Condition

	mu       sync.Mutex // guards base and every write that moves it, and watchdog
	base     O          // the object as last read from or written to the API server
	watchdog clock.Timer
}

// open prepares the run of an object read from the cache.
func (s *session[O]) open(ctx context.Context, obj O) {
	s.ctx, s.obj = ctx, obj
	s.base = obj.DeepCopyObject().(O)
	conditions := obj.GetConditions()
	s.readyBefore = status.Find(conditions, meta.ReadyCondition).DeepCopy()
	token := obj.GetAnnotations()[meta.ReconcileRequestAnnotation]
	handled := token == "" || token == obj.GetLastHandledReconcileRequest()
	s.run = &Run{
		Generation: obj.GetGeneration(),
		requested:  !handled || obj.GetGeneration() != obj.GetObservedGeneration(),
		asked:      !handled,
		forced:     forced(obj, token, handled),
		reset:      reset(obj, token, handled),
		recovered:  s.e.c.Conditions.Failed(conditions),
		now:        s.e.o.Clock.Now,
		emit:       s.emit,
		persist:    func(ctx context.Context) error { return s.persist(ctx) },
		park:       s.park,
	}
	s.watchdog = s.e.o.Clock.AfterFunc(phaseBeforeWrite, s.startWatch)
}

// emit sends an event and, unless it tells a failure, logs it: failures are logged where they are judged. This is
// what `flux logs` shows of a healthy system.
func (s *session[O]) emit(ev event.Event) {
	if ev.Severity == event.Info {
		log.FromContext(s.ctx).Info(ev.Message, "reason", ev.Reason)
	}
	s.e.o.Events.Emit(s.obj, ev)
}

// forceable is a kind that knows reconcile.fluxcd.io/forceAt.
type forceable interface {
	GetLastHandledForceRequest() string
	SetLastHandledForceRequest(string)
}

// forced implements _common 40.
func forced(obj any, token string, handled bool) bool {
	f, ok := obj.(forceable)
	if !ok || handled {
		return false
	}
	force := obj.(client.Object).GetAnnotations()[meta.ForceRequestAnnotation]
	return force == token && force != f.GetLastHandledForceRequest()
}

// resettable is a kind that knows reconcile.fluxcd.io/resetAt.
type resettable interface {
	GetLastHandledResetRequest() string
	SetLastHandledResetRequest(string)
}

// reset is forced for the other annotation (helmrelease 35).
func reset(obj any, token string, handled bool) bool {
	r, ok := obj.(resettable)
	if !ok || handled {
		return false
	}
	asked := obj.(client.Object).GetAnnotations()[meta.ResetRequestAnnotation]
	return asked == token && asked != r.GetLastHandledResetRequest()
}

func (s *session[O]) stopWatchdog() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchdog != nil {
		s.watchdog.Stop()
		s.watchdog = nil
	}
}

// startWatch leaves the clock's goroutine, which must not block on the API server.
func (s *session[O]) startWatch() { go s.watch() }

// watch runs beside a long phase and writes its progress once it has lasted long enough.
func (s *session[O]) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchdog == nil || s.ctx.Err() != nil {
		return
	}
	wait := s.e.patience() - s.e.o.Clock.Since(s.run.phaseStart(s.start))
	if wait <= 0 {
		s.writeProgress()
		wait = s.e.patience()
	}
	s.watchdog = s.e.o.Clock.AfterFunc(wait, s.startWatch)
}

// writeProgress patches the conditions alone, from the last known state; a lost race is left to the end of the run.
func (s *session[O]) writeProgress() {
	change := s.run.conditions()
	if len(change.Set) == 0 {
		return
	}
	target := s.base.DeepCopyObject().(O)
	target.SetConditions(s.progressing(target.GetConditions(), change))
	ctx, cancel := context.WithTimeout(s.ctx, patchTimeout)
	defer cancel()
	if err := s.patchStatus(ctx, target); err == nil {
		s.adopt(target)
	}
}

// progressing returns the conditions of a run that goes on: what it set so far over what was there, failure
// conditions of the last run included, since this one has not disproved them yet.
func (s *session[O]) progressing(previous []metav1.Condition, change status.Change) []metav1.Condition {
	next := s.e.c.Conditions.Compute(previous, change, s.run.Generation, s.e.o.Clock.Now())
	for _, c := range previous {
		if c.Type != meta.StalledCondition && c.Type != meta.ReconcilingCondition && status.Find(next, c.Type) == nil && !change.Removes(c.Type) {
			next = append(next, c)
		}
	}
	status.Sort(next)
	return next
}

// persist writes the working copy's status while the run goes on.
func (s *session[O]) persist(ctx context.Context) error {
	s.obj.SetConditions(s.progressing(s.base.GetConditions(), s.run.conditions()))
	if err := s.write(ctx); err != nil {
		return fmt.Errorf("writing the status: %w", err)
	}
	return nil
}

// park runs wait without a worker, interruptible by the loop.
func (s *session[O]) park(ctx context.Context, wait func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.e.parking.enter(s.key, cancel)
	defer s.e.parking.leave(s.key)
	yielded := s.e.parking.yield(s.key)
	err := wait(ctx)
	if errors.Is(context.Cause(ctx), ErrInterrupted) && err != nil {
		err = fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	if yielded {
		if ending := s.e.parking.resume(s.ctx, s.key); ending != nil {
			return ending
		}
	}
	return err
}

// write brings the working copy's status to the API server; nothing is sent when nothing changed. On a
// conflict the newer object is read live, its foreign conditions are kept, the kind merges what must not get
// lost, and the patch is tried again.
func (s *session[O]) write(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patchTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	target := s.obj.DeepCopyObject().(O)
	for attempt := 1; ; attempt++ {
		err := s.patchStatus(ctx, target)
		if err == nil {
			s.adopt(target)
			return nil
		}
		if !apierrors.IsConflict(err) || attempt == patchAttempts {
			return err
		}
		live := s.e.c.New()
		if err := s.e.o.Reader.Get(ctx, s.key, live); err != nil {
			return err
		}
		if live.GetUID() != s.obj.GetUID() {
			return apierrors.NewNotFound(schema.GroupResource{Resource: s.e.c.Kind}, s.key.Name)
		}
		target.SetConditions(s.e.c.Conditions.Merge(live.GetConditions(), target.GetConditions()))
		if m, ok := s.e.c.Reconciler.(StatusMerger[O]); ok {
			m.MergeStatus(s.base, live, target)
		}
		s.base = live
	}
}

// adopt makes a written status the new base. The working copy keeps its spec and metadata: the run goes on
// with what it started from.
func (s *session[O]) adopt(target O) {
	s.base = target
	s.obj.SetResourceVersion(target.GetResourceVersion())
}

// patchStatus sends the difference between base and target as one merge patch that carries base's
// resourceVersion, and moves target to the answer's version.
func (s *session[O]) patchStatus(ctx context.Context, target O) error {
	data, err := statusPatch(s.base, target)
	if err != nil || data == nil {
		return err
	}
	answer := s.e.c.New()
	answer.SetName(target.GetName())
	answer.SetNamespace(target.GetNamespace())
	err = s.e.o.Client.Status().Patch(ctx, answer, client.RawPatch(types.MergePatchType, data), client.FieldOwner(s.e.c.fieldManager()))
	if err != nil {
		return err
	}
	target.SetResourceVersion(answer.GetResourceVersion())
	s.e.writes.note(s.key, answer.GetResourceVersion())
	return nil
}

// statusPatch returns the merge patch from one status to another, nil when they are equal.
func statusPatch(base, target client.Object) ([]byte, error) {
	from, err := statusOf(base)
	if err != nil {
		return nil, err
	}
	to, err := statusOf(target)
	if err != nil {
		return nil, err
	}
	diff := mergeDiff(from, to)
	if len(diff) == 0 {
		return nil, nil
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"resourceVersion": base.GetResourceVersion()},
		"status":   diff,
	})
}

// statusOf is the status of an object as its JSON says it, nil for a kind without one. It is read from the field alone: of a large
// object, the status mostly is the small part.
func statusOf(obj client.Object) (map[string]any, error) {
	field := reflect.ValueOf(obj).Elem().FieldByName("Status")
	if !field.IsValid() {
		return nil, nil
	}
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(field.Addr().Interface())
	if err != nil {
		return nil, fmt.Errorf("encoding the status of %s/%s: %w", obj.GetNamespace(), obj.GetName(), err)
	}
	return out, nil
}

// mergeDiff is the merge patch (RFC 7386) from one JSON object to another, empty when they are equal.
func mergeDiff(from, to map[string]any) map[string]any {
	diff := map[string]any{}
	for key, old := range from {
		if old != nil && to[key] == nil {
			diff[key] = nil
		}
	}
	for key, value := range to {
		old := from[key]
		if value == nil || reflect.DeepEqual(old, value) {
			continue
		}
		inner, isObject := value.(map[string]any)
		outer, wasObject := old.(map[string]any)
		if !isObject || !wasObject {
			diff[key] = value
			continue
		}
		if deeper := mergeDiff(outer, inner); len(deeper) > 0 {
			diff[key] = deeper
		}
	}
	return diff
}

func (s *session[O]) ensureFinalizer(ctx context.Context) error {
	if controllerutil.ContainsFinalizer(s.obj, s.e.c.finalizer()) {
		return nil
	}
	return s.patchFinalizers(ctx, append(s.obj.GetFinalizers(), s.e.c.finalizer()))
}

// removeFinalizer lets the object go. A conflict is resolved here: the finalizing work is done and must not
// be repeated because somebody touched a label.
func (s *session[O]) removeFinalizer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patchTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		controllerutil.RemoveFinalizer(s.obj, s.e.c.finalizer())
		err := s.patchFinalizers(ctx, s.obj.GetFinalizers())
		if !apierrors.IsConflict(err) || attempt == patchAttempts {
			return client.IgnoreNotFound(err)
		}
		live := s.e.c.New()
		if err := s.e.o.Reader.Get(ctx, s.key, live); err != nil {
			return client.IgnoreNotFound(err)
		}
		if live.GetUID() != s.obj.GetUID() {
			return nil
		}
		s.obj.SetFinalizers(live.GetFinalizers())
		s.obj.SetResourceVersion(live.GetResourceVersion())
	}
}

// patchFinalizers replaces the list of finalizers under the resourceVersion.
func (s *session[O]) patchFinalizers(ctx context.Context, finalizers []string) error {
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": s.obj.GetResourceVersion(), "finalizers": finalizers,
	}})
	if err != nil {
		return err
	}
	answer := s.e.c.New()
	answer.SetName(s.key.Name)
	answer.SetNamespace(s.key.Namespace)
	if err := s.e.o.Client.Patch(ctx, answer, client.RawPatch(types.MergePatchType, data), client.FieldOwner(s.e.c.fieldManager())); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range []O{s.obj, s.base} {
		o.SetFinalizers(answer.GetFinalizers())
		o.SetResourceVersion(answer.GetResourceVersion())
	}
	s.e.writes.note(s.key, answer.GetResourceVersion())
	return nil
}
