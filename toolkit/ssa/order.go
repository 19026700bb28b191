package ssa

import (
	"cmp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// rank is the place of a kind inside its stage (kustomization 65): first what others stand on, last the webhooks, which could
// refuse what comes after them.
func rank(kind string) int {
	switch kind {
	case "CustomResourceDefinition":
		return 1
	case "Namespace":
		return 2
	case "ClusterRole":
		return 3
	case "ClusterClass":
		return 4
	case "RuntimeClass":
		return 5
	case "PriorityClass":
		return 6
	case "StorageClass":
		return 7
	case "VolumeSnapshotClass":
		return 8
	case "IngressClass":
		return 9
	case "GatewayClass":
		return 10
	case "ClusterRoleBinding":
		return 11
	case "ResourceQuota":
		return 12
	case "ServiceAccount":
		return 13
	case "Role":
		return 14
	case "RoleBinding":
		return 15
	case "ConfigMap":
		return 16
	case "Secret":
		return 17
	case "Service":
		return 18
	case "LimitRange":
		return 19
	case "Deployment":
		return 20
	case "StatefulSet":
		return 21
	case "CronJob":
		return 22
	case "PodDisruptionBudget":
		return 23
	case "MutatingWebhookConfiguration":
		return 25
	case "ValidatingWebhookConfiguration":
		return 26
	}
	return 24
}

// compare orders ids by rank, then group and kind, then namespace and name.
func compare(a, b ID) int {
	return cmp.Or(
		cmp.Compare(rank(a.Kind), rank(b.Kind)),
		cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
	)
}

// Sort puts objects into the order of application within a stage.
func Sort(objects []*unstructured.Unstructured) {
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return compare(IDOf(a), IDOf(b)) })
}

// stages of an apply (kustomization 64).
const (
	stageDefinitions = iota // what later stages need to exist
	stageClasses
	stageCustom
	stageRest
	stageCount
)

func stageOf(gk schema.GroupKind, custom []schema.GroupKind) int {
	switch {
	case gk.Kind == "CustomResourceDefinition" && gk.Group == "apiextensions.k8s.io",
		gk.Kind == "Namespace" && gk.Group == "",
		gk.Kind == "ClusterRole" && gk.Group == rbacGroup:
		return stageDefinitions
	case strings.HasSuffix(gk.Kind, "Class"):
		return stageClasses
	case slices.Contains(custom, gk):
		return stageCustom
	}
	return stageRest
}

// ParseStageKinds reads the value of --custom-apply-stage-kinds: Group/Kind, comma separated; the core group is empty or left
// out.
func ParseStageKinds(s string) []schema.GroupKind {
	var out []schema.GroupKind
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		group, kind, ok := strings.Cut(part, "/")
		if !ok {
			group, kind = "", part
		}
		out = append(out, schema.GroupKind{Group: group, Kind: kind})
	}
	return out
}

// staged splits sorted objects into stages, empty ones included.
func staged(objects []*unstructured.Unstructured, custom []schema.GroupKind) [stageCount][]*unstructured.Unstructured {
	var out [stageCount][]*unstructured.Unstructured
	for _, o := range objects {
		s := stageOf(o.GroupVersionKind().GroupKind(), custom)
		out[s] = append(out[s], o)
	}
	for _, stage := range out {
		Sort(stage)
	}
	return out
}
