package meta

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ReconcileRequestStatus records the last requested run. Kinds embed it in their status.
type ReconcileRequestStatus struct {
	// LastHandledReconcileAt is the value of the annotation "reconcile.fluxcd.io/requestedAt" the last run has seen. A
	// client that has set the annotation waits until the two are equal.
	// +optional
	LastHandledReconcileAt string `json:"lastHandledReconcileAt,omitempty"`
}

// GetLastHandledReconcileRequest returns the token of the last requested run, empty when there was none.
func (s *ReconcileRequestStatus) GetLastHandledReconcileRequest() string {
	return s.LastHandledReconcileAt
}

// SetLastHandledReconcileRequest records the token of the last requested run.
func (s *ReconcileRequestStatus) SetLastHandledReconcileRequest(token string) {
	s.LastHandledReconcileAt = token
}

// ForceRequestStatus records the last run that was asked to force its action. Kinds that know force embed it in their
// status.
type ForceRequestStatus struct {
	// LastHandledForceAt is the value of the annotation "reconcile.fluxcd.io/forceAt" the last run has seen.
	// +optional
	LastHandledForceAt string `json:"lastHandledForceAt,omitempty"`
}

// GetLastHandledForceRequest returns the token of the last forced run, empty when there was none.
func (s *ForceRequestStatus) GetLastHandledForceRequest() string {
	return s.LastHandledForceAt
}

// SetLastHandledForceRequest records the token of the last forced run.
func (s *ForceRequestStatus) SetLastHandledForceRequest(token string) {
	s.LastHandledForceAt = token
}

// Inventory lists the objects an applier manages.
type Inventory struct {
	// Entries of the inventory. Never null: an applier that manages nothing has an empty list.
	// +required
	Entries []InventoryEntry `json:"entries"`
}

// InventoryEntry identifies one managed object (contract wire.md 9).
type InventoryEntry struct {
	// ID of the object: "<namespace>_<name>_<group>_<kind>". Empty parts are kept, and a colon in the name is written "__".
	// +required
	ID string `json:"id"`

	// Version of the API the object was applied with, without the group.
	// +required
	Version string `json:"v"`
}

// Snapshot is one line of the history of an applier: runs that applied the same content with the same outcome.
type Snapshot struct {
	// Digest of the content, as "<algorithm>:<hex>".
	// +required
	Digest string `json:"digest"`

	// FirstReconciled is when this content first had this outcome.
	// +required
	FirstReconciled metav1.Time `json:"firstReconciled"`

	// LastReconciled is when this content last had this outcome.
	// +required
	LastReconciled metav1.Time `json:"lastReconciled"`

	// LastReconciledDuration is how long the last of these runs took.
	// +required
	LastReconciledDuration Duration `json:"lastReconciledDuration"`

	// LastReconciledStatus is the outcome: the reason of the Ready condition after the run.
	// +required
	LastReconciledStatus string `json:"lastReconciledStatus"`

	// TotalReconciliations counts the runs of this line.
	// +required
	TotalReconciliations int64 `json:"totalReconciliations"`

	// Metadata of the last of these runs, such as the revision it applied.
	// +optional
	Metadata map[string]string `json:"metadata,omitempty"`
}
