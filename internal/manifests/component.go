// Package manifests renders what `flux install` puts into a cluster: a namespace, the CRDs, RBAC, Services and the
// Deployments of the components, from the list of components it is handed.
package manifests

import (
	rbacv1 "k8s.io/api/rbac/v1"
)

// Component is what the manifests need to know of a component.
type Component struct {
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

// KnownNames are the components of 2.9 (wire 19), whether this build has them or not.
func KnownNames() []string {
	return append(DefaultNames(), "image-reflector-controller", "image-automation-controller", "source-watcher")
}

// DefaultNames are the components installed unless told otherwise.
func DefaultNames() []string {
	return []string{"source-controller", "kustomize-controller", "helm-controller", "notification-controller"}
}

// Source describes source-controller.
func Source() Component {
	const group = "source.toolkit.fluxcd.io"
	return Component{
		Name: "source-controller", Group: group,
		CRDs: []string{
			"buckets." + group, "externalartifacts." + group, "gitrepositories." + group,
			"helmcharts." + group, "helmrepositories." + group, "ocirepositories." + group,
		},
		Rules:     []rbacv1.PolicyRule{own(group)},
		Artifacts: true, Critical: true, GraceSeconds: 10, CPURequest: "50m",
	}
}

// Kustomize describes kustomize-controller.
func Kustomize() Component {
	const group = "kustomize.toolkit.fluxcd.io"
	return Component{
		Name: "kustomize-controller", Group: group,
		CRDs:    []string{"kustomizations." + group},
		Rules:   []rbacv1.PolicyRule{own(group), readSources()},
		Applies: true, Critical: true, GraceSeconds: 60, CPURequest: "100m",
	}
}

func own(group string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}}
}

func readSources() rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{"source.toolkit.fluxcd.io"}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"}}
}
