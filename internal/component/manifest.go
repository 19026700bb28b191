package component

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// Manifest is what the installation needs to know of a component.
type Manifest struct {
	// Name is upstream's, "source-controller".
	Name string
	// Group is the API group whose objects it works on; people with the roles view and edit may read and write them.
	Group string
	// CRDs are the names of its CustomResourceDefinitions, "gitrepositories.source.toolkit.fluxcd.io".
	CRDs []string
	// Rules are its permissions, beyond what every component needs: leases, events, and reading configuration.
	Rules []rbacv1.PolicyRule
	// Applies says that the component applies what users hand it, and so must be allowed everything.
	Applies bool
	// Artifacts says that it serves artifacts on port 9090.
	Artifacts bool
	// Data says that it keeps other files in /data.
	Data bool
	// Events says that it receives events on port 9090 and webhooks on port 9292.
	Events bool
	// Critical components run in the priority class system-cluster-critical.
	Critical bool
	// GraceSeconds is how long a stopping pod may take to finish its work.
	GraceSeconds int64
	// CPURequest is the requested share of a processor, such as "100m".
	CPURequest string
	// Gates are the feature gates that its presence switches on in other components, by their name.
	Gates map[string]string
}
