package kustomize

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// OwnGroups is the domain of the API groups of this program, whose definitions are never pruned.
const OwnGroups = "toolkit.fluxcd.io"

// Ownership is how Kustomizations mark what they apply (wire.md 2-4).
func Ownership(overrides []string) kube.Ownership {
	return kube.Ownership{Group: kustomizev1.GroupVersion.Group, Manager: Name, Overrides: overrides}
}

func owner(obj *kustomizev1.Kustomization) kube.Owner {
	return kube.Owner{Namespace: obj.Namespace, Name: obj.Name}
}

func (k *Kustomizer) applier(on *cluster.Cluster[*watch], c *kube.Client) *ssa.Applier {
	return &ssa.Applier{
		Client: c, Lens: on.Watch.Lens(), Memory: on.Watch.memory, Concurrency: k.ConcurrentSSA, StageKinds: k.StageKinds,
		OwnNamespace: k.Namespace, OwnGroups: OwnGroups, Clock: k.Clock,
	}
}

// apply brings the built objects to the cluster (kustomization 61-77). The inventory is widened in the status
// before the first write that needs it, and holds old and new ids until the prune has confirmed what is gone.
func (k *Kustomizer) apply(ctx context.Context, w *work) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	w.run.Progress("Detecting drift for revision %s with a timeout of %s", w.source.Revision, w.timeout)
	if err := refuseEncrypted(w.built.Objects); err != nil {
		return k.failed(w, meta.ReconciliationFailedReason, err)
	}
	objects, err := ssa.Normalise(w.built.Objects)
	if err != nil {
		return k.failed(w, meta.ReconciliationFailedReason, err)
	}
	w.built.Objects = nil
	w.vanishing = vanishing(objects)
	if w.budget, err = k.budgetOf(w.obj); err != nil {
		return k.failed(w, meta.ReconciliationFailedReason, err)
	}
	planned, err := k.applier(w.cluster, w.client).Preview(ctx, objects)
	if err != nil {
		return k.failed(w, meta.ReconciliationFailedReason, err)
	}
	if err := k.guard(ctx, w, planned); err != nil {
		return err
	}
	if err := k.fits(w, planned); err != nil {
		return k.failed(w, meta.ReconciliationFailedReason, err)
	}
	return k.applyObjects(ctx, w, objects)
}

// applyObjects applies what is cleared to be.
func (k *Kustomizer) applyObjects(ctx context.Context, w *work, objects []*unstructured.Unstructured) error {
	own, old := owner(w.obj), inventory(w.obj)
	var err error
	w.applied, err = k.applier(w.cluster, w.client).Apply(ctx, k.request(w, objects))
	k.report(w)
	if err == nil || !reportsDrift(w.obj) {
		k.reportDrift(w)
	}
	if errors.Is(err, loop.ErrInterrupted) {
		return loop.Interrupted(meta.ReconciliationFailedReason, errors.New("reconciliation interrupted: a newer event asks for a new one"))
	}
	if err == nil {
		err = k.reportShared(ctx, w, old)
	}
	if err != nil {
		return k.failed(w, meta.ReconciliationFailedReason, err)
	}
	setInventory(w.obj, w.applied.Inventory.Union(old))
	w.cluster.Watch.Track(own, inventory(w.obj).Kinds())
	return nil
}

func (k *Kustomizer) request(w *work, objects []*unstructured.Unstructured) ssa.Request {
	own := owner(w.obj)
	touched := k.touched.take(own)
	request := ssa.Request{
		Owner: own, Objects: objects, Force: w.obj.Spec.Force, Inventory: inventory(w.obj), Park: cluster.Parking(w.run.Park),
		Ignore: w.ignore, Irreplaceable: w.budget.protects, MigrateAPIVersion: k.MigrateAPIVersion,
		Settled: w.appliedBefore(), ReportDrift: reportsDrift(w.obj),
		Thorough: !touched || w.run.Requested(),
		Persist: func(ctx context.Context, ahead ssa.Inventory) error {
			setInventory(w.obj, ahead)
			w.cluster.Watch.Track(own, ahead.Kinds())
			return w.run.Persist(ctx)
		},
	}
	if m := w.obj.Spec.CommonMetadata; m != nil {
		request.Labels, request.Annotations = m.Labels, m.Annotations
	}
	return request
}

// report sends the event that lists what was applied, also when the run failed half way (kustomization 76).
func (k *Kustomizer) report(w *work) {
	if changes := w.applied.Changes().Only(ssa.Created, ssa.Configured, ssa.Deleted); len(changes) > 0 {
		w.changed = true
		w.run.Event(event.Event{Severity: event.Info, Reason: meta.ProgressingReason, Message: changes.String()})
	}
	for _, id := range w.applied.Contested {
		w.run.Event(event.Event{
			Severity: event.Error, Reason: "DriftContested", Local: true,
			Message: fmt.Sprintf("%s keeps being changed back by another writer: corrections are slowed down; annotate it with %s/ssa: Merge or %s/reconcile: disabled to give way",
				id.Subject(), kustomizev1.GroupVersion.Group, kustomizev1.GroupVersion.Group),
		})
	}
}

// prune deletes what the inventory holds and the build no longer does (kustomization 78-84).
func (k *Kustomizer) prune(ctx context.Context, w *work) error {
	stale := inventory(w.obj).Minus(w.applied.Inventory)
	if !w.obj.Spec.Prune || len(stale) == 0 {
		k.yield(owner(w.obj), nil)
		setInventory(w.obj, w.applied.Inventory)
		w.cluster.Watch.Track(owner(w.obj), w.applied.Inventory.Kinds())
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	pruned, err := k.applier(w.cluster, w.client).Prune(ctx, ssa.PruneRequest{
		Owner: owner(w.obj), Stale: stale, Keep: w.applied.UIDs(), Shared: k.shared(w.obj),
	})
	k.yield(owner(w.obj), pruned.Yielding)
	setInventory(w.obj, w.applied.Inventory.Union(pruned.Remaining))
	w.cluster.Watch.Track(owner(w.obj), inventory(w.obj).Kinds())
	if len(pruned.Changes) > 0 {
		w.changed = true
		w.run.Event(event.Event{Severity: event.Info, Reason: meta.ProgressingReason, Message: pruned.Changes.String()})
	}
	if err != nil {
		return k.failed(w, meta.PruneFailedReason, err)
	}
	return nil
}

// vanishing returns the Jobs that remove themselves when they are done (kustomization 91).
func vanishing(objects []*unstructured.Unstructured) map[ssa.ID]bool {
	out := map[ssa.ID]bool{}
	for _, o := range objects {
		if _, ttl, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "ttlSecondsAfterFinished"); ttl && o.GetKind() == "Job" {
			out[ssa.IDOf(o)] = true
		}
	}
	return out
}

// maxInventory is how many bytes of status an inventory may take. etcd refuses requests of more than 1.5 MiB; the rest is left to the
// other fields of the object.
const maxInventory = 5 << 18

// fits refuses a set whose inventory cannot be stored, before anything is written of it: while objects are exchanged, the
// inventory holds the old and the new ones. One that does not grow is stored already.
func (k *Kustomizer) fits(w *work, planned ssa.Inventory) error {
	old := inventory(w.obj)
	ahead := old.Union(planned)
	const punctuation = len(`{"id":"","v":""},`)
	size := 0
	for _, e := range ahead {
		size += len(e.ID) + len(e.Version) + punctuation
	}
	if size <= k.MaxInventory || len(ahead) == len(old) {
		return nil
	}
	return fmt.Errorf("the inventory of %d objects, %d of them to be replaced, would take %d KiB, more than the %d KiB that an object can hold: split the Kustomization into several ones",
		len(ahead), len(ahead)-len(planned), size>>10, k.MaxInventory>>10)
}

// inventory reads the object's inventory.
func inventory(obj *kustomizev1.Kustomization) ssa.Inventory {
	if obj.Status.Inventory == nil {
		return nil
	}
	out := make(ssa.Inventory, 0, len(obj.Status.Inventory.Entries))
	for _, e := range obj.Status.Inventory.Entries {
		out = append(out, ssa.Entry{ID: e.ID, Version: e.Version})
	}
	return out
}

func setInventory(obj *kustomizev1.Kustomization, inv ssa.Inventory) {
	entries := make([]meta.InventoryEntry, 0, len(inv))
	for _, e := range inv {
		entries = append(entries, meta.InventoryEntry{ID: e.ID, Version: e.Version})
	}
	obj.Status.Inventory = &meta.Inventory{Entries: entries}
}

// MergeStatus implements loop.StatusMerger: what somebody else entered into the inventory while we worked must
// not get lost.
func (k *Kustomizer) MergeStatus(base, live, ours *kustomizev1.Kustomization) {
	if foreign := inventory(live).Minus(inventory(base)); len(foreign) > 0 {
		setInventory(ours, inventory(ours).Union(foreign))
	}
}
