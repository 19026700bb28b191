package loop

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

const (
	// phaseBeforeWrite is how long a phase lasts before its progress is written, so that a quick reconcile costs one write.
	phaseBeforeWrite = 5 * time.Second
	// progressEvery is the time between two writes of progress that all runs of a kind in progress have together, at least: with hundreds
	// of them the phases of each are long because the API server has most to do, and the writes would add to it.
	progressEvery = 25 * time.Millisecond
)

// Run collects what one reconcile run has to tell. Only the loop writes it to the API server.
type Run struct {
	// Generation is the metadata.generation the run works on.
	Generation int64

	requested bool
	asked     bool // by an unhandled request token
	forced    bool
	reset     bool
	recovered bool
	emit      func(event.Event)
	persist   func(context.Context) error
	park      func(context.Context, func(context.Context) error) error

	mu       sync.Mutex // guards what follows; the progress watchdog reads it while the kind writes
	phase    time.Time
	now      func() time.Time
	ready    *metav1.Condition
	progress metav1.Condition
	set      []metav1.Condition
	removed  []string
	metadata map[string]string
	changed  bool
	again    *time.Duration
}

// Requested reports whether the run was asked for: a new generation, an unhandled request token, or the first
// run of the object. 2.9's observable events and history belong to such runs; a routine interval run that
// finds nothing new writes nothing.
func (r *Run) Requested() bool { return r.requested }

// Forced reports whether reconcile.fluxcd.io/forceAt is to be honoured in this run (_common 40).
func (r *Run) Forced() bool { return r.forced }

// Reset reports whether reconcile.fluxcd.io/resetAt is to be honoured in this run (helmrelease 35).
func (r *Run) Reset() bool { return r.reset }

// Recovered reports whether the object carried a failure condition before this run.
func (r *Run) Recovered() bool { return r.recovered }

// Progress says what the run does now. The text is written to the Reconciling condition when the phase
// outlasts five seconds, or when the run fails in it.
func (r *Run) Progress(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = r.now()
	r.progress = metav1.Condition{
		Type: meta.ReconcilingCondition, Status: metav1.ConditionTrue, Reason: meta.ProgressingReason,
		Message: fmt.Sprintf(format, args...),
	}
}

// Retrying is Progress for a run that ends, about when it is repeated.
func (r *Run) Retrying(format string, args ...any) {
	r.Progress(format, args...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Reason = meta.ProgressingWithRetryReason
}

// Pending makes Ready Unknown while the run goes on, for whoever looks meanwhile (_common 22).
func (r *Run) Pending(format string, args ...any) {
	r.setReady(metav1.ConditionUnknown, meta.ProgressingReason, fmt.Sprintf(format, args...))
}

// Ready sets the message of Ready=True and returns nil, so that a kind can end with it.
func (r *Run) Ready(format string, args ...any) error {
	r.setReady(metav1.ConditionTrue, "", fmt.Sprintf(format, args...))
	return nil
}

// ReadyAs is Ready for a success that has a reason of its own, other than the kind's usual one (helmchart 50).
func (r *Run) ReadyAs(reason, format string, args ...any) error {
	r.setReady(metav1.ConditionTrue, reason, fmt.Sprintf(format, args...))
	return nil
}

func (r *Run) setReady(s metav1.ConditionStatus, reason, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = &metav1.Condition{Type: meta.ReadyCondition, Status: s, Reason: reason, Message: message}
}

// Set sets a condition of the kind.
func (r *Run) Set(conditionType string, s metav1.ConditionStatus, reason, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(conditionType)
	r.set = append(r.set, metav1.Condition{Type: conditionType, Status: s, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// Unset removes a condition, also a sticky one.
func (r *Run) Unset(conditionType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(conditionType)
	r.removed = append(r.removed, conditionType)
}

// Keep takes back what the run has set for a sticky condition, so that its last value stays.
func (r *Run) Keep(conditionType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(conditionType)
}

func (r *Run) drop(conditionType string) {
	for i := range r.set {
		if r.set[i].Type == conditionType {
			r.set = append(r.set[:i:i], r.set[i+1:]...)
			return
		}
	}
}

// Annotate adds a metadata entry to every later event of the run, e.g. the revision it works on.
func (r *Run) Annotate(key, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if value == "" {
		delete(r.metadata, key)
		return
	}
	if r.metadata == nil {
		r.metadata = map[string]string{}
	}
	r.metadata[key] = value
}

// Event sends an event about the object at once, with the run's metadata; the event's own entries win.
func (r *Run) Event(e event.Event) {
	r.mu.Lock()
	metadata := maps.Clone(r.metadata)
	r.mu.Unlock()
	if metadata == nil {
		metadata = e.Metadata
	} else {
		maps.Copy(metadata, e.Metadata)
	}
	e.Metadata = metadata
	r.emit(e)
}

// News tells the loop that the run has told its good end itself, so that no recovery event follows (_common 33).
func (r *Run) News() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = true
}

// Again says when the object is looked at again after a good end of the run, instead of after its interval with jitter; zero: when
// something changes.
func (r *Run) Again(after time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again = &after
}

// Persist writes the status now, e.g. an inventory before the first mutation. The patch carries the
// resourceVersion; a lost race is resolved as at the end of the run.
func (r *Run) Persist(ctx context.Context) error { return r.persist(ctx) }

// Park lets the worker go, calls wait and waits for a worker again. The context of wait ends with the cause
// ErrInterrupted when something newer is to be done for the object. The kind must have closed trees and
// dropped objects before, and wait must not touch the object: progress may be written while it runs.
func (r *Run) Park(ctx context.Context, wait func(context.Context) error) error {
	return r.park(ctx, wait)
}

// conditions returns what the run has set so far, Ready and Reconciling as they stand.
func (r *Run) conditions() status.Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := status.Change{Set: append([]metav1.Condition(nil), r.set...), Removed: append([]string(nil), r.removed...)}
	if r.ready != nil {
		c.Set = append(c.Set, *r.ready)
	}
	if r.progress.Type != "" {
		c.Set = append(c.Set, r.progress)
	}
	return c
}

// phaseStart returns when the current phase began, the start of the run before the first one.
func (r *Run) phaseStart(start time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.phase.IsZero() {
		return start
	}
	return r.phase
}
