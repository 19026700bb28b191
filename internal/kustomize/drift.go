package kustomize

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// driftedCondition is True while drift is found and, on request, not corrected.
const driftedCondition = "Drifted"

// reportsDrift reports whether drift of an object's objects is told and not corrected.
func reportsDrift(obj *kustomizev1.Kustomization) bool {
	return strings.EqualFold(obj.Annotations[kustomizev1.DriftAnnotation], kustomizev1.ReportValue)
}

// appliedBefore reports whether what was built is what was last applied with success, so that whatever differs is somebody else's doing.
func (w *work) appliedBefore() bool {
	status := &w.obj.Status
	if status.ObservedGeneration != w.obj.Generation || status.LastAppliedRevision != w.source.Revision || len(status.History) == 0 {
		return false
	}
	h := status.History[0]
	return h.LastReconciledStatus == meta.ReconciliationSucceededReason && h.Digest == w.built.Digest
}

// reportDrift tells what others had changed, without values: after the correction, or once for each new state of what is left so.
func (k *Kustomizer) reportDrift(w *work) {
	text := driftText(w.applied.Drift)
	if !reportsDrift(w.obj) {
		k.drifts.news(owner(w.obj), "")
		w.run.Unset(driftedCondition)
		if text != "" {
			w.run.Event(event.Event{Severity: event.Info, Reason: "DriftCorrected", Message: "drift was corrected:\n" + text, Local: true})
		}
		return
	}
	if text == "" {
		w.run.Unset(driftedCondition)
	} else {
		w.run.Set(driftedCondition, metav1.ConditionTrue, "DriftDetected", "%s", text)
	}
	if k.drifts.news(owner(w.obj), text) {
		w.run.Event(event.Event{Severity: event.Error, Reason: "DriftDetected", Message: "drift is not corrected:\n" + text})
	}
}

// driftText has a line for each object, as many as a message should hold.
func driftText(drift []ssa.Drift) string {
	return strings.Join(atMost(maxListed, drift, ssa.Drift.String), "\n")
}
