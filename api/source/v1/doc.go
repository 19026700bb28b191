// Package v1 holds the kinds of the API group source.toolkit.fluxcd.io/v1: where content comes from, and the artifact
// each source offers to the appliers.
//
// Go fields carry the name of their JSON field. Methods are accessors; what a source does is decided by its reconciler.
//
// +kubebuilder:object:generate=true
// +groupName=source.toolkit.fluxcd.io
package v1
