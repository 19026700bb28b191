package kustomize

import (
	"context"
	"fmt"
	"strings"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// Finalize implements loop.Finalizer: what the object applied goes with it, as its deletion policy says (kustomization 107-112).
func (k *Kustomizer) Finalize(ctx context.Context, obj *kustomizev1.Kustomization, run *loop.Run) error {
	start := k.Clock.Now()
	run.Annotate("revision", obj.Status.LastAppliedRevision)
	run.Annotate("originRevision", obj.Status.LastAppliedOriginRevision)
	if inv := inventory(obj); len(inv) > 0 && !obj.Spec.Suspend && deletes(obj) {
		if err := k.deleteAll(ctx, obj, run, inv); err != nil {
			return err
		}
	}
	k.forget(obj)
	if !obj.Spec.Suspend {
		k.finished(obj, run, start)
	}
	return nil
}

// deletes applies spec.deletionPolicy; MirrorPrune, the default, follows spec.prune (kustomization 107).
func deletes(obj *kustomizev1.Kustomization) bool {
	switch obj.Spec.DeletionPolicy {
	case kustomizev1.DeletionPolicyDelete, kustomizev1.DeletionPolicyWaitForTermination:
		return true
	case kustomizev1.DeletionPolicyOrphan:
		return false
	}
	return obj.Spec.Prune
}

func (k *Kustomizer) deleteAll(ctx context.Context, obj *kustomizev1.Kustomization, run *loop.Run, inv ssa.Inventory) error {
	id := k.identity(obj)
	exists, err := k.Clusters.AccountExists(ctx, id)
	if err != nil {
		return loop.Fail(meta.PruneFailedReason, err)
	}
	if !exists {
		run.Event(event.Event{Severity: event.Error, Reason: lastReason(obj), Message: "unable to prune objects: \n" + subjects(inv)})
		return nil
	}
	c, err := k.Clusters.For(ctx, id)
	if err != nil {
		return loop.Fail(meta.PruneFailedReason, err)
	}
	applier := k.applier(c)
	pruned, err := applier.Prune(ctx, ssa.PruneRequest{Owner: owner(obj), Stale: inv})
	if len(pruned.Changes) > 0 {
		run.Event(event.Event{Severity: event.Info, Reason: lastReason(obj), Message: pruned.Changes.String()})
	}
	if err != nil {
		setInventory(obj, pruned.Remaining)
		return loop.Fail(meta.PruneFailedReason, fmt.Errorf("pruning for deleted resource failed: %w", err))
	}
	if obj.Spec.DeletionPolicy != kustomizev1.DeletionPolicyWaitForTermination {
		return nil
	}
	err = run.Park(ctx, func(ctx context.Context) error { return applier.Gone(ctx, pruned.Deleted, obj.GetTimeout()) })
	if err != nil && ctx.Err() == nil {
		run.Event(event.Event{Severity: event.Error, Reason: lastReason(obj), Message: "failed to wait for resources termination: " + err.Error()})
		return nil
	}
	return err
}

// forget drops what the process remembers of the object.
func (k *Kustomizer) forget(obj *kustomizev1.Kustomization) {
	own := owner(obj)
	k.Graph.Remove(keyOf(obj))
	k.Memory.Forget(own)
	k.Managed.Track(own, nil)
	k.touched.take(own)
}

// lastReason is the reason of the object's Ready condition, which the events of its deletion carry (kustomization 107).
func lastReason(obj *kustomizev1.Kustomization) string {
	if c := status.Find(obj.Status.Conditions, meta.ReadyCondition); c != nil {
		return c.Reason
	}
	return meta.ReconciliationSucceededReason
}

func subjects(inv ssa.Inventory) string {
	lines := make([]string, len(inv))
	for i, e := range inv {
		lines[i] = e.ID
		if id, err := ssa.ParseID(e.ID); err == nil {
			lines[i] = id.Subject()
		}
	}
	return strings.Join(lines, "\n")
}
