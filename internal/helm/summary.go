package helm

import (
	"context"
	"errors"
	"fmt"
	"time"

	release "helm.sh/helm/v4/pkg/release/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// set sets a condition of the object.
func (w *work) set(conditionType string, s metav1.ConditionStatus, reason, message string) {
	w.run.Set(conditionType, s, reason, "%s", message)
	w.conditions[conditionType] = metav1.Condition{
		Type: conditionType, Status: s, Reason: reason, Message: message, ObservedGeneration: w.run.Generation,
	}
}

func (w *work) unset(conditionType string) {
	if _, ok := w.conditions[conditionType]; !ok {
		return
	}
	w.run.Unset(conditionType)
	delete(w.conditions, conditionType)
}

// tests reports whether releases are to be tested.
func (w *work) tests() bool { return w.obj.Spec.Test != nil && w.obj.Spec.Test.Enable }

// verdict is the condition that decides about Ready: of those on the newest generation the remediation, the tests if they
// count, and the release, in this order (helmrelease 59, 60).
func (w *work) verdict() (metav1.Condition, bool) {
	order := []string{helmv2.RemediatedCondition, helmv2.TestSuccessCondition, helmv2.ReleasedCondition}
	var best metav1.Condition
	found := false
	for _, t := range order {
		c, ok := w.conditions[t]
		switch {
		case !ok:
			continue
		case t == helmv2.RemediatedCondition && c.Reason == helmv2.UninstallSucceededReason:
			// It says less than what it followed.
			continue
		case t == helmv2.TestSuccessCondition && (!w.tests() || attemptsOf(w.obj, w.obj.Status.LastAttemptedReleaseAction).ignoreTests):
			continue
		}
		if !found || c.ObservedGeneration > best.ObservedGeneration {
			best, found = c, true
		}
	}
	if best.Type == helmv2.RemediatedCondition {
		best.Status = metav1.ConditionFalse
	}
	return best, found
}

// unready is the reason and the message of Ready=False.
func (w *work) unready() (string, error) {
	c, ok := w.verdict()
	if !ok || c.Status == metav1.ConditionTrue {
		return helmv2.ReconcileErrorReason, errors.New("the release is not as it should be yet")
	}
	return c.Reason, errors.New(c.Message)
}

// settled is what every end of a pass has in common (helmrelease 62).
func (w *work) settled() {
	if !w.tests() {
		w.unset(helmv2.TestSuccessCondition)
	}
}

// rendered remembers what the release was rendered with. A failed release, which may be gone back from, does not count
// (helmrelease 41, 83).
func (w *work) rendered() {
	w.want.renderersSeen, w.want.metadataSeen = w.want.renderers, w.want.metadata
	w.obj.Status.ObservedPostRenderersDigest, w.obj.Status.ObservedCommonMetadataDigest = w.want.renderers, w.want.metadata
}

// inSync ends a pass that has found, or made, the release as it should be (helmrelease 61, 81, 87).
func (r *Releaser) inSync(w *work) error {
	status := &w.obj.Status
	current := &status.History[0]
	if c, ok := w.conditions[helmv2.RemediatedCondition]; ok && c.Status == metav1.ConditionTrue {
		w.unset(helmv2.RemediatedCondition)
		w.set(helmv2.ReleasedCondition, metav1.ConditionTrue, helmv2.UpgradeSucceededReason,
			fmt.Sprintf("Helm upgrade succeeded for release %s with chart %s", fullName(current), chartOf(current)))
	}
	if c, ok := w.conditions[helmv2.ReleasedCondition]; !ok || c.Status != metav1.ConditionTrue {
		// A crash has come between the release and the word of it.
		w.set(helmv2.ReleasedCondition, metav1.ConditionTrue, releasedReason(current), fmt.Sprintf("Helm release %s with chart %s is deployed", fullName(current), chartOf(current)))
	}
	r.driftVerdict(w)
	status.History = truncated(status.History, attemptsOf(w.obj, status.LastAttemptedReleaseAction).ignoreTests)
	w.settled()
	c, ok := w.verdict()
	if !ok || c.Status == metav1.ConditionFalse {
		reason, err := w.unready()
		return loop.Fail(reason, err)
	}
	return w.run.ReadyAs(c.Reason, "%s", c.Message)
}

func releasedReason(s *helmv2.Snapshot) string {
	if s.Version == 1 {
		return helmv2.InstallSucceededReason
	}
	return helmv2.UpgradeSucceededReason
}

// stall ends a pass that can do no more (helmrelease 50, 52). Stalled tells the cause too.
func (r *Releaser) stall(w *work, next step) error {
	w.settled()
	reason, err := w.unready()
	message := next.message
	if cause := w.cause(); cause != "" {
		message += ": " + cause
	}
	return loop.Stall(reason, err).StalledAs(next.reason, message).Quiet()
}

// cause is what made the newest attempt fail: a failed test, or a failed release.
func (w *work) cause() string {
	if w.failure != nil {
		return w.failure.Error()
	}
	for _, t := range []string{helmv2.TestSuccessCondition, helmv2.ReleasedCondition} {
		if c, ok := w.conditions[t]; ok && c.Status == metav1.ConditionFalse {
			return c.Message
		}
	}
	return ""
}

// pause ends a pass whose failed attempt is repeated later (helmrelease 55, 96).
func (r *Releaser) pause(w *work, after time.Duration) error {
	w.settled()
	reason, err := w.unready()
	w.run.Retrying("retrying after %s", after)
	return loop.Fail(reason, err).After(after).Quiet().Observed()
}

// list takes the objects of a release into the inventory (helmrelease 82).
func (r *Releaser) list(ctx context.Context, w *work, rel *release.Release) {
	if rel == nil {
		written := w.actions.Written()
		if len(written) == 0 {
			return
		}
		rel = newestOf(written)
	}
	inventory, err := inventoryOf(ctx, rel.Manifest, w.actions.CRDs(), rel.Namespace, w.client.Mapper)
	if err != nil {
		w.run.Event(event.Event{Severity: event.Error, Reason: helmv2.InventoryBuildFailedReason, Message: fmt.Sprintf("failed to list the objects of release %s/%s: %s", rel.Namespace, rel.Name, err)})
		return
	}
	w.obj.Status.Inventory = inventory
}

func newestOf(written []*release.Release) *release.Release {
	newest := written[0]
	for _, rel := range written {
		if rel.Version > newest.Version {
			newest = rel
		}
	}
	return newest
}
