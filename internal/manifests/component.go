// Package manifests renders what `flux install` puts into a cluster: a namespace, the CRDs, RBAC, Services and the
// Deployments of the components, from the list of components it is handed.
package manifests

import (
	"github.com/seed-79636ae9/flux/internal/component"
)

// Component is what the manifests need to know of a component.
type Component = component.Manifest

// KnownNames are the components of 2.9 (wire 19), whether this build has them or not.
func KnownNames() []string {
	return append(DefaultNames(), "image-reflector-controller", "image-automation-controller", "source-watcher")
}

// DefaultNames are the components installed unless told otherwise.
func DefaultNames() []string {
	return []string{"source-controller", "kustomize-controller", "helm-controller", "notification-controller"}
}
