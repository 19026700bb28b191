package provider_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// provider 13, 44
func TestGitHubDispatch(t *testing.T) {
	providertest.Suite{
		Type: "githubdispatch",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base + "/org/app", Token: providertest.Canary}
		},
		Answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
	}.Run(t)
}

// alert 19: the words of 2.9 (recording notification/send-error-masks-token), without the address and the answer.
func TestDispatchError(t *testing.T) {
	c, _ := gitHost(t, "githubdispatch", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the-answer", 400) })
	err := tellGitHost(t, c, providertest.Failed())
	if want := "could not send github repository dispatch webhook: request failed with status code 400"; err == nil || err.Error() != want {
		t.Errorf("error = %v, want %s", err, want)
	}
}

// GitHub's limits are kept: 100 characters of a type, 64 KB of a payload.
func TestDispatchLimits(t *testing.T) {
	for name, change := range map[string]func(*event.Payload){
		"plain":   func(e *event.Payload) { e.Message = strings.Repeat("x", 39000) },
		"escaped": func(e *event.Payload) { e.Message = strings.Repeat("<", 39000) },
		"wide":    func(e *event.Payload) { e.Message = strings.Repeat("🚀", 39000/4) + strings.Repeat("\x01", 20000) },
		"metadata": func(e *event.Payload) {
			e.Metadata["x"] = strings.Repeat("x", 60000)
			e.Message = strings.Repeat("y", 39000)
		},
		"a long name":  func(e *event.Payload) { e.InvolvedObject.Name = strings.Repeat("n", 253) },
		"few words":    func(e *event.Payload) { e.Message = "x" },
		"no room left": func(e *event.Payload) { e.Metadata["x"] = strings.Repeat("x", 70000) },
	} {
		t.Run(name, func(t *testing.T) {
			var told struct {
				Type    string          `json:"event_type"`
				Payload json.RawMessage `json:"client_payload"`
			}
			c, _ := gitHost(t, "githubdispatch", func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if err := json.Unmarshal(body, &told); err != nil {
					t.Error(err)
				}
				w.WriteHeader(http.StatusNoContent)
			})
			e := providertest.Failed()
			change(&e)
			if err := tellGitHost(t, c, e); err != nil {
				t.Fatal(err)
			}
			if fits := len(told.Payload) < 64<<10; fits == (name == "no room left") || len(told.Type) > 100 {
				t.Errorf("type of %d, payload of %d bytes", len(told.Type), len(told.Payload))
			}
			var back event.Payload
			if err := json.Unmarshal(told.Payload, &back); err != nil {
				t.Fatal(err)
			}
			if cut := back.Message != e.Message; cut != (name == "escaped" || name == "wide" || name == "metadata" || name == "no room left") {
				t.Errorf("the message is cut: %t", cut)
			}
		})
	}
}
