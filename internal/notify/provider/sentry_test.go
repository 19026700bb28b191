package provider_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// provider 22, 39; wire 13
func TestSentry(t *testing.T) {
	crowd := providertest.Applied()
	crowd.Metadata = map[string]string{"app version/1": "1\n2", "flux_reason": "forged", "empty": "", "long": strings.Repeat("ü", 300)}
	providertest.Suite{
		Type: "sentry",
		Config: func(base string) provider.Config {
			return provider.Config{Address: strings.Replace(base, "://", "://"+providertest.Canary+"@", 1) + "/sentry/42", Channel: "prod"}
		},
		Answer: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"id":"fc6d8c0c43fc4630ad850ee518f1b9d0"}`)
		},
		Cases: append(hard(), providertest.Case{Name: "tags", Event: crowd}),
		Tidy: func(t *testing.T, call *providertest.Call) {
			call.JSON, call.Body = envelope(t, []byte(call.Body)), ""
		},
	}.Run(t)
}

// envelope reads an envelope: the header, and the header and payload of each item. It fails when a length is not that of its payload.
func envelope(t *testing.T, data []byte) (out []any) {
	t.Helper()
	line := func() []byte {
		found, rest, ok := bytes.Cut(data, []byte("\n"))
		if !ok {
			t.Fatalf("no end of line in %q", data)
		}
		data = rest
		return found
	}
	out = append(out, asJSON[any](t, line()))
	for len(data) > 0 {
		header := asJSON[map[string]any](t, line())
		payload := line()
		if header["length"] != float64(len(payload)) {
			t.Errorf("the length is %v, that of the payload %d", header["length"], len(payload))
		}
		// It follows from the payload, and would make golden files hard to edit.
		delete(header, "length")
		out = append(out, header, asJSON[any](t, payload))
	}
	return out
}

// provider 22: where a DSN leads to.
func TestSentryDSN(t *testing.T) {
	for _, c := range []struct{ dsn, url, auth string }{
		{"https://key@sentry.io/42", "https://sentry.io/api/42/envelope/", "sentry_key=key"},
		{"https://key:old@sentry.example:8443/a/b/42", "https://sentry.example:8443/a/b/api/42/envelope/", "sentry_key=key, sentry_secret=old"},
	} {
		t.Run(c.dsn, func(t *testing.T) {
			var url, auth string
			client := provider.NewClient(way(func(r *http.Request) (*http.Response, error) {
				url, auth = r.URL.String(), r.Header.Get("X-Sentry-Auth")
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			}), "flux/1.0")
			if err := made(t, "sentry", provider.Config{Address: c.dsn, HTTP: client}).Notify(t.Context(), providertest.Failed()); err != nil {
				t.Fatal(err)
			}
			if url != c.url {
				t.Errorf("URL = %q, want %q", url, c.url)
			}
			if want := "Sentry sentry_version=7, sentry_client=flux/1.0, " + c.auth; auth != want {
				t.Errorf("X-Sentry-Auth = %q, want %q", auth, want)
			}
		})
	}
	const canary = providertest.Canary
	for _, dsn := range []string{
		"", "sentry.io", "https://sentry.io/42", "https://" + canary + "@sentry.io", "https://" + canary + "@sentry.io/",
		"ftp://" + canary + "@sentry.io/1",
		"https://" + canary + ",x@sentry.io/1", "https://" + canary + "%0a@sentry.io/1", "https://k:" + canary + "%20@sentry.io/1", "%zz" + canary,
	} {
		refuses(t, "sentry", provider.Config{Address: dsn}, "spec.address", "DSN")
	}
}

// An event that is sent again has the id it had; another event has another one.
func TestSentryID(t *testing.T) {
	first := providertest.Failed()
	other := first
	other.Message += "."
	var ids []string
	for _, e := range []event.Payload{first, first, other} {
		ids = append(ids, fmt.Sprint(envelope(t, sentryBody(t, e))[0]))
	}
	if ids[0] != ids[1] || ids[1] == ids[2] {
		t.Errorf("ids = %v", ids)
	}
}

// sentryBody is what Sentry is told of an event.
func sentryBody(t *testing.T, e event.Payload) (body []byte) {
	t.Helper()
	client := provider.NewClient(way(func(r *http.Request) (_ *http.Response, err error) {
		body, err = io.ReadAll(r.Body)
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, err
	}), "flux")
	if err := made(t, "sentry", provider.Config{Address: "https://k@service/1", HTTP: client}).Notify(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	return body
}

// Sentry takes 1 MB, 8192 characters of a message and 200 of a tag.
func TestSentryLimits(t *testing.T) {
	for _, severity := range []event.Severity{event.Error, event.Info} {
		t.Run(string(severity), func(t *testing.T) {
			e := crowded()
			e.Severity = severity
			body := sentryBody(t, e)
			if len(body) > 1<<20 {
				t.Errorf("%d bytes", len(body))
			}
			got := asJSON[struct {
				Message struct{ Formatted string } `json:"logentry"`
				Tags    map[string]string
			}](t, bytes.Split(body, []byte("\n"))[2])
			if len(got.Message.Formatted) > 8192 {
				t.Errorf("the message has %d bytes", len(got.Message.Formatted))
			}
			for key, value := range got.Tags {
				if len(key) > 200 || len(value) > 200 {
					t.Errorf("tag %q = %q", key, value)
				}
			}
			if tagged := len(got.Tags) > 6; tagged != (severity == event.Info) {
				t.Errorf("%d tags", len(got.Tags))
			}
		})
	}
}
