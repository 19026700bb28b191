// Package v2 holds the kind of the API group helm.toolkit.fluxcd.io/v2: HelmRelease, which keeps a release of a Helm chart
// equal to what its spec says.
//
// Go fields carry the name of their JSON field. Methods are accessors; what a HelmRelease does is decided by its reconciler.
//
// +kubebuilder:object:generate=true
// +groupName=helm.toolkit.fluxcd.io
package v2
