package provider_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 24; wire 13
func TestOpsgenie(t *testing.T) {
	providertest.Suite{
		Type: "opsgenie",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/v2/alerts", Token: providertest.Canary}
		},
		Answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"result": "Request will be processed", "took": 0.302, "requestId": "43a29c5c-3dbf-4fa4-9c26-f4f71023e120"}`)
		},
		Cases: hard(),
	}.Run(t)
}

type opsgenieAlert struct {
	Message, Alias, Description string
	Details                     map[string]string
}

// A failure that repeats is one alert; another object, reason or cluster is another one. Good news are never counted together.
func TestOpsgenieAlias(t *testing.T) {
	failed := providertest.Failed()
	again, reason, name, cluster := failed, failed, failed, failed
	again.Message, again.Metadata = "another revision", map[string]string{"revision": "main@sha1:1111111111111111111111111111111111111111"}
	reason.Reason = "HealthCheckFailed"
	name.InvolvedObject.Name = "other"
	cluster.InvolvedObject.UID = "another-uid"
	var aliases []string
	config := provider.Config{Address: "http://service", Token: "t"}
	for _, each := range tell(t, "opsgenie", config, failed, again, reason, name, cluster, providertest.Applied()) {
		aliases = append(aliases, asJSON[opsgenieAlert](t, each.body).Alias)
	}
	if aliases[0] == "" || aliases[0] != aliases[1] {
		t.Errorf("a failure that repeats has the aliases %q", aliases[:2])
	}
	seen := map[string]bool{}
	for _, each := range aliases[1:5] {
		seen[each] = true
	}
	if len(seen) != 4 {
		t.Errorf("different failures have the aliases %q", aliases[1:5])
	}
	if aliases[5] != "" {
		t.Errorf("good news has the alias %q", aliases[5])
	}
}

// The limits of the Alert API: 130, 15000 and 8000 characters.
func TestOpsgenieLimits(t *testing.T) {
	e := crowded()
	e.InvolvedObject.Name = strings.Repeat("n", 253)
	got := asJSON[opsgenieAlert](t, tell(t, "opsgenie", provider.Config{Address: "http://service", Token: "t"}, e)[0].body)
	if n := utf8.RuneCountInString(got.Message); n > 130 {
		t.Errorf("the message has %d characters", n)
	}
	if n := utf8.RuneCountInString(got.Description); n > 15000 || !strings.HasSuffix(got.Description, "…") {
		t.Errorf("the description has %d characters", n)
	}
	if n := length(got.Details); n > 8000 || n < 7000 {
		t.Errorf("the details have %d bytes", n)
	}
	if diff := cmp.Diff("error", got.Details["severity"]); diff != "" {
		t.Error(diff)
	}
}

// provider 24
func TestOpsgenieRefuses(t *testing.T) {
	refuses(t, "opsgenie", provider.Config{Token: providertest.Canary}, "spec.address", "https://api.opsgenie.com/v2/alerts")
	refuses(t, "opsgenie", provider.Config{Address: "https://" + providertest.Canary}, "token", "API key")
}
