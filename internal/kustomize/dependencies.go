package kustomize

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// dependencies checks spec.dependsOn (kustomization 15-20).
func (k *Kustomizer) dependencies(ctx context.Context, w *work) error {
	if len(w.obj.Spec.DependsOn) == 0 {
		return nil
	}
	err := depend.Check(ctx, dependencyReader{Reader: k.Cached, live: k.Reader}, kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind), w.obj, w.obj.Spec.DependsOn, depend.Rules{
		Additive:             k.AdditiveReadyExpr,
		NoCrossNamespaceRefs: k.NoCrossNamespaceRefs,
		Source: &depend.Source{
			Kind: w.source.Kind, Namespace: w.source.Key.Namespace, Name: w.source.Key.Name, Revision: w.source.Revision,
		},
	})
	var expression *depend.ExpressionError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &expression):
		return terminal(meta.InvalidCELExpressionReason, err)
	case errors.Is(err, depend.ErrAccessDenied):
		return loop.Stall(meta.AccessDeniedReason, err)
	case !errors.Is(err, depend.ErrNotReady):
		return err
	}
	if cycle := k.Graph.Cycle(keyOf(w.obj)); len(cycle) > 0 {
		err = fmt.Errorf("%w: dependency cycle %s", err, path(cycle))
	}
	return loop.Wait(meta.DependencyNotReadyReason, k.RequeueDependency, err).Announce(event.Event{
		Severity: event.Info, Reason: meta.DependencyNotReadyReason,
		Message: fmt.Sprintf("Dependencies do not meet ready condition, retrying in %s", k.RequeueDependency),
	})
}

func path(cycle []depend.Key) string {
	names := make([]string, len(cycle))
	for i, key := range cycle {
		names[i] = key.Namespace + "/" + key.Name
	}
	return strings.Join(names, " -> ")
}

// dependencyReader reads Kustomizations from the typed cache. 2.9 reads dependencies from the API server because
// it polls; here the event that wakes a dependent has passed through this very cache, so that it cannot be older.
// What the cache does not have is read live: it may belong to another shard or namespace than the process watches.
type dependencyReader struct {
	client.Reader // the cache
	live          client.Reader
}

// Get implements client.Reader for *unstructured.Unstructured.
func (r dependencyReader) Get(ctx context.Context, key client.ObjectKey, out client.Object, _ ...client.GetOption) error {
	var found kustomizev1.Kustomization
	err := r.Reader.Get(ctx, key, &found)
	if err != nil {
		err = r.live.Get(ctx, key, &found)
	}
	if apierrors.IsNotFound(err) {
		// The API server's words, which name the resource where other readers name the kind.
		return apierrors.NewNotFound(kustomizev1.GroupVersion.WithResource("kustomizations").GroupResource(), key.Name)
	}
	if err != nil {
		return err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&found)
	if err != nil {
		return fmt.Errorf("converting Kustomization '%s': %w", key, err)
	}
	u := out.(*unstructured.Unstructured)
	gvk := u.GroupVersionKind()
	u.Object = content
	u.SetGroupVersionKind(gvk)
	return nil
}
