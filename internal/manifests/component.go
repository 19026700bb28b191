// Package manifests renders what `flux install` puts into a cluster: a namespace, the CRDs, RBAC, Services and the
// Deployments of the components, from the list of components this build has.
package manifests

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// Component is what the manifests need to know of a component.
type Component struct {
	// Name is upstream's, "source-controller".
	Name string
	// CRDs are the names of the CustomResourceDefinitions it owns, "gitrepositories.source.toolkit.fluxcd.io".
	CRDs []string
	// Rules are its permissions, beyond the leases, events and Secrets every component needs.
	Rules []rbacv1.PolicyRule
	// Applies says that the component applies what users hand it, and so must be allowed everything.
	Applies bool
	// Artifacts says that it serves artifacts on port 9090.
	Artifacts bool
	// Events says that it receives events on port 9090 and webhooks on port 9292.
	Events bool
	// Critical components run in the class system-cluster-critical.
	Critical bool
	// GraceSeconds is how long a stopping pod may take, at least the default of 10.
	GraceSeconds int64
	// CPURequest is the requested share of a processor, "100m" unless set.
	CPURequest string
}
