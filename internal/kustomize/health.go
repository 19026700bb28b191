package kustomize

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/health"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// health waits until what was applied, or what the spec lists, is healthy (kustomization 85-94). The wait is
// parked: it holds no work slot, and anything newer ends it.
func (k *Kustomizer) health(ctx context.Context, w *work) error {
	checks, err := k.checks(w)
	if err != nil {
		return k.failed(w, meta.HealthCheckFailedReason, err)
	}
	if !w.obj.Spec.Wait && len(w.obj.Spec.HealthChecks) == 0 {
		w.run.Unset(meta.HealthyCondition)
		return nil
	}
	wasHealthy := status.IsTrue(w.obj.Status.Conditions, meta.HealthyCondition)
	message := fmt.Sprintf("Running health checks for revision %s with a timeout of %s", w.source.Revision, w.timeout)
	w.run.Progress("%s", message)
	w.run.Set(meta.HealthyCondition, metav1.ConditionUnknown, meta.ProgressingReason, "%s", message)
	waiter := &health.Waiter{
		Client: w.client, Managed: w.cluster.Watch.Managed, Evaluator: w.healthy, KeepWaiting: k.DisableFailFast, Clock: k.Clock,
	}
	own, timeout, start := owner(w.obj), w.timeout, k.Clock.Now()
	err = w.run.Park(ctx, func(ctx context.Context) error { return waiter.Wait(ctx, own, checks, timeout) })
	took := k.Clock.Since(start).Round(time.Millisecond)
	switch {
	case err == nil:
	case errors.Is(err, loop.ErrInterrupted):
		return loop.Interrupted(meta.HealthCheckCanceledReason, errors.New("health checks canceled: a newer event asks for a new reconciliation"))
	case ctx.Err() != nil:
		return err
	default:
		w.run.Set(meta.HealthyCondition, metav1.ConditionFalse, meta.HealthCheckFailedReason, "%s", err)
		return k.failed(w, meta.HealthCheckFailedReason, fmt.Errorf("health check failed after %s: %w", took, err))
	}
	passed := fmt.Sprintf("Health check passed in %s", took)
	if !wasHealthy || w.changed {
		w.run.Set(meta.HealthyCondition, metav1.ConditionTrue, meta.SucceededReason, "%s", passed)
		w.run.Event(event.Event{Severity: event.Info, Reason: meta.ProgressingReason, Message: passed})
		return nil
	}
	w.run.Keep(meta.HealthyCondition)
	return nil
}

// checks lists what to wait for (kustomization 86, 87).
func (k *Kustomizer) checks(w *work) ([]health.Check, error) {
	var out []health.Check
	if w.obj.Spec.Wait {
		for _, o := range w.applied.Objects {
			if o.Action == ssa.Skipped || isSelf(w.obj, o.ID) {
				continue
			}
			out = append(out, health.Check{
				GroupVersionKind: o.ID.GroupKind().WithVersion(o.Version), Namespace: o.ID.Namespace, Name: o.ID.Name,
				ResourceVersion: o.ResourceVersion, MayVanish: w.vanishing[o.ID],
			})
		}
		return out, nil
	}
	for _, ref := range w.obj.Spec.HealthChecks {
		apiVersion := ref.APIVersion
		if apiVersion == "" {
			apiVersion = "apps/v1"
		}
		gv, err := schema.ParseGroupVersion(apiVersion)
		if err != nil {
			return nil, fmt.Errorf("health check %s/%s: apiVersion %q: %w", ref.Kind, ref.Name, apiVersion, err)
		}
		id := ssa.ID{Namespace: ref.Namespace, Name: ref.Name, Group: gv.Group, Kind: ref.Kind}
		if isSelf(w.obj, id) {
			continue
		}
		out = append(out, health.Check{GroupVersionKind: gv.WithKind(ref.Kind), Namespace: ref.Namespace, Name: ref.Name})
	}
	return out, nil
}

func isSelf(obj *kustomizev1.Kustomization, id ssa.ID) bool {
	return id.Group == kustomizev1.GroupVersion.Group && id.Kind == kustomizev1.KustomizationKind && id.Namespace == obj.Namespace && id.Name == obj.Name
}
