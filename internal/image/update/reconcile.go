package update

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"regexp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/status"
	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

const (
	readyMessage    = "repository up-to-date"
	noChangeMessage = "no change since last reconciliation"
)

// pass is one run.
type pass struct {
	a    *Automator
	obj  *imagev1.ImageUpdateAutomation
	run  *loop.Run
	plan *plan
	host string
	dir  string

	client *git.Client
	signer git.Signer

	// ready, reason and message are those of the last run.
	ready           bool
	reason, message string
	// noted is a commit that an earlier run was about to push, and of which nobody knows whether it has arrived.
	noted string
}

// Reconcile implements loop.Reconciler.
func (a *Automator) Reconcile(ctx context.Context, obj *imagev1.ImageUpdateAutomation, run *loop.Run) error {
	p := &pass{a: a, obj: obj, run: run, noted: noted(obj)}
	if ready := status.Find(obj.Status.Conditions, meta.ReadyCondition); ready != nil {
		p.ready, p.reason, p.message = ready.Status == metav1.ConditionTrue, ready.Reason, ready.Message
	}
	obj.Status.LastAutomationRunTime = &metav1.Time{Time: a.options.Clock.Now()} // imageupdateautomation 3, 40
	p.progress()
	refs, err := p.gather(ctx)
	if err != nil {
		return patient(err)
	}
	defer p.client.Close()
	if settled, err := p.settled(ctx, refs); settled || err != nil {
		return patient(err)
	}
	return patient(p.land(ctx))
}

// patient leaves a server alone for as long as it has asked for.
func patient(err error) error {
	var v *loop.Verdict
	if d := throttle.Delay(err); d > 0 && errors.As(err, &v) {
		return v.After(d)
	}
	return err
}

// progress says what the run does as far as nothing better is known (_common 23). A note stays until it is answered.
func (p *pass) progress() {
	switch observed := p.obj.GetObservedGeneration(); {
	case p.noted != "":
		p.note(p.noted)
	case observed != p.run.Generation:
		p.run.Progress("processing object: new generation %d -> %d", observed, p.run.Generation)
	default:
		p.run.Progress("reconciliation in progress")
	}
}

// note says, before a push, which commit is on its way. It is in the status when the push begins, so that whoever comes after a
// crash can find out whether the commit has arrived.
func (p *pass) note(commit string) { p.run.Progress("pushing commit '%s'", commit) }

var notePattern = regexp.MustCompile(`^pushing commit '([0-9a-f]{40})'$`)

// noted reads the note of an earlier run.
func noted(obj *imagev1.ImageUpdateAutomation) string {
	c := status.Find(obj.Status.Conditions, meta.ReconcilingCondition)
	if c == nil {
		return ""
	}
	if found := notePattern.FindStringSubmatch(c.Message); found != nil && found[1] != obj.Status.LastPushCommit {
		return found[1]
	}
	return ""
}

// heal takes back a failure of the last run as soon as this one is past the place where it happened (imageupdateautomation 41).
func (p *pass) heal(reasons ...string) {
	if !p.ready && slices.Contains(reasons, p.reason) {
		p.run.Pending("reconciliation in progress")
	}
}

// gather reads what the run needs of the cluster.
func (p *pass) gather(ctx context.Context) (map[string]imagev1.ImageRef, error) {
	refs, err := policies(ctx, p.a.options.Objects, p.obj)
	if err != nil {
		return nil, err
	}
	if err := validate(p.obj); err != nil {
		return nil, err
	}
	repository, err := p.a.repository(ctx, p.obj)
	if err != nil {
		return nil, err
	}
	if p.plan, err = makePlan(p.obj, repository); err != nil {
		return nil, sourceFailed(err)
	}
	if p.signer, err = p.a.signer(ctx, p.obj); err != nil {
		return nil, err
	}
	timed, cancel := context.WithTimeout(ctx, p.plan.timeout)
	defer cancel()
	if p.client, err = p.a.connect(timed, p.obj, repository); err != nil {
		return nil, err
	}
	if u, err := url.Parse(p.plan.url); err == nil {
		p.host = u.Host
	}
	p.heal(imagev1.SourceManagerFailedReason, imagev1.InvalidSourceConfigurationReason, imagev1.InvalidPolicySelectorReason, meta.AccessDeniedReason)
	return refs, nil
}

// remote runs f, which talks to the server, for as long as one step may take (imageupdateautomation 33).
func (p *pass) remote(ctx context.Context, f func(ctx context.Context) error) error {
	return p.a.hosts.call(ctx, p.run, p.host, func() error {
		ctx, cancel := context.WithTimeout(ctx, p.plan.timeout)
		defer cancel()
		return f(ctx)
	})
}

// settled ends a run in which nothing has changed since the last one with a look at the remote head (imageupdateautomation 14, 15, 40).
func (p *pass) settled(ctx context.Context, refs map[string]imagev1.ImageRef) (bool, error) {
	s := p.obj.Status
	if !p.plan.shortcut() || p.noted != "" || s.ObservedGeneration != p.run.Generation || s.ObservedSourceRevision == "" ||
		!maps.Equal(s.ObservedPolicies, refs) {
		return false, nil
	}
	var head git.Revision
	err := p.remote(ctx, func(ctx context.Context) (err error) {
		head, err = p.client.Resolve(ctx, p.plan.checkout)
		return err
	})
	if err != nil {
		return false, p.checkoutFailed(err)
	}
	if head.String() != s.ObservedSourceRevision {
		return false, nil
	}
	return true, p.unchanged(head, refs)
}

// unchanged ends a run that found nothing to commit (imageupdateautomation 16, 32, 64).
func (p *pass) unchanged(revision git.Revision, refs map[string]imagev1.ImageRef) error {
	p.observe(revision, refs)
	switch {
	case !p.ready:
		p.run.Event(event.Event{Severity: event.Info, Reason: meta.SucceededReason, Message: readyMessage})
		p.run.News()
	case p.run.Requested():
		p.run.Event(event.Event{Severity: event.Trace, Reason: meta.SucceededReason, Message: noChangeMessage})
	}
	return p.run.Ready(readyMessage)
}

// observe records what the run has seen (imageupdateautomation 30, 38, 44).
func (p *pass) observe(revision git.Revision, refs map[string]imagev1.ImageRef) {
	p.obj.Status.ObservedSourceRevision = revision.String()
	p.obj.Status.ObservedPolicies = nil
	if len(refs) > 0 {
		p.obj.Status.ObservedPolicies = refs
	}
}
