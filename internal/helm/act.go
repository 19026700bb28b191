package helm

import (
	"context"
	"errors"
	"fmt"
	"time"

	release "helm.sh/helm/v4/pkg/release/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/helm/action"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// Names of the actions that entries of the history carry (helmrelease 80).
const (
	rollbackAction             = "rollback"
	uninstallRemediationAction = "uninstall-remediation"
)

// act does what was decided. It reports whether the pass has ended, and how.
func (r *Releaser) act(ctx context.Context, w *work, next step) (end bool, err error) {
	switch next.act {
	case actNone:
		return true, r.inSync(w)
	case actAgain:
		reason, cause := w.unready()
		return true, loop.Interrupted(reason, cause).Quiet()
	case actPause:
		return true, r.pause(w, next.after)
	case actStall:
		return true, r.stall(w, next)
	case actAdopt:
		return false, r.adopt(ctx, w)
	case actUnlock:
		return false, r.unlock(ctx, w)
	case actInstall:
		return false, r.install(ctx, w)
	case actUpgrade:
		return false, r.upgrade(ctx, w)
	case actTest:
		return false, r.test(ctx, w)
	case actRemediate:
		return false, r.rollback(ctx, w, next.target)
	case actRemove:
		return false, r.remove(ctx, w)
	case actCompare:
		return false, r.compare(ctx, w)
	case actCorrect:
		return false, r.correct(ctx, w)
	}
	return true, loop.Fail(helmv2.ReconcileErrorReason, fmt.Errorf("nobody knows how to %s a release", next.act))
}

// begin announces an action and records the attempt, so that whoever comes after a crash knows of it (helmrelease 56). A
// release action makes Ready unknown: nobody may take the old verdict for one on the new release.
//
// What an action writes is told apart by giving each one Actions of its own.
func (r *Releaser) begin(ctx context.Context, w *work, name string, timeout time.Duration, releases bool) error {
	message := fmt.Sprintf("Running '%s' action with timeout of %s", name, timeout)
	w.run.Progress("%s", message)
	if releases && !w.repeats() {
		w.run.Pending("%s", message)
	}
	if err := w.run.Persist(ctx); err != nil {
		return err
	}
	if name != correction {
		// What Helm does to the objects is nobody else's doing.
		w.cluster.Watch.memory.Forget(owner(w.obj))
	}
	return r.acting(w)
}

// repeats reports whether the last attempt at this very thing came to nothing before anything was stored, so that it is tried again and
// again: Ready stays as it is until that ends.
func (w *work) repeats() bool {
	s := &w.obj.Status
	ready, ok := w.conditions[meta.ReadyCondition]
	return ok && ready.Status == metav1.ConditionFalse && ready.ObservedGeneration == w.run.Generation &&
		s.Failures > 0 && s.InstallFailures == 0 && s.UpgradeFailures == 0
}

func (r *Releaser) install(ctx context.Context, w *work) error {
	// What the history knows of is no longer in storage.
	w.obj.Status.History = nil
	timeout := w.obj.GetTimeout()
	if i := w.obj.Spec.Install; i != nil {
		timeout = i.Timeout.Or(timeout)
	}
	return r.deploy(ctx, w, helmv2.InstallAction, timeout)
}

func (r *Releaser) upgrade(ctx context.Context, w *work) error {
	if !w.known {
		// Somebody else's release, or one that has changed behind our back: what was known of it counts no longer.
		w.obj.Status.History = nil
	}
	timeout := w.obj.GetTimeout()
	if u := w.obj.Spec.Upgrade; u != nil {
		timeout = u.Timeout.Or(timeout)
	}
	return r.deploy(ctx, w, helmv2.UpgradeAction, timeout)
}

// deploy installs or upgrades, and says how it went.
func (r *Releaser) deploy(ctx context.Context, w *work, name string, timeout time.Duration) error {
	w.unset(helmv2.RemediatedCondition)
	if err := r.begin(ctx, w, name, timeout, true); err != nil {
		return err
	}
	l, err := r.load(ctx, w)
	if err != nil {
		return err
	}
	start := r.Clock.Now()
	deploy := w.actions.Upgrade
	if name == helmv2.InstallAction {
		deploy = w.actions.Install
	}
	rel, err := deploy(ctx, w.obj, l.chart, w.values)
	status := &w.obj.Status
	status.LastAttemptedReleaseAction = name
	status.LastAttemptedReleaseActionDuration = meta.DurationOf(r.Clock.Since(start).Round(time.Millisecond))
	recorded, rememberErr := r.remember(w, name)
	if rememberErr != nil {
		return undetermined(rememberErr)
	}
	if recorded {
		r.list(ctx, w, rel)
	}
	if err != nil {
		return r.notDeployed(ctx, w, name, recorded, err)
	}
	status.Failures, status.InstallFailures, status.UpgradeFailures = 0, 0, 0
	w.rendered()
	words := outcomes[name]
	message := fmt.Sprintf("Helm %s succeeded for release %s with chart %s", name, fullName(&status.History[0]), chartOf(&status.History[0]))
	w.set(helmv2.ReleasedCondition, metav1.ConditionTrue, words.succeeded, message)
	if w.tests() {
		w.set(helmv2.TestSuccessCondition, metav1.ConditionUnknown, helmv2.AwaitingTestsReason, fmt.Sprintf("Release %s with chart %s is awaiting tests",
			fullName(&status.History[0]), chartOf(&status.History[0])))
	}
	w.tell(event.Info, words.succeeded, message, &status.History[0])
	return nil
}

// outcome are the reasons of an action's end.
type outcome struct{ succeeded, failed string }

var outcomes = map[string]outcome{
	helmv2.InstallAction: {helmv2.InstallSucceededReason, helmv2.InstallFailedReason},
	helmv2.UpgradeAction: {helmv2.UpgradeSucceededReason, helmv2.UpgradeFailedReason},
}

// notDeployed deals with an install or upgrade that has failed (helmrelease 36, 57, 78, 79).
func (r *Releaser) notDeployed(ctx context.Context, w *work, name string, recorded bool, err error) error {
	status := &w.obj.Status
	switch {
	case errors.Is(err, loop.ErrInterrupted):
		return loop.Interrupted(meta.HealthCheckCanceledReason, fmt.Errorf("the wait for release %s/%s was canceled: something newer is to be released",
			w.obj.GetReleaseNamespace(), w.obj.GetReleaseName()))
	case ctx.Err() != nil:
		// The process ends: what became of the release is written down for the next one (helmrelease 64).
		return errors.Join(err, w.run.Persist(ctx))
	}
	status.Failures++
	if recorded {
		if name == helmv2.InstallAction {
			status.InstallFailures++
		} else {
			status.UpgradeFailures++
		}
	}
	words := outcomes[name]
	message := fmt.Sprintf("Helm %s failed for release %s/%s with chart %s@%s: %s",
		name, w.obj.GetReleaseNamespace(), w.obj.GetReleaseName(), w.chart.Name, w.chart.Version, err)
	w.set(helmv2.ReleasedCondition, metav1.ConditionFalse, words.failed, message)
	w.failure = err
	if !recorded {
		// Nothing has happened on the cluster that a log could tell of.
		w.tell(event.Error, words.failed, message, w.attempted())
		return loop.Fail(words.failed, errors.New(message)).Quiet()
	}
	w.tell(event.Error, words.failed, withLog(message, w.actions.Log()), w.attempted())
	return nil
}

// withLog adds what Helm has logged to the message of an event (helmrelease 78).
func withLog(message, log string) string {
	if log == "" {
		return message
	}
	return message + "\n\nLast Helm logs:\n\n" + log
}

// test runs the tests of the newest release (helmrelease 47, 77).
func (r *Releaser) test(ctx context.Context, w *work) error {
	if err := r.begin(ctx, w, "test", w.obj.Spec.Test.Timeout.Or(w.obj.GetTimeout()), false); err != nil {
		return err
	}
	rel, err := w.actions.Test(ctx, w.obj, w.latest.Name)
	if _, rememberErr := r.remember(w, "test"); rememberErr != nil {
		return undetermined(rememberErr)
	}
	if errors.Is(err, loop.ErrInterrupted) {
		return interrupted(errors.New("the tests were canceled: something newer is to be released"))
	}
	if ctx.Err() != nil {
		return errors.Join(err, w.run.Persist(ctx))
	}
	current := &w.obj.Status.History[0]
	if current.TestHooks == nil {
		// None were found: that is a result too.
		current.TestHooks = &map[string]*helmv2.TestHookStatus{}
	}
	if err == nil {
		message := fmt.Sprintf("Helm test succeeded for release %s with chart %s: %s", fullName(current), chartOf(current), completed(rel, *current.TestHooks))
		w.set(helmv2.TestSuccessCondition, metav1.ConditionTrue, helmv2.TestSucceededReason, message)
		w.tell(event.Info, helmv2.TestSucceededReason, message, current)
		return nil
	}
	message := fmt.Sprintf("Helm test failed for release %s with chart %s: %s", fullName(current), chartOf(current), err)
	w.set(helmv2.TestSuccessCondition, metav1.ConditionFalse, helmv2.TestFailedReason, message)
	w.tell(event.Error, helmv2.TestFailedReason, message, current)
	w.failure = err
	status := &w.obj.Status
	status.Failures++
	if attempts := attemptsOf(w.obj, status.LastAttemptedReleaseAction); attempts.known && !attempts.ignoreTests {
		if attempts.action == helmv2.InstallAction {
			status.InstallFailures++
		} else {
			status.UpgradeFailures++
		}
	}
	return nil
}

func completed(_ *release.Release, hooks map[string]*helmv2.TestHookStatus) string {
	switch len(hooks) {
	case 0:
		return "no test hooks"
	case 1:
		return "1 test hook completed successfully"
	}
	return fmt.Sprintf("%d test hooks completed successfully", len(hooks))
}

// rollback goes back to an earlier release (helmrelease 49, 60, 68).
func (r *Releaser) rollback(ctx context.Context, w *work, version int) error {
	timeout := w.obj.GetTimeout()
	if s := w.obj.Spec.Rollback; s != nil {
		timeout = s.Timeout.Or(timeout)
	}
	if err := r.begin(ctx, w, "rollback", timeout, false); err != nil {
		return err
	}
	target := *previous(w.obj.Status.History, attemptsOf(w.obj, w.obj.Status.LastAttemptedReleaseAction).ignoreTests)
	err := w.actions.Rollback(ctx, w.obj, target.Name, version)
	recorded, rememberErr := r.remember(w, rollbackAction)
	if rememberErr != nil {
		return undetermined(rememberErr)
	}
	if err == nil {
		if recorded {
			r.list(ctx, w, nil)
		}
		message := fmt.Sprintf("Helm rollback to previous release %s with chart %s succeeded", fullName(&target), chartOf(&target))
		w.set(helmv2.RemediatedCondition, metav1.ConditionTrue, helmv2.RollbackSucceededReason, w.following(message))
		w.tell(event.Info, helmv2.RollbackSucceededReason, message, w.attempted())
		return nil
	}
	return r.notRemediated(ctx, w, helmv2.RollbackFailedReason,
		fmt.Sprintf("Helm rollback to previous release %s with chart %s failed: %s", fullName(&target), chartOf(&target), err), err)
}

// following adds to the message of a remediation what it followed: the cause must not get lost behind it.
func (w *work) following(message string) string {
	for _, t := range []string{helmv2.TestSuccessCondition, helmv2.ReleasedCondition} {
		if c, ok := w.conditions[t]; ok && c.Status == metav1.ConditionFalse {
			return message + ", after: " + c.Message
		}
	}
	return message
}

// remove uninstalls a failed release (helmrelease 54, 60).
func (r *Releaser) remove(ctx context.Context, w *work) error {
	if err := r.begin(ctx, w, "uninstall", w.uninstallTimeout(), false); err != nil {
		return err
	}
	current := w.latest.Snapshot
	err := w.actions.Uninstall(ctx, w.obj, current.Name)
	if _, rememberErr := r.remember(w, uninstallRemediationAction); rememberErr != nil {
		return undetermined(rememberErr)
	}
	if err == nil || errors.Is(err, action.ErrNotFound) {
		w.obj.Status.Inventory = nil
		message := fmt.Sprintf("Helm uninstall remediation for release %s with chart %s succeeded", fullName(&current), chartOf(&current))
		w.set(helmv2.RemediatedCondition, metav1.ConditionTrue, helmv2.UninstallSucceededReason, message)
		w.tell(event.Info, helmv2.UninstallSucceededReason, message, w.attempted())
		return nil
	}
	return r.notRemediated(ctx, w, helmv2.UninstallFailedReason,
		fmt.Sprintf("Helm uninstall remediation for release %s with chart %s failed: %s", fullName(&current), chartOf(&current), err), err)
}

// notRemediated deals with a remediation that has failed: it is tried again later.
func (r *Releaser) notRemediated(ctx context.Context, w *work, reason, message string, err error) error {
	switch {
	case errors.Is(err, loop.ErrInterrupted):
		return interrupted(errors.New("the wait for a remediation was canceled: something newer is to be released"))
	case ctx.Err() != nil:
		return errors.Join(err, w.run.Persist(ctx))
	}
	w.obj.Status.Failures++
	w.set(helmv2.RemediatedCondition, metav1.ConditionFalse, reason, message)
	w.tell(event.Error, reason, withLog(message, w.actions.Log()), w.attempted())
	return loop.Fail(reason, errors.New(message)).Quiet()
}

// unlock frees a release that an interrupted action has left pending (helmrelease 44).
func (r *Releaser) unlock(ctx context.Context, w *work) error {
	if err := r.acting(w); err != nil {
		return err
	}
	state := w.latest.Status
	if err := w.actions.Unlock(ctx, w.record); err != nil {
		return loop.Fail(helmv2.PendingReleaseReason, fmt.Errorf("unlocking release %s in %s state: %w", fullName(&w.latest.Snapshot), state, err))
	}
	w.tell(event.Info, helmv2.PendingReleaseReason,
		fmt.Sprintf("Unlocked Helm release %s with chart %s in %s state", fullName(&w.latest.Snapshot), chartOf(&w.latest.Snapshot), state), &w.latest.Snapshot)
	_, err := r.remember(w, "")
	return err
}

// adopt takes a release for the one that is wanted.
func (r *Releaser) adopt(ctx context.Context, w *work) error {
	current := w.latest.Snapshot
	if err := r.recall(ctx, w); err != nil {
		return err
	}
	reason := helmv2.UpgradeSucceededReason
	if current.Version == 1 {
		reason = helmv2.InstallSucceededReason
	}
	w.unset(helmv2.RemediatedCondition)
	message := fmt.Sprintf("Adopted Helm release %s with chart %s: it is as it should be", fullName(&current), chartOf(&current))
	w.set(helmv2.ReleasedCondition, metav1.ConditionTrue, reason, message)
	w.tell(event.Info, reason, message, &current)
	return nil
}

// uninstall removes a release for good: its object is deleted, or means another one (helmrelease 31, 89-92).
func (r *Releaser) uninstall(ctx context.Context, w *work, current *helmv2.Snapshot) error {
	if err := r.begin(ctx, w, "uninstall", w.uninstallTimeout(), true); err != nil {
		return err
	}
	err := w.actions.Uninstall(ctx, w.obj, current.Name)
	switch {
	case err == nil, errors.Is(err, action.ErrNotFound), errors.Is(err, action.ErrAlreadyDeleted):
	case errors.Is(err, loop.ErrInterrupted):
		return interrupted(errors.New("the wait for an uninstall was canceled: something newer is to be done"))
	case ctx.Err() != nil:
		return err
	default:
		message := fmt.Sprintf("Helm uninstall failed for release %s with chart %s: %s", fullName(current), chartOf(current), err)
		w.obj.Status.Failures++
		w.set(helmv2.ReleasedCondition, metav1.ConditionFalse, helmv2.UninstallFailedReason, message)
		w.tell(event.Error, helmv2.UninstallFailedReason, withLog(message, w.actions.Log()), current)
		return loop.Fail(helmv2.UninstallFailedReason, errors.New(message)).Quiet()
	}
	message := fmt.Sprintf("Helm uninstall succeeded for release %s with chart %s", fullName(current), chartOf(current))
	w.set(helmv2.ReleasedCondition, metav1.ConditionFalse, helmv2.UninstallSucceededReason, message)
	w.tell(event.Info, helmv2.UninstallSucceededReason, message, current)
	return nil
}

func (w *work) uninstallTimeout() time.Duration {
	if u := w.obj.Spec.Uninstall; u != nil {
		return u.Timeout.Or(w.obj.GetTimeout())
	}
	return w.obj.GetTimeout()
}

// remember takes what an action has written to storage into the history. It reports whether that was anything.
func (r *Releaser) remember(w *work, name string) (bool, error) {
	var written []*sighting
	for _, rel := range w.actions.Written() {
		s, err := observe(rel, w.chart.OCIDigest, r.DigestAlgorithm)
		if err != nil {
			return false, err
		}
		written = append(written, s)
	}
	w.obj.Status.History = remembered(w.obj.Status.History, written, name)
	r.mark(w.obj)
	return len(written) > 0, nil
}

// mark remembers which digests of an object's history are this process's own.
func (r *Releaser) mark(obj *helmv2.HelmRelease) {
	var own []string
	for i := range obj.Status.History {
		own = append(own, obj.Status.History[i].Digest)
	}
	r.seen.set(obj.UID, own)
}

// attempted describes what was tried, for the metadata of events.
func (w *work) attempted() *helmv2.Snapshot {
	return &helmv2.Snapshot{ChartName: w.chart.Name, ChartVersion: w.chart.Version, AppVersion: w.chart.AppVersion, ConfigDigest: w.want.config, OCIDigest: w.chart.OCIDigest}
}

// tell sends an event about a release (helmrelease 93, 94).
func (w *work) tell(severity event.Severity, reason, message string, about *helmv2.Snapshot) {
	metadata := map[string]string{"revision": about.ChartVersion, "token": about.ConfigDigest}
	if about.AppVersion != "" {
		metadata["app-version"] = about.AppVersion
	}
	if about.OCIDigest != "" {
		metadata["oci-digest"] = about.OCIDigest
	}
	w.run.Event(event.Event{Severity: severity, Reason: reason, Message: message, Metadata: metadata})
}
