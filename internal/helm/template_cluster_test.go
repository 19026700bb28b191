package helm

import (
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// On a real API server: who owns what of a HelmChart, what its defaults do, and that what a template no longer says is gone
// (helmrelease 11, 12, 15; wire 4).
func TestTemplateApplied(t *testing.T) {
	config := kube.Config(testkit.Cluster(t), "helm-test")
	testkit.InstallCRDs(t, config)
	key := types.NamespacedName{Namespace: testkit.Namespace(t, config), Name: "app"}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{sourcev1.AddToScheme, helmv2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	live, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	d := newDeskOn(t, live, key)
	obj := app(t, "chart: {metadata: {labels: {team: web}}, spec: {chart: demo, sourceRef: {kind: HelmRepository, name: repo}, valuesFiles: [a.yaml]}}")
	obj.Namespace, obj.UID, obj.Generation = key.Namespace, "", 0
	if err := live.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	name := key.Namespace + "-app"
	told := func(verb string) []string {
		return []string{fmt.Sprintf("trace HelmChart%s: %s HelmChart/%s/%s with SourceRef 'HelmRepository/%s/repo' (local)", verb, verb, key.Namespace, name, key.Namespace)}
	}
	_, events := d.run()
	expect(t, "events", told("Created"), events)
	chart := d.chart(key.Namespace, name)
	var managers []string
	for _, m := range chart.ManagedFields {
		managers = append(managers, m.Manager+" "+string(m.Operation))
	}
	expect(t, "managers", []string{"helm-controller Apply"}, managers)
	d.took()

	// Somebody suspends it, and asks for a run: that is not ours, and costs nothing.
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"reconcile.fluxcd.io/requestedAt":"now"}},"spec":{"suspend":true}}`))
	if err := live.Patch(t.Context(), chart, patch); err != nil {
		t.Fatal(err)
	}
	version := chart.ResourceVersion
	_, events = d.run()
	if len(events) > 0 || d.chart(key.Namespace, name).ResourceVersion != version {
		t.Errorf("a run without news wrote: %q", events)
	}

	obj = d.get()
	obj.Spec.Chart.ObjectMeta, obj.Spec.Chart.Spec.ValuesFiles = nil, nil
	if err := live.Update(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	_, events = d.run()
	expect(t, "events", told("Configured"), events)
	chart = d.chart(key.Namespace, name)
	if len(chart.Spec.ValuesFiles) > 0 || chart.Labels["team"] != "" {
		t.Errorf("the old template is still there: %v %v", chart.Spec.ValuesFiles, chart.Labels)
	}
	if !chart.Spec.Suspend || len(chart.Annotations) != 1 {
		t.Errorf("what others wrote is gone: suspended %v, %v", chart.Spec.Suspend, chart.Annotations)
	}

	// Somebody makes another chart of it, and another one in its place.
	chart.Spec.Chart = "theirs"
	if err := live.Update(t.Context(), chart); err != nil {
		t.Fatal(err)
	}
	_, events = d.run()
	expect(t, "events", told("Configured"), events)
	if err := live.Delete(t.Context(), chart); err != nil {
		t.Fatal(err)
	}
	_, events = d.run()
	expect(t, "events", told("Created"), events)

	// The end.
	if err := live.Delete(t.Context(), d.get()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Run(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(d.Lines(), fmt.Sprintf("trace HelmChartDeleted: deleted HelmChart '%s/%s' (local)", key.Namespace, name)) || d.chart(key.Namespace, name) != nil {
		t.Error("the HelmChart is still there")
	}
}
