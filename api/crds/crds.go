// Package crds holds the CustomResourceDefinitions of all kinds, generated from the types in api/ by `make generate`.
package crds

import (
	"embed"
	"fmt"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// FS holds one YAML file per CustomResourceDefinition, named "<group>_<plural>.yaml".
//
//go:embed *.yaml
var FS embed.FS

// All returns every CustomResourceDefinition, ordered by group and plural name. The caller owns the result.
func All() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	entries, err := FS.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list embedded CRDs: %w", err)
	}
	all := make([]*apiextensionsv1.CustomResourceDefinition, 0, len(entries))
	for _, e := range entries {
		data, err := FS.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("read embedded CRD: %w", err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(data, crd); err != nil {
			return nil, fmt.Errorf("decode embedded CRD %s: %w", e.Name(), err)
		}
		all = append(all, crd)
	}
	return all, nil
}

// Bytes returns the YAML of the CustomResourceDefinition called name, as in "gitrepositories.source.toolkit.fluxcd.io".
func Bytes(name string) ([]byte, error) {
	plural, group, ok := strings.Cut(name, ".")
	if !ok {
		return nil, fmt.Errorf("CRD name %q: want <plural>.<group>", name)
	}
	data, err := FS.ReadFile(group + "_" + plural + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("no CRD named %q: %w", name, err)
	}
	return data, nil
}
