package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// maxIncluded is how many repositories are looked at in search of a circle.
const maxIncluded = 1000

// included is the content of another repository that becomes a part of this one's.
type included struct {
	name, from, to string
	artifact       *meta.Artifact
	tree           *artifact.Tree // while the artifact is written
}

func (i *included) close() { _ = i.tree.Close() }

// include finds the artifacts of the repositories in spec.include (gitrepository 52, 53). The edges are there before the
// look, so that no change falls in between.
func (s *Source) include(ctx context.Context, obj *sourcev1.GitRepository, run *loop.Run) ([]*included, error) {
	var edges []depend.Key
	for _, i := range obj.Spec.Include {
		edges = append(edges, nodeOf(obj.Namespace, i.Repository.Name))
	}
	s.includes.Set(nodeOf(obj.Namespace, obj.Name), edges)
	if len(edges) == 0 {
		return nil, nil
	}
	if err := s.refuseCircle(ctx, obj); err != nil {
		return nil, err
	}
	var found []*included
	for _, i := range obj.Spec.Include {
		var other sourcev1.GitRepository
		err := s.options.Objects.Get(ctx, types.NamespacedName{Namespace: obj.Namespace, Name: i.Repository.Name}, &other)
		if apierrors.IsNotFound(err) {
			return nil, s.awaitInclude(sourcev1.NotFoundReason, fmt.Errorf("could not get resource for include '%s': %w", i.Repository.Name, err))
		}
		if err != nil {
			return nil, fmt.Errorf("could not get resource for include '%s': %w", i.Repository.Name, err)
		}
		if other.Status.Artifact == nil {
			return nil, s.awaitInclude(sourcev1.NoArtifactReason, fmt.Errorf("no artifact available for include '%s'", i.Repository.Name))
		}
		found = append(found, &included{name: i.Repository.Name, from: i.GetFromPath(), to: i.GetToPath(), artifact: other.Status.Artifact.DeepCopy()})
	}
	if obj.Status.Artifact != nil && len(obj.Status.IncludedArtifacts) > 0 && !sameArtifacts(found, obj.Status.IncludedArtifacts) {
		const message = "included artifacts differ from last observed includes"
		run.Pending("building artifact: %s", message)
		run.Progress("building artifact: %s", message)
		run.Set(sourcev1.ArtifactOutdatedCondition, metav1.ConditionTrue, sourcev1.IncludeChangeReason, message)
	}
	return found, nil
}

func (s *Source) awaitInclude(reason string, err error) error {
	return loop.Wait(reason, s.options.RequeueDependency, err).On(sourcev1.IncludeUnavailableCondition).
		Announce(event.Event{Severity: event.Info, Reason: reason, Message: err.Error(), Local: true})
}

// refuseCircle fails for a repository that includes itself: each new artifact of it would make another one, larger still.
func (s *Source) refuseCircle(ctx context.Context, obj *sourcev1.GitRepository) error {
	seen := map[string]bool{}
	next := []sourcev1.GitRepositoryInclude(obj.Spec.Include)
	for len(next) > 0 && len(seen) < maxIncluded {
		name := next[0].Repository.Name
		next = next[1:]
		if seen[name] {
			continue
		}
		if name == obj.Name {
			return s.awaitInclude(meta.DependencyNotReadyReason, fmt.Errorf("include forms a circle: '%s' includes itself; remove one of the includes", name))
		}
		seen[name] = true
		var other sourcev1.GitRepository
		err := s.options.Objects.Get(ctx, types.NamespacedName{Namespace: obj.Namespace, Name: name}, &other)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("could not get resource for include '%s': %w", name, err)
		}
		next = append(next, other.Spec.Include...)
	}
	return nil
}

func nodeOf(namespace, name string) depend.Key {
	return depend.Key{Kind: sourcev1.GitRepositoryKind, Namespace: namespace, Name: name}
}

// includers returns who includes a repository whose artifact has changed, or is gone.
func (s *Source) includers(before, after client.Object) []types.NamespacedName {
	if sameArtifact(artifactOf(before), artifactOf(after)) {
		return nil
	}
	changed := after
	if changed == nil {
		changed = before
	}
	var keys []types.NamespacedName
	for _, node := range s.includes.Dependents(nodeOf(changed.GetNamespace(), changed.GetName())) {
		keys = append(keys, types.NamespacedName{Namespace: node.Namespace, Name: node.Name})
	}
	return keys
}

func artifactOf(obj client.Object) *meta.Artifact {
	if o, ok := obj.(*sourcev1.GitRepository); ok && o != nil {
		return o.Status.Artifact
	}
	return nil
}

func sameArtifact(a, b *meta.Artifact) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Revision == b.Revision && a.Digest == b.Digest
}

// open returns the included content at its place; close gives it back (gitrepository 54, 55).
func (u *upstream) open(ctx context.Context, i *included) (_ archive.Layer, err error) {
	to := path.Clean(i.to)
	if !filepath.IsLocal(to) {
		return archive.Layer{}, loop.Fail(sourcev1.IllegalPathReason,
			fmt.Errorf("path calculation for include '%s' failed: '%s' leaves the repository", i.name, i.to)).On(sourcev1.StorageOperationFailedCondition)
	}
	if i.tree, err = u.artifacts.Open(ctx, i.artifact); err != nil {
		return archive.Layer{}, copyFailed(i, err)
	}
	layer, err := i.layer(to)
	if err != nil {
		i.close()
		return archive.Layer{}, copyFailed(i, err)
	}
	return layer, nil
}

func copyFailed(i *included, err error) error {
	return loop.Fail(sourcev1.CopyFailureReason, fmt.Errorf("failed to copy '%s' include from %s to %s: %w", i.name, i.from, i.to, err)).
		On(sourcev1.StorageOperationFailedCondition)
}

func (i *included) layer(to string) (archive.Layer, error) {
	// Not the place on disk: it is another one in every run.
	shown := path.Join(treeRoot, "unpack", i.from)
	from := path.Clean("./" + i.from)
	if !filepath.IsLocal(from) {
		return archive.Layer{}, fmt.Errorf("'%s' leaves the artifact", i.from)
	}
	info, err := fs.Stat(i.tree.FS(), from)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return archive.Layer{}, fmt.Errorf("cannot stat %s: stat %s: no such file or directory", shown, shown)
	case err != nil:
		return archive.Layer{}, fmt.Errorf("cannot stat %s: %w", shown, err)
	case info.IsDir():
		return archive.Layer{At: to, Source: archive.FS(i.tree.FS(), from)}, nil
	}
	return archive.Layer{At: path.Dir(to), Source: file{i.tree.FS(), from, path.Base(to), info}}, nil
}

// file is a Source of one file.
type file struct {
	tree     fs.FS
	path, as string
	info     fs.FileInfo
}

func (f file) Walk(_ context.Context, fn func(archive.Entry) error) error {
	return fn(archive.Entry{Path: f.as, Mode: f.info.Mode(), Size: f.info.Size(), Open: func() (io.ReadCloser, error) {
		return f.tree.Open(f.path)
	}})
}
