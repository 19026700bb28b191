// Package v1beta1 holds the kind of the API group source.extensions.fluxcd.io/v1beta1: ArtifactGenerator, which makes
// artifacts out of the artifacts of other sources.
//
// Go fields carry the name of their JSON field. Methods are accessors; what an ArtifactGenerator does is decided by its
// reconciler.
//
// +kubebuilder:object:generate=true
// +groupName=source.extensions.fluxcd.io
package v1beta1
