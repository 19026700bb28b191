// Package meta holds what the API groups share: condition, reason, annotation and label names, references to other
// objects, artifacts, durations, and the small interfaces through which the rest of the house sees a kind.
//
// It carries names, data and accessors only. What a condition means for a kind is decided by the reconcile loop.
//
// +kubebuilder:object:generate=true
package meta
