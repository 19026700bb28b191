// Package v1 holds the kind of the API group notification.toolkit.fluxcd.io/v1: Receiver, a webhook that asks other objects to
// reconcile at once.
//
// Go fields carry the name of their JSON field. Methods are accessors; what a Receiver does is decided by its reconciler.
//
// +kubebuilder:object:generate=true
// +groupName=notification.toolkit.fluxcd.io
package v1
