package provider_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/toolkit/event"
)

// received is a source's event of good news about the revision of the common events.
func received() event.Payload {
	e := providertest.Applied()
	e.InvolvedObject.APIVersion, e.InvolvedObject.Kind = "source.toolkit.fluxcd.io/v1", "GitRepository"
	e.Reason, e.Message = "NewArtifact", "stored artifact for commit 'Deploy'"
	return e
}

// provider 30; wire 13
func TestOTel(t *testing.T) {
	index := received()
	index.InvolvedObject.Kind = "HelmRepository"
	broken := received()
	broken.Severity, broken.Reason = event.Error, "GitOperationFailed"
	providertest.Suite{
		Type: "otel",
		Config: func(base string) provider.Config {
			return provider.Config{Address: base, Token: providertest.Canary, Headers: map[string]string{"X-Scope-OrgID": "blue"}}
		},
		Answer: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "application/x-protobuf") },
		Cases: append(hard(), []providertest.Case{
			{Name: "source", Event: received()}, {Name: "broken-source", Event: broken}, {Name: "index", Event: index},
		}...),
		Silent: []string{"index"},
		Tidy: func(t *testing.T, call *providertest.Call) {
			readable, err := protojson.Marshal(spans(t, []byte(call.Body)))
			if err != nil {
				t.Fatal(err)
			}
			call.Body = ""
			if err := json.Unmarshal(readable, &call.JSON); err != nil {
				t.Fatal(err)
			}
		},
	}.Run(t)
}

func spans(t *testing.T, body []byte) *collectorpb.ExportTraceServiceRequest {
	t.Helper()
	var request collectorpb.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		t.Fatal(err)
	}
	return &request
}

// provider 30: the trace is that of the Alert and the revision, and the parent of a span is the span of the source.
func TestOTelTrace(t *testing.T) {
	const alert = "99998888-7777-4666-8555-444433332222"
	revision := providertest.Applied().Metadata["revision"]
	none, another := providertest.Applied(), providertest.Applied()
	none.Metadata = nil
	another.Metadata = map[string]string{"revision": "main@sha1:1111111111111111111111111111111111111111"}
	again := none
	again.Message = "something else"
	config := provider.Config{Address: "http://service", Alert: provider.Owner{Namespace: "prod", Name: "a", UID: alert}}
	var got []*tracepb.Span
	events := []event.Payload{received(), providertest.Applied(), providertest.Failed(), providertest.Failed(), another, none, again}
	for _, each := range tell(t, "otel", config, events...) {
		if each.path != "/v1/traces" {
			t.Errorf("path = %q", each.path)
		}
		got = append(got, spans(t, each.body).ResourceSpans[0].ScopeSpans[0].Spans...)
	}
	source, applied, failed, repeated := got[0], got[1], got[2], got[3]
	want := sha256.Sum256([]byte(alert + ":" + revision))
	for _, each := range got[:4] {
		if diff := cmp.Diff(hex.EncodeToString(want[:16]), hex.EncodeToString(each.TraceId)); diff != "" {
			t.Errorf("trace of %s: %s", each.Name, diff)
		}
	}
	if len(source.ParentSpanId) != 0 || len(source.SpanId) != 8 {
		t.Errorf("the span of the source is %v", source)
	}
	for _, each := range got[1:4] {
		if string(each.ParentSpanId) != string(source.SpanId) || string(each.SpanId) == string(source.SpanId) {
			t.Errorf("%v is no child of %v", each, source)
		}
	}
	if string(applied.SpanId) == string(failed.SpanId) || string(failed.SpanId) != string(repeated.SpanId) {
		t.Error("an event that is sent again has another id, or another event the same")
	}
	if string(got[4].TraceId) == string(source.TraceId) {
		t.Error("another revision is in the same trace")
	}
	if len(got[5].ParentSpanId) != 0 || string(got[5].TraceId) == string(got[6].TraceId) {
		t.Error("events without a revision share a trace")
	}
}

// provider 14, 40: where spans go, and who they say they are from.
func TestOTelAddress(t *testing.T) {
	for _, c := range []struct {
		name   string
		config provider.Config
		path   string
		auth   string
	}{
		{"slash", provider.Config{Address: "http://service/"}, "/v1/traces", ""},
		{"path", provider.Config{Address: "http://service/otlp/v1/traces", Password: "p"}, "/otlp/v1/traces", "Bearer p"},
		{"basic", provider.Config{Address: "http://service", Username: "u", Password: "p"}, "/v1/traces", "Basic dTpw"},
		{"token", provider.Config{Address: "http://service", Token: "t", Username: "u", Password: "p"}, "/v1/traces", "Bearer t"},
		{"headers", provider.Config{Address: "http://service", Token: "t", Headers: map[string]string{"authorization": "Key"}}, "/v1/traces", "Key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := tell(t, "otel", c.config, providertest.Applied())[0]
			if auth := strings.Join(got.header.Values("Authorization"), "|"); got.path != c.path || auth != c.auth {
				t.Errorf("path = %q, Authorization = %q", got.path, auth)
			}
		})
	}
	refuses(t, "otel", provider.Config{}, "spec.address", "/v1/traces")
	refuses(t, "otel", provider.Config{Address: "collector:4317/" + providertest.Canary}, "spec.address", "/v1/traces")
}

// A span has 128 attributes by default, and no text that is not UTF-8.
func TestOTelLimits(t *testing.T) {
	e := crowded()
	e.Message = "\xff" + e.Message
	for key := range e.Metadata {
		e.Metadata[key] = "value"
	}
	got := spans(t, tell(t, "otel", provider.Config{Address: "http://service"}, e)[0].body).ResourceSpans[0].ScopeSpans[0].Spans[0]
	if len(got.Attributes) != 128 {
		t.Errorf("%d attributes", len(got.Attributes))
	}
	if !strings.HasPrefix(got.Status.Message, "\uFFFDü") {
		t.Errorf("the message begins with %.20q", got.Status.Message)
	}
}

// A receiver that says yes and keeps nothing is an error.
func TestOTelRejected(t *testing.T) {
	for _, c := range []struct {
		name    string
		partial *collectorpb.ExportTracePartialSuccess
		good    bool
	}{
		{"kept", nil, true},
		{"a warning", &collectorpb.ExportTracePartialSuccess{ErrorMessage: "careful"}, true},
		{"rejected", &collectorpb.ExportTracePartialSuccess{RejectedSpans: 1, ErrorMessage: providertest.Canary}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			response := &collectorpb.ExportTraceServiceResponse{PartialSuccess: c.partial}
			client := provider.NewClient(answering(t, "application/x-protobuf; charset=utf-8", response), "flux")
			err := made(t, "otel", provider.Config{Address: "http://service", HTTP: client}).Notify(t.Context(), providertest.Applied())
			if c.good != (err == nil) || err != nil && strings.Contains(err.Error(), providertest.Canary) {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func answering(t *testing.T, contentType string, message proto.Message) way {
	return func(*http.Request) (*http.Response, error) {
		body, err := proto.Marshal(message)
		if err != nil {
			t.Error(err)
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(bytes.NewReader(body))}, nil
	}
}
