package ssa_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// reliability 139: what another inventory holds too is not deleted; its entry stays until the other has taken the object over, or it is
// handed over at once. A preview deletes nothing, and counts only what would be.
func TestPruneShared(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.mustApply(ab)
	other := kube.Owner{Namespace: l.ns, Name: "other"}
	req := ssa.PruneRequest{Stale: l.stale("a", "b", "gone"), Shared: func(_ context.Context, id ssa.ID) (kube.Owner, bool, error) {
		return other, id.Name == "b", nil
	}}
	preview := req
	preview.Preview = true
	p := l.prune(preview, "ConfigMap/gone deleted", "ConfigMap/a deleted")
	if len(p.Deleted) != 1 || p.Deleted[0].ID.Name != "a" || l.get("ConfigMap", "a") == nil {
		t.Errorf("the preview: %+v", p)
	}
	p = l.prune(req, "ConfigMap/gone deleted", "ConfigMap/a deleted")
	if diff := cmp.Diff([]kube.Owner{other}, p.Yielding); diff != "" {
		t.Errorf("yielding (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(l.stale("b"), p.Remaining); diff != "" {
		t.Errorf("remaining (-want +got):\n%s", diff)
	}
	if got := l.get("ConfigMap", "b").GetLabels()[group+"/name"]; got != "app" {
		t.Errorf("owner label: %q", got)
	}
	req.HandOver = true
	uid := l.get("ConfigMap", "b").GetUID()
	l.prune(ssa.PruneRequest{Stale: l.stale("b"), Shared: req.Shared, HandOver: true}, "ConfigMap/b skipped")
	if b := l.get("ConfigMap", "b"); b.GetUID() != uid || b.GetLabels()[group+"/name"] != "other" || b.GetLabels()[group+"/namespace"] != l.ns {
		t.Errorf("not handed over: %v", b.GetLabels())
	}
	failing := ssa.PruneRequest{Owner: l.owner, Stale: l.stale("a"), Shared: func(context.Context, ssa.ID) (kube.Owner, bool, error) {
		return kube.Owner{}, false, errors.New("the cache is down")
	}}
	l.mustApply(ab)
	if p, err := l.applier.Prune(t.Context(), failing); err == nil || len(p.Remaining) != 1 || l.get("ConfigMap", "a") == nil {
		t.Errorf("deleted although nobody knows whose it is: %+v, %v", p, err)
	}
}

// The definitions of the program's own kinds are never pruned: all objects of them would go.
func TestPruneOwnDefinitions(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.applier.OwnGroups = l.ns + ".toolkit.test"
	var stale ssa.Inventory
	for _, g := range []string{"own." + l.applier.OwnGroups, "foreign-" + l.applier.OwnGroups} {
		res := l.mustApply("apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things." + g + "}\n" +
			"spec: {group: " + g + ", scope: Namespaced, names: {kind: Thing, plural: things}, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]}\n")
		stale = stale.Union(res.Inventory)
	}
	defer l.remove("apiextensions.k8s.io/v1:CustomResourceDefinition", "things.own."+l.applier.OwnGroups)
	l.prune(ssa.PruneRequest{Stale: stale},
		"CustomResourceDefinition/things.own."+l.applier.OwnGroups+" skipped", "CustomResourceDefinition/things.foreign-"+l.applier.OwnGroups+" deleted")
}
