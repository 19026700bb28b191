package replay

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// managers lists who wrote an object: "<manager> <operation> [subresource]", sorted, each once.
func managers(obj *unstructured.Unstructured) []string {
	seen := map[string]bool{}
	var all []string
	for _, f := range obj.GetManagedFields() {
		m := strings.TrimSpace(f.Manager + " " + string(f.Operation) + " " + f.Subresource)
		if !seen[m] {
			seen[m] = true
			all = append(all, m)
		}
	}
	sort.Strings(all)
	return all
}

// isKubernetes tells the control plane's own field managers.
func isKubernetes(manager string) bool {
	return strings.HasPrefix(manager, "kube-") || manager == "pod-stand-in"
}

// ownedFields shows what the field managers outside the control plane own of obj, metadata left
// out. A field owned as a whole, such as an atomic list, shows its live value.
func ownedFields(obj *unstructured.Unstructured) (map[string]any, error) {
	var owned any
	for _, f := range obj.GetManagedFields() {
		if isKubernetes(f.Manager) || f.FieldsV1 == nil {
			continue
		}
		set, err := fieldSet(f)
		if err != nil {
			return nil, err
		}
		delete(set, "f:metadata")
		delete(set, "f:apiVersion")
		delete(set, "f:kind")
		owned = mergeSets(owned, set)
	}
	set, _ := owned.(map[string]any)
	shown, _ := project(set, obj.Object).(map[string]any)
	return shown, nil
}

func fieldSet(f metav1.ManagedFieldsEntry) (map[string]any, error) {
	var set map[string]any
	if err := json.Unmarshal(f.FieldsV1.Raw, &set); err != nil {
		return nil, fmt.Errorf("reading the fields of manager %s: %w", f.Manager, err)
	}
	return set, nil
}

// mergeSets is the union of two field sets.
func mergeSets(a, b any) any {
	am, _ := a.(map[string]any)
	bm, _ := b.(map[string]any)
	out := make(map[string]any, len(am)+len(bm))
	for k, v := range am {
		out[k] = v
	}
	for k, v := range bm {
		out[k] = mergeSets(out[k], v)
	}
	return out
}

// project cuts value down to the fields of set. The keys of a set are described in
// structured-merge-diff: "f:" a field, "k:" a list item by its keys, "v:" a set's value, "i:" a
// list index, "." the thing itself.
func project(set map[string]any, value any) any {
	leaf := true
	for key := range set {
		leaf = leaf && key == "."
	}
	if leaf && len(set) == 0 {
		return value
	}
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, sub := range set {
			name, isField := strings.CutPrefix(key, "f:")
			if live, ok := value[name]; isField && ok {
				subset, _ := sub.(map[string]any)
				out[name] = project(subset, live)
			}
		}
		return out
	case []any:
		var out []any
		for i, item := range value {
			if subset, ok := subsetOf(set, i, item); ok {
				out = append(out, project(subset, item))
			}
		}
		return out
	default:
		return value
	}
}

// subsetOf finds the part of a list's field set that belongs to an item.
func subsetOf(set map[string]any, index int, item any) (map[string]any, bool) {
	for key, sub := range set {
		subset, _ := sub.(map[string]any)
		kind, rest, _ := strings.Cut(key, ":")
		var want any
		switch kind {
		case "k":
			if err := json.Unmarshal([]byte(rest), &want); err == nil && hasKeys(item, want) {
				return subset, true
			}
		case "v":
			if err := json.Unmarshal([]byte(rest), &want); err == nil && fmt.Sprint(want) == fmt.Sprint(item) {
				return subset, true
			}
		case "i":
			if rest == fmt.Sprint(index) {
				return subset, true
			}
		}
	}
	return nil, false
}

func hasKeys(item, keys any) bool {
	have, ok := item.(map[string]any)
	want, wantOK := keys.(map[string]any)
	if !ok || !wantOK {
		return false
	}
	for k, v := range want {
		if fmt.Sprint(have[k]) != fmt.Sprint(v) {
			return false
		}
	}
	return true
}
