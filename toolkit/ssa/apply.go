package ssa

import (
	"context"
	"fmt"
	"slices"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// DefaultConcurrency is how many dry-runs of one stage are under way at once (--concurrent-ssa).
const DefaultConcurrency = 4

// Applier applies, prunes and deletes objects on behalf of owners of one kind, under one identity.
type Applier struct {
	Client *kube.Client
	Lens   *kube.Lens
	// Memory makes unchanged objects free. Nil: each run dry-runs each object. A Memory belongs to one cluster.
	Memory *Memory
	// Concurrency bounds parallel dry-runs; 0 means DefaultConcurrency.
	Concurrency int
	// StageKinds are the kinds of the third stage (--custom-apply-stage-kinds).
	StageKinds []schema.GroupKind
	// OwnNamespace is the namespace of the running process, which is never pruned. Optional.
	OwnNamespace string
	// OwnGroups is the domain of the API groups of the running process, whose definitions are never pruned. Optional.
	OwnGroups string
	Clock     clock.Clock
}

// Request is one run of an owner.
type Request struct {
	Owner kube.Owner
	// Objects have gone through Normalise. Apply adds labels to them and may drop them to free memory.
	Objects []*unstructured.Unstructured
	// Labels and Annotations are spec.commonMetadata.
	Labels, Annotations map[string]string
	// Force recreates objects of which a field cannot be changed in place (spec.force).
	Force bool
	// Inventory is what the owner's status holds.
	Inventory Inventory
	// Persist records an inventory before the first write that could leave an object outside it. Nothing is written if it
	// fails.
	Persist func(ctx context.Context, ahead Inventory) error
	// Thorough sets damping aside: a routine or requested run corrects what a run caused by a touch would leave for later.
	Thorough bool
	// Settled says that this very set was applied before, so that a difference is somebody else's doing though the Memory does
	// not know it, as after a restart.
	Settled bool
	// ReportDrift tells drift in the Result and does not correct it.
	ReportDrift bool
	// Full dry-runs every object, whatever the Memory says.
	Full bool
	// Ignore holds the fields that are not corrected. Optional.
	Ignore *Ignore
	// Irreplaceable tells the kinds whose objects are not recreated, whatever Force and marks say. Optional.
	Irreplaceable func(schema.GroupKind) bool
	// MigrateAPIVersion rewrites the version under which managed fields are recorded to the one that is applied, where they
	// differ, before an object is tried (kustomization 74).
	MigrateAPIVersion bool
	// Park runs a wait without holding the caller's work slot. Nil: waits run in place.
	Park func(ctx context.Context, wait func(context.Context) error) error
}

// Applied is one object of the set as the run left it.
type Applied struct {
	ID      ID
	Version string
	Action  Action
	UID     types.UID
	// ResourceVersion and Generation after our write; empty and 0 if this run had no reason to learn them.
	ResourceVersion string
	Generation      int64
}

// Result is what a run did, also when it failed half way.
type Result struct {
	// Objects holds every object dealt with, in order. After an error it ends where the run did.
	Objects []Applied
	// Inventory is the set's inventory, skipped objects included (kustomization 79). It is complete only without an error.
	Inventory Inventory
	// Drift is what others had changed: what was corrected or, with ReportDrift, is left so.
	Drift []Drift
	// Contested are objects that another writer keeps changing back; each fight is reported once.
	Contested []ID
}

// Changes are the run's changes, unchanged objects included.
func (r *Result) Changes() ChangeSet {
	out := make(ChangeSet, len(r.Objects))
	for i, o := range r.Objects {
		out[i] = Change{o.ID, o.Action}
	}
	return out
}

// UIDs are the UIDs of all objects of the set, which must not be pruned under any name.
func (r *Result) UIDs() map[types.UID]struct{} {
	out := make(map[types.UID]struct{}, len(r.Objects))
	for _, o := range r.Objects {
		if o.UID != "" {
			out[o.UID] = struct{}{}
		}
	}
	return out
}

// run is the state of one Apply.
type run struct {
	*Applier
	req     Request
	full    bool
	result  *Result
	ahead   Inventory           // what is persisted, or about to be
	ids     map[string]struct{} // the ids in it
	defined map[schema.GroupKind]struct{}
}

// Apply brings the objects to the cluster, stage by stage: all objects of a stage are dry-run, then the inventory is persisted
// if ids are new, then what drifted is written in order, and stages that others depend on settle (kustomization 64-67).
// The result is never nil. An error of type Errors holds all refusals of a stage, of which then nothing was written.
func (a *Applier) Apply(ctx context.Context, req Request) (*Result, error) {
	r := &run{
		Applier: a, req: req, result: &Result{}, ahead: slices.Clone(req.Inventory), ids: req.Inventory.IDs(),
		defined: map[schema.GroupKind]struct{}{},
	}
	r.full = req.Full || a.Memory != nil && a.Memory.claimFull(req.Owner)
	if err := r.label(); err != nil {
		return r.result, err
	}
	stages := staged(req.Objects, a.StageKinds)
	for stage, objects := range stages {
		if len(objects) == 0 {
			continue
		}
		if err := r.stage(ctx, stage, objects); err != nil {
			return r.result, err
		}
	}
	if a.Memory != nil {
		ids := make(map[ID]struct{}, len(r.result.Objects))
		for _, o := range r.result.Objects {
			ids[o.ID] = struct{}{}
		}
		a.Memory.retain(req.Owner, ids)
	}
	return r.result, nil
}

// label labels all objects and refuses a set that holds one twice: which of the two would win is chance.
func (r *run) label() error {
	seen := make(map[ID]struct{}, len(r.req.Objects))
	for _, o := range r.req.Objects {
		if o.GetName() == "" || o.GetKind() == "" || o.GetAPIVersion() == "" {
			return fmt.Errorf("an object of kind %q and name %q lacks its apiVersion, kind or metadata.name", o.GetKind(), o.GetName())
		}
		id := IDOf(o)
		if _, dup := seen[id]; dup {
			return fmt.Errorf("%s is declared twice: remove one of the two", id.Subject())
		}
		seen[id] = struct{}{}
		if err := Label(o, r.Lens.Ownership, r.req.Owner, r.req.Labels, r.req.Annotations); err != nil {
			return err
		}
		r.noteDefinition(o)
	}
	return nil
}

// noteDefinition remembers the kind a CRD of this set defines: it may be unknown to discovery for a moment after its creation.
func (r *run) noteDefinition(o *unstructured.Unstructured) {
	if stageOf(o.GroupVersionKind().GroupKind(), nil) != stageDefinitions || o.GetKind() != "CustomResourceDefinition" {
		return
	}
	group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(o.Object, "spec", "names", "kind")
	r.defined[schema.GroupKind{Group: group, Kind: kind}] = struct{}{}
}

func (r *run) stage(ctx context.Context, stage int, objects []*unstructured.Unstructured) error {
	plans, err := r.plan(ctx, objects)
	if err != nil {
		return err
	}
	if err := r.writeAhead(ctx, plans); err != nil {
		return err
	}
	for _, p := range plans {
		if err := r.execute(ctx, p); err != nil {
			return err
		}
		if p.drift != nil {
			r.result.Drift = append(r.result.Drift, *p.drift)
		}
		r.result.Objects = append(r.result.Objects, p.applied)
		r.result.Inventory = append(r.result.Inventory, Entry{ID: p.id.String(), Version: p.ref.Version})
	}
	if stage == stageDefinitions || stage == stageClasses {
		return r.settle(ctx, plans)
	}
	return nil
}

// writeAhead persists the ids a stage is about to create, so that a crash in between leaves no object that nobody remembers
// (reliability, design rule 1).
func (r *run) writeAhead(ctx context.Context, plans []*plan) error {
	var fresh bool
	var stage Inventory
	for _, p := range plans {
		e := Entry{ID: p.id.String(), Version: p.ref.Version}
		stage = append(stage, e)
		if _, known := r.ids[e.ID]; !known && p.writes() {
			fresh = true
		}
	}
	if !fresh {
		return nil
	}
	ahead := r.ahead.Union(r.result.Inventory).Union(stage)
	if r.req.Persist != nil {
		if err := r.req.Persist(ctx, ahead); err != nil {
			return fmt.Errorf("failed to record the inventory before applying: %w", err)
		}
	}
	r.ahead, r.ids = ahead, ahead.IDs()
	return nil
}

// Preview is the inventory that an apply of the objects will leave, without asking the API server for any of them. An object of a
// kind that is not served yet is named as its manifest does.
func (a *Applier) Preview(ctx context.Context, objects []*unstructured.Unstructured) (Inventory, error) {
	out := make(Inventory, 0, len(objects))
	for _, o := range objects {
		e, id := EntryOf(o), IDOf(o)
		res, err := a.Client.Mapper.Resource(ctx, o.GroupVersionKind())
		if err != nil && !apimeta.IsNoMatchError(err) {
			return nil, failed(id, nil, "lookup failed", err)
		}
		if err == nil && !res.Namespaced {
			id.Namespace = ""
			e.ID = id.String()
		}
		out = append(out, e)
	}
	return out, nil
}

func (a *Applier) concurrency() int {
	if a.Concurrency <= 0 {
		return DefaultConcurrency
	}
	return a.Concurrency
}

func (a *Applier) clock() clock.Clock {
	if a.Clock == nil {
		return clock.RealClock{}
	}
	return a.Clock
}

// content digests what drift is about: labels, annotations, and all but metadata and status (kustomization 67).
func content(lens *kube.Lens, o *unstructured.Unstructured) uint64 {
	rest := make(map[string]any, len(o.Object))
	for k, v := range o.Object {
		if k != "metadata" && k != "status" {
			rest[k] = v
		}
	}
	for _, f := range []string{"labels", "annotations"} {
		if v, ok, _ := unstructured.NestedFieldNoCopy(o.Object, "metadata", f); ok {
			if m, isMap := v.(map[string]any); !isMap || len(m) > 0 {
				rest["metadata."+f] = v
			}
		}
	}
	// Zero is kept for "unknown".
	return lens.Digest(rest) | 1
}

// partial is the metadata of a whole object.
func partial(o *unstructured.Unstructured) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Name: o.GetName(), Namespace: o.GetNamespace(), UID: o.GetUID(), ResourceVersion: o.GetResourceVersion(),
		Labels: o.GetLabels(), Annotations: o.GetAnnotations(), ManagedFields: o.GetManagedFields(),
		DeletionTimestamp: o.GetDeletionTimestamp(), Generation: o.GetGeneration(),
	}}
}
