package render

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	yamlv2 "go.yaml.in/yaml/v2"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/yaml"
)

// kustomizeGroup is the group of kustomize's own configuration, which is never applied (kustomization 60).
const kustomizeGroup = "kustomize.config.k8s.io/"

// toObject decodes a resource into what JSON would make of it, without the detour over its text.
func toObject(r *resource.Resource) (*unstructured.Unstructured, error) {
	var m map[string]any
	if err := r.YNode().Decode(&m); err != nil {
		return nil, err
	}
	for key, value := range m {
		v, err := jsonValue(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		m[key] = v
	}
	return &unstructured.Unstructured{Object: m}, nil
}

var errNotFinite = errors.New("a number is infinite or not a number")

// jsonValue makes the types of a decoded YAML value those of a decoded JSON value.
func jsonValue(value any) (any, error) {
	switch v := value.(type) {
	case map[string]any:
		for key := range v {
			item, err := jsonValue(v[key])
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
			item, err := jsonValue(v[i])
			if err != nil {
				return nil, err
			}
			v[i] = item
		}
	case int:
		return int64(v), nil
	case uint64:
		return float64(v), nil
	case float64:
		switch {
		case math.IsInf(v, 0) || math.IsNaN(v):
			return nil, errNotFinite
		case v == math.Trunc(v) && math.Abs(v) < 1<<62:
			return int64(v), nil
		}
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	case string:
		return strings.ToValidUTF8(v, "\ufffd"), nil
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
	return &u, nil
}

// flatten adds an object to the result: the items of a List in its place, and kustomize's configuration not at all
// (kustomization 60).
func (r *Result) flatten(obj *unstructured.Unstructured) error {
	if strings.HasPrefix(obj.GetAPIVersion(), kustomizeGroup) {
		return nil
	}
	items, ok := obj.Object["items"].([]any)
	if !ok || !strings.HasSuffix(obj.GetKind(), "List") {
		r.Objects = append(r.Objects, obj)
		return nil
	}
	for i, item := range items {
		m, ok := item.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: item %d is not an object", obj.GetKind(), i)
		}
		child := &unstructured.Unstructured{Object: m}
		if child.GetKind() == "" || child.GetAPIVersion() == "" || child.GetName() == "" {
			return fmt.Errorf("%s: item %d has no apiVersion, kind or metadata.name", obj.GetKind(), i)
		}
		if err := r.flatten(child); err != nil {
			return err
		}
	}
	return nil
}

// schema is as much of an OpenAPI document as guardSchema looks at.
type schema = map[string]any

// guardSchema refuses an OpenAPI schema whose references lead back to themselves: kustomize would follow them
// for ever, while every other build waits.
func guardSchema(content []byte) error {
	var doc schema
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return nil // kustomize reports it
	}
	safe := map[string]bool{}
	var walk func(v any) error
	walk = func(v any) error {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				if err := followRef(doc, ref, safe); err != nil {
					return err
				}
			}
			for _, item := range v {
				if err := walk(item); err != nil {
					return err
				}
			}
		case []any:
			for _, item := range v {
				if err := walk(item); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return walk(doc)
}

func followRef(doc schema, ref string, safe map[string]bool) error {
	var trail []string
	for seen := map[string]bool{}; ref != "" && !safe[ref]; {
		if seen[ref] {
			return fmt.Errorf("the OpenAPI reference %s leads back to itself", ref)
		}
		seen[ref] = true
		trail = append(trail, ref)
		ref = refOf(doc, ref)
	}
	for _, r := range trail {
		safe[r] = true
	}
	return nil
}

// refOf returns the reference that the target of a reference consists of, if it does.
func refOf(doc schema, ref string) string {
	_, pointer, _ := strings.Cut(ref, "#")
	var at any = doc
	for _, part := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		m, ok := at.(map[string]any)
		if !ok {
			return ""
		}
		at = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	m, _ := at.(map[string]any)
	next, _ := m["$ref"].(string)
	return next
}
