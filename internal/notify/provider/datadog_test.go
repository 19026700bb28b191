package provider_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 24; wire 13
func TestDatadog(t *testing.T) {
	providertest.Suite{
		Type: "datadog",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/ignored", Token: providertest.Canary}
		},
		Answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"event": {"id": 1}, "status": "ok"}`)
		},
		Cases: hard(),
	}.Run(t)
}

// Datadog keeps 4000 characters of a text.
func TestDatadogLimits(t *testing.T) {
	got := asJSON[struct{ Text string }](t, tell(t, "datadog", provider.Config{Address: "http://service", Token: "t"}, crowded())[0].body)
	if len(got.Text) > 4000 || len(got.Text) < 3990 {
		t.Errorf("the text has %d bytes", len(got.Text))
	}
}

// provider 24
func TestDatadogRefuses(t *testing.T) {
	refuses(t, "datadog", provider.Config{Token: providertest.Canary}, "spec.address", "https://api.datadoghq.com")
	refuses(t, "datadog", provider.Config{Token: "t", Address: providertest.Canary}, "spec.address", "https://api.datadoghq.com")
	refuses(t, "datadog", provider.Config{Address: "https://api.datadoghq.com"}, "token", "API key")
}
