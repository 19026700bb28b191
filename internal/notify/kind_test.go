package notify

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// enumeration reads the values that a field of the spec may have from a CRD.
func enumeration(t *testing.T, file string, path ...string) []string {
	t.Helper()
	data, err := os.ReadFile("../../api/crds/notification.toolkit.fluxcd.io_" + file + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(data, &crd); err != nil {
		t.Fatal(err)
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	for _, field := range path {
		if schema.Items != nil {
			schema = *schema.Items.Schema
		}
		schema = schema.Properties[field]
	}
	var out []string
	for _, value := range schema.Enum {
		var s string
		if err := yaml.Unmarshal(value.Raw, &s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		t.Fatalf("%s: %v has no enumeration", file, path)
	}
	return out
}

// TestFlagsKnowTheAPI proves that the flags accept what the API accepts (cli 28).
func TestFlagsKnowTheAPI(t *testing.T) {
	// Flags cannot describe what generic-oidc needs.
	receiverTypes := slices.DeleteFunc(enumeration(t, "receivers", "type"), func(name string) bool { return name == "generic-oidc" })
	for name, pair := range map[string][2][]string{
		"objects of Alerts":    {enumeration(t, "alerts", "eventSources", "kind"), selectable()},
		"objects of Receivers": {enumeration(t, "receivers", "resources", "kind"), selectable()},
		"severities":           {enumeration(t, "alerts", "eventSeverity"), severities()},
		"provider types":       {enumeration(t, "providers", "type"), providerTypes()},
		"receiver types":       {receiverTypes, ReceiverType().Allowed},
	} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Errorf("%s (-API +flags):\n%s", name, diff)
		}
	}
}

// TestAlertNamesItsProvider covers cli 63: the events of an alert tell of its provider, too.
func TestAlertNamesItsProvider(t *testing.T) {
	alert := func(spec map[string]any) kind.Object {
		return kind.Object{Unstructured: &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "notification.toolkit.fluxcd.io/v1beta3", "kind": "Alert",
			"metadata": map[string]any{"name": "a", "namespace": "apps"}, "spec": spec,
		}}}
	}
	related := AlertKind().Related
	want := []kind.Ref{{Kind: "Provider", Namespace: "apps", Name: "slack"}}
	if diff := cmp.Diff(want, related(alert(map[string]any{"providerRef": map[string]any{"name": "slack"}}))); diff != "" {
		t.Errorf("related (-want +got):\n%s", diff)
	}
	if got := related(alert(map[string]any{})); got != nil {
		t.Errorf("related of nothing: %v", got)
	}
}
