package helm

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/helm/drift"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// compare looks for what differs between the cluster and the release (helmrelease 46, 84).
func (r *Releaser) compare(ctx context.Context, w *work) error {
	if w.untouched {
		w.compared = &comparison{}
		return nil
	}
	// Whoever touches an object from now on wakes the release.
	w.cluster.Watch.Include(owner(w.obj), inventory(w.obj).Kinds())
	w.cluster.Watch.settled.compared(owner(w.obj), false, 0)
	result, err := drift.Detect(ctx, r.driftRequest(w))
	switch {
	case ctx.Err() != nil && err != nil:
		return err
	case err != nil:
		return loop.Fail(helmv2.StateErrorReason, fmt.Errorf("could not compare the cluster with release %s: %w", fullName(&w.latest.Snapshot), err))
	}
	if w.unread && !result.Empty() {
		// The release itself may be another one by now.
		w.doubted = true
		return nil
	}
	w.drift = result
	w.compared = &comparison{drifted: !result.Empty()}
	if result.Empty() {
		w.cluster.Watch.settled.compared(owner(w.obj), true, result.Compared)
		return nil
	}
	message := fmt.Sprintf("Cluster state of release %s has drifted from the desired state:\n%s", fullName(&w.latest.Snapshot), result.Summary())
	w.set(helmv2.DriftedCondition, metav1.ConditionTrue, helmv2.DriftDetectedReason, message)
	w.run.Event(event.Event{Severity: event.Error, Reason: helmv2.DriftDetectedReason, Message: message})
	return nil
}

// correction is the name of the only action that is not Helm's.
const correction = "correct cluster state"

// correct puts the cluster right (helmrelease 46, 85).
func (r *Releaser) correct(ctx context.Context, w *work) error {
	if err := r.begin(ctx, w, correction, w.obj.GetTimeout(), false); err != nil {
		return err
	}
	lines, err := drift.Correct(ctx, r.driftRequest(w), w.drift)
	if ctx.Err() != nil {
		return err
	}
	name, current := fullName(&w.latest.Snapshot), &w.latest.Snapshot
	if len(lines) > 0 {
		w.tell(event.Info, helmv2.DriftCorrectedReason, fmt.Sprintf("Cluster state of release %s has been corrected:\n%s", name, strings.Join(lines, "\n")), current)
	}
	if err != nil {
		w.tell(event.Error, helmv2.DriftCorrectionFailedReason, fmt.Sprintf("Failed to correct the cluster state of release %s:\n%s", name, err), current)
	}
	for _, id := range w.drift.Contested {
		w.run.Event(event.Event{
			Severity: event.Error, Reason: "DriftContested", Local: true,
			Message: fmt.Sprintf("%s keeps being changed back by another writer: corrections are slowed down; ignore the field with spec.driftDetection.ignore, or annotate the object with %s: %s, to give way",
				id.Subject(), helmv2.DriftDetectionAnnotation, helmv2.DriftDetectionDisabled),
		})
	}
	// It is not tried twice in a pass. What was not put right shows in the next one.
	w.compared.corrected = true
	w.compared.drifted = err != nil
	return nil
}

func (r *Releaser) driftRequest(w *work) drift.Request {
	request := drift.Request{
		Client: w.client, Manifest: w.record.Manifest, Release: drift.Release{Name: w.record.Name, Namespace: w.record.Namespace},
		Namespace: w.record.Namespace, OverrideManagers: r.OverrideManagers, Manager: Name,
		Owner: owner(w.obj), Memory: w.cluster.Watch.memory, Lens: w.cluster.Watch.Lens(),
	}
	if d := w.obj.Spec.DriftDetection; d != nil {
		request.Ignore = d.Ignore
	}
	return request
}

// driftVerdict says how a pass found the cluster (helmrelease 46, 87).
func (r *Releaser) driftVerdict(w *work) {
	switch {
	case w.compared == nil:
		w.cluster.Watch.memory.Forget(owner(w.obj))
		w.unset(helmv2.DriftedCondition)
	case !w.compared.drifted:
		const message = "No drift detected against the cluster state"
		if c, ok := w.conditions[helmv2.DriftedCondition]; ok && c.Status == metav1.ConditionFalse && c.Message == message {
			return
		}
		w.set(helmv2.DriftedCondition, metav1.ConditionFalse, helmv2.NoDriftDetectedReason, message)
	}
}

// inventory reads the object's inventory.
func inventory(obj *helmv2.HelmRelease) ssa.Inventory {
	if obj.Status.Inventory == nil {
		return nil
	}
	out := make(ssa.Inventory, 0, len(obj.Status.Inventory.Entries))
	for _, e := range obj.Status.Inventory.Entries {
		out = append(out, ssa.Entry{ID: e.ID, Version: e.Version})
	}
	return out
}
