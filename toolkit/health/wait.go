package health

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// DefaultPoll is the time between reads of objects that no watch shows (kustomization 88).
const DefaultPoll = 5 * time.Second

// distrust is after how many polls an object that a watch shows is read anyway, in case the watch hangs.
const distrust = 12

// lingering is how long a Deployment has to be failed. Its controller tells that it has seen a new spec, and a moment later only that
// the progress deadline of the old one no longer counts: a watch shows the state between the two, after a rollback nearly always.
const lingering = 2 * time.Second

var deployments = schema.GroupKind{Group: "apps", Kind: "Deployment"}

// readers bounds the parallel reads of one wait.
const readers = 4

// Check names an object to wait for.
type Check struct {
	schema.GroupVersionKind
	Namespace, Name string
	// ResourceVersion is that of the caller's own last write, if any: older states do not count.
	ResourceVersion string
	// MayVanish: the object was applied and deletes itself when done (a Job with ttlSecondsAfterFinished, kustomization 91),
	// so its absence is success.
	MayVanish bool
}

// Subject is the form of messages: Kind/namespace/name, or Kind/name.
func (c Check) Subject() string {
	if c.Namespace == "" {
		return c.Kind + "/" + c.Name
	}
	return c.Kind + "/" + c.Namespace + "/" + c.Name
}

// Report is what a wait last knew of one object.
type Report struct {
	Check   Check
	Verdict kube.Verdict
}

// Error says which objects did not become Current.
type Error struct {
	// Stalled: the wait ended because objects failed for good, not for want of time.
	Stalled   bool
	Unhealthy []Report
	// Cause is why the first of them is not healthy, as far as the owner may see it; else empty.
	Cause string
}

// Error has the words of kustomization 92, with the cause after them.
func (e *Error) Error() string {
	var parts []string
	for _, r := range e.Unhealthy[:min(len(e.Unhealthy), maxSubject)] {
		parts = append(parts, fmt.Sprintf("%s status: '%s'", r.Check.Subject(), r.Verdict.Status))
	}
	if more := len(e.Unhealthy) - len(parts); more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	text := "timeout waiting for: [" + strings.Join(parts, ", ") + "]"
	if e.Stalled {
		text = "failed early due to stalled resources: [" + strings.Join(parts, ", ") + "]"
	}
	if e.Cause != "" {
		text += ": " + e.Cause
	}
	return text
}

// Waiter waits for objects on behalf of an owner.
type Waiter struct {
	// Client reads under the owner's identity: verdicts about objects that are not the owner's must be the owner's to see.
	Client *kube.Client
	// Managed shows the owner's own objects. Nil: everything is polled.
	Managed *kube.Managed
	// Evaluator holds the owner's expressions. Optional.
	Evaluator *Evaluator
	// KeepWaiting waits for the other objects when one has failed (gate DisableFailFastBehavior).
	KeepWaiting bool
	// Poll is the time between reads; 0 means DefaultPoll.
	Poll  time.Duration
	Clock clock.WithTicker
}

// wait is the state of one Wait.
type wait struct {
	*Waiter
	owner  kube.Owner
	checks []Check
	state  []kube.Verdict
	read   []string    // resource version of the last read, per check
	failed []time.Time // since when, per check; zero while it has not failed
	unsure []bool      // a failure that may still pass, per check
}

// Wait returns when all objects are Current, with an *Error when one has failed for good or the timeout is over, and with the
// cause of ctx as soon as ctx ends. It takes no slot of its own and is meant to be parked.
func (w *Waiter) Wait(ctx context.Context, owner kube.Owner, checks []Check, timeout time.Duration) error {
	if len(checks) == 0 {
		return nil
	}
	clk := w.Clock
	if clk == nil {
		clk = clock.RealClock{}
	}
	poll := w.Poll
	if poll == 0 {
		poll = DefaultPoll
	}
	x := &wait{Waiter: w, owner: owner, checks: checks, state: make([]kube.Verdict, len(checks)), read: make([]string, len(checks)), failed: make([]time.Time, len(checks)), unsure: make([]bool, len(checks))}
	var changed <-chan struct{}
	if w.Managed != nil {
		ch, end := w.Managed.Subscribe(owner)
		defer end()
		changed = ch
	}
	deadline := clk.NewTimer(timeout)
	defer deadline.Stop()
	tick := clk.NewTicker(poll)
	defer tick.Stop()
	look := lookFirst
	for polls := 1; ; {
		x.look(ctx, look)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		recheck := x.age(clk.Now())
		if done, e := x.done(); done {
			return x.explained(ctx, e)
		}
		var confirmed <-chan time.Time
		if recheck > 0 {
			confirmed = clk.After(recheck)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
			look = lookChanged
		case <-confirmed:
			look = lookChanged
		case <-tick.C():
			look = lookPolled
			if polls%distrust == 0 {
				look = lookAll
			}
			polls++
		case <-deadline.C():
			// The watch may be behind; what is reported as late was looked at last.
			x.look(ctx, lookAll)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			x.age(clk.Now())
			if done, e := x.done(); done {
				return x.explained(ctx, e)
			}
			return x.explained(ctx, &Error{Unhealthy: x.pending()})
		}
	}
}

// explained adds the cause to the end of a wait; a good end has none.
func (x *wait) explained(ctx context.Context, e *Error) error {
	if e == nil {
		return nil
	}
	e.Cause = x.cause(ctx, e.Unhealthy)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return e
}

// How much a look may cost.
type effort int

const (
	lookFirst   effort = iota // read what the watch cannot show
	lookChanged               // the watch has news
	lookPolled                // read what the watch does not show
	lookAll                   // read all that is not Current
)

// look brings the verdicts up to date.
func (x *wait) look(ctx context.Context, how effort) {
	slots := make(chan struct{}, readers)
	var wg sync.WaitGroup
	for i := range x.checks {
		if how == lookAll && x.state[i].Status == kube.Current || how != lookAll && x.watched(i, how) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			x.live(ctx, i)
		})
	}
	wg.Wait()
}

// watched takes the verdict of a check from the watch. It reports false if a read is needed.
func (x *wait) watched(i int, how effort) bool {
	c := x.checks[i]
	if x.Managed == nil {
		return how == lookChanged
	}
	state, sight := x.Managed.Lookup(c.GroupKind(), c.Namespace, c.Name)
	mine := sight == kube.Present && state.Owner == x.owner
	switch {
	case mine && (x.Evaluator.Covers(c.GroupKind()) || state.Passing):
		// The watch knows no expressions, but when to evaluate them.
		return how == lookChanged && state.ResourceVersion == x.read[i]
	case mine && c.ResourceVersion != "" && !kube.NotOlder(state.ResourceVersion, c.ResourceVersion):
		// Our own write is still on its way through the watch. If that takes as long as a poll, read.
		x.state[i] = kube.Verdict{Status: kube.InProgress, Message: "waiting for the watch to show the object as applied"}
		return how != lookPolled
	case mine:
		x.state[i] = state.Verdict
		return true
	case sight == kube.Absent && c.ResourceVersion != "" && !kube.NotOlder(x.Managed.Seen(c.GroupKind()), c.ResourceVersion):
		x.state[i] = kube.Verdict{Status: kube.InProgress, Message: "waiting for the watch to show the object"}
		return how != lookPolled
	}
	if how != lookChanged {
		return false
	}
	// Not ours to see through the watch: a read at each poll, not at each change of something else. But one of ours that just
	// left the view was deleted, which is worth a read at once.
	return sight != kube.Absent || c.ResourceVersion == "" && !c.MayVanish || x.state[i].Status == kube.NotFound
}

// live reads an object and computes its verdict.
func (x *wait) live(ctx context.Context, i int) {
	c := x.checks[i]
	o, err := x.get(ctx, c)
	switch {
	case err == nil:
		x.read[i] = o.GetResourceVersion()
		x.state[i] = x.Evaluator.Assess(ctx, o)
	case apierrors.IsNotFound(err) && c.MayVanish:
		x.state[i] = kube.Verdict{Status: kube.Current, Message: "deleted itself when done"}
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		x.state[i] = kube.Verdict{Status: kube.NotFound, Message: err.Error()}
	case ctx.Err() != nil:
	default:
		x.state[i] = kube.Verdict{Status: kube.Unknown, Message: err.Error()}
	}
}

// get reads the object of a check under the owner's identity.
func (x *wait) get(ctx context.Context, c Check) (*unstructured.Unstructured, error) {
	res, err := x.Client.Mapper.Served(ctx, c.GroupKind(), c.Version)
	if err != nil {
		return nil, err
	}
	ref := kube.Ref{Resource: res, Namespace: c.Namespace, Name: c.Name}
	if !res.Namespaced {
		ref.Namespace = ""
	}
	return x.Client.Get(ctx, ref)
}

// age tells failures that last from those that may still pass. It returns when the first of the latter will be sure, 0 if there is none.
func (x *wait) age(now time.Time) (recheck time.Duration) {
	for i, v := range x.state {
		x.unsure[i] = false
		if v.Status != kube.Failed {
			x.failed[i] = time.Time{}
			continue
		}
		if x.failed[i].IsZero() {
			x.failed[i] = now
		}
		left := lingering - now.Sub(x.failed[i])
		if x.unsure[i] = x.checks[i].GroupKind() == deployments && left > 0; x.unsure[i] && (recheck == 0 || left < recheck) {
			recheck = left
		}
	}
	return recheck
}

// done reports whether the wait is over, and how it went.
func (x *wait) done() (bool, *Error) {
	var failed []Report
	open := 0
	for i, v := range x.state {
		switch {
		case v.Status == kube.Current:
		case v.Status == kube.Failed && !x.unsure[i]:
			failed = append(failed, Report{x.checks[i], v})
		default:
			open++
		}
	}
	switch {
	case len(failed) > 0 && (!x.KeepWaiting || open == 0):
		return true, &Error{Stalled: true, Unhealthy: failed}
	case open == 0:
		return true, nil
	}
	return false, nil
}

// pending are all objects that are not Current.
func (x *wait) pending() []Report {
	var out []Report
	for i, v := range x.state {
		if v.Status != kube.Current {
			out = append(out, Report{x.checks[i], v})
		}
	}
	return out
}
