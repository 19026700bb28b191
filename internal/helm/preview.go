package helm

import (
	"context"
	"errors"
	"fmt"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	release "helm.sh/helm/v4/pkg/release/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/chartfile"
	"github.com/seed-79636ae9/flux/internal/helm/action"
	"github.com/seed-79636ae9/flux/internal/helm/charts"
	"github.com/seed-79636ae9/flux/internal/helm/drift"
	"github.com/seed-79636ae9/flux/internal/helm/values"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// keepPolicy of the annotation resourcePolicy keeps an object when its release lets go of it (contract wire.md 2).
const (
	resourcePolicy = "helm.sh/resource-policy"
	keepPolicy     = "keep"
)

// ErrNoChart says that a preview cannot get at the chart by itself.
var ErrNoChart = errors.New("the chart cannot be had")

// Preview renders releases as the controller does, for commands. It writes nothing.
type Preview struct {
	// Client reads the cluster; nil: there is none. Then values from ConfigMaps and Secrets are left out, and templates see a cluster
	// of the version that Helm knows.
	Client *kube.Client
	// Reader reads objects of Flux, ConfigMaps and Secrets. It goes with Client.
	Reader client.Client
	// Artifacts fetches charts from sources. It goes with Client.
	Artifacts *artifact.Opener
	// Chart is a directory or an archive on this machine to take in place of what the source offers. Optional.
	Chart string
	// ExternalArtifact lets spec.chartRef name one.
	ExternalArtifact bool
}

// Rendered is a release as it would be made.
type Rendered struct {
	// Objects are those of the release, CustomResourceDefinitions first, in the order in which they would be applied.
	Objects []*unstructured.Unstructured
	// Hooks are those of the chart, tests included. They are applied when their time has come, and are no part of the release.
	Hooks []*unstructured.Unstructured
}

// Render renders the release of an object. The error is ErrNoChart when the chart is to be given by Chart.
func (p *Preview) Render(ctx context.Context, obj *helmv2.HelmRelease) (*Rendered, error) {
	r := &Releaser{
		Options: Options{TrackDigests: true, ValuesLimits: values.DefaultLimits(), ChartLimits: chartfile.DefaultLimits()},
		Client:  p.Reader, Reader: p.Reader, Artifacts: p.Artifacts, Clock: clock.RealClock{},
	}
	c, err := p.chart(ctx, r, obj)
	if err != nil {
		return nil, err
	}
	vals, err := p.values(ctx, r, obj)
	if err != nil {
		return nil, err
	}
	options := action.Options{
		Client: p.Client, Owner: owner(obj), ReleaseNamespace: obj.GetReleaseNamespace(), StorageNamespace: obj.GetStorageNamespace(),
	}
	if p.Client != nil {
		options.Shared = action.NewShared(p.Client, nil)
	}
	actions, err := action.New(options)
	if err != nil {
		return nil, err
	}
	rel, err := actions.Template(ctx, obj, c, vals, action.TemplateOptions{CRDs: true})
	if err != nil {
		return nil, err
	}
	return p.objects(ctx, rel)
}

// Values returns the values of a release. Without a cluster those of ConfigMaps and Secrets are left out.
func (p *Preview) Values(ctx context.Context, obj *helmv2.HelmRelease) (map[string]any, error) {
	return p.values(ctx, &Releaser{Options: Options{ValuesLimits: values.DefaultLimits()}, Reader: p.Reader}, obj)
}

func (p *Preview) values(ctx context.Context, r *Releaser, obj *helmv2.HelmRelease) (map[string]any, error) {
	if p.Reader == nil {
		obj = obj.DeepCopy()
		obj.Spec.ValuesFrom = nil
	}
	return values.Compose(ctx, r.Reader, obj, r.ValuesLimits)
}

// chart is the one on this machine, or that of the source.
func (p *Preview) chart(ctx context.Context, r *Releaser, obj *helmv2.HelmRelease) (*chart.Chart, error) {
	if p.Chart != "" {
		c, err := loader.Load(p.Chart)
		if err != nil {
			return nil, fmt.Errorf("loading the chart '%s': %w", p.Chart, err)
		}
		return c, nil
	}
	if p.Reader == nil {
		return nil, fmt.Errorf("%w: there is no cluster whose source offers it", ErrNoChart)
	}
	r.Sources = &sourceref.Resolver{Reader: p.Reader, ExternalArtifact: p.ExternalArtifact}
	source, err := r.resolve(ctx, obj)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoChart, err)
	}
	c, err := charts.Load(ctx, r.Artifacts, source.Artifact, r.ChartLimits)
	if err != nil {
		return nil, fmt.Errorf("%w from %s '%s': %w", ErrNoChart, source.Kind, source.Key, err)
	}
	_, err = charts.Mutate(c, source, r.TrackDigests)
	return c, err
}

func (p *Preview) objects(ctx context.Context, rel *release.Release) (*Rendered, error) {
	var mapper *kube.Mapper
	if p.Client != nil {
		mapper = p.Client.Mapper
	}
	out := &Rendered{}
	var err error
	if out.Objects, err = drift.Objects(ctx, rel.Manifest, rel.Namespace, nil); err != nil {
		return nil, err
	}
	place(ctx, out.Objects, rel.Namespace, mapper)
	for _, h := range rel.Hooks {
		hooks, err := drift.Objects(ctx, h.Manifest, rel.Namespace, nil)
		if err != nil {
			return nil, err
		}
		place(ctx, hooks, rel.Namespace, mapper)
		out.Hooks = append(out.Hooks, hooks...)
	}
	return out, nil
}

// place gives objects that name no namespace that of the release, as far as the cluster can tell that they need one.
func place(ctx context.Context, objects []*unstructured.Unstructured, namespace string, mapper *kube.Mapper) {
	for _, o := range objects {
		if mapper == nil || o.GetNamespace() != "" {
			continue
		}
		if res, err := mapper.Resource(ctx, o.GroupVersionKind()); err == nil && res.Namespaced {
			o.SetNamespace(namespace)
		}
	}
}

// Compare returns what a release would change on the cluster, hooks aside.
func (p *Preview) Compare(ctx context.Context, obj *helmv2.HelmRelease, rendered *Rendered) ([]ssa.Difference, error) {
	copies := make([]*unstructured.Unstructured, 0, len(rendered.Objects))
	for _, o := range rendered.Objects {
		c := o.DeepCopy()
		if c.GroupVersionKind().GroupKind() != definition() {
			if err := drift.Mark(c, drift.Release{Name: obj.GetReleaseName(), Namespace: obj.GetReleaseNamespace()}); err != nil {
				return nil, err
			}
		}
		copies = append(copies, c)
	}
	objects, err := ssa.Normalise(copies)
	if err != nil {
		return nil, err
	}
	applier := &ssa.Applier{Client: p.Client, Lens: kube.NewLens(Ownership(nil))}
	request := ssa.Request{Owner: owner(obj), Objects: objects, Inventory: p.inventory(obj)}
	if m := obj.Spec.CommonMetadata; m != nil {
		request.Labels, request.Annotations = m.Labels, m.Annotations
	}
	found, err := applier.Compare(ctx, request, true)
	if err != nil {
		return nil, err
	}
	out := found[:0]
	for _, d := range found {
		if d.Action == ssa.Deleted {
			kept, err := p.kept(ctx, d)
			if err != nil {
				return nil, err
			}
			if kept {
				continue
			}
		}
		out = append(out, d)
	}
	return out, nil
}

// kept reports whether an object stays though its release lets go of it.
func (p *Preview) kept(ctx context.Context, d ssa.Difference) (bool, error) {
	res, err := p.Client.Mapper.Served(ctx, d.ID.GroupKind(), "")
	if err != nil {
		return false, named(d, err)
	}
	live, err := p.Client.GetMetadata(ctx, kube.Ref{Resource: res, Namespace: d.ID.Namespace, Name: d.ID.Name})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, named(d, err)
	}
	return live.Annotations[resourcePolicy] == keepPolicy, nil
}

func named(d ssa.Difference, err error) error { return fmt.Errorf("%s: %w", d.ID.Subject(), err) }

// definition is the kind that releases bring and never delete (helmrelease 72).
func definition() schema.GroupKind {
	return schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}
}

// inventory is that of the release that is there, without what an upgrade never deletes.
func (p *Preview) inventory(obj *helmv2.HelmRelease) ssa.Inventory {
	if obj.Status.Inventory == nil {
		return nil
	}
	var out ssa.Inventory
	for _, e := range obj.Status.Inventory.Entries {
		if id, err := ssa.ParseID(e.ID); err == nil && id.GroupKind() != definition() {
			out = append(out, ssa.Entry{ID: e.ID, Version: e.Version})
		}
	}
	return out
}
