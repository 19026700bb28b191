// Package sourceref is a stand-in.
package sourceref

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

var (
	ErrNotFound     = errors.New("nf")
	ErrNoArtifact   = errors.New("na")
	ErrAccessDenied = errors.New("ad")
)

type Resolver struct {
	Reader               client.Reader
	NoCrossNamespaceRefs bool
	ExternalArtifact     bool
}
type Reference struct{ APIVersion, Kind, Namespace, Name string }
type Source struct {
	Artifact                 *meta.Artifact
	Revision, OriginRevision string
}

type nf struct{ error }

func (n nf) Is(t error) bool { return t == ErrNotFound }

func (r *Resolver) Resolve(ctx context.Context, obj client.Object, ref Reference) (*Source, error) {
	ns := ref.Namespace
	if ns == "" {
		ns = obj.GetNamespace()
	}
	var g sourcev1.GitRepository
	if err := r.Reader.Get(ctx, client.ObjectKey{Namespace: ns, Name: ref.Name}, &g); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nf{err}
		}
		return nil, err
	}
	if g.Status.Artifact == nil {
		return nil, ErrNoArtifact
	}
	return &Source{Artifact: g.Status.Artifact, Revision: g.Status.Artifact.Revision}, nil
}

func ArtifactChanged(before, after client.Object) bool {
	if after == nil {
		return true
	}
	a := after.(meta.ArtifactHolder).GetArtifact()
	if before == nil {
		return a != nil
	}
	b := before.(meta.ArtifactHolder).GetArtifact()
	return a != nil && (b == nil || b.Revision != a.Revision || b.Digest != a.Digest)
}
