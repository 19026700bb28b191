package drift

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// BenchmarkPatch makes the patch of an object that somebody has scaled and given a label.
func BenchmarkPatch(b *testing.B) {
	const next = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: apps, labels: {app: web}}, spec: {replicas: 2,
  selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: main, image: "example.com/web:1.0",
  env: [{name: A, value: b}, {name: C, value: d}], ports: [{containerPort: 80, protocol: TCP}]}]}}}}`
	var desired, live unstructured.Unstructured
	for _, o := range []*unstructured.Unstructured{&desired, &live} {
		if err := yaml.Unmarshal([]byte(next), &o.Object); err != nil {
			b.Fatal(err)
		}
	}
	live.SetLabels(map[string]string{"app": "web", "manual": "yes"})
	if err := unstructured.SetNestedField(live.Object, 5.0, "spec", "replicas"); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if operations := patch(&live, &desired); len(operations) != 2 {
			b.Fatal(operations)
		}
	}
}
