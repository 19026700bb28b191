package helm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// Finalize implements loop.Finalizer: the release goes with its object, and the HelmChart after it (helmrelease 89).
func (r *Releaser) Finalize(ctx context.Context, obj *helmv2.HelmRelease, run *loop.Run) error {
	if !obj.Spec.Suspend {
		if err := r.uninstallLast(ctx, obj, run); err != nil {
			return err
		}
		if err := r.deleteTemplate(ctx, obj, run); err != nil {
			return err
		}
	}
	r.forget(obj)
	return nil
}

// uninstallLast uninstalls the release that was made last, which the spec need not mean any more.
func (r *Releaser) uninstallLast(ctx context.Context, obj *helmv2.HelmRelease, run *loop.Run) error {
	if obj.Status.StorageNamespace == "" {
		// There was never an attempt (helmrelease 90).
		return nil
	}
	w := newWork(obj, run)
	current := helmv2.Snapshot{Name: obj.GetReleaseName(), Namespace: obj.GetReleaseNamespace()}
	if len(obj.Status.History) > 0 {
		current = obj.Status.History[0]
	}
	request := r.request(obj)
	on, err := r.Clusters.Reach(ctx, request, run.Park)
	switch {
	case err == nil:
	case errors.Is(err, loop.ErrInterrupted):
		return interrupted(err)
	case ctx.Err() != nil:
		return err
	case errors.Is(err, cluster.ErrNotFound):
		logr.FromContextOrDiscard(ctx).Info("the release is not uninstalled: there is no kubeconfig any more", "release", current.Namespace+"/"+current.Name)
		return nil
	default:
		return loop.Fail(helmv2.UninstallFailedReason, unreachable(obj, err))
	}
	w.cluster = on
	if r.settle(w) {
		return nil
	}
	exists, err := on.AccountExists(ctx, r.Clusters.Identity(request))
	if err != nil {
		return loop.Fail(helmv2.UninstallFailedReason, err)
	}
	if !exists {
		logr.FromContextOrDiscard(ctx).Info("the release is not uninstalled: there is no service account any more to do it", "release", current.Namespace+"/"+current.Name)
		return nil
	}
	if w.client, err = on.Clients.For(ctx, r.Clusters.Identity(request)); err != nil {
		return loop.Fail(helmv2.UninstallFailedReason, err)
	}
	ctx, done := on.Yielding(ctx, run.Park)
	defer done()
	w.storage, w.namespace = obj.Status.StorageNamespace, current.Namespace
	return r.uninstall(ctx, w, &current)
}

// settle sees to it that the status is about the cluster at hand: a release in another one is told, and left where it is
// (reliability 136). It reports whether that was the case.
func (r *Releaser) settle(w *work) (left bool) {
	status := &w.obj.Status
	var recorded *metav1.Condition
	if i := slices.IndexFunc(status.Conditions, func(c metav1.Condition) bool { return c.Type == cluster.Condition }); i >= 0 {
		recorded = &status.Conditions[i]
	}
	move := w.cluster.Since(recorded, w.obj.Generation == status.ObservedGeneration)
	if move.Moved && len(status.History) > 0 {
		left = true
		w.run.Event(event.Event{Severity: event.Error, Reason: cluster.ChangedReason, Message: fmt.Sprintf(
			"the cluster changed from %s to %s: release %s stays in the old one and is managed no longer; uninstall it there if it is of no use",
			move.From, move.To, fullName(&status.History[0]))})
		status.History, status.Inventory, status.StorageNamespace = nil, nil, ""
		status.Failures, status.InstallFailures, status.UpgradeFailures = 0, 0, 0
	}
	switch {
	case w.cluster.Remote():
		w.set(cluster.Condition, metav1.ConditionTrue, cluster.ConnectedReason, move.To)
	case recorded != nil:
		w.unset(cluster.Condition)
	}
	return left
}

// forget drops what the process remembers of the object.
func (r *Releaser) forget(obj *helmv2.HelmRelease) {
	r.Graph.Remove(keyOf(obj))
	r.Clusters.Forget(owner(obj))
	r.seen.forget(obj.UID)
}
