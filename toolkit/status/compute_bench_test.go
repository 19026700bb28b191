package status

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkCompute computes the conditions of a run that succeeds, over those of one that did.
func BenchmarkCompute(b *testing.B) {
	table := Table{Failures: []string{"FetchFailed", "StorageOperationFailed"}, Sticky: []string{"ArtifactInStorage"}, ReadyReason: "Succeeded"}
	change := Change{Set: []metav1.Condition{
		{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Succeeded", Message: "stored artifact for revision 'main@sha1:0123456789'"},
		{Type: "ArtifactInStorage", Status: metav1.ConditionTrue, Reason: "Succeeded", Message: "stored artifact"},
	}}
	now := time.Unix(1_000_000, 0)
	previous := table.Compute(nil, change, 1, now)
	b.ReportAllocs()
	for b.Loop() {
		table.Compute(previous, change, 2, now)
	}
}
