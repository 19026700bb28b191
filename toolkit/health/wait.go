package health

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// DefaultPoll is the time between reads of objects that no watch shows (kustomization 88).
const DefaultPoll = 5 * time.Second

// distrust is after how many polls an object that a watch shows is read anyway, in case the watch hangs.
const distrust = 12

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
}

// Error has the words of kustomization 92.
func (e *Error) Error() string {
	parts := make([]string, len(e.Unhealthy))
	for i, r := range e.Unhealthy {
		parts[i] = fmt.Sprintf("%s status: '%s'", r.Check.Subject(), r.Verdict.Status)
	}
	list := strings.Join(parts, ", ")
	if e.Stalled {
		return "failed early due to stalled resources: [" + list + "]"
	}
	return "timeout waiting for: [" + list + "]"
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
	read   []string // resource version of the last read, per check
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
	x := &wait{Waiter: w, owner: owner, checks: checks, state: make([]kube.Verdict, len(checks)), read: make([]string, len(checks))}
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
		if done, err := x.done(); done {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
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
			if done, err := x.done(); done {
				return err
			}
			return &Error{Unhealthy: x.pending()}
		}
	}
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
	res, err := x.Client.Mapper.Served(ctx, c.GroupKind(), c.Version)
	if err == nil {
		ref := kube.Ref{Resource: res, Namespace: c.Namespace, Name: c.Name}
		if !res.Namespaced {
			ref.Namespace = ""
		}
		o, getErr := x.Client.Get(ctx, ref)
		if getErr == nil {
			x.read[i] = o.GetResourceVersion()
			x.state[i] = x.Evaluator.Assess(ctx, o)
			return
		}
		err = getErr
	}
	switch {
	case apierrors.IsNotFound(err) && c.MayVanish:
		x.state[i] = kube.Verdict{Status: kube.Current, Message: "deleted itself when done"}
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		x.state[i] = kube.Verdict{Status: kube.NotFound, Message: err.Error()}
	case ctx.Err() != nil:
	default:
		x.state[i] = kube.Verdict{Status: kube.Unknown, Message: err.Error()}
	}
}

// done reports whether the wait is over, and how it went.
func (x *wait) done() (bool, error) {
	var failed []Report
	open := 0
	for i, v := range x.state {
		switch v.Status {
		case kube.Current:
		case kube.Failed:
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
