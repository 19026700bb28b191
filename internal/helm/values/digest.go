package values

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"

	yamlv2 "go.yaml.in/yaml/v2"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

// Digest identifies values: "<algorithm>:<hex>" over their YAML with all keys sorted, over nothing if there are none (helmrelease 30). The
// algorithm is one of --snapshot-digest-algo. Numbers count by what they are worth: values that went through the record of a release have
// the digest they had before.
func Digest(algo string, values map[string]any) (string, error) {
	a, err := artifact.ParseAlgo(algo)
	if err != nil {
		return "", err
	}
	h := a.New()
	if len(values) > 0 {
		encoder := yamlv2.NewEncoder(h)
		if err := encoder.Encode(sorted(yaml.JSONObjectToYAMLObject(values))); err != nil {
			return "", fmt.Errorf("writing the values as YAML: %w", err)
		}
		if err := encoder.Close(); err != nil {
			return "", fmt.Errorf("writing the values as YAML: %w", err)
		}
	}
	return algo + ":" + hex.EncodeToString(h.Sum(nil)), nil
}

// sorted sorts the keys of all maps, and rounds numbers as the record of a release does, which holds them as JSON.
func sorted(value any) any {
	switch v := value.(type) {
	case int:
		return yaml.JSONObjectToYAMLObject(map[string]any{"": float64(v)})[0].Value
	case yamlv2.MapSlice:
		slices.SortFunc(v, func(a, b yamlv2.MapItem) int { return cmp.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key)) })
		for i := range v {
			v[i].Value = sorted(v[i].Value)
		}
	case []any:
		for i := range v {
			v[i] = sorted(v[i])
		}
	}
	return value
}
