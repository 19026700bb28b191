package helm

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// syncTemplate makes the HelmChart of spec.chart what it should be, and deletes one that the spec no longer means
// (helmrelease 11-15). Where all is as it should be, it costs no request.
func (r *Releaser) syncTemplate(ctx context.Context, obj *helmv2.HelmRelease, run *loop.Run) error {
	key, wanted := templateKey(obj)
	if old, ok := recordedTemplate(obj); ok && (!wanted || old != key) {
		if err := r.deleteChart(ctx, obj, old, run); err != nil {
			return err
		}
		obj.Status.HelmChart = ""
	}
	if !wanted {
		return nil
	}
	ref := obj.Spec.Chart.Spec.SourceRef
	source := fmt.Sprintf("%s/%s/%s", ref.Kind, key.Namespace, ref.Name)
	if r.NoCrossNamespaceRefs && key.Namespace != obj.Namespace {
		return loop.Stall(meta.AccessDeniedReason, fmt.Errorf("can't access '%s', cross-namespace references have been blocked", source))
	}
	if err := r.applyChart(ctx, obj, key, source, run); err != nil {
		if apierrors.IsConflict(err) || ctx.Err() != nil || loop.Judged(err) {
			return err
		}
		err = fmt.Errorf("failed to apply HelmChart '%s': %w", key, err)
		run.Event(event.Event{Severity: event.Trace, Reason: helmv2.HelmChartSyncErrReason, Message: err.Error()})
		return loop.Fail(helmv2.SourceNotReadyReason, err)
	}
	obj.Status.HelmChart = key.String()
	return nil
}

// deleteTemplate deletes the HelmChart of obj: the one the status names, and the one the spec means, which a process that was killed
// may not have written down (helmrelease 89).
func (r *Releaser) deleteTemplate(ctx context.Context, obj *helmv2.HelmRelease, run *loop.Run) error {
	old, recorded := recordedTemplate(obj)
	if recorded {
		if err := r.deleteChart(ctx, obj, old, run); err != nil {
			return err
		}
		obj.Status.HelmChart = ""
	}
	if key, wanted := templateKey(obj); wanted && (!recorded || key != old) {
		return r.deleteChart(ctx, obj, key, run)
	}
	return nil
}

// templateKey names the HelmChart of spec.chart.
func templateKey(obj *helmv2.HelmRelease) (types.NamespacedName, bool) {
	return types.NamespacedName{Namespace: obj.GetHelmChartNamespace(), Name: obj.GetHelmChartName()}, obj.Spec.Chart != nil
}

// recordedTemplate reads status.helmChart.
func recordedTemplate(obj *helmv2.HelmRelease) (types.NamespacedName, bool) {
	namespace, name, ok := strings.Cut(obj.Status.HelmChart, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}, ok
}

// applyChart writes the HelmChart, unless the cache shows that it is as it should be.
func (r *Releaser) applyChart(ctx context.Context, obj *helmv2.HelmRelease, key types.NamespacedName, source string, run *loop.Run) error {
	want := chartOfTemplate(obj, key)
	// What is there beyond the template matters only while the spec is new: then it may be a remnant of the old one.
	fresh := run.Generation != obj.Status.ObservedGeneration
	var have sourcev1.HelmChart
	err := r.Client.Get(ctx, key, &have)
	if err == nil && belongs(&have, obj) && have.DeletionTimestamp.IsZero() && matches(want, &have, fresh) {
		return nil
	}
	// The cache may lag behind our own writes, and who the owner is must not be taken from yesterday.
	have = sourcev1.HelmChart{}
	err = r.Reader.Get(ctx, key, &have)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return err
	case !have.DeletionTimestamp.IsZero():
		// Applied now it would be gone a moment later; its end is an event.
		return loop.Wait(helmv2.SourceNotReadyReason, sourceRetry, fmt.Errorf("%s '%s' is not ready: it is being deleted", sourcev1.HelmChartKind, key)).Quiet()
	case !belongs(&have, obj):
		return fmt.Errorf("it belongs to HelmRelease '%s': charts of both would have this name; rename one of the two, or use spec.chartRef", chartOwner(&have))
	case matches(want, &have, fresh):
		return nil
	}
	// With the UID it is this one, not another that takes its place meanwhile.
	u, err := configuration(want, have.UID)
	if err != nil {
		return err
	}
	if err := r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(Name), client.ForceOwnership); err != nil {
		return err
	}
	if u.GetResourceVersion() == have.ResourceVersion {
		return nil
	}
	reason, verb := helmv2.HelmChartConfiguredReason, "Configured"
	if have.ResourceVersion == "" {
		reason, verb = helmv2.HelmChartCreatedReason, "Created"
	}
	run.Event(event.Event{Severity: event.Trace, Reason: reason, Message: fmt.Sprintf("%s %s/%s with SourceRef '%s'", verb, sourcev1.HelmChartKind, key, source)})
	return nil
}

// deleteChart deletes a HelmChart if it belongs to obj. One that is not there is deleted.
func (r *Releaser) deleteChart(ctx context.Context, obj *helmv2.HelmRelease, key types.NamespacedName, run *loop.Run) error {
	failed := func(err error) error {
		if apierrors.IsConflict(err) || ctx.Err() != nil {
			return err
		}
		err = fmt.Errorf("failed to delete HelmChart '%s': %w", key, err)
		run.Event(event.Event{Severity: event.Trace, Reason: helmv2.HelmChartSyncErrReason, Message: err.Error()})
		return loop.Fail(helmv2.SourceNotReadyReason, err)
	}
	var have sourcev1.HelmChart
	err := r.Reader.Get(ctx, key, &have)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return failed(err)
	case !belongs(&have, obj), chartOwner(&have) == (kube.Owner{}) && obj.Status.HelmChart != key.String():
		return nil
	case !have.DeletionTimestamp.IsZero():
		return nil
	}
	if err := r.Client.Delete(ctx, &have, client.Preconditions{UID: &have.UID}); client.IgnoreNotFound(err) != nil {
		return failed(err)
	}
	run.Event(event.Event{Severity: event.Trace, Reason: helmv2.HelmChartDeletedReason, Message: fmt.Sprintf("deleted %s '%s'", sourcev1.HelmChartKind, key)})
	return nil
}

// chartOwner reads which HelmRelease a HelmChart says it belongs to.
func chartOwner(chart *sourcev1.HelmChart) kube.Owner {
	return Ownership(nil).Owner(chart.Labels)
}

// belongs reports whether a HelmChart is obj's, or nobody's.
func belongs(chart *sourcev1.HelmChart, obj *helmv2.HelmRelease) bool {
	o := chartOwner(chart)
	return o == owner(obj) || o == kube.Owner{}
}

// chartOfTemplate is the HelmChart of spec.chart (helmrelease 12).
func chartOfTemplate(obj *helmv2.HelmRelease, key types.NamespacedName) *sourcev1.HelmChart {
	template := &obj.Spec.Chart.Spec
	chart := &sourcev1.HelmChart{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name, Labels: map[string]string{}},
		Spec: sourcev1.HelmChartSpec{
			Chart: template.Chart, Version: template.Version, ReconcileStrategy: template.ReconcileStrategy,
			SourceRef: sourcev1.HelmChartSourceReference{Kind: template.SourceRef.Kind, Name: template.SourceRef.Name},
			// The notation that 2.9 writes, whatever the user's is.
			Interval:    meta.DurationOf(template.Interval.Or(obj.GetInterval())),
			ValuesFiles: template.ValuesFiles, IgnoreMissingValuesFiles: template.IgnoreMissingValuesFiles,
		},
	}
	if v := template.Verify; v != nil {
		chart.Spec.Verify = &sourcev1.HelmChartVerification{Provider: v.Provider, SecretRef: v.SecretRef}
	}
	if m := obj.Spec.Chart.ObjectMeta; m != nil {
		maps.Copy(chart.Labels, m.Labels)
		chart.Annotations = m.Annotations
	}
	chart.Labels[helmv2.OwnerNameLabel], chart.Labels[helmv2.OwnerNamespaceLabel] = obj.Name, obj.Namespace
	return chart
}

// configuration is what is sent to apply a HelmChart: the fields that the template sets, and no others.
func configuration(chart *sourcev1.HelmChart, uid types.UID) (*unstructured.Unstructured, error) {
	spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&chart.Spec)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	u.SetGroupVersionKind(sourcev1.GroupVersion.WithKind(sourcev1.HelmChartKind))
	u.SetNamespace(chart.Namespace)
	u.SetName(chart.Name)
	u.SetUID(uid)
	u.SetLabels(chart.Labels)
	if len(chart.Annotations) > 0 {
		u.SetAnnotations(chart.Annotations)
	}
	return u, nil
}

// matches reports whether a HelmChart has all that the template sets; exactly: whether it has no more than that. Fields that no
// template has count for nothing.
func matches(want, have *sourcev1.HelmChart, exactly bool) bool {
	w, h := want.Spec, have.Spec
	h.SourceRef.APIVersion, h.Suspend = "", false
	if w.Version == "" {
		h.Version = ""
	}
	if w.ReconcileStrategy == "" {
		h.ReconcileStrategy = ""
	}
	if h.Verify != nil {
		h.Verify = &sourcev1.HelmChartVerification{Provider: h.Verify.Provider, SecretRef: h.Verify.SecretRef}
	}
	if exactly {
		return equality.Semantic.DeepEqual(w, h) && maps.Equal(want.Labels, have.Labels) && maps.Equal(want.Annotations, have.Annotations)
	}
	if len(w.ValuesFiles) == 0 {
		h.ValuesFiles = nil
	}
	if !w.IgnoreMissingValuesFiles {
		h.IgnoreMissingValuesFiles = false
	}
	switch {
	case w.Verify == nil:
		h.Verify = nil
	case w.Verify.SecretRef == nil && h.Verify != nil:
		h.Verify.SecretRef = nil
	}
	return equality.Semantic.DeepEqual(w, h) && holds(have.Labels, want.Labels) && holds(have.Annotations, want.Annotations)
}

// holds reports whether a map has all entries of another one.
func holds(all, some map[string]string) bool {
	for k, v := range some {
		if got, ok := all[k]; !ok || got != v {
			return false
		}
	}
	return true
}
