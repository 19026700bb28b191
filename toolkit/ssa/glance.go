package ssa

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// glance is what the metadata of an object, as the watch shows them, say about the answer to a dry-run.
type glance struct {
	says  saying
	state kube.State // of the live object, unless it says nothing
}

type saying uint8

const (
	nothing saying = iota // the live object has to be read
	same
	differs
)

// glance compares the answer to a dry-run with what the watch shows of the live object. A dry-run leaves the resource version as it is,
// so that equal ones mean the very object the dry-run began with. Labels and annotations are told whole. Of the rest the generation
// tells, for kinds where it counts every change of it and nothing else.
//
// Who says that nothing differs leaves an object as it is, so that a second witness is asked: what our apply owns, and when it last
// changed something. It speaks up for an API server that is none of Kubernetes' own and does not move the generation.
//
// Where a difference would be drift, its paths are to be told, and nothing is gained.
func (r *run) glance(p *plan, dry *unstructured.Unstructured) glance {
	if r.Memory == nil {
		return glance{}
	}
	live, ok := r.Memory.at(p.id, dry.GetUID(), dry.GetResourceVersion())
	if !ok || live.Marks.Has(kube.NoApply) {
		return glance{}
	}
	next := r.Lens.Object(dry)
	counted := live.Generation > 0 && next.Generation > 0 && countsContent(p.id.GroupKind())
	switch {
	case counted && next.Generation == live.Generation && next.Tags == live.Tags && live.Ours && next.Ours && next.Fields == live.Fields:
		return glance{same, live}
	case p.corrects || r.req.Settled:
		return glance{}
	case next.Tags != live.Tags, counted && next.Generation != live.Generation:
		return glance{differs, live}
	}
	return glance{}
}

// countsContent reports whether the generation of a kind's objects moves when, and only when, something else than metadata and status
// changes. Custom resources do so by the API server's promise. Of Kubernetes' own kinds those do that compare by meaning: others have no
// generation, never move it (PriorityClass), or move it for an empty list in place of none (NetworkPolicy, webhook configurations).
func countsContent(gk schema.GroupKind) bool {
	switch gk.Group {
	case "apps":
		return gk.Kind == "Deployment" || gk.Kind == "StatefulSet" || gk.Kind == "DaemonSet" || gk.Kind == "ReplicaSet"
	case "batch":
		return gk.Kind == "Job" || gk.Kind == "CronJob"
	case "policy":
		return gk.Kind == "PodDisruptionBudget"
	case "networking.k8s.io":
		return gk.Kind == "Ingress"
	case "apiextensions.k8s.io":
		return gk.Kind == "CustomResourceDefinition"
	case "gateway.networking.k8s.io":
		return true
	}
	// The groups of Kubernetes have no dot, or end so.
	return strings.Contains(gk.Group, ".") && !strings.HasSuffix(gk.Group, ".k8s.io")
}
