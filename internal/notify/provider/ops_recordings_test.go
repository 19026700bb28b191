package provider_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// opsRequest is a request as recordings show it, without what depends on the client.
type opsRequest struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	JSON    map[string]any    `json:"json"`
}

// TestOpsRecordings sends the events of recordings and compares the requests with those of 2.9: provider 24; wire 13.
func TestOpsRecordings(t *testing.T) {
	for _, c := range []struct {
		kind, path string
		config     provider.Config
		tidy       func(json map[string]any)
	}{
		{"grafana", "/notification-provider-grafana/api/annotations", provider.Config{Username: "u", Password: "p"}, func(json map[string]any) {
			if _, ok := json["when"].(float64); ok {
				json["when"] = "<unix-time>"
			}
		}},
		{"opsgenie", "/notification-provider-opsgenie/v2/alerts", provider.Config{Token: "t1"}, func(json map[string]any) {
			// A difference on purpose: failures that repeat are one alert.
			details := json["details"].(map[string]any)
			if _, ok := json["alias"]; ok == (details["severity"] == "error") {
				delete(json, "alias")
			}
		}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			data, err := os.ReadFile("../../../test/compat/testdata/recordings/notification/provider-" + c.kind + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			var recording struct {
				Observed struct {
					End struct {
						Posted   []map[string]any `json:"posted"`
						Requests []opsRequest     `json:"requests"`
					} `json:"end"`
				} `json:"observed"`
			}
			if err := yaml.Unmarshal(data, &recording); err != nil {
				t.Fatal(err)
			}
			c.config.Address = "http://service" + c.path
			var events []event.Payload
			for _, posted := range recording.Observed.End.Posted {
				// alert 14: what exists only for commit statuses does not come here.
				if e := opsEvent(t, posted); e.Metadata["commit_status"] == "" {
					events = append(events, e)
				}
			}
			want, got := map[string]int{}, map[string]int{}
			for _, each := range recording.Observed.End.Requests {
				each.Headers["User-Agent"] = "flux/test"
				want[each.line(t)]++
			}
			for _, each := range tell(t, c.kind, c.config, events...) {
				request := opsRequest{each.method, each.path, map[string]string{}, asJSON[map[string]any](t, each.body)}
				for name := range each.header {
					request.Headers[name] = each.header.Get(name)
				}
				delete(request.Headers, "Content-Length")
				c.tidy(request.JSON)
				got[request.line(t)]++
			}
			if len(want) == 0 {
				t.Fatal("the recording has no requests")
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func (r opsRequest) line(t *testing.T) string {
	t.Helper()
	out, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// opsEvent is an event as a provider sees it: without group prefixes, and without what only the event endpoint needs.
func opsEvent(t *testing.T, posted map[string]any) event.Payload {
	t.Helper()
	delete(posted, "timestamp")
	data, err := json.Marshal(posted)
	if err != nil {
		t.Fatal(err)
	}
	e := asJSON[event.Payload](t, data)
	e.Timestamp = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	metadata := map[string]string{}
	for key, value := range e.Metadata {
		if key = key[strings.LastIndexByte(key, '/')+1:]; key != "digest" {
			metadata[key] = value
		}
	}
	e.Metadata = metadata
	return e
}
