// Package v1 holds the kinds of the API group image.toolkit.fluxcd.io/v1: which tags an image has, which of them is wanted,
// and where in Git it is written.
//
// Go fields carry the name of their JSON field. Methods are accessors; what a kind does is decided by its reconciler.
//
// +kubebuilder:object:generate=true
// +groupName=image.toolkit.fluxcd.io
package v1
