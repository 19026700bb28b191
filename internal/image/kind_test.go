package image

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// TestPolicyNamesItsRepository covers cli 63: the events of a policy tell of its repository, too, wherever that is.
func TestPolicyNamesItsRepository(t *testing.T) {
	for name, tc := range map[string]struct {
		ref  map[string]any
		want []kind.Ref
	}{
		"own namespace":     {map[string]any{"name": "web"}, []kind.Ref{{Kind: "ImageRepository", Namespace: "apps", Name: "web"}}},
		"another namespace": {map[string]any{"name": "web", "namespace": "team"}, []kind.Ref{{Kind: "ImageRepository", Namespace: "team", Name: "web"}}},
		"none":              {map[string]any{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			policy := kind.Object{Unstructured: &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "image.toolkit.fluxcd.io/v1", "kind": "ImagePolicy", "metadata": map[string]any{"name": "p", "namespace": "apps"},
				"spec": map[string]any{"imageRepositoryRef": tc.ref},
			}}}
			if diff := cmp.Diff(tc.want, PolicyKind().Related(policy)); diff != "" {
				t.Errorf("related (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTagFilter covers cli 27 and imagepolicy 25: a template that names groups which the pattern has not is refused, because it would make
// all tags equal.
func TestTagFilter(t *testing.T) {
	for name, tc := range map[string]struct {
		pattern, extract string
		refused          bool
	}{
		"named":               {`(?P<ts>\d+)`, `$ts`, false},
		"named in braces":     {`(?P<ts>\d+)`, `v${ts}x`, false},
		"numbered":            {`(\d+)-(\d+)`, `$2.$1`, false},
		"whole":               {`\d+`, `$0`, false},
		"a dollar sign":       {`\d+`, `$$x`, false},
		"a dollar sign alone": {`\d+`, `$`, false},
		"no group":            {`\d+`, `same`, false},
		"unknown name":        {`(?P<ts>\d+)`, `$time`, true},
		"name runs on":        {`(?P<ts>\d+)`, `$tsx`, true},
		"unknown number":      {`(\d+)`, `$2`, true},
		"unknown in braces":   {`(\d+)`, `${two}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := (&policyOptions{filter: tc.pattern, extract: tc.extract}).tagFilter()
			if (err != nil) != tc.refused {
				t.Errorf("error %v, want a refusal: %t", err, tc.refused)
			}
		})
	}
}
