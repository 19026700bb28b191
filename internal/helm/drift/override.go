package drift

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// overridden reports whether the fields of a manager's entry become the release's (helmrelease 86).
func (d *detection) overridden(e metav1.ManagedFieldsEntry) bool {
	if e.Subresource != "" || e.Manager == d.Manager {
		return false
	}
	return slices.ContainsFunc(d.OverrideManagers, func(p string) bool { return p != "" && strings.HasPrefix(e.Manager, p) })
}

// disown removes from the dry-run state of an object what only overridden managers have set: an apply of their fields' new owner
// would remove it (helmrelease 86). Nothing has to be written to find out.
func (d *detection) disown(live, next *unstructured.Unstructured) error {
	theirs, err := owned(live.GetManagedFields(), d.overridden)
	if err != nil || theirs.Empty() {
		return err
	}
	others, err := owned(next.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return !d.overridden(e) })
	if err != nil {
		return err
	}
	theirs.Difference(others).Iterate(func(path fieldpath.Path) {
		last := path[len(path)-1]
		// Nobody owns a map for itself: it goes with its last member.
		if last.FieldName != nil && !below(theirs, path).Empty() {
			return
		}
		if below(others, path).Empty() {
			next.Object, _ = without(next.Object, path).(map[string]any)
		}
	})
	return nil
}

// owned are the fields of all entries that count.
func owned(entries []metav1.ManagedFieldsEntry, counts func(metav1.ManagedFieldsEntry) bool) (*fieldpath.Set, error) {
	all := &fieldpath.Set{}
	for _, e := range entries {
		if e.FieldsV1 == nil || !counts(e) {
			continue
		}
		var set fieldpath.Set
		if err := set.FromJSON(bytes.NewReader(e.FieldsV1.Raw)); err != nil {
			return nil, fmt.Errorf("failed to read the fields of manager %q: %w", e.Manager, err)
		}
		all = all.Union(&set)
	}
	return all, nil
}

// below are the fields of a set below a path.
func below(set *fieldpath.Set, path fieldpath.Path) *fieldpath.Set {
	for _, element := range path {
		set = set.WithPrefix(element)
	}
	return set
}

// without returns a value less what is at a path of managed fields; unchanged if nothing is there.
func without(v any, path fieldpath.Path) any {
	element := path[0]
	switch v := v.(type) {
	case map[string]any:
		if element.FieldName == nil {
			return v
		}
		child, ok := v[*element.FieldName]
		switch {
		case !ok:
		case len(path) == 1:
			delete(v, *element.FieldName)
		default:
			v[*element.FieldName] = without(child, path[1:])
		}
	case []any:
		i := slices.IndexFunc(v, func(entry any) bool { return ssa.Means(element, entry) })
		switch {
		case i < 0:
		case len(path) == 1:
			return slices.Delete(v, i, i+1)
		default:
			v[i] = without(v[i], path[1:])
		}
	}
	return v
}
