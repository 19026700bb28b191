package provider_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 23; wire 13
func TestAlertmanager(t *testing.T) {
	providertest.Suite{
		Type: "alertmanager",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/api/v2/alerts/", Token: providertest.Canary}
		},
		Cases: hard(),
	}.Run(t)
}

type alertmanagerAlert struct {
	Status              string
	Labels, Annotations map[string]string
	EndsAt              string
}

// provider 23: the labels identify an alert, and metadata cannot take the place of those that tell the object.
func TestAlertmanagerLabels(t *testing.T) {
	first := providertest.Failed()
	first.Metadata["alertname"], first.Metadata["severity"] = "Forged", "none"
	again := first
	again.Message = "another message"
	var alerts []alertmanagerAlert
	for _, each := range tell(t, "alertmanager", provider.Config{Address: "http://service"}, first, again) {
		alerts = append(alerts, asJSON[[]alertmanagerAlert](t, each.body)...)
	}
	if diff := cmp.Diff(alerts[0].Labels, alerts[1].Labels); diff != "" {
		t.Errorf("the labels of an alert that repeats differ: %s", diff)
	}
	want := map[string]string{"alertname": "FluxKustomizationBuildfailed", "severity": "error", "summary": ""}
	for key, value := range want {
		if got := alerts[0].Labels[key]; got != value {
			t.Errorf("label %s = %q, want %q", key, got, value)
		}
	}
	if got := alerts[0].Annotations["summary"]; got != "prod: all hands" {
		t.Errorf("annotation summary = %q", got)
	}
	if got := alerts[0].EndsAt; got != "0001-01-01T00:00:00Z" {
		t.Errorf("endsAt = %q", got)
	}
}

// wire 13
func TestAlertmanagerRefuses(t *testing.T) {
	refuses(t, "alertmanager", provider.Config{Token: providertest.Canary}, "spec.address", "/api/v2/alerts/")
}
