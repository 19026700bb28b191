package helm

import (
	"fmt"
	"time"

	rcommon "helm.sh/helm/v4/pkg/release/common"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// act is what can be done next about a release.
type act string

const (
	// actNone: the release is as it should be.
	actNone act = "none"
	// actAgain: all that may be done in one pass is done, and more is to do.
	actAgain act = "again"
	// actPause: the last attempt failed and is repeated later.
	actPause act = "pause"
	// actStall: nothing more can be done until somebody changes something.
	actStall act = "stall"
	// actAdopt: the release in storage is not the one that was last seen, but it is what is wanted.
	actAdopt act = "adopt"
	// actUnlock: an interrupted action has left the release pending.
	actUnlock  act = "unlock"
	actInstall act = "install"
	actUpgrade act = "upgrade"
	actTest    act = "test"
	// actRemediate undoes a failed release by going back to an earlier one, actRemove by uninstalling it.
	actRemediate act = "rollback"
	actRemove    act = "uninstall"
	// actCompare: to decide, the cluster must be compared with the release.
	actCompare act = "compare"
	// actCorrect puts the cluster right.
	actCorrect act = "correct"
)

// step is a decision: what to do, and why.
type step struct {
	act act
	why string
	// target is the version to go back to, for actRemediate.
	target int
	// reason and message are those of the Stalled condition, for actStall.
	reason, message string
	// after is when to try again, for actPause.
	after time.Duration
}

// desired is what the release should be.
type desired struct {
	chartName, chartVersion     string
	config                      string // digest of the values
	renderers, metadata         string // digests of spec.postRenderers and spec.commonMetadata; empty: none
	renderersSeen, metadataSeen string // those of the release that was made last
}

// comparison is what a comparison of the cluster with the release has shown.
type comparison struct {
	drifted bool
	// corrected: it was put right in this pass.
	corrected bool
}

// situation is all that a decision rests on. It is read, never changed, by decide.
type situation struct {
	obj  *helmv2.HelmRelease
	want desired
	// latest is the newest release in storage; nil: there is none.
	latest *sighting
	// known: latest is the newest entry of the history, and unchanged since.
	known bool
	// targetLost: the release to go back to is in the history, but not, or not as it was, in storage.
	targetLost bool
	// forced: the user asks for an install or upgrade, whatever the state.
	forced bool
	// retries: without a strategy, failed attempts are repeated (gate DefaultToRetryOnFailure).
	retries bool
	// compared is nil while the cluster has not been looked at.
	compared *comparison
	// done lists what was done in this pass, in order.
	done []act
}

// decide says what to do next (helmrelease 38-55). It is a function of the situation alone.
func decide(s *situation) step {
	next := consider(s)
	switch next.act {
	case actInstall, actUpgrade, actRemediate, actRemove, actTest, actUnlock:
		if s.did(next.act) {
			return step{act: actAgain, why: next.why}
		}
	}
	return next
}

func (s *situation) did(a act) bool {
	for _, d := range s.done {
		if d == a {
			return true
		}
	}
	return false
}

func consider(s *situation) step {
	if s.latest == nil || s.latest.Status == string(rcommon.StatusUninstalled) {
		return s.absent()
	}
	switch rcommon.Status(s.latest.Status) {
	case rcommon.StatusPendingInstall, rcommon.StatusPendingUpgrade, rcommon.StatusPendingRollback:
		return step{act: actUnlock, why: "an interrupted action has left the release in the state " + s.latest.Status}
	case rcommon.StatusUninstalling:
		return step{act: actRemove, why: "an uninstall was interrupted"}
	}
	switch {
	case !s.known:
		return s.unmanaged()
	case s.latest.Status == string(rcommon.StatusFailed):
		return s.failed()
	case s.latest.Status != string(rcommon.StatusDeployed):
		return step{act: actUpgrade, why: "the newest release has the status " + s.latest.Status}
	}
	return s.deployed()
}

// absent: there is no release (helmrelease 44).
func (s *situation) absent() step {
	attempts := attemptsOf(s.obj, helmv2.InstallAction)
	if attempts.exhausted() && !s.forced {
		return attempts.stall()
	}
	return step{act: actInstall, why: "there is no release"}
}

// unmanaged: the release was made by somebody else, or by an attempt that did not live to tell (helmrelease 38, 39). If it is
// what is wanted there is nothing to do but to say so, unless it was changed behind our back.
func (s *situation) unmanaged() step {
	if s.found() && s.latest.Status == string(rcommon.StatusDeployed) && s.differs() == "" && !s.forced {
		return step{act: actAdopt, why: "the release in storage is what is wanted"}
	}
	return step{act: actUpgrade, why: "the release in storage is not the one that was last seen"}
}

// found reports whether nobody has meddled with a release that is not known: there is nothing else to be known, or an attempt has made it
// that did not live to tell.
func (s *situation) found() bool {
	history := s.obj.Status.History
	return len(history) == 0 || s.latest.marked && s.latest.Version > history[0].Version
}

// differs names what of the release is not as it should be; empty: nothing (helmrelease 40, 41).
func (s *situation) differs() string {
	l := s.latest
	switch {
	case l.ChartName != s.want.chartName || l.ChartVersion != s.want.chartVersion:
		return fmt.Sprintf("the chart is %s@%s, not %s@%s", l.ChartName, l.ChartVersion, s.want.chartName, s.want.chartVersion)
	case l.ConfigDigest != s.want.config:
		return "the values differ"
	case s.want.renderers != s.want.renderersSeen:
		return "the post-renderers differ"
	case s.want.metadata != s.want.metadataSeen:
		return "the common metadata differs"
	}
	return ""
}

// deployed: the release is there (helmrelease 40-47).
func (s *situation) deployed() step {
	if why := s.differs(); why != "" {
		attempts := attemptsOf(s.obj, helmv2.UpgradeAction)
		if attempts.exhausted() && !s.forced {
			return attempts.stall()
		}
		return step{act: actUpgrade, why: why}
	}
	if test := s.obj.Spec.Test; test != nil && test.Enable {
		run, failed := tested(&s.obj.Status.History[0])
		switch attempts := attemptsOf(s.obj, s.obj.Status.LastAttemptedReleaseAction); {
		case !run && !s.did(actTest):
			return step{act: actTest, why: "the release is not tested"}
		case failed && attempts.known && !attempts.ignoreTests:
			return s.failed()
		}
	}
	if s.forced && !s.did(actUpgrade) && !s.did(actInstall) {
		return step{act: actUpgrade, why: "it is forced"}
	}
	return s.drifted()
}

// drifted compares the cluster with the release, if that is asked for (helmrelease 43, 46).
func (s *situation) drifted() step {
	mode := ""
	if d := s.obj.Spec.DriftDetection; d != nil {
		mode = d.Mode
	}
	if mode != helmv2.DriftDetectionEnabled && mode != helmv2.DriftDetectionWarn {
		return step{act: actNone, why: "the release is as it should be"}
	}
	switch c := s.compared; {
	case c == nil:
		return step{act: actCompare, why: "the cluster may differ from the release"}
	case c.drifted && !c.corrected && mode == helmv2.DriftDetectionEnabled:
		return step{act: actCorrect, why: "the cluster differs from the release"}
	}
	return step{act: actNone, why: "the release is as it should be"}
}

// failed: the release, or a test of it, has failed (helmrelease 48-50, 54, 55).
func (s *situation) failed() step {
	attempts := attemptsOf(s.obj, s.obj.Status.LastAttemptedReleaseAction)
	switch {
	case !attempts.known:
		return step{act: actUpgrade, why: "the release has failed, and nobody knows in which attempt"}
	case attempts.count == 0:
		return step{act: actUpgrade, why: "the release has failed, and nothing was tried since"}
	case s.forced && !s.did(actUpgrade) && !s.did(actInstall):
		return step{act: actUpgrade, why: "it is forced"}
	}
	if after, ok := retryAfter(s.obj, s.retries); ok {
		if s.did(actInstall) || s.did(actUpgrade) {
			return step{act: actPause, why: "the attempt has failed", after: after}
		}
		return step{act: actUpgrade, why: "the last attempt has failed"}
	}
	if attempts.exhausted() && !attempts.remediateLast {
		return attempts.stall()
	}
	if attempts.strategy == helmv2.UninstallRemediation {
		return step{act: actRemove, why: "the release has failed"}
	}
	target := previous(s.obj.Status.History, attempts.ignoreTests)
	switch {
	case target == nil:
		return step{
			act: actStall, why: "there is no release to go back to", reason: helmv2.MissingRollbackTargetReason,
			message: "Failed to perform remediation: missing target release for rollback",
		}
	case s.targetLost && attempts.exhausted():
		return attempts.stall()
	case s.targetLost:
		return step{act: actUpgrade, why: fmt.Sprintf("release %s, to go back to, is not as it was", fullName(target))}
	}
	return step{act: actRemediate, why: "the release has failed", target: target.Version}
}

// attempts is how often an action has failed, and what the spec says about it.
type attempts struct {
	// known: it is clear which action it was.
	known         bool
	action        string
	count         int64
	retries       int
	remediateLast bool
	ignoreTests   bool
	strategy      string
}

// attemptsOf returns the attempts of an action (helmrelease 36, 37, 53, 54).
func attemptsOf(obj *helmv2.HelmRelease, action string) attempts {
	a := attempts{known: true, action: action, ignoreTests: obj.Spec.Test != nil && obj.Spec.Test.IgnoreFailures}
	set := func(retries *int, ignoreTests, remediateLast *bool) {
		if retries != nil {
			a.retries = *retries
		}
		if ignoreTests != nil {
			a.ignoreTests = *ignoreTests
		}
		if remediateLast != nil {
			a.remediateLast = *remediateLast
		}
	}
	switch action {
	case helmv2.InstallAction:
		a.count, a.strategy = obj.Status.InstallFailures, helmv2.UninstallRemediation
		if i := obj.Spec.Install; i != nil && i.Remediation != nil {
			set(i.Remediation.Retries, i.Remediation.IgnoreTestFailures, i.Remediation.RemediateLastFailure)
		}
	case helmv2.UpgradeAction:
		a.count, a.strategy = obj.Status.UpgradeFailures, helmv2.RollbackRemediation
		if u := obj.Spec.Upgrade; u != nil && u.Remediation != nil {
			r := u.Remediation
			a.remediateLast = r.Retries != nil && *r.Retries > 0
			set(r.Retries, r.IgnoreTestFailures, r.RemediateLastFailure)
			if r.Strategy != nil {
				a.strategy = *r.Strategy
			}
		}
	default:
		a.known = false
	}
	return a
}

// exhausted reports whether no retry is left: N retries are N+1 attempts, a negative number has no end (helmrelease 37).
func (a attempts) exhausted() bool {
	return a.retries >= 0 && a.count > int64(a.retries)
}

func (a attempts) stall() step {
	return step{
		act: actStall, why: "no retry is left", reason: helmv2.RetriesExceededReason,
		message: fmt.Sprintf("Failed to %s after %d attempt(s)", a.action, a.count),
	}
}

// retryAfter returns when a failed attempt is repeated as it is, if that is the strategy of its action (helmrelease 55).
func retryAfter(obj *helmv2.HelmRelease, otherwise bool) (time.Duration, bool) {
	var name string
	var interval time.Duration
	switch obj.Status.LastAttemptedReleaseAction {
	case helmv2.InstallAction:
		if i := obj.Spec.Install; i != nil && i.Strategy != nil {
			name, interval = i.Strategy.Name, i.Strategy.RetryInterval.Value()
		}
	case helmv2.UpgradeAction:
		if u := obj.Spec.Upgrade; u != nil && u.Strategy != nil {
			name, interval = u.Strategy.Name, u.Strategy.RetryInterval.Value()
		}
	}
	if interval == 0 {
		interval = defaultRetryInterval
	}
	return interval, name == helmv2.RetryOnFailure || name == "" && otherwise
}
