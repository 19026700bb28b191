package action

import (
	"bytes"
	"testing"

	"helm.sh/helm/v4/pkg/chart/v2/loader"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
)

// BenchmarkTemplate renders a chart with a subchart, a library chart, a schema and hooks, without a cluster.
func BenchmarkTemplate(b *testing.B) {
	archive, err := charts.Webapp(charts.First).Archive()
	if err != nil {
		b.Fatal(err)
	}
	a, err := New(Options{ReleaseNamespace: "apps", StorageNamespace: "apps"})
	if err != nil {
		b.Fatal(err)
	}
	obj := &helmv2.HelmRelease{}
	obj.Name, obj.Namespace = "app", "apps"
	b.ReportAllocs()
	for b.Loop() {
		// Rendering may change the chart that it is given.
		b.StopTimer()
		chart, err := loader.LoadArchive(bytes.NewReader(archive))
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := a.Template(b.Context(), obj, chart, map[string]any{"replicaCount": 3}, TemplateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
