package meta

import "testing"

func TestRequestTokens(t *testing.T) {
	var status struct {
		ReconcileRequestStatus
		ForceRequestStatus
	}
	status.SetLastHandledReconcileRequest("a")
	status.SetLastHandledForceRequest("b")
	if got := status.GetLastHandledReconcileRequest(); got != "a" || status.LastHandledReconcileAt != "a" {
		t.Errorf("reconcile token is %q, want a", got)
	}
	if got := status.GetLastHandledForceRequest(); got != "b" || status.LastHandledForceAt != "b" {
		t.Errorf("force token is %q, want b", got)
	}
}
