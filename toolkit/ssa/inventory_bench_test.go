package ssa

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// BenchmarkInventory makes the inventory of a hundred objects and compares it with one that has other ones.
func BenchmarkInventory(b *testing.B) {
	var objects []*unstructured.Unstructured
	var before Inventory
	for i := range 100 {
		objects = append(objects, fromYAML(b, fmt.Sprintf("{apiVersion: apps/v1, kind: Deployment, metadata: {name: web-%d, namespace: apps}}", i)))
		before = append(before, Entry{ID: fmt.Sprintf("apps_web-%d_apps_Deployment", i+10), Version: "v1"})
	}
	b.ReportAllocs()
	for b.Loop() {
		inventory := make(Inventory, 0, len(objects))
		for _, o := range objects {
			inventory = append(inventory, EntryOf(o))
		}
		if gone, all := before.Minus(inventory), before.Union(inventory); len(gone) != 10 || len(all) != 110 {
			b.Fatal(len(gone), len(all))
		}
		inventory.Kinds()
	}
}

// BenchmarkDifferences compares an object with its dry run, in which an image and a label differ.
func BenchmarkDifferences(b *testing.B) {
	live := fromYAML(b, benchDeployment)
	dryRun := fromYAML(b, strings.NewReplacer("web:1.0", "web:1.1", "{app: web}", "{app: web, tier: front}").Replace(benchDeployment))
	b.ReportAllocs()
	for b.Loop() {
		if paths, more := differences(live, dryRun); len(paths) != 2 || more != 0 {
			b.Fatal(paths, more)
		}
	}
}
