package provider

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

const (
	// otelPath is where a collector takes traces, unless the address says otherwise.
	otelPath = "/v1/traces"
	// otelAttributes is how many attributes of a span are kept by default (OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT).
	otelAttributes = 128
	// otelMetadata bounds the metadata of a span, in bytes.
	otelMetadata = 256 << 10
	// otelSources is the API group of the objects that a change begins with.
	otelSources = "source.toolkit.fluxcd.io/"
	// otelSkipped is the kind of source that has no part in a change: an index is news of many charts.
	otelSkipped = "HelmRepository"
)

// otel makes a span of each event, so that what followed a revision is one trace (provider 30, wire contract 13).
func otel() Type {
	return Type{
		Name: "otel", Title: "OpenTelemetry", Group: Observability,
		Address: "URL of an OTLP/HTTP receiver of traces; the path `" + otelPath + "` may be left out",
		Secret:  "`token`, or `username` and `password`; `headers` (all optional)",
		New: func(c Config) (Notifier, error) {
			address, err := otelAddress(c.Address)
			if err != nil {
				return nil, err
			}
			o := &otelNotifier{client: c.HTTP, address: address, header: otelHeader(c), alert: c.Alert}
			return NotifierFunc(o.notify), nil
		},
	}
}

func otelAddress(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return "", errors.New("spec.address is not the URL of an OTLP/HTTP receiver: give one such as http://collector:4318" + otelPath)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = otelPath
	}
	return u.String(), nil
}

// otelHeader returns the headers of the Secret, and the login, for which a password alone is a token (provider 14).
func otelHeader(c Config) http.Header {
	if c.Username == "" {
		c.Token = cmp.Or(c.Token, c.Password)
	}
	header := loginOf(&c)
	for name, value := range c.Headers {
		header.Set(name, value)
	}
	header.Set("Content-Type", "application/x-protobuf")
	return header
}

type otelNotifier struct {
	client  *Client
	address string
	header  http.Header
	alert   Owner
}

func (o *otelNotifier) notify(ctx context.Context, e event.Payload) error {
	if e.InvolvedObject.Kind == otelSkipped {
		return nil
	}
	// Protobuf takes no text that is not UTF-8, and messages quote what others have said.
	e.Message = strings.ToValidUTF8(e.Message, "\uFFFD")
	body, err := proto.Marshal(o.request(&e))
	if err != nil {
		return fmt.Errorf("encoding the span: %w", err)
	}
	answer, err := o.client.Do(ctx, Request{URL: o.address, Header: o.header, Body: body})
	if err != nil {
		return PostFailed(err)
	}
	// A receiver may say yes and keep nothing. Answers in other formats say no more than their status.
	var result collectorpb.ExportTraceServiceResponse
	told := mediaType(answer.Header) == "application/x-protobuf" && proto.Unmarshal(answer.Body, &result) == nil
	if told && result.GetPartialSuccess().GetRejectedSpans() > 0 {
		return PostFailed(errors.New("the receiver has rejected the span"))
	}
	return nil
}

func mediaType(h http.Header) string {
	found, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(found))
}

func (o *otelNotifier) request(e *event.Payload) *collectorpb.ExportTraceServiceRequest {
	return &collectorpb.ExportTraceServiceRequest{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource: &resourcepb.Resource{Attributes: []*commonpb.KeyValue{
			otelString("service.name", o.alert.Namespace+"/"+o.alert.Name), otelString("service.instance.id", o.alert.UID),
		}},
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{Name: "notification-controller"},
			Spans: []*tracepb.Span{o.span(e)},
		}},
	}}}
}

// span has ids that follow from the Alert and the revision, so that the span of a source is the parent of all that comes of its revision,
// whenever and by whomever that is told.
func (o *otelNotifier) span(e *event.Payload) *tracepb.Span {
	object := &e.InvolvedObject
	at := uint64(max(0, e.Timestamp.UnixNano()))
	own := eventDigest(e, o.alert.UID)
	span := &tracepb.Span{
		Name: fmt.Sprintf("%s: %s/%s", object.Kind, object.Namespace, object.Name), Kind: tracepb.Span_SPAN_KIND_INTERNAL,
		StartTimeUnixNano: at, EndTimeUnixNano: at, Attributes: otelAttributesOf(e),
		Status: &tracepb.Status{Code: tracepb.Status_STATUS_CODE_OK}, SpanId: own[:8], TraceId: own[8:24],
	}
	if e.Severity == event.Error {
		span.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: e.Message}
	}
	revision := e.Metadata[revisionKey]
	if revision == "" {
		// An event of no revision is a trace of its own; all of them together would be one that never ends.
		return span
	}
	trace := sha256.Sum256([]byte(o.alert.UID + ":" + revision))
	span.TraceId = trace[:16]
	root := trace[16:24]
	switch source := strings.HasPrefix(object.APIVersion, otelSources); {
	case !source:
		span.ParentSpanId = root
	case e.Severity != event.Error:
		// What goes wrong with a source later must not take the place of this.
		span.SpanId = root
	}
	return span
}

func otelAttributesOf(e *event.Payload) []*commonpb.KeyValue {
	o := &e.InvolvedObject
	out := []*commonpb.KeyValue{
		otelString("object.kind", o.Kind), otelString("object.namespace", o.Namespace), otelString("object.name", o.Name),
		otelString("object.uid", string(o.UID)), otelString("severity", string(e.Severity)), otelString("reason", e.Reason),
		otelString("message", e.Message), otelString("reporting.controller", e.ReportingController),
		otelString("reporting.instance", e.ReportingInstance),
	}
	for _, each := range fitMetadata(e, otelMetadata) {
		if len(out) == otelAttributes {
			break
		}
		out = append(out, otelString("metadata."+each.Key, each.Value))
	}
	return out
}

func otelString(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}
