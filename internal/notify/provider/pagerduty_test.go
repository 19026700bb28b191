package provider_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
)

// provider 20; wire 13
func TestPagerDuty(t *testing.T) {
	providertest.Suite{
		Type: "pagerduty",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/ignored?by=pagerduty", Channel: providertest.Canary}
		},
		Answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{"status": "success", "message": "Event processed", "dedup_key": "samplekeyhere"}`)
		},
		Cases:  hard(),
		Silent: []string{"progressing"},
	}.Run(t)
}

// provider 40: an address is not needed.
func TestPagerDutyAddress(t *testing.T) {
	var got []string
	client := provider.NewClient(way(func(r *http.Request) (*http.Response, error) {
		got = append(got, r.URL.String())
		return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody}, nil
	}), "flux")
	for _, address := range []string{"", "https://events.eu.pagerduty.com/v2/enqueue"} {
		n := made(t, "pagerduty", provider.Config{Address: address, Channel: "key", HTTP: client})
		if err := n.Notify(context.Background(), providertest.Failed()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"https://events.pagerduty.com/v2/enqueue", "https://events.eu.pagerduty.com/v2/enqueue"}, got); diff != "" {
		t.Error(diff)
	}
}

// provider 20: an incident has one key, whatever is told of its object, and good news are told twice even when the first is refused.
func TestPagerDutyResolves(t *testing.T) {
	failed, applied, foreign := providertest.Failed(), providertest.Applied(), providertest.Failed()
	foreign.InvolvedObject.UID = ""
	keys := map[string]bool{}
	for _, each := range tell(t, "pagerduty", provider.Config{Address: "http://service/", Channel: "key"}, failed, applied, foreign) {
		if each.path == "/v2/enqueue" {
			keys[asJSON[struct {
				Key string `json:"dedup_key"`
			}](t, each.body).Key] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{string(failed.InvolvedObject.UID): true, "Kustomization/prod/app": true}, keys); diff != "" {
		t.Error(diff)
	}

	var paths []string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if paths = append(paths, r.URL.Path); len(paths) == 1 {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer service.Close()
	n := made(t, "pagerduty", provider.Config{Address: service.URL, Channel: "key", HTTP: provider.NewClient(http.DefaultTransport, "flux")})
	if err := n.Notify(context.Background(), applied); err == nil || strings.Contains(err.Error(), "key") {
		t.Errorf("error = %v", err)
	}
	if diff := cmp.Diff([]string{"/v2/enqueue", "/v2/change/enqueue"}, paths); diff != "" {
		t.Error(diff)
	}
}

// The key is in the body: where a redirect leads must not see it.
func TestPagerDutyKeepsItsKey(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another host was told") }))
	defer elsewhere.Close()
	here := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusPermanentRedirect)
	}))
	defer here.Close()
	n := made(t, "pagerduty", provider.Config{Address: here.URL, Channel: "key", HTTP: provider.NewClient(http.DefaultTransport, "flux")})
	err := n.Notify(context.Background(), providertest.Failed())
	if err == nil || !strings.Contains(err.Error(), "another host") || strings.Contains(err.Error(), elsewhere.URL) {
		t.Errorf("error = %v", err)
	}
}

// The limits of the Events API v2: 512 KB, and 1024 characters of a summary.
func TestPagerDutyLimits(t *testing.T) {
	e := crowded()
	e.Reason = strings.Repeat("Aa", 2000)
	got := tell(t, "pagerduty", provider.Config{Address: "http://service", Channel: "key"}, e)[0].body
	if len(got) > 512<<10 {
		t.Errorf("%d bytes", len(got))
	}
	payload := asJSON[struct {
		Payload struct {
			Summary string
			Details struct{ Message string } `json:"custom_details"`
		}
	}](t, got).Payload
	if len(payload.Summary) > 1024 || payload.Details.Message != e.Message {
		t.Errorf("a summary of %d bytes, a message of %d", len(payload.Summary), len(payload.Details.Message))
	}
}

// provider 20
func TestPagerDutyRefuses(t *testing.T) {
	refuses(t, "pagerduty", provider.Config{}, "spec.channel", "integration key")
	noURL := provider.Config{Channel: "key", Address: "events.pagerduty.com/" + providertest.Canary}
	refuses(t, "pagerduty", noURL, "spec.address", "https://events.pagerduty.com")
}
