package ssa

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// kustomization 67: drift is told by the paths that differ, never by values.
func TestDifferences(t *testing.T) {
	wide := func(n int) *unstructured.Unstructured {
		data := map[string]any{}
		for i := range n {
			data[fmt.Sprintf("k%02d", i)] = "x"
		}
		return &unstructured.Unstructured{Object: map[string]any{"data": data}}
	}
	for name, tt := range map[string]struct {
		a, b *unstructured.Unstructured
		want string
	}{
		"a value":             {object(t, "{data: {a: secret, b: y}}"), object(t, "{data: {a: other, b: y}}"), "ConfigMap/ns/a differs in /data/a"},
		"added and removed":   {object(t, "{spec: {a: 1, b: {c: 2}}}"), object(t, "{spec: {b: {d: 2}}}"), "ConfigMap/ns/a differs in /spec/a, /spec/b/c, /spec/b/d"},
		"an entry of a list":  {object(t, "{spec: {l: [{x: 1}, {x: 2}]}}"), object(t, "{spec: {l: [{x: 1}, {x: 3}]}}"), "ConfigMap/ns/a differs in /spec/l/1/x"},
		"the length of one":   {object(t, "{spec: {l: [1]}}"), object(t, "{spec: {l: [1, 2]}}"), "ConfigMap/ns/a differs in /spec/l"},
		"labels, annotations": {object(t, "{metadata: {labels: {a: x}}}"), object(t, "{metadata: {annotations: {example.com/a~b: x}}}"), "ConfigMap/ns/a differs in /metadata/annotations/example.com~1a~0b, /metadata/labels/a"},
		"not the status":      {object(t, "{metadata: {generation: 1}, status: {a: 1}}"), object(t, "{metadata: {generation: 2}}"), "ConfigMap/ns/a differs in who manages it"},
		"many":                {wide(13), wide(0), "ConfigMap/ns/a differs in /data/k00, /data/k01, /data/k02, /data/k03, /data/k04, /data/k05, /data/k06, /data/k07, /data/k08, /data/k09 and 3 more"},
	} {
		t.Run(name, func(t *testing.T) {
			d := Drift{ID: ID{Namespace: "ns", Name: "a", Kind: "ConfigMap"}}
			d.Paths, d.More = differences(tt.a, tt.b)
			if diff := cmp.Diff(tt.want, d.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
