package kustomize

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// inventoryIndex finds Kustomizations by the ids of their inventories.
const inventoryIndex = "status.inventory.entries.id"

// Claims finds the Kustomizations whose inventories hold an id.
type Claims func(ctx context.Context, id string) ([]kustomizev1.Kustomization, error)

// indexClaims indexes the inventories of the Kustomizations that the process sees.
func indexClaims(ctx context.Context, indexer client.FieldIndexer, cached client.Reader) (Claims, error) {
	ids := func(o client.Object) []string {
		obj, ok := o.(*kustomizev1.Kustomization)
		if !ok || obj.Status.Inventory == nil {
			return nil
		}
		out := make([]string, len(obj.Status.Inventory.Entries))
		for i, e := range obj.Status.Inventory.Entries {
			out[i] = e.ID
		}
		return out
	}
	if err := indexer.IndexField(ctx, &kustomizev1.Kustomization{}, inventoryIndex, ids); err != nil {
		return nil, fmt.Errorf("indexing inventories: %w", err)
	}
	return func(ctx context.Context, id string) ([]kustomizev1.Kustomization, error) {
		var found kustomizev1.KustomizationList
		err := cached.List(ctx, &found, client.MatchingFields{inventoryIndex: id})
		return found.Items, err
	}, nil
}

// claimants are the other Kustomizations that hold an object of the same cluster. One that is being deleted holds nothing.
func (k *Kustomizer) claimants(ctx context.Context, obj *kustomizev1.Kustomization, id ssa.ID) ([]kube.Owner, error) {
	found, err := k.Claims(ctx, id.String())
	if err != nil {
		return nil, fmt.Errorf("failed to see whose inventories hold it: %w", err)
	}
	var out []kube.Owner
	for i := range found {
		other := &found[i]
		if owner(other) != owner(obj) && other.DeletionTimestamp == nil && sameCluster(obj, other) {
			out = append(out, owner(other))
		}
	}
	slices.SortFunc(out, func(a, b kube.Owner) int { return strings.Compare(a.String(), b.String()) })
	return out, nil
}

// sameCluster reports whether two Kustomizations apply to one cluster, as far as their specs tell.
func sameCluster(a, b *kustomizev1.Kustomization) bool {
	return reflect.DeepEqual(a.Spec.KubeConfig, b.Spec.KubeConfig) && (a.Spec.KubeConfig == nil || a.Namespace == b.Namespace)
}

// shared tells the prune of an object which objects are held by another Kustomization too (reliability 139).
func (k *Kustomizer) shared(obj *kustomizev1.Kustomization) func(context.Context, ssa.ID) (kube.Owner, bool, error) {
	return func(ctx context.Context, id ssa.ID) (kube.Owner, bool, error) {
		others, err := k.claimants(ctx, obj, id)
		if err != nil || len(others) == 0 {
			return kube.Owner{}, false, err
		}
		return others[0], true, nil
	}
}

// yield wakes those to whom objects are left, so that they put their labels on them, and remembers to look again when they have.
func (k *Kustomizer) yield(own kube.Owner, others []kube.Owner) {
	if len(others) == 0 {
		k.yielding.take(own)
		return
	}
	k.yielding.add(own)
	for _, other := range others {
		k.wake(other)
	}
}

// taken wakes the former owner of an object that another one has applied, if it waits for that to drop its entry.
func (k *Kustomizer) taken(c kube.Change) {
	if c.Before == nil || c.After == nil || c.Before.Owner == c.After.Owner {
		return
	}
	if k.yielding.take(c.Before.Owner) {
		k.wake(c.Before.Owner)
	}
}

// onClaim wakes those that wait for others to take objects over when another one lets go of something: what both drop is theirs to
// delete.
func (k *Kustomizer) onClaim(before, after client.Object) []types.NamespacedName {
	was, _ := before.(*kustomizev1.Kustomization)
	is, _ := after.(*kustomizev1.Kustomization)
	if was == nil || k.yielding.empty() {
		return nil
	}
	if is != nil && is.DeletionTimestamp.Equal(was.DeletionTimestamp) && len(inventory(was).Minus(inventory(is))) == 0 {
		return nil
	}
	var woken []types.NamespacedName
	for _, o := range k.yielding.list() {
		if o != owner(was) {
			woken = append(woken, o.Key())
		}
	}
	return woken
}

// reportShared tells which applied objects another Kustomization holds as well: both go on writing them, and the last one wins
// (reliability 139). An object that has just come here may be on its way from the other.
func (k *Kustomizer) reportShared(ctx context.Context, w *work, old ssa.Inventory) error {
	known := old.IDs()
	var lines []string
	for _, o := range w.applied.Objects {
		if _, was := known[o.ID.String()]; !was || o.Action == ssa.Skipped {
			continue
		}
		others, err := k.claimants(ctx, w.obj, o.ID)
		if err != nil {
			return err
		}
		for _, other := range others {
			lines = append(lines, fmt.Sprintf("%s is also applied by Kustomization %s", o.ID.Subject(), other))
		}
	}
	if !k.conflicts.news(owner(w.obj), strings.Join(lines, "\n")) {
		return nil
	}
	lines = atMost(maxListed, lines, func(line string) string { return line })
	w.run.Event(event.Event{
		Severity: event.Error, Reason: "OwnershipConflict", Local: true,
		Message: "two Kustomizations declare one object, remove it from one of them:\n" + strings.Join(lines, "\n"),
	})
	return nil
}

// bulletin remembers what was last told of each owner, so that it is told once.
type bulletin struct {
	mu   sync.Mutex // guards last
	last map[kube.Owner]string
}

func newBulletin() *bulletin { return &bulletin{last: map[kube.Owner]string{}} }

// news reports whether a text is to be told: it is not empty, and not what was told last.
func (b *bulletin) news(o kube.Owner, text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.last[o]
	if text == "" {
		delete(b.last, o)
		return false
	}
	b.last[o] = text
	return text != was
}
