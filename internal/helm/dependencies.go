package helm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// dependencies checks spec.dependsOn (helmrelease 16-18). Its errors are verdicts.
func (r *Releaser) dependencies(ctx context.Context, obj *helmv2.HelmRelease, run *loop.Run) error {
	if err := r.checkDependencies(ctx, obj); err != nil {
		return err
	}
	if c := status.Find(obj.Status.Conditions, meta.ReadyCondition); c != nil && c.Status == metav1.ConditionFalse && c.Reason == meta.DependencyNotReadyReason {
		run.Pending("Fulfilling prerequisites")
	}
	return nil
}

func (r *Releaser) checkDependencies(ctx context.Context, obj *helmv2.HelmRelease) error {
	if len(obj.Spec.DependsOn) == 0 {
		return nil
	}
	gvk := helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind)
	err := depend.Check(ctx, dependencyReader{Reader: r.Client, live: r.Reader}, gvk, obj, obj.Spec.DependsOn, depend.Rules{
		Additive: r.AdditiveReadyExpr, NoCrossNamespaceRefs: r.NoCrossNamespaceRefs, Missing: "unable to get '%s' dependency: %v",
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
	if cycle := r.Graph.Cycle(keyOf(obj)); len(cycle) > 0 {
		err = fmt.Errorf("%w: dependency cycle %s", err, path(cycle))
	}
	return loop.Wait(meta.DependencyNotReadyReason, r.RequeueDependency, err).Announce(event.Event{
		Severity: event.Info, Reason: meta.DependencyNotReadyReason, Message: err.Error(),
	})
}

func path(cycle []depend.Key) string {
	names := make([]string, len(cycle))
	for i, key := range cycle {
		names[i] = key.Namespace + "/" + key.Name
	}
	return strings.Join(names, " -> ")
}

// dependencyReader reads HelmReleases from the typed cache. 2.9 reads dependencies from the API server because it polls; here the event
// that wakes a dependent has passed through this very cache, so that it cannot be older. What the cache does not have is read live: it may
// belong to another shard or namespace than the process watches.
type dependencyReader struct {
	client.Reader // the cache
	live          client.Reader
}

// Get implements client.Reader for *unstructured.Unstructured.
func (r dependencyReader) Get(ctx context.Context, key client.ObjectKey, out client.Object, _ ...client.GetOption) error {
	var found helmv2.HelmRelease
	err := r.Reader.Get(ctx, key, &found)
	if err != nil {
		err = r.live.Get(ctx, key, &found)
	}
	if apierrors.IsNotFound(err) {
		// The API server's words, which name the resource where other readers name the kind.
		return apierrors.NewNotFound(helmv2.GroupVersion.WithResource("helmreleases").GroupResource(), key.Name)
	}
	if err != nil {
		return err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&found)
	if err != nil {
		return fmt.Errorf("converting HelmRelease '%s': %w", key, err)
	}
	u := out.(*unstructured.Unstructured)
	gvk := u.GroupVersionKind()
	u.Object = content
	u.SetGroupVersionKind(gvk)
	return nil
}
