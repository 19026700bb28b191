package kustomize

import (
	"context"
	"errors"
	"fmt"
	"strings"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
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
		if err := k.dependentsFirst(ctx, obj, run); err != nil {
			return err
		}
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
	at := place(obj)
	on, err := k.Clusters.Reach(ctx, at, run.Park)
	switch {
	case err == nil:
	case errors.Is(err, loop.ErrInterrupted):
		return interrupted(err)
	case ctx.Err() != nil:
		return err
	case k.Clusters.Lost(ctx, at, err):
		orphan(obj, run, inv)
		return nil
	default:
		return unpruned(obj, err)
	}
	if k.settle(obj, run, on) {
		return nil
	}
	ctx, done := on.Yielding(ctx, run.Park)
	defer done()
	exists, err := on.AccountExists(ctx, k.Clusters.Identity(at))
	if err != nil {
		return unpruned(obj, err)
	}
	if !exists {
		orphan(obj, run, inv)
		return nil
	}
	return k.pruneAll(ctx, obj, run, on, inv)
}

// pruneAll deletes what the object applied and, if it is to, waits until that is gone.
func (k *Kustomizer) pruneAll(ctx context.Context, obj *kustomizev1.Kustomization, run *loop.Run, on *cluster.Cluster[*watch], inv ssa.Inventory) error {
	c, err := on.Clients.For(ctx, k.Clusters.Identity(place(obj)))
	if err != nil {
		return unpruned(obj, err)
	}
	applier := k.applier(on, c)
	pruned, err := applier.Prune(ctx, ssa.PruneRequest{Owner: owner(obj), Stale: inv, Shared: k.shared(obj), HandOver: true})
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
	err = cluster.Parking(run.Park)(ctx, func(ctx context.Context) error { return applier.Gone(ctx, pruned.Deleted, obj.GetTimeout()) })
	if err != nil && ctx.Err() == nil {
		run.Event(event.Event{Severity: event.Error, Reason: lastReason(obj), Message: "failed to wait for resources termination: " + err.Error()})
		return nil
	}
	return err
}

// unpruned is the verdict on a cluster that cannot be asked: the object stays until it can, or until somebody says that its objects
// may stay (kustomization 110).
func unpruned(obj *kustomizev1.Kustomization, err error) error {
	err = fmt.Errorf("pruning for deleted resource failed: %w", err)
	if obj.Spec.KubeConfig != nil {
		err = fmt.Errorf("%w: give access to the cluster back, or set spec.deletionPolicy to Orphan to leave its objects there", err)
	}
	return loop.Fail(meta.PruneFailedReason, err)
}

// orphan tells what stays behind because nobody is left who may delete it (kustomization 109).
func orphan(obj *kustomizev1.Kustomization, run *loop.Run, inv ssa.Inventory) {
	run.Event(event.Event{Severity: event.Error, Reason: lastReason(obj), Message: "unable to prune objects: \n" + subjects(inv)})
}

// forget drops what the process remembers of the object.
func (k *Kustomizer) forget(obj *kustomizev1.Kustomization) {
	own := owner(obj)
	k.Graph.Remove(keyOf(obj))
	k.Clusters.Forget(own)
	k.touched.take(own)
	k.settled.set(obj.UID, nil)
	k.yielding.take(own)
	k.conflicts.news(own, "")
	k.drifts.news(own, "")
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
		lines[i] = subject(e)
	}
	return strings.Join(lines, "\n")
}

// subject names the object of an entry; one that cannot be read names itself.
func subject(e ssa.Entry) string {
	if id, err := ssa.ParseID(e.ID); err == nil {
		return id.Subject()
	}
	return e.ID
}
