// Package sourceref follows a reference to a source: to its object, its artifact and the revision, under the rules of who may refer to
// what.
package sourceref

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

// Errors of Resolve carry one of these properties, or are those of the reader; test with errors.Is.
var (
	// ErrNotFound says that the source does not exist; it may still be created (kustomization 10).
	ErrNotFound = errors.New("source not found")
	// ErrNoArtifact says that the source has not produced an artifact yet (kustomization 12).
	ErrNoArtifact = errors.New("source artifact not found")
	// ErrAccessDenied says that policy forbids the reference; only a change of the spec or of a flag can help (kustomization 11).
	ErrAccessDenied = errors.New("access to source denied")
	// ErrUnknownKind says that the reference does not name a kind of source (kustomization 13).
	ErrUnknownKind = errors.New("unknown kind of source")
)

// problem has the property of its kind and nothing but its own text, which becomes the message of a condition.
type problem struct {
	kind error
	text string
}

func (p *problem) Error() string        { return p.text }
func (p *problem) Is(target error) bool { return target == p.kind }

// Reference names a source.
type Reference struct {
	// APIVersion is optional; when given, its group must be that of the sources.
	APIVersion string
	Kind       string
	// Namespace defaults to that of the referring object.
	Namespace string
	Name      string
}

// Source is where a reference leads to. Object and Artifact may be shared with a cache: they are not to be changed.
type Source struct {
	// Object is the source: *sourcev1.GitRepository and so on.
	Object client.Object
	Kind   string
	// Key of the object.
	Key types.NamespacedName
	// Artifact is never nil unless Resolve returned ErrNoArtifact.
	Artifact *meta.Artifact
	// Revision of the artifact.
	Revision string
	// OriginRevision is the revision the content had before it was packed into this source, "" when it does not say (kustomization 105).
	OriginRevision string
}

// Resolver follows references. It is safe for concurrent use.
type Resolver struct {
	// Reader reads sources: a cache, or the API server (feature gate DirectSourceFetch, kustomization 14).
	Reader client.Reader
	// NoCrossNamespaceRefs refuses references to other namespaces (_common 41).
	NoCrossNamespaceRefs bool
	// ExternalArtifact allows references to ExternalArtifacts (the feature gate of the same name, externalartifact 5).
	ExternalArtifact bool
}

// Resolve follows a reference of obj. With ErrNoArtifact it returns the source as well, whose conditions may tell why; with all other
// errors nil.
func (r *Resolver) Resolve(ctx context.Context, obj client.Object, ref Reference) (*Source, error) {
	source, err := newSource(ref)
	if err != nil {
		return nil, err
	}
	key := types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}
	if key.Namespace == "" {
		key.Namespace = obj.GetNamespace()
	}
	if err := r.allowed(obj, ref.Kind, key); err != nil {
		return nil, err
	}
	if err := r.Reader.Get(ctx, key, source); err != nil {
		if apierrors.IsNotFound(err) {
			// The reader's own text depends on whether it is a cache.
			return nil, &problem{ErrNotFound, fmt.Sprintf("%s.%s %q not found", ref.Kind, sourcev1.GroupVersion.Group, key.Name)}
		}
		return nil, fmt.Errorf("read source '%s/%s': %w", ref.Kind, key, err)
	}
	out := &Source{Object: source, Kind: ref.Kind, Key: key}
	out.Artifact = source.(meta.ArtifactHolder).GetArtifact()
	if out.Artifact == nil {
		return out, &problem{ErrNoArtifact, "Source artifact not found"}
	}
	out.Revision = out.Artifact.Revision
	out.OriginRevision = out.Artifact.Metadata[meta.OriginRevisionKey]
	return out, nil
}

func (r *Resolver) allowed(obj client.Object, kind string, key types.NamespacedName) error {
	if r.NoCrossNamespaceRefs && key.Namespace != obj.GetNamespace() {
		return &problem{ErrAccessDenied, fmt.Sprintf("can't access '%s/%s', cross-namespace references have been blocked", kind, key)}
	}
	if kind == sourcev1.ExternalArtifactKind && !r.ExternalArtifact {
		return &problem{ErrAccessDenied, fmt.Sprintf("can't access '%s/%s', %s feature gate is disabled", kind, key, sourcev1.ExternalArtifactKind)}
	}
	return nil
}

// newSource returns an empty object of the kind a reference names.
func newSource(ref Reference) (client.Object, error) {
	if ref.APIVersion != "" {
		gv, err := schema.ParseGroupVersion(ref.APIVersion)
		if err != nil || gv.Group != sourcev1.GroupVersion.Group {
			return nil, &problem{ErrUnknownKind, fmt.Sprintf("source '%s' has apiVersion %q: want %s or none", ref.Name, ref.APIVersion, sourcev1.GroupVersion)}
		}
	}
	switch ref.Kind {
	case sourcev1.GitRepositoryKind:
		return &sourcev1.GitRepository{}, nil
	case sourcev1.OCIRepositoryKind:
		return &sourcev1.OCIRepository{}, nil
	case sourcev1.BucketKind:
		return &sourcev1.Bucket{}, nil
	case sourcev1.HelmChartKind:
		return &sourcev1.HelmChart{}, nil
	case sourcev1.HelmRepositoryKind:
		return &sourcev1.HelmRepository{}, nil
	case sourcev1.ExternalArtifactKind:
		return &sourcev1.ExternalArtifact{}, nil
	}
	return nil, &problem{ErrUnknownKind, fmt.Sprintf(
		"source '%s' has kind %q: want GitRepository, OCIRepository, Bucket, HelmChart, HelmRepository or ExternalArtifact", ref.Name, ref.Kind)}
}

// ArtifactChanged is the predicate of watches on sources: it tells whether a change gave the source an artifact, or one of another
// revision or content (kustomization 2). before is nil for a creation, which counts when there is an artifact: it may have been made
// while nobody watched. after is nil for a deletion, which never counts.
func ArtifactChanged(before, after client.Object) bool {
	is := artifactOf(after)
	if is == nil {
		return false
	}
	was := artifactOf(before)
	return was == nil || was.Revision != is.Revision || was.Digest != is.Digest
}

// RevisionChanged is ArtifactChanged for those that a new content of the same revision does not concern (artifactgenerator 2).
func RevisionChanged(before, after client.Object) bool {
	is, was := artifactOf(after), artifactOf(before)
	return is != nil && (was == nil || was.Revision != is.Revision)
}

func artifactOf(obj client.Object) *meta.Artifact {
	holder, ok := obj.(meta.ArtifactHolder)
	if !ok {
		return nil
	}
	return holder.GetArtifact()
}
