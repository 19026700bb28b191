package kustomize

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ktypes "sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/render"
)

// build turns the artifact into objects (kustomization 21-60). The tree is closed before anything is applied.
func (k *Kustomizer) build(ctx context.Context, w *work) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	fetching := func() {
		w.run.Progress("Fetching manifests for revision %s with a timeout of %s", w.source.Revision, w.timeout)
	}
	fetching()
	tree, err := k.Artifacts.Open(ctx, w.source.Artifact)
	if errors.Is(err, artifact.ErrNotFound) {
		return loop.Wait(meta.ArtifactFailedReason, k.RequeueDependency,
			fmt.Errorf("Source artifact not found, retrying in %s", k.RequeueDependency)).Quiet() //nolint:staticcheck // the text is API
	}
	if err != nil {
		return loop.Fail(meta.ArtifactFailedReason, err)
	}
	defer tree.Close()
	w.run.Progress("Building manifests for revision %s with a timeout of %s", w.source.Revision, w.timeout)
	options := render.Options{NoRemoteBases: k.NoRemoteBases, Variables: k.variables(w)}
	if w.decryption != nil {
		options.Decrypt = w.decryption
	}
	built, err := render.Build(ctx, tree.FS(), spec(w.obj), options)
	if errors.Is(err, render.ErrPathNotFound) {
		fetching()
		return loop.Fail(meta.ArtifactFailedReason, err)
	}
	w.obj.Status.LastAttemptedRevision = w.source.Revision
	if err = w.decryption.verdict(ctx, err); err != nil {
		return loop.Fail(meta.BuildFailedReason, err)
	}
	w.built = built
	return nil
}

// spec returns what the object asks of the build.
func spec(obj *kustomizev1.Kustomization) render.Spec {
	s := &obj.Spec
	out := render.Spec{
		Path: s.Path, TargetNamespace: s.TargetNamespace, NamePrefix: s.NamePrefix, NameSuffix: s.NameSuffix,
		Components: s.Components, IgnoreMissingComponents: s.IgnoreMissingComponents, BuildMetadata: s.BuildMetadata,
	}
	for _, p := range s.Patches {
		out.Patches = append(out.Patches, ktypes.Patch{Patch: p.Patch, Target: selector(p.Target)})
	}
	for _, i := range s.Images {
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
		AnnotationSelector: s.AnnotationSelector, LabelSelector: s.LabelSelector,
	}
}

// variables returns the post-build substitution, whose sources a run reads once (kustomization 51-53).
func (k *Kustomizer) variables(w *work) *render.Substitution {
	post := w.obj.Spec.PostBuild
	if post == nil {
		return nil
	}
	return &render.Substitution{
		Always:  post.SubstituteStrategy == kustomizev1.SubstituteAlways,
		Lenient: !k.StrictSubstitutions,
		Load: func(ctx context.Context) (map[string]string, error) {
			if w.vars == nil {
				w.vars = sync.OnceValues(func() (map[string]string, error) { return k.sources(ctx, w.obj.Namespace, post) })
			}
			return w.vars()
		},
	}
}

func (k *Kustomizer) sources(ctx context.Context, namespace string, post *kustomizev1.PostBuild) (map[string]string, error) {
	var sources []map[string]string
	for _, ref := range post.SubstituteFrom {
		data, err := k.load(ctx, namespace, ref)
		if apierrors.IsNotFound(err) && ref.Optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("substitute from '%s/%s' error: %w", ref.Kind, ref.Name, err)
		}
		sources = append(sources, data)
	}
	return render.MergeVariables(post.Substitute, sources...), nil
}

func (k *Kustomizer) load(ctx context.Context, namespace string, ref kustomizev1.SubstituteReference) (map[string]string, error) {
	key := client.ObjectKey{Namespace: namespace, Name: ref.Name}
	if ref.Kind == "ConfigMap" {
		var found corev1.ConfigMap
		err := k.Reader.Get(ctx, key, &found)
		return found.Data, err
	}
	var found corev1.Secret
	err := k.Reader.Get(ctx, key, &found)
	data := make(map[string]string, len(found.Data))
	for name, value := range found.Data {
		data[name] = string(value)
	}
	return data, err
}
