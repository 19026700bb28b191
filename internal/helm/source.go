package helm

import (
	"context"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// errNotReady is the message about a source that says nothing better itself (helmrelease 21).
var errNotReady = errors.New("latest generation of object has not been reconciled")

// resolve finds the source of the chart and its artifact (helmrelease 19-21). Its errors are verdicts.
func (r *Releaser) resolve(ctx context.Context, obj *helmv2.HelmRelease) (*sourceref.Source, error) {
	key, templated := templateKey(obj)
	ref := sourceref.Reference{Kind: sourcev1.HelmChartKind, Namespace: key.Namespace, Name: key.Name}
	if !templated {
		c := obj.Spec.ChartRef
		ref = sourceref.Reference{Kind: c.Kind, Namespace: c.Namespace, Name: c.Name}
	}
	source, err := r.Sources.Resolve(ctx, obj, ref)
	switch {
	case err == nil, errors.Is(err, sourceref.ErrNoArtifact):
	case errors.Is(err, sourceref.ErrNotFound) && templated:
		// It was made a moment ago, and is not in the cache yet.
		return nil, notReady(ref.Kind, key.String(), errNotReady)
	case errors.Is(err, sourceref.ErrAccessDenied):
		return nil, loop.Stall(meta.AccessDeniedReason, err)
	case ctx.Err() != nil:
		return nil, err
	default:
		return nil, loop.Fail(meta.ArtifactFailedReason, fmt.Errorf("could not get Source object: %w", err)).Quiet()
	}
	if chart, ok := source.Object.(*sourcev1.HelmChart); ok && templated && !matches(chartOfTemplate(obj, key), chart, false) {
		// What the cache shows is from before the template was applied.
		return nil, notReady(source.Kind, source.Key.String(), errNotReady)
	}
	if err != nil || !usable(source.Object) {
		return nil, notReady(source.Kind, source.Key.String(), complaint(source.Object))
	}
	return source, nil
}

func notReady(kind, key string, err error) error {
	return loop.Wait(helmv2.SourceNotReadyReason, sourceRetry, fmt.Errorf("%s '%s' is not ready: %w", kind, key, err)).Quiet()
}

// usable reports whether the artifact of a source is one of its present spec (helmrelease 20). A source that fails now still offers what it
// had; an ExternalArtifact has no conditions that count.
func usable(source client.Object) bool {
	s, ok := source.(meta.Reconcilable)
	if _, external := source.(*sourcev1.ExternalArtifact); external || !ok {
		return true
	}
	return s.GetObservedGeneration() == source.GetGeneration() && !status.IsTrue(s.GetConditions(), meta.StalledCondition)
}

// complaint is what a source says about why it is not ready.
func complaint(source client.Object) error {
	if s, ok := source.(meta.ConditionHolder); ok {
		if c := status.Find(s.GetConditions(), meta.ReadyCondition); c != nil && c.Status == metav1.ConditionFalse && c.ObservedGeneration == source.GetGeneration() {
			return errors.New(c.Message)
		}
	}
	return errNotReady
}
