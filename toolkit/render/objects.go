package render

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	yamlv2 "go.yaml.in/yaml/v2"
	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/yaml"
)

// kustomizeGroup is the group of kustomize's own configuration, which is never applied (kustomization 60).
const kustomizeGroup = "kustomize.config.k8s.io/"

// toObject decodes a resource into what JSON would make of it, without the detour over its text. The result is not
// exact when it holds an integer that an object cannot: then only the text of the resource has all digits.
func toObject(r *resource.Resource) (obj *unstructured.Unstructured, exact bool, err error) {
	if !plain(r.YNode()) {
		j, err := r.MarshalJSON()
		if err != nil {
			return nil, false, err
		}
		var m map[string]any
		if err := json.Unmarshal(j, &m); err != nil {
			return nil, false, err
		}
		return &unstructured.Unstructured{Object: m}, false, nil
	}
	var m map[string]any
	if err := r.YNode().Decode(&m); err != nil {
		return nil, false, err
	}
	c := converter{exact: true}
	if _, err := c.value(m); err != nil {
		return nil, false, err
	}
	return &unstructured.Unstructured{Object: m}, c.exact, nil
}

var errNotFinite = errors.New("a number is infinite or not a number")

// nextLine is U+0085, a line break to YAML and none to JSON.
const nextLine = "\u0085"

// plain reports whether all keys are short words, nothing is folded and no empty value stands between brackets. YAML
// writes others in ways that change them, or the value, on their way through text.
func plain(n *yamlv3.Node) bool {
	if n.Style&yamlv3.FoldedStyle != 0 || strings.Contains(n.Value, nextLine) {
		return false
	}
	for i, c := range n.Content {
		if n.Style&yamlv3.FlowStyle != 0 && c.Kind == yamlv3.ScalarNode && c.Value == "" {
			return false
		}
		if n.Kind == yamlv3.MappingNode && i%2 == 0 {
			if c.Kind != yamlv3.ScalarNode || !plainKey(c.Value) || c.ShortTag() != "!!str" {
				return false
			}
		}
		if !plain(c) {
			return false
		}
	}
	return true
}

func plainKey(key string) bool {
	return len(key) > 0 && len(key) < 100 && !strings.ContainsFunc(key, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_-./", r)
	})
}

// maxExact bounds the floating point numbers taken for integers: JSON writes those without a fraction.
const maxExact = 1 << 53

// converter makes the types of a decoded YAML value those of a decoded JSON value, in place.
type converter struct{ exact bool }

func (c *converter) value(value any) (any, error) {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			item, err := c.value(v[key])
			if err != nil {
				return nil, err
			}
			v[key] = item
		}
	case map[any]any:
		for key := range v {
			if _, ok := key.(string); !ok {
				return nil, fmt.Errorf("the key %v is not a string: put it into quotes", key)
			}
		}
	case []any:
		for i := range v {
			item, err := c.value(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = item
		}
	case int:
		return int64(v), nil
	case uint64:
		c.exact = false
		return float64(v), nil
	case float64:
		switch {
		case math.IsInf(v, 0) || math.IsNaN(v):
			return nil, errNotFinite
		case v == math.Trunc(v) && math.Abs(v) < maxExact:
			return int64(v), nil
		case v == math.Trunc(v):
			c.exact = false
		}
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	case string:
		if !utf8.ValidString(v) {
			return string([]rune(v)), nil // one replacement character for each byte, as encoding/json does
		}
	}
	return value, nil
}

// encode writes an object as kustomize does: keys sorted, two spaces.
func encode(obj map[string]any) ([]byte, error) {
	return yamlv2.Marshal(obj)
}

// decode reads one object of a YAML document.
func decode(doc []byte) (*unstructured.Unstructured, error) {
	j, err := yaml.YAMLToJSON(doc)
	if err != nil {
		return nil, err
	}
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(j); err != nil {
		return nil, err
	}
	var c converter
	_, err = c.value(u.Object)
	return &u, err
}

// flatten adds an object to the result: the items of a List in its place, and kustomize's configuration not at all
// (kustomization 60).
func (r *Result) flatten(obj *unstructured.Unstructured) error {
	if strings.HasPrefix(obj.GetAPIVersion(), kustomizeGroup) {
		return nil
	}
	items, ok := obj.Object["items"].([]any)
	if !ok || !strings.HasSuffix(obj.GetKind(), "List") {
		if err := identified(obj); err != nil {
			return err
		}
		r.Objects = append(r.Objects, obj)
		return nil
	}
	for i, item := range items {
		m, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: item %d is not an object", obj.GetKind(), i)
		}
		if err := r.flatten(&unstructured.Unstructured{Object: m}); err != nil {
			return fmt.Errorf("%s: item %d: %w", obj.GetKind(), i, err)
		}
	}
	return nil
}

// identified checks what names an object (kustomization 39).
func identified(obj *unstructured.Unstructured) error {
	missing := ""
	switch {
	case obj.GetKind() == "":
		missing = "kind"
	case obj.GetAPIVersion() == "":
		missing = "apiVersion"
	case obj.GetName() == "":
		missing = "metadata.name"
	default:
		return nil
	}
	return fmt.Errorf("%s is missing or not a string in object {kind: %q, apiVersion: %q, name: %q}",
		missing, obj.GetKind(), obj.GetAPIVersion(), obj.GetName())
}
