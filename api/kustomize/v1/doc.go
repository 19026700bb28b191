// Package v1 holds the kind of the API group kustomize.toolkit.fluxcd.io/v1: Kustomization, which keeps a cluster equal to
// the manifests of a source.
//
// Go fields carry the name of their JSON field. Methods are accessors; what a Kustomization does is decided by its
// reconciler.
//
// +kubebuilder:object:generate=true
// +groupName=kustomize.toolkit.fluxcd.io
package v1
