package helm

import (
	"context"

	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/helm/action"
	"github.com/seed-79636ae9/flux/internal/helm/drift"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// inventoryOf lists the objects of a release's manifest in its order, each once, and then the CustomResourceDefinitions that came
// beside it (helmrelease 72, 82). Objects without a namespace are in the given one. A kind that is not served, as after a failed
// install, is taken for a namespaced one. An error names the object or limit.
func inventoryOf(ctx context.Context, manifest string, crds []action.CRD, namespace string, mapper *kube.Mapper) (*meta.Inventory, error) {
	objects, err := drift.Objects(ctx, manifest, "", nil)
	if err != nil {
		return nil, err
	}
	out := &meta.Inventory{Entries: make([]meta.InventoryEntry, 0, len(objects)+len(crds))}
	seen := make(map[ssa.ID]struct{}, len(objects)+len(crds))
	add := func(id ssa.ID, version string) {
		if _, twice := seen[id]; !twice {
			seen[id] = struct{}{}
			out.Entries = append(out.Entries, meta.InventoryEntry{ID: id.String(), Version: version})
		}
	}
	for _, o := range objects {
		id, gvk := ssa.IDOf(o), o.GroupVersionKind()
		res, err := mapper.Resource(ctx, gvk)
		switch {
		case err != nil && !apimeta.IsNoMatchError(err):
			return nil, ssa.NewObjectError(o, "lookup failed", err)
		case err == nil && !res.Namespaced:
			id.Namespace = ""
		case id.Namespace == "":
			id.Namespace = namespace
		}
		add(id, gvk.Version)
	}
	for _, c := range crds {
		add(ssa.ID{Name: c.Name, Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}, c.Version)
	}
	return out, nil
}
