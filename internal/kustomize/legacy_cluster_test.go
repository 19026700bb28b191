package kustomize

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
)

// kustomization 34: the build still takes the old fields for patches, but no object can bring them: the API server drops what the
// CRD does not have, also of what it had stored.
func TestLegacyPatches(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	obj := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"namespace": l.ns, "name": "old"},
		"spec": map[string]any{
			"interval": "10m", "prune": true, "suspend": true,
			"sourceRef":             map[string]any{"kind": "GitRepository", "name": "repo"},
			"patchesStrategicMerge": []any{map[string]any{"kind": "ConfigMap"}},
			"patchesJson6902":       []any{map[string]any{"patch": []any{}}},
		},
	}}
	obj.SetGroupVersionKind(kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind))
	if err := l.client.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	if err := l.client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"patchesStrategicMerge", "patchesJson6902"} {
		if _, found, _ := unstructured.NestedFieldNoCopy(obj.Object, "spec", field); found {
			t.Errorf("spec.%s is kept: read it", field)
		}
	}
}
