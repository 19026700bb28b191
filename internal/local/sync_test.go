package local

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

func ready(status metav1.ConditionStatus, reason, message string) []metav1.Condition {
	return []metav1.Condition{{Type: meta.ReadyCondition, Status: status, Reason: reason, Message: message}}
}

// fulfilled is a pair of objects that answered request t with revision r.
func fulfilled() (*sourcev1.GitRepository, *kustomizev1.Kustomization) {
	source, applier := &sourcev1.GitRepository{}, &kustomizev1.Kustomization{}
	source.Generation, source.Status.ObservedGeneration = 1, 1
	source.Status.Conditions = ready(metav1.ConditionTrue, meta.SucceededReason, "stored")
	source.Status.Artifact = &meta.Artifact{Revision: "r"}
	source.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "t"}
	source.Status.LastHandledReconcileAt = "t"
	applier.Generation, applier.Status.ObservedGeneration = 1, 1
	applier.Status.Conditions = ready(metav1.ConditionTrue, meta.ReconciliationSucceededReason, "applied")
	applier.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "t"}
	applier.Status.LastAppliedRevision, applier.Status.LastHandledReconcileAt = "r", "t"
	return source, applier
}

func TestJudge(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*sourcev1.GitRepository, *kustomizev1.Kustomization)
		want   verdict
	}{
		"everything applied": {
			func(*sourcev1.GitRepository, *kustomizev1.Kustomization) {},
			verdict{Sync: Sync{Ready: true, Revision: "r", Message: "applied"}},
		},
		"new objects": {
			func(s *sourcev1.GitRepository, k *kustomizev1.Kustomization) {
				*s, *k = sourcev1.GitRepository{}, kustomizev1.Kustomization{}
			},
			verdict{Sync: Sync{Message: "waiting for the controllers"}},
		},
		"an answer to an earlier request": {
			func(_ *sourcev1.GitRepository, k *kustomizev1.Kustomization) { k.Status.LastHandledReconcileAt = "s" },
			verdict{Sync: Sync{Revision: "r", Message: "stored"}},
		},
		"a failure of an earlier request": {
			func(_ *sourcev1.GitRepository, k *kustomizev1.Kustomization) {
				k.Status.LastHandledReconcileAt = "s"
				k.Status.Conditions = ready(metav1.ConditionFalse, meta.BuildFailedReason, "old")
			},
			verdict{Sync: Sync{Revision: "r", Message: "stored"}},
		},
		"a later request, answered": {
			func(s *sourcev1.GitRepository, _ *kustomizev1.Kustomization) {
				s.Annotations[meta.ReconcileRequestAnnotation], s.Status.LastHandledReconcileAt = "u", "u"
			},
			verdict{Sync: Sync{Ready: true, Revision: "r", Message: "applied"}},
		},
		"a later request, not answered": {
			func(s *sourcev1.GitRepository, _ *kustomizev1.Kustomization) {
				s.Annotations[meta.ReconcileRequestAnnotation] = "u"
			},
			verdict{Sync: Sync{Revision: "r", Message: "waiting for the controllers"}},
		},
		"a generation not seen": {
			func(s *sourcev1.GitRepository, _ *kustomizev1.Kustomization) { s.Generation = 2 },
			verdict{Sync: Sync{Revision: "r", Message: "stored"}},
		},
		"another revision applied": {
			func(_ *sourcev1.GitRepository, k *kustomizev1.Kustomization) { k.Status.LastAppliedRevision = "q" },
			verdict{Sync: Sync{Revision: "r", Message: "applying r"}},
		},
		"still working": {
			func(_ *sourcev1.GitRepository, k *kustomizev1.Kustomization) {
				k.Status.Conditions = ready(metav1.ConditionUnknown, meta.ProgressingReason, "working")
			},
			verdict{Sync: Sync{Revision: "r", Message: "working"}},
		},
		"the source is not there yet": {
			func(_ *sourcev1.GitRepository, k *kustomizev1.Kustomization) {
				k.Status.Conditions = ready(metav1.ConditionFalse, meta.ArtifactFailedReason, "no artifact")
			},
			verdict{Sync: Sync{Revision: "r", Message: "no artifact"}},
		},
		"a newer commit came in between": {
			func(_ *sourcev1.GitRepository, k *kustomizev1.Kustomization) {
				k.Status.Conditions = ready(metav1.ConditionFalse, meta.HealthCheckCanceledReason, "canceled")
			},
			verdict{Sync: Sync{Revision: "r", Message: "canceled"}},
		},
		"a build that fails": {
			func(_ *sourcev1.GitRepository, k *kustomizev1.Kustomization) {
				k.Status.Conditions = ready(metav1.ConditionFalse, meta.BuildFailedReason, "no such path")
			},
			verdict{Sync: Sync{Revision: "r", Message: "no such path"}, failed: true},
		},
		"a source that fails": {
			func(s *sourcev1.GitRepository, _ *kustomizev1.Kustomization) {
				s.Status.Conditions = ready(metav1.ConditionFalse, "GitOperationFailed", "refused")
			},
			verdict{Sync: Sync{Revision: "r", Message: "refused"}, failed: true},
		},
		"suspended": {
			func(_ *sourcev1.GitRepository, k *kustomizev1.Kustomization) { k.Spec.Suspend = true },
			verdict{Sync: Sync{Ready: true, Revision: "r", Message: "applied", Suspended: true}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			source, applier := fulfilled()
			test.change(source, applier)
			if got := judge(source, applier, true); got != test.want {
				t.Errorf("judge = %+v, want %+v", got, test.want)
			}
		})
	}
}
