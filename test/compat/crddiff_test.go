package compat

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"
)

// crdDiff compares two CustomResourceDefinitions in JSON form and returns one line per difference, sorted by path. It sees
// everything but descriptions. Only where the API gives order no meaning is order ignored.
func crdDiff(contract, ours map[string]any) []string {
	want, got := map[string]string{}, map[string]string{}
	flatten("", contract, want)
	flatten("", ours, got)
	var diffs []string
	for path, w := range want {
		g, ok := got[path]
		switch {
		case !ok:
			diffs = append(diffs, fmt.Sprintf("%s: missing, the contract has %s", path, w))
		case g != w:
			diffs = append(diffs, fmt.Sprintf("%s: is %s, the contract has %s", path, g, w))
		}
	}
	for path, g := range got {
		if _, ok := want[path]; !ok {
			diffs = append(diffs, fmt.Sprintf("%s: is %s, the contract has nothing here", path, g))
		}
	}
	sort.Strings(diffs)
	return diffs
}

// flatten writes every leaf below v into out, by path. Below a schema the path reads like the path of a field in an
// object: "spec.ref.branch", list items as "[]", map values as "{}", and the keyword after a "#".
func flatten(path string, v any, out map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			out[path] = "{}"
		}
		for key, child := range v {
			if key == "openAPIV3Schema" {
				flattenSchema("", child.(map[string]any), out)
				continue
			}
			flatten(join(path, key), child, out)
		}
	case []any:
		if len(v) == 0 {
			out[path] = "[]"
		}
		for i, child := range v {
			flatten(fmt.Sprintf("%s[%d]", path, i), child, out)
		}
	default:
		out[path] = text(v)
	}
}

func flattenSchema(path string, schema map[string]any, out map[string]string) {
	for keyword, v := range schema {
		at := path + "#" + keyword
		switch keyword {
		case "description":
		case "properties":
			for name, child := range v.(map[string]any) {
				flattenSchema(join(path, name), child.(map[string]any), out)
			}
		case "items":
			flattenSchema(path+"[]", v.(map[string]any), out)
		case "additionalProperties":
			if child, ok := v.(map[string]any); ok {
				flattenSchema(path+"{}", child, out)
				continue
			}
			out[at] = text(v)
		case "required", "enum":
			var values []string
			for _, value := range v.([]any) {
				values = append(values, text(value))
			}
			slices.Sort(values)
			out[at] = strings.Join(values, " ")
		default:
			out[at] = text(v)
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// text is JSON with sorted keys, so that equal values give equal text.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
