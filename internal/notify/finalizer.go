package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// migrationReason tells of what an older version has left (alert 1, 31).
const migrationReason = "Migration"

// setupFinalizers adds the two controllers of the static kinds. They have no status and nothing to reconcile: a Provider gets a
// finalizer, so that what is kept of it is dropped when it goes; an Alert loses the one that an older version gave it.
func (i *instance) setupFinalizers(host *component.Host) error {
	f := finalizers{client: host.Client, events: host.Events}
	providers := reconcile.Func(func(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
		return reconcile.Result{}, f.provider(ctx, r.NamespacedName, func() {
			host.Auth.Forget(notificationv1beta3.ProviderKind, r.Namespace, r.Name)
		})
	})
	alerts := reconcile.Func(func(ctx context.Context, r reconcile.Request) (reconcile.Result, error) {
		return reconcile.Result{}, f.alert(ctx, r.NamespacedName, func() { i.metrics.forget(r.NamespacedName) })
	})
	for _, c := range []struct {
		name       string
		object     client.Object
		reconciler reconcile.Reconciler
	}{{"provider", &notificationv1beta3.Provider{}, providers}, {"alert", &notificationv1beta3.Alert{}, alerts}} {
		ctl, err := controller.New(c.name, host.Manager, controller.Options{Reconciler: c.reconciler, MaxConcurrentReconciles: 1})
		if err == nil {
			err = ctl.Watch(source.Kind(host.Manager.GetCache(), c.object, &handler.EnqueueRequestForObject{}))
		}
		if err != nil {
			return fmt.Errorf("setting up the %s controller: %w", c.name, err)
		}
	}
	return nil
}

type finalizers struct {
	client client.Client
	events Emitter
}

// provider gives a Provider its finalizer, or lets it go (provider 1).
func (f *finalizers) provider(ctx context.Context, key types.NamespacedName, gone func()) error {
	var p notificationv1beta3.Provider
	if err := f.client.Get(ctx, key, &p); err != nil {
		return client.IgnoreNotFound(err)
	}
	has := controllerutil.ContainsFinalizer(&p, meta.Finalizer)
	switch deleted := !p.DeletionTimestamp.IsZero(); {
	case deleted && has:
		gone()
		return f.replace(ctx, &p, without(p.Finalizers))
	case !deleted && !has:
		return f.replace(ctx, &p, append(slices.Clone(p.Finalizers), meta.Finalizer))
	}
	return nil
}

// alert takes the finalizer of an older version away (alert 1, 31).
func (f *finalizers) alert(ctx context.Context, key types.NamespacedName, gone func()) error {
	var a notificationv1beta3.Alert
	if err := f.client.Get(ctx, key, &a); err != nil {
		if client.IgnoreNotFound(err) == nil {
			gone()
			return nil
		}
		return err
	}
	if !controllerutil.ContainsFinalizer(&a, meta.Finalizer) {
		return nil
	}
	if err := f.replace(ctx, &a, without(a.Finalizers)); err != nil {
		return err
	}
	f.events.Emit(&a, event.Event{
		Severity: event.Info, Reason: migrationReason, Message: "removed the finalizer " + meta.Finalizer + ", which Alerts no longer need", Local: true,
	})
	return nil
}

func without(finalizers []string) []string {
	return slices.DeleteFunc(slices.Clone(finalizers), func(name string) bool { return name == meta.Finalizer })
}

// replace writes the list of finalizers under the resourceVersion.
func (f *finalizers) replace(ctx context.Context, obj client.Object, finalizers []string) error {
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": obj.GetResourceVersion(), "finalizers": finalizers}})
	if err != nil {
		return err
	}
	return client.IgnoreNotFound(f.client.Patch(ctx, obj.DeepCopyObject().(client.Object), client.RawPatch(types.MergePatchType, data), client.FieldOwner(Name)))
}
