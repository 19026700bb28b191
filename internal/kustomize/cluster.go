package kustomize

import (
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// watch is what is watched and remembered of a cluster.
type watch struct {
	*kube.Managed
	memory *ssa.Memory
}

// Forget implements cluster.Watcher.
func (w *watch) Forget(own kube.Owner) {
	w.memory.Forget(own)
	w.Managed.Forget(own)
}

// place is where and as whom an object acts (kustomization 96, 97).
func place(obj *kustomizev1.Kustomization) cluster.Request {
	return cluster.Request{
		Owner: owner(obj), KubeConfig: obj.Spec.KubeConfig, ServiceAccount: obj.Spec.ServiceAccountName, Timeout: obj.GetTimeout(),
	}
}

// connect gets the client the object acts with (kustomization 96, 97, 99).
func (k *Kustomizer) connect(ctx context.Context, w *work) error {
	at := place(w.obj)
	c, err := k.Clusters.Reach(ctx, at, w.run.Park)
	if err == nil {
		w.cluster = c
		w.client, err = c.Clients.For(ctx, k.Clusters.Identity(at))
	}
	switch {
	case err == nil:
	case errors.Is(err, loop.ErrInterrupted):
		return interrupted(err)
	case ctx.Err() != nil:
		return err
	default:
		return unconnected(err)
	}
	if k.settle(w.obj, w.run, c) {
		// What is forgotten, and where the next run believes to be, must be one write.
		return w.run.Persist(ctx)
	}
	return nil
}

// settle makes sure that the inventory is one of the cluster at hand (reliability 136). The objects of another one are told and left
// where they are: nothing of them may be looked for, and deleted, here. It reports whether that was the case.
func (k *Kustomizer) settle(obj *kustomizev1.Kustomization, run *loop.Run, c *cluster.Cluster[*watch]) (left bool) {
	recorded := status.Find(obj.Status.Conditions, cluster.Condition)
	move := c.Since(recorded, obj.Generation == obj.Status.ObservedGeneration)
	inv := inventory(obj)
	left = len(inv) > 0 && move.Moved
	if left {
		run.Event(event.Event{Severity: event.Error, Reason: cluster.ChangedReason, Message: leftBehind(move, inv)})
		setInventory(obj, nil)
	}
	switch {
	case c.Remote():
		run.Set(cluster.Condition, metav1.ConditionTrue, cluster.ConnectedReason, "%s", move.To)
	case recorded != nil:
		run.Unset(cluster.Condition)
	}
	return left
}

func leftBehind(move cluster.Move, inv ssa.Inventory) string {
	names := atMost(maxListed, inv, subject)
	return fmt.Sprintf("the cluster changed from %s to %s: %d objects stay in the old one and are managed no longer; delete them there if they are of no use:\n%s",
		move.From, move.To, len(inv), strings.Join(names, "\n"))
}

// unconnected is the verdict on a client that cannot be had (kustomization 99).
func unconnected(err error) error {
	return loop.Fail(meta.ReconciliationFailedReason, err).Saying(fmt.Sprintf("failed to build kube client: %v", err))
}

// interrupted is the verdict on a connection that something newer has ended.
func interrupted(err error) error {
	return loop.Interrupted(meta.ReconciliationFailedReason, fmt.Errorf("connecting to the cluster was interrupted: %w", err))
}
