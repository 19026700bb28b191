package ssa

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// ID names an object without its API version.
type ID struct {
	Namespace, Name, Group, Kind string
}

// IDOf is the id of an object.
func IDOf(u *unstructured.Unstructured) ID {
	gvk := u.GroupVersionKind()
	return ID{Namespace: u.GetNamespace(), Name: u.GetName(), Group: gvk.Group, Kind: gvk.Kind}
}

// GroupKind is the id's kind.
func (id ID) GroupKind() schema.GroupKind { return schema.GroupKind{Group: id.Group, Kind: id.Kind} }

// String is the form of status.inventory: <namespace>_<name>_<group>_<kind>, empty parts kept, colons of RBAC names as "__"
// (wire 9, kustomization 78).
func (id ID) String() string {
	name := id.Name
	if id.Group == rbacGroup {
		name = strings.ReplaceAll(name, ":", "__")
	}
	return id.Namespace + "_" + name + "_" + id.Group + "_" + id.Kind
}

// Subject is the form of messages: Kind/namespace/name, or Kind/name.
func (id ID) Subject() string {
	if id.Namespace == "" {
		return id.Kind + "/" + id.Name
	}
	return id.Kind + "/" + id.Namespace + "/" + id.Name
}

// ParseID reads the form of String. Neither namespaces nor groups nor kinds hold underscores, so a name may. A double
// underscore in the name of an RBAC object stands for a colon.
func ParseID(s string) (ID, error) {
	namespace, rest, ok := strings.Cut(s, "_")
	k := strings.LastIndexByte(rest, '_')
	if !ok || k < 0 {
		return ID{}, fmt.Errorf("invalid inventory id %q: not <namespace>_<name>_<group>_<kind>", s)
	}
	g := strings.LastIndexByte(rest[:k], '_')
	if g <= 0 || k+1 == len(rest) {
		return ID{}, fmt.Errorf("invalid inventory id %q: not <namespace>_<name>_<group>_<kind>", s)
	}
	id := ID{Namespace: namespace, Name: rest[:g], Group: rest[g+1 : k], Kind: rest[k+1:]}
	if id.Group == rbacGroup {
		id.Name = strings.ReplaceAll(id.Name, "__", ":")
	}
	return id, nil
}

const rbacGroup = "rbac.authorization.k8s.io"

// Entry is one object of an inventory as status keeps it: its id and the API version it was applied in.
type Entry struct {
	ID      string
	Version string
}

// EntryOf is the inventory entry of an object.
func EntryOf(u *unstructured.Unstructured) Entry {
	return Entry{ID: IDOf(u).String(), Version: u.GroupVersionKind().Version}
}

// Inventory lists what an owner applied, in the order of application.
type Inventory []Entry

// IDs is the set of ids.
func (inv Inventory) IDs() map[string]struct{} {
	ids := make(map[string]struct{}, len(inv))
	for _, e := range inv {
		ids[e.ID] = struct{}{}
	}
	return ids
}

// Union is inv followed by the entries of more that inv does not have; an entry of more replaces the version of its equal.
func (inv Inventory) Union(more Inventory) Inventory {
	at := make(map[string]int, len(inv)+len(more))
	out := make(Inventory, 0, len(inv)+len(more))
	for _, list := range []Inventory{inv, more} {
		for _, e := range list {
			if i, ok := at[e.ID]; ok {
				out[i] = e
				continue
			}
			at[e.ID] = len(out)
			out = append(out, e)
		}
	}
	return out
}

// Minus is what inv holds and other does not, whatever the versions (kustomization 80).
func (inv Inventory) Minus(other Inventory) Inventory {
	ids := other.IDs()
	var out Inventory
	for _, e := range inv {
		if _, ok := ids[e.ID]; !ok {
			out = append(out, e)
		}
	}
	return out
}

// Equal reports whether both hold the same entries in the same order.
func (inv Inventory) Equal(other Inventory) bool {
	if len(inv) != len(other) {
		return false
	}
	for i := range inv {
		if inv[i] != other[i] {
			return false
		}
	}
	return true
}

// Kinds lists the kinds of an inventory, each once, in the version of its first entry, for kube.Managed. Entries that cannot be
// parsed are left out: pruning reports them.
func (inv Inventory) Kinds() []schema.GroupVersionKind {
	seen := map[schema.GroupKind]struct{}{}
	var out []schema.GroupVersionKind
	for _, e := range inv {
		id, err := ParseID(e.ID)
		if err != nil {
			continue
		}
		if _, ok := seen[id.GroupKind()]; ok {
			continue
		}
		seen[id.GroupKind()] = struct{}{}
		out = append(out, id.GroupKind().WithVersion(e.Version))
	}
	return out
}
