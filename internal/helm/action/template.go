package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	release "helm.sh/helm/v4/pkg/release/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// TemplateOptions says what Template renders for.
type TemplateOptions struct {
	// KubeVersion and APIVersions are what templates see of the cluster when there is none; empty: what Helm knows.
	KubeVersion string
	APIVersions []string
	// CRDs puts the CustomResourceDefinitions of the chart before the manifest, as far as the spec wants them applied.
	CRDs bool
}

// Template renders a release, with only the metadata of its chart, without writing anything: what Upgrade would make of the release that is there, or else what Install would.
// Actions without a client render what Install would, without a cluster.
func (a *Actions) Template(ctx context.Context, obj *helmv2.HelmRelease, c *chart.Chart, values map[string]any, o TemplateOptions) (*release.Release, error) {
	ctx, cancel := context.WithTimeout(ctx, obj.GetTimeout())
	defer cancel()
	render, policy := a.templateOffline, installPolicy(obj)
	if a.o.Client != nil {
		render = a.templateInstall
		last, err := a.Latest(ctx, obj.GetReleaseName())
		switch {
		case err == nil:
			render, policy = a.templateUpgrade(last), crdPolicy(orZero(obj.Spec.Upgrade).CRDs, false)
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	rel, err := contained(func() (any, error) { return render(ctx, obj, c, values, o) })
	if err != nil {
		return nil, err
	}
	out := v1(rel)
	out.Chart = &chart.Chart{Metadata: c.Metadata}
	if !o.CRDs || policy == helmv2.CRDsSkip {
		return out, nil
	}
	objects, err := definitions(c)
	if err != nil {
		return nil, err
	}
	return withDefinitions(out, obj, objects)
}

func installPolicy(obj *helmv2.HelmRelease) string {
	spec := orZero(obj.Spec.Install)
	return crdPolicy(spec.CRDs, spec.SkipCRDs)
}

// withDefinitions puts definitions before a manifest.
func withDefinitions(rel *release.Release, obj *helmv2.HelmRelease, objects []*unstructured.Unstructured) (*release.Release, error) {
	b := &bytes.Buffer{}
	for _, o := range objects {
		setLabels(o, originLabels(obj))
		if err := writeDocument(b, o); err != nil {
			return nil, err
		}
	}
	if b.Len() > 0 {
		rel.Manifest = "---\n" + b.String() + rel.Manifest
	}
	return rel, nil
}

func (a *Actions) templateOffline(ctx context.Context, obj *helmv2.HelmRelease, c *chart.Chart, values map[string]any, o TemplateOptions) (any, error) {
	s := &session{a: a, config: action.NewConfiguration(action.ConfigurationSetLogger(a.log)), client: newClient(clientOptions{Log: a.log})}
	if err := checkInputs(inputs{chart: c, values: values, anyValues: orZero(obj.Spec.Install).DisableSchemaValidation}); err != nil {
		return nil, err
	}
	s.config.CustomTemplateFuncs = a.guard(ctx).funcs()
	i := a.install(s, obj)
	i.DryRunStrategy = action.DryRunClient
	i.APIVersions = o.APIVersions
	if o.KubeVersion != "" {
		v, err := common.ParseKubeVersion(o.KubeVersion)
		if err != nil {
			return nil, fmt.Errorf("invalid Kubernetes version %q: %w", o.KubeVersion, err)
		}
		i.KubeVersion = v
	}
	i.PostRenderer = a.postRenderer(ctx, obj)
	return i.RunWithContext(ctx, guarded(c), values)
}

func (a *Actions) templateInstall(ctx context.Context, obj *helmv2.HelmRelease, c *chart.Chart, values map[string]any, _ TemplateOptions) (any, error) {
	spec := orZero(obj.Spec.Install)
	s, err := a.begin(ctx, method{serverSide: isEnabled(spec.ServerSideApply, !a.o.Helm3Defaults), preview: true})
	if err != nil {
		return nil, err
	}
	p, err := s.preview(ctx, obj, inputs{chart: c, values: values, crds: installPolicy(obj), anyValues: spec.DisableSchemaValidation})
	if err != nil {
		return nil, err
	}
	defer p.done()
	i := a.install(s, obj)
	i.DryRunStrategy = action.DryRunServer
	i.PostRenderer = p.postRenderer
	return i.RunWithContext(ctx, p.chart, values)
}

type renderFunc = func(context.Context, *helmv2.HelmRelease, *chart.Chart, map[string]any, TemplateOptions) (any, error)

func (a *Actions) templateUpgrade(last *release.Release) renderFunc {
	return func(ctx context.Context, obj *helmv2.HelmRelease, c *chart.Chart, values map[string]any, _ TemplateOptions) (any, error) {
		spec := orZero(obj.Spec.Upgrade)
		s, err := a.begin(ctx, method{serverSide: serverSideAs(spec.ServerSideApply, last), wholeCharts: spec.PreserveValues, preview: true})
		if err != nil {
			return nil, err
		}
		values = preserved(spec, last, values)
		p, err := s.preview(ctx, obj, inputs{chart: c, values: values, crds: crdPolicy(spec.CRDs, false), anyValues: spec.DisableSchemaValidation})
		if err != nil {
			return nil, err
		}
		defer p.done()
		u := a.upgrade(s, obj)
		u.DryRunStrategy = action.DryRunServer
		u.PostRenderer = p.postRenderer
		return u.RunWithContext(ctx, obj.GetReleaseName(), p.chart, values)
	}
}

// preview is prepare without writes: templates see the kinds of the chart's CustomResourceDefinitions as if they were served.
func (s *session) preview(ctx context.Context, obj *helmv2.HelmRelease, in inputs) (*prepared, error) {
	if err := checkInputs(in); err != nil {
		return nil, err
	}
	objects, err := definitions(in.chart)
	if err != nil {
		return nil, err
	}
	in.timeout = obj.GetTimeout()
	p, err := s.limited(ctx, obj, in)
	if err != nil || in.crds == helmv2.CRDsSkip {
		return p, err
	}
	served := slices.Clone(s.config.Capabilities.APIVersions)
	for _, o := range objects {
		for _, gvk := range servedKinds(o) {
			served = append(served, gvk.GroupVersion().String(), gvk.GroupVersion().String()+"/"+gvk.Kind)
		}
	}
	s.config.Capabilities.APIVersions = served
	return p, nil
}
