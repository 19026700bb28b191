package kustomize

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// Ownership is how Kustomizations mark what they apply (wire.md 2-4).
func Ownership(overrides []string) kube.Ownership {
	return kube.Ownership{Group: kustomizev1.GroupVersion.Group, Manager: Name, Overrides: overrides}
}

// identity is who the object acts as: its service account, or the default one (kustomization 96).
func (k *Kustomizer) identity(obj *kustomizev1.Kustomization) kube.Identity {
	account := obj.Spec.ServiceAccountName
	if account == "" {
		account = k.DefaultServiceAccount
	}
	return kube.Identity{Namespace: obj.Namespace, ServiceAccount: account}
}

func owner(obj *kustomizev1.Kustomization) kube.Owner {
	return kube.Owner{Namespace: obj.Namespace, Name: obj.Name}
}

func (k *Kustomizer) applier(c *kube.Client) *ssa.Applier {
	return &ssa.Applier{
		Client: c, Lens: k.Managed.Lens(), Memory: k.Memory, Concurrency: k.ConcurrentSSA, StageKinds: k.StageKinds,
		OwnNamespace: k.Namespace, Clock: k.Clock,
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
	own := owner(w.obj)
	touched := k.touched.take(own)
	old := inventory(w.obj)
	request := ssa.Request{
		Owner: own, Objects: objects, Force: w.obj.Spec.Force, Inventory: old, Park: w.run.Park,
		Thorough: !touched || w.run.Requested(),
		Persist: func(ctx context.Context, ahead ssa.Inventory) error {
			setInventory(w.obj, ahead)
			k.Managed.Track(own, ahead.Kinds())
			return w.run.Persist(ctx)
		},
	}
	if m := w.obj.Spec.CommonMetadata; m != nil {
		request.Labels, request.Annotations = m.Labels, m.Annotations
	}
	w.applied, err = k.applier(w.client).Apply(ctx, request)
	k.report(w)
	if errors.Is(err, loop.ErrInterrupted) {
		return loop.Interrupted(meta.ReconciliationFailedReason, errors.New("reconciliation interrupted: a newer event asks for a new one"))
	}
	if err != nil {
		return k.failed(w, meta.ReconciliationFailedReason, err)
	}
	setInventory(w.obj, w.applied.Inventory.Union(old))
	k.Managed.Track(own, inventory(w.obj).Kinds())
	return nil
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
		setInventory(w.obj, w.applied.Inventory)
		k.Managed.Track(owner(w.obj), w.applied.Inventory.Kinds())
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	pruned, err := k.applier(w.client).Prune(ctx, ssa.PruneRequest{Owner: owner(w.obj), Stale: stale, Keep: w.applied.UIDs()})
	setInventory(w.obj, w.applied.Inventory.Union(pruned.Remaining))
	k.Managed.Track(owner(w.obj), inventory(w.obj).Kinds())
	if len(pruned.Changes) > 0 {
		w.changed = true
		w.run.Event(event.Event{Severity: event.Info, Reason: meta.ProgressingReason, Message: pruned.Changes.String()})
	}
	if err != nil {
		return k.failed(w, meta.PruneFailedReason, err)
	}
	return nil
}

// refuseEncrypted makes sure that no ciphertext is applied as if it were the secret (kustomization 48, 50). It looks
// before the normalisation, which drops the field that gives an encrypted Secret away.
func refuseEncrypted(objects []*unstructured.Unstructured) error {
	for _, o := range objects {
		_, encrypted := o.Object["sops"]
		if !encrypted || o.GetKind() != "Secret" || o.GroupVersionKind().Group != "" ||
			strings.EqualFold(o.GetAnnotations()[kustomizev1.DecryptAnnotation], "disabled") {
			continue
		}
		return fmt.Errorf("%s is SOPS encrypted, configuring decryption is required for this secret to be reconciled", ssa.IDOf(o).Subject())
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
