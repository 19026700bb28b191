package drift

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// operation is one step of a JSON patch (RFC 6902). A removal has no value.
type operation struct {
	op, path string
	value    any
}

// MarshalJSON implements json.Marshaler. A value may be null, and must be told all the same.
func (o operation) MarshalJSON() ([]byte, error) {
	out := map[string]any{"op": o.op, "path": o.path}
	if o.op != opRemove {
		out["value"] = o.value
	}
	return json.Marshal(out)
}

const (
	opAdd     = "add"
	opReplace = "replace"
	opRemove  = "remove"
)

// patch lists what makes next of live, as far as drift is concerned: labels, annotations, and all but metadata and status
// (helmrelease 84).
func patch(live, next *unstructured.Unstructured) []operation {
	var out []operation
	keys := maps.Clone(live.Object)
	maps.Copy(keys, next.Object)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		switch k {
		case "status":
		case "metadata":
			for _, f := range []string{"annotations", "labels"} {
				out = member(out, "/metadata", f, mapOf(live.Object[k]), mapOf(next.Object[k]))
			}
		default:
			out = member(out, "", k, live.Object, next.Object)
		}
	}
	return out
}

func mapOf(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// pointers escapes the keys of JSON pointers (RFC 6901).
var pointers = strings.NewReplacer("~", "~0", "/", "~1")

// member compares one member of two objects.
func member(to []operation, path, key string, a, b map[string]any) []operation {
	x, was := a[key]
	y, is := b[key]
	path += "/" + pointers.Replace(key)
	switch {
	case was && is:
		return change(to, path, x, y)
	case is:
		return append(to, operation{opAdd, path, y})
	case was:
		return append(to, operation{op: opRemove, path: path})
	}
	return to
}

// change compares two values. Lists are compared entry by entry.
func change(to []operation, path string, a, b any) []operation {
	if reflect.DeepEqual(a, b) {
		return to
	}
	x, isMap := a.(map[string]any)
	y, areMaps := b.(map[string]any)
	if isMap && areMaps {
		keys := maps.Clone(x)
		maps.Copy(keys, y)
		for _, k := range slices.Sorted(maps.Keys(keys)) {
			to = member(to, path, k, x, y)
		}
		return to
	}
	l, isList := a.([]any)
	m, areLists := b.([]any)
	if !isList || !areLists {
		return append(to, operation{opReplace, path, b})
	}
	n := min(len(l), len(m))
	for i := range n {
		to = change(to, path+"/"+strconv.Itoa(i), l[i], m[i])
	}
	for i := len(l) - 1; i >= n; i-- {
		to = append(to, operation{op: opRemove, path: path + "/" + strconv.Itoa(i)})
	}
	for i := n; i < len(m); i++ {
		to = append(to, operation{opAdd, path + "/" + strconv.Itoa(i), m[i]})
	}
	return to
}
