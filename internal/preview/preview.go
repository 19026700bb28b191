// Package preview shows what a Kustomization of local files would apply, and what that would change on the cluster. It builds and
// compares with the code of the controller, and never writes.
package preview

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/internal/kustomize"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/render"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// maxSets bounds the Kustomizations of one recursive preview.
const maxSets = 1000

// Options is how a preview is made.
type Options struct {
	// Path is the directory to build in place of spec.path.
	Path string
	// Ignore are patterns in the format of .gitignore, relative to Path.
	Ignore []string
	// Strict makes variables that are not declared an error.
	Strict bool
	// Recursive builds the Kustomizations among the objects too, from LocalSources: "Kind/namespace/name" to directory.
	Recursive    bool
	LocalSources map[string]string
	// SkipRemote leaves out those of them that apply to another cluster (cli 42).
	SkipRemote bool
	// Reader reads the sources of variables. Nil leaves substituteFrom out.
	Reader client.Reader
	// Progress is told which Kustomization is built or compared. Optional.
	Progress func(name string)
}

// Set is the objects of one Kustomization.
type Set struct {
	Kustomization *kustomizev1.Kustomization
	// Objects carry the labels of their owner and the common metadata. Values encrypted by SOPS are masked (cli 41).
	Objects []*unstructured.Unstructured

	encrypted map[ssa.ID]bool
}

// Preview is the sets of a Kustomization and, if it is recursive, of those among its objects.
type Preview struct {
	Sets []*Set

	hidden *secrets
}

// Build builds a Kustomization from local files (cli 39-42).
func Build(ctx context.Context, root *kustomizev1.Kustomization, o Options) (*Preview, error) {
	b := &builder{Options: o, out: &Preview{hidden: newSecrets()}, seen: map[string]bool{}}
	if o.Reader != nil {
		b.Reader = attentive{o.Reader, b.out.hidden}
	}
	at, err := locate(o.Path, root.Spec.Path)
	if err != nil {
		return nil, err
	}
	if err := b.set(ctx, root, at); err != nil {
		return nil, err
	}
	return b.out, nil
}

type builder struct {
	Options
	out  *Preview
	seen map[string]bool
}

func (b *builder) set(ctx context.Context, obj *kustomizev1.Kustomization, at place) error {
	b.seen[obj.Namespace+"/"+obj.Name] = true
	if len(b.seen) > maxSets {
		return fmt.Errorf("more than %d Kustomizations are found below each other: preview a part of them", maxSets)
	}
	if b.Progress != nil {
		b.Progress(nameOf(obj))
	}
	s, err := b.build(ctx, obj, at)
	if err != nil {
		return fmt.Errorf("%s: %w", nameOf(obj), err)
	}
	b.out.Sets = append(b.out.Sets, s)
	if !b.Recursive {
		return nil
	}
	for _, o := range s.Objects {
		child, err := childOf(o, obj.Namespace)
		if err != nil {
			return fmt.Errorf("%s: %w", nameOf(obj), err)
		}
		if child == nil || b.seen[child.Namespace+"/"+child.Name] || b.SkipRemote && child.Spec.KubeConfig != nil {
			continue
		}
		at, err := b.source(child)
		if err != nil {
			return err
		}
		if err := b.set(ctx, child, at); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) build(ctx context.Context, obj *kustomizev1.Kustomization, at place) (*Set, error) {
	ignore, err := at.ignore(b.Ignore)
	if err != nil {
		return nil, err
	}
	spec := kustomize.RenderSpec(obj)
	spec.Path = at.path
	root, err := os.OpenRoot(at.tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	built, err := render.Build(ctx, root.FS(), spec, render.Options{
		Variables: kustomize.Substitution(obj, b.Reader, b.Strict), Ignore: ignore,
	})
	if err != nil {
		return nil, errors.New(b.out.hidden.redact(err.Error()))
	}
	s := &Set{Kustomization: obj, Objects: built.Objects, encrypted: map[ssa.ID]bool{}}
	var labels, annotations map[string]string
	if m := obj.Spec.CommonMetadata; m != nil {
		labels, annotations = m.Labels, m.Annotations
	}
	for _, o := range s.Objects {
		b.out.hidden.learn(o)
		if mask(o) {
			s.encrypted[ssa.IDOf(o)] = true
		}
		if err := ssa.Label(o, kustomize.Ownership(nil), ownerOf(obj), labels, annotations); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// childOf decodes an object that is a Kustomization; nil if it is none.
func childOf(o *unstructured.Unstructured, namespace string) (*kustomizev1.Kustomization, error) {
	if o.GroupVersionKind().GroupKind() != kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind).GroupKind() {
		return nil, nil
	}
	child, err := Decode(o)
	if err == nil && child.Namespace == "" {
		child.Namespace = namespace
	}
	return child, err
}

// Decode makes a Kustomization of an object of any version.
func Decode(o *unstructured.Unstructured) (*kustomizev1.Kustomization, error) {
	out := &kustomizev1.Kustomization{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, out); err != nil {
		return nil, fmt.Errorf("%s: %w", ssa.IDOf(o).Subject(), err)
	}
	return out, nil
}

// source finds the directory of a child's source (cli 42).
func (b *builder) source(child *kustomizev1.Kustomization) (place, error) {
	ref := child.Spec.SourceRef
	if ref.Namespace == "" {
		ref.Namespace = child.Namespace
	}
	key := ref.Kind + "/" + ref.Namespace + "/" + ref.Name
	dir, ok := b.LocalSources[key]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(b.LocalSources)), ", ")
		if known == "" {
			known = "none"
		}
		return place{}, fmt.Errorf("%s: no directory is known for its source %s (known: %s): add --local-sources %s=<directory>",
			nameOf(child), key, known, key)
	}
	tree, err := directory(dir)
	return place{tree: tree, path: child.Spec.Path}, err
}

func nameOf(obj *kustomizev1.Kustomization) string {
	return kustomizev1.KustomizationKind + "/" + obj.Namespace + "/" + obj.Name
}

func ownerOf(obj *kustomizev1.Kustomization) kube.Owner {
	return kube.Owner{Namespace: obj.Namespace, Name: obj.Name}
}
