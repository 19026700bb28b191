package loop

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// ErrInterrupted is the cause of a parked wait that ended because something newer is to be done: a new
// generation, request token, source revision or referenced configuration.
var ErrInterrupted = errors.New("interrupted by a newer event")

type outcome int

const (
	failed outcome = iota
	waiting
	stalled
	interrupted
	early
)

// Verdict is the error by which a kind says how a run ended. Any other error counts as a Fail.
//
// Returned from Reconcile it becomes, by default:
//
//	             Ready  Stalled  Reconciling           observedGeneration  event    next
//	nil          True   -        -                     set                 on news  interval
//	Fail         False  -        ProgressingWithRetry  kept                Warning  the kind's retry, else backoff
//	Wait         False  -        Policy                kept                the kind's  after the duration, or when an edge fires
//	Stall        False  True     -                     set                 Warning  when the spec changes
//	Interrupted  False  -        kept                  kept                Normal   now
//	Early        kept   kept     kept                  kept                -        after the duration, or when an edge fires
//
// A conflict of the API server or a shutdown leaves the object untouched and is silent.
type Verdict struct {
	outcome   outcome
	reason    string
	err       error
	after     time.Duration
	condition string
	message   string
	quiet     bool
	announce  *event.Event
	observed  bool
	end       *metav1.Condition
}

// Fail says that the run failed and should be tried again.
func Fail(reason string, err error) *Verdict {
	return &Verdict{outcome: failed, reason: reason, err: err}
}

// Wait says that something the run needs is not there yet. The object is looked at again after the duration
// at the latest; an edge to what it waits for makes it sooner.
func Wait(reason string, after time.Duration, err error) *Verdict {
	return &Verdict{outcome: waiting, reason: reason, err: err, after: after}
}

// Stall says that only a change of the spec can help.
func Stall(reason string, err error) *Verdict {
	return &Verdict{outcome: stalled, reason: reason, err: err}
}

// Interrupted says that a parked wait was ended by a newer event; the object is looked at again at once.
func Interrupted(reason string, err error) *Verdict {
	return &Verdict{outcome: interrupted, reason: reason, err: err}
}

// Early says that there is nothing to say yet: what the run needs may come at any moment. Nothing is written or told, and the object is
// looked at again after the duration at the latest; an edge to what it waits for makes it sooner.
func Early(after time.Duration, err error) *Verdict {
	return &Verdict{outcome: early, err: err, after: after}
}

// On also sets a failure condition of the kind to True, with the verdict's reason and message.
func (v *Verdict) On(conditionType string) *Verdict {
	v.condition = conditionType
	return v
}

// Saying makes the event of the verdict say something other than the Ready condition (kustomization 92, 99).
func (v *Verdict) Saying(message string) *Verdict {
	v.message = message
	return v
}

// Quiet suppresses the verdict's own event.
func (v *Verdict) Quiet() *Verdict {
	v.quiet = true
	return v
}

// Announce sends the event when the verdict is news: the Ready condition changed by it, or the run was asked for.
func (v *Verdict) Announce(e event.Event) *Verdict {
	v.announce = &e
	return v
}

// After overrides when the object is looked at again after a failure.
func (v *Verdict) After(d time.Duration) *Verdict {
	v.after = d
	return v
}

// Observed says that the run did with this generation all it can: observedGeneration moves (helmrelease 9).
func (v *Verdict) Observed() *Verdict {
	v.observed = true
	return v
}

// StalledAs gives Stalled a reason and a message other than those of Ready (helmrelease 50).
func (v *Verdict) StalledAs(reason, message string) *Verdict {
	v.end = &metav1.Condition{Reason: reason, Message: message}
	return v
}

// Error returns the text that becomes the Ready message.
func (v *Verdict) Error() string { return v.err.Error() }

// Unwrap returns the cause.
func (v *Verdict) Unwrap() error { return v.err }

// Reason returns the reason of the verdict, and the given one for an error that is none.
func Reason(err error, otherwise string) string {
	var v *Verdict
	if errors.As(err, &v) {
		return v.reason
	}
	return otherwise
}

// judge turns what Reconcile returned into a verdict; nil stays nil.
func judge(err error, defaultReason string) *Verdict {
	if err == nil {
		return nil
	}
	var v *Verdict
	if errors.As(err, &v) {
		return v
	}
	return Fail(defaultReason, err)
}

// shuttingDown reports whether an error only tells that the process or its leadership ends.
func shuttingDown(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrInterrupted)
}

// Judged reports whether an error is a verdict already, or wraps one.
func Judged(err error) bool {
	var v *Verdict
	return errors.As(err, &v)
}
