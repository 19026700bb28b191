package generate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// managedByLabel names the program that made an object.
const managedByLabel = "app.kubernetes.io/managed-by"

// storedMessage of the Ready condition of an ExternalArtifact (externalartifact 4).
const storedMessage = "Artifact is ready"

// made lists the ExternalArtifacts that carry the label of the object. It reads live: a cache that lags behind our own
// writes would tell of a drift that is none.
func (g *Generator) made(ctx context.Context, obj *v1beta1.ArtifactGenerator) ([]sourcev1.ExternalArtifact, error) {
	var list sourcev1.ExternalArtifactList
	err := g.Reader.List(ctx, &list, client.InNamespace(obj.Namespace), client.MatchingLabels{v1beta1.GeneratorLabel: string(obj.UID)})
	if err != nil {
		return nil, fmt.Errorf("listing the ExternalArtifacts: %w", err)
	}
	return list.Items, nil
}

// desired is the ExternalArtifact of an artifact (artifactgenerator 55, 56).
func desired(obj *v1beta1.ArtifactGenerator, o output, a *meta.Artifact) *sourcev1.ExternalArtifact {
	ea := &sourcev1.ExternalArtifact{
		TypeMeta:   metav1.TypeMeta{APIVersion: sourcev1.GroupVersion.String(), Kind: sourcev1.ExternalArtifactKind},
		ObjectMeta: metav1.ObjectMeta{Namespace: obj.Namespace, Name: o.Name, Labels: map[string]string{}},
		Spec: sourcev1.ExternalArtifactSpec{SourceRef: &meta.NamespacedObjectKindReference{
			APIVersion: v1beta1.GroupVersion.String(), Kind: v1beta1.ArtifactGeneratorKind, Name: obj.Name, Namespace: obj.Namespace,
		}},
	}
	if common := obj.Spec.CommonMetadata; common != nil {
		maps.Copy(ea.Labels, common.Labels)
		ea.Annotations = maps.Clone(common.Annotations)
	}
	maps.Copy(ea.Labels, o.labels)
	ea.Labels[managedByLabel] = Name
	ea.Labels[v1beta1.GeneratorLabel] = string(obj.UID)
	ea.Status.Artifact = a
	return ea
}

// same reports whether live needs no write to become want. It does not see labels and annotations that a former spec
// asked for: the caller knows that the spec is the one live was made with.
func same(live, want *sourcev1.ExternalArtifact) bool {
	a, b := live.Status.Artifact, want.Status.Artifact
	ready := status.Find(live.Status.Conditions, meta.ReadyCondition)
	return live.DeletionTimestamp.IsZero() && live.Spec.SourceRef != nil && *live.Spec.SourceRef == *want.Spec.SourceRef &&
		contains(live.Labels, want.Labels) && contains(live.Annotations, want.Annotations) &&
		ready != nil && ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == live.Generation &&
		a != nil && a.Path == b.Path && a.URL == b.URL && a.Digest == b.Digest && a.Revision == b.Revision && maps.Equal(a.Metadata, b.Metadata)
}

func contains(all, some map[string]string) bool {
	for k, v := range some {
		if have, ok := all[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// publish applies an ExternalArtifact, then its status. One that others have made is taken over (artifactgenerator
// 55-58).
func (g *Generator) publish(ctx context.Context, want *sourcev1.ExternalArtifact) error {
	var live sourcev1.ExternalArtifact
	identity := map[string]any{"namespace": want.Namespace, "name": want.Name}
	metadata := maps.Clone(identity)
	metadata["labels"] = want.Labels
	if len(want.Annotations) > 0 {
		metadata["annotations"] = want.Annotations
	}
	body, err := applyBody(want, metadata, "spec", want.Spec)
	if err != nil {
		return err
	}
	live.Namespace, live.Name = want.Namespace, want.Name
	if err := g.Client.Patch(ctx, &live, client.RawPatch(types.ApplyPatchType, body), client.ForceOwnership, client.FieldOwner(Name)); err != nil {
		return fmt.Errorf("applying ExternalArtifact '%s/%s': %w", want.Namespace, want.Name, err)
	}
	ready := metav1.Condition{
		Type: meta.ReadyCondition, Status: metav1.ConditionTrue, Reason: meta.SucceededReason, Message: storedMessage,
		ObservedGeneration: live.Generation, LastTransitionTime: metav1.NewTime(g.Clock.Now().UTC().Truncate(time.Second)),
	}
	if old := status.Find(live.Status.Conditions, meta.ReadyCondition); old != nil && old.Status == ready.Status && old.Message == ready.Message {
		ready.LastTransitionTime = old.LastTransitionTime
	}
	body, err = applyBody(want, identity, "status", sourcev1.ExternalArtifactStatus{Artifact: want.Status.Artifact, Conditions: []metav1.Condition{ready}})
	if err != nil {
		return err
	}
	if err := g.Client.Status().Patch(ctx, &live, client.RawPatch(types.ApplyPatchType, body), client.ForceOwnership, client.FieldOwner(Name)); err != nil {
		return fmt.Errorf("applying the status of ExternalArtifact '%s/%s': %w", want.Namespace, want.Name, err)
	}
	return nil
}

func applyBody(want *sourcev1.ExternalArtifact, metadata map[string]any, field string, value any) ([]byte, error) {
	body, err := json.Marshal(map[string]any{"apiVersion": want.APIVersion, "kind": want.Kind, "metadata": metadata, field: value})
	if err != nil {
		return nil, fmt.Errorf("encoding ExternalArtifact '%s/%s': %w", want.Namespace, want.Name, err)
	}
	return body, nil
}

// withdraw removes an artifact from storage and cluster, unless its ExternalArtifact is somebody else's by now: then the
// file may be, too. known is what the caller has seen of it, nil for nothing (artifactgenerator 6, 59).
func (g *Generator) withdraw(ctx context.Context, obj *v1beta1.ArtifactGenerator, namespace, object string, known *sourcev1.ExternalArtifact) error {
	ea := known
	if ea == nil {
		ea = &sourcev1.ExternalArtifact{}
		err := g.Reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: object}, ea)
		switch {
		case apierrors.IsNotFound(err):
			return g.drop(namespace, object)
		case err != nil:
			return fmt.Errorf("reading ExternalArtifact '%s/%s': %w", namespace, object, err)
		}
	}
	if ea.Labels[v1beta1.GeneratorLabel] != string(obj.UID) {
		log.FromContext(ctx).Info("not removing an ExternalArtifact that belongs to another generator", "externalArtifact", namespace+"/"+object)
		return nil
	}
	// The preconditions keep the deletion from whoever has taken the object over since it was read.
	err := g.Client.Delete(ctx, ea, client.Preconditions{UID: &ea.UID, ResourceVersion: &ea.ResourceVersion})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting ExternalArtifact '%s/%s': %w", namespace, object, err)
	}
	return g.drop(namespace, object)
}

func (g *Generator) drop(namespace, object string) error {
	_, err := g.Store.RemoveAll(sourcev1.ExternalArtifactKind, namespace, object)
	return err
}

// prune removes what the object has made and does not make any more: what the old inventory names and the new one does
// not, and what only carries the label, left over from a run that failed half way (artifactgenerator 59).
func (g *Generator) prune(ctx context.Context, obj *v1beta1.ArtifactGenerator, keep []v1beta1.ArtifactReference, made []sourcev1.ExternalArtifact) error {
	kept := map[types.NamespacedName]bool{}
	for _, e := range keep {
		kept[types.NamespacedName{Namespace: e.Namespace, Name: e.Name}] = true
	}
	known := map[types.NamespacedName]*sourcev1.ExternalArtifact{}
	for _, e := range obj.Status.Inventory {
		known[types.NamespacedName{Namespace: e.Namespace, Name: e.Name}] = nil
	}
	for i := range made {
		known[client.ObjectKeyFromObject(&made[i])] = &made[i]
	}
	var errs []error
	for key, ea := range known {
		// An inventory is status, which others can write: what is not in our namespace, we have not made.
		if !kept[key] && key.Namespace == obj.Namespace {
			errs = append(errs, g.withdraw(ctx, obj, key.Namespace, key.Name, ea))
		}
	}
	return errors.Join(errs...)
}
