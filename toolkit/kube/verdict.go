package kube

import (
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Status is the kstatus word for an object's progress.
type Status = status.Status

// The words, as they appear in messages (kustomization 92).
const (
	Current     = status.CurrentStatus
	InProgress  = status.InProgressStatus
	Failed      = status.FailedStatus
	Terminating = status.TerminatingStatus
	NotFound    = status.NotFoundStatus
	Unknown     = status.UnknownStatus
)

// Verdict is what an object's status says about its progress.
type Verdict struct {
	Status  Status
	Message string
}

// Assess computes the verdict of an object by kstatus, with the house's rule for Jobs: a Job is done when it is complete, not
// when it has started, and a suspended Job has nothing to do (kustomization 91).
func Assess(u *unstructured.Unstructured) Verdict {
	if u.GetKind() == "Job" && u.GroupVersionKind().Group == "batch" && u.GetDeletionTimestamp() == nil {
		return assessJob(u)
	}
	res, err := status.Compute(u)
	if err != nil {
		return Verdict{Unknown, err.Error()}
	}
	return Verdict{res.Status, res.Message}
}

func assessJob(u *unstructured.Unstructured) Verdict {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, c := range conditions {
		c, _ := c.(map[string]any)
		if c["status"] != "True" {
			continue
		}
		message, _ := c["message"].(string)
		switch c["type"] {
		case "Complete":
			return Verdict{Current, "Job is complete"}
		case "Failed":
			return Verdict{Failed, message}
		}
	}
	if suspended, _, _ := unstructured.NestedBool(u.Object, "spec", "suspend"); suspended {
		return Verdict{Current, "Job is suspended"}
	}
	return Verdict{InProgress, "Job is not complete"}
}

// passing reports whether a kind's verdict depends on the time as well as on the object, so that no event announces its
// change: kstatus gives a Pod 15 seconds to be scheduled.
func passing(u *unstructured.Unstructured) bool {
	return u.GetKind() == "Pod" && u.GroupVersionKind().Group == ""
}
