package charts

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// TestAPIServerTakesThem shows each object of the charts, with everything switched on, to an API server.
func TestAPIServerTakesThem(t *testing.T) {
	config := testkit.Cluster(t)
	all, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	namespace := testkit.Namespace(t, config)
	show := func(t *testing.T, o client.Object) {
		t.Helper()
		if err := all.Create(t.Context(), o, client.DryRunAll, client.FieldValidation("Strict")); err != nil {
			t.Error(err)
		}
	}
	const everything = "{cache: {enabled: true}, autoscaling: {enabled: true}}"
	for _, tt := range []struct {
		name   string
		chart  Chart
		values string
	}{
		{"webapp 1.0.0", Webapp(First), everything}, {"webapp 1.1.0", Webapp(Second), everything}, {"webapp 2.0.0", Webapp(Third), everything},
		{"many", Many(), "{count: 3}"}, {"hooks", Hooks(), "{outputLogPolicy: hook-failed}"}, {"schema", SchemaDepth(1), "{}"}, {"expression", Expression("1"), "{}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objects, err := render(t, tt.chart, tt.values)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				o.SetNamespace(namespace)
				show(t, o)
			}
			for _, crd := range load(t, tt.chart).CRDObjects() {
				o := &unstructured.Unstructured{}
				if err := yaml.Unmarshal(crd.File.Data, o); err != nil {
					t.Fatal(err)
				}
				show(t, o)
			}
		})
	}
}
