package generate

import (
	"errors"
	"fmt"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// drift says why the artifacts have to be made anew, in words for the log; empty: they are as they should be. made are
// the ExternalArtifacts that carry the label of the object (artifactgenerator 18).
func drift(obj *v1beta1.ArtifactGenerator, sourcesDigest string, stored func(v1beta1.ArtifactReference) error, made []sourcev1.ExternalArtifact) string {
	ready := status.Find(obj.Status.Conditions, meta.ReadyCondition)
	inventory := obj.Status.Inventory
	switch {
	case ready == nil || ready.Status != "True":
		return "the last run did not succeed"
	case ready.ObservedGeneration != obj.Generation:
		return "the spec changed"
	case obj.Status.ObservedSourcesDigest != sourcesDigest:
		return "a source changed"
	case obj.Spec.PathPattern == "" && len(inventory) != len(obj.Spec.Artifacts):
		return "the inventory is not complete"
	}
	digests := map[string]bool{}
	for _, e := range inventory {
		if err := stored(e); err != nil {
			return fmt.Sprintf("the file of artifact '%s': %v", e.Name, err)
		}
		digests[e.Digest] = true
	}
	if len(made) != len(inventory) {
		return fmt.Sprintf("there are %d ExternalArtifacts, the inventory has %d", len(made), len(inventory))
	}
	for _, ea := range made {
		if ea.Status.Artifact == nil || !digests[ea.Status.Artifact.Digest] {
			return fmt.Sprintf("ExternalArtifact '%s' was changed", ea.Name)
		}
	}
	return ""
}

// stored checks the file of an inventory entry; a corrupted one is removed.
func (g *Generator) stored(e v1beta1.ArtifactReference) error {
	a := &meta.Artifact{Path: name(e.Namespace, e.Name, e.Filename).Path(), Digest: e.Digest}
	err := g.Store.Verify(a)
	if errors.Is(err, artifact.ErrMismatch) {
		return errors.Join(err, g.Store.Remove(a))
	}
	return err
}

func name(namespace, object, file string) artifact.Name {
	return artifact.Name{Kind: sourcev1.ExternalArtifactKind, Namespace: namespace, Object: object, File: file}
}
