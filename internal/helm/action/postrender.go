package action

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"helm.sh/helm/v4/pkg/action"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ktypes "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
	"sigs.k8s.io/yaml"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/render"
)

// filenameAnnotation is how Helm finds back to which template a document belongs.
const filenameAnnotation = "postrenderer.helm.sh/postrender-filename"

// postRenderer changes manifests after the templates are rendered: by the post-renderers of the spec in their order, by its common
// metadata, and by labels that name the HelmRelease (helmrelease 73).
type postRenderer struct {
	ctx      context.Context
	obj      *helmv2.HelmRelease
	maxBytes int
}

// strategy says what post-renderers get to see (helmrelease 74).
func strategy(obj *helmv2.HelmRelease, helm3 bool) action.PostRenderStrategy {
	switch {
	case obj.Spec.PostRenderStrategy != "":
		return action.PostRenderStrategy(obj.Spec.PostRenderStrategy)
	case helm3:
		return action.PostRenderStrategyNoHooks
	}
	return action.PostRenderStrategyCombined
}

// Run implements postrenderer.PostRenderer.
func (p *postRenderer) Run(rendered *bytes.Buffer) (*bytes.Buffer, error) {
	if err := p.fits(rendered); err != nil {
		return nil, err
	}
	for i, r := range p.obj.Spec.PostRenderers {
		if r.Kustomize == nil {
			continue
		}
		var err error
		if rendered, err = p.kustomize(rendered, r.Kustomize); err != nil {
			return nil, fmt.Errorf("spec.postRenderers[%d]: %w", i, err)
		}
	}
	out := &bytes.Buffer{}
	err := eachDocument(rendered, func(doc []byte) error {
		o, err := decodeObject(doc)
		if err != nil || o == nil {
			return err
		}
		file, listed := o.GetAnnotations()[filenameAnnotation], o.IsList()
		return flatten(o, func(o *unstructured.Unstructured) error {
			if listed && file != "" {
				setAnnotations(o, map[string]string{filenameAnnotation: file})
			}
			p.mark(o)
			return writeDocument(out, o)
		})
	})
	if err != nil {
		return nil, err
	}
	return out, p.fits(out)
}

func (p *postRenderer) fits(manifests *bytes.Buffer) error {
	if manifests.Len() > p.maxBytes {
		return fmt.Errorf("the rendered manifests have %d bytes, the limit is %d", manifests.Len(), p.maxBytes)
	}
	return nil
}

// mark sets common metadata and the labels of the HelmRelease.
func (p *postRenderer) mark(o *unstructured.Unstructured) {
	if c := p.obj.Spec.CommonMetadata; c != nil {
		setLabels(o, c.Labels)
		setAnnotations(o, c.Annotations)
	}
	setLabels(o, originLabels(p.obj))
}

// originLabels name the HelmRelease of an object (helmrelease 73).
func originLabels(obj *helmv2.HelmRelease) map[string]string {
	return map[string]string{helmv2.OwnerNameLabel: obj.Name, helmv2.OwnerNamespaceLabel: obj.Namespace}
}

func setLabels(o *unstructured.Unstructured, more map[string]string) {
	if len(more) == 0 {
		return
	}
	all := o.GetLabels()
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, more)
	o.SetLabels(all)
}

func setAnnotations(o *unstructured.Unstructured, more map[string]string) {
	if len(more) == 0 {
		return
	}
	all := o.GetAnnotations()
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, more)
	o.SetAnnotations(all)
}

func writeDocument(out *bytes.Buffer, o *unstructured.Unstructured) error {
	doc, err := yaml.Marshal(o.Object)
	if err != nil {
		return fmt.Errorf("failed to encode %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	if out.Len() > 0 {
		out.WriteString("---\n")
	}
	out.Write(doc)
	return nil
}

// kustomize runs one post-renderer.
func (p *postRenderer) kustomize(rendered *bytes.Buffer, k *helmv2.Kustomize) (*bytes.Buffer, error) {
	dir, err := os.MkdirTemp("", "post-render-")
	if err != nil {
		return nil, fmt.Errorf("failed to make a directory for kustomize: %w", err)
	}
	defer os.RemoveAll(dir)
	const manifests = "manifests.yaml"
	if err := os.WriteFile(filepath.Join(dir, manifests), rendered.Bytes(), 0o600); err != nil {
		return nil, fmt.Errorf("failed to write the input of kustomize: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte("resources: ["+manifests+"]\n"), 0o600); err != nil {
		return nil, fmt.Errorf("failed to write the input of kustomize: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("failed to open the input of kustomize: %w", err)
	}
	defer root.Close()
	built, err := render.Build(p.ctx, root.FS(), kustomizeSpec(k), render.Options{NoRemoteBases: true, Limits: render.Limits{FileBytes: int64(p.maxBytes)}})
	if err != nil {
		return nil, err
	}
	out := &bytes.Buffer{}
	for _, o := range built.Objects {
		if err := writeDocument(out, o); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func kustomizeSpec(k *helmv2.Kustomize) render.Spec {
	var out render.Spec
	for _, patch := range k.Patches {
		out.Patches = append(out.Patches, ktypes.Patch{Patch: patch.Patch, Target: selector(patch.Target)})
	}
	for _, i := range k.Images {
		out.Images = append(out.Images, ktypes.Image{Name: i.Name, NewName: i.NewName, NewTag: i.NewTag, Digest: i.Digest})
	}
	return out
}

func selector(s *meta.Selector) *ktypes.Selector {
	if s == nil {
		return nil
	}
	return &ktypes.Selector{
		ResId: resid.ResId{
			Gvk:  resid.Gvk{Group: s.Group, Version: s.Version, Kind: s.Kind},
			Name: s.Name, Namespace: s.Namespace,
		},
		AnnotationSelector: s.AnnotationSelector,
		LabelSelector:      s.LabelSelector,
	}
}
