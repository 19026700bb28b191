package provider_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// wire 13
func TestGrafana(t *testing.T) {
	providertest.Suite{
		Type: "grafana",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/api/annotations", Username: "u", Password: providertest.Canary}
		},
		Cases: hard(),
	}.Run(t)
}

// Grafana refuses annotations whose tags are longer than 500 bytes of JSON.
func TestGrafanaLimits(t *testing.T) {
	e := providertest.Failed()
	e.Metadata = map[string]string{"a": strings.Repeat("x", 600), "b": strings.Repeat("y", 300), "c": strings.Repeat("z", 150), "d:e": "f:g"}
	got := asJSON[struct{ Tags []string }](t, tell(t, "grafana", provider.Config{Address: "http://service"}, e)[0].body).Tags
	encoded, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if len(encoded) > 500 {
		t.Errorf("the tags have %d bytes", len(encoded))
	}
	want := []string{
		"flux", "kustomize-controller", "b: " + strings.Repeat("y", 300), "d|e: f|g", "kind: Kustomization", "name: app", "namespace: prod",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// wire 13
func TestGrafanaRefuses(t *testing.T) {
	refuses(t, "grafana", provider.Config{Token: providertest.Canary}, "spec.address", "/api/annotations")
}
