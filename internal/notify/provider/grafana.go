package provider

import (
	"context"
	"errors"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// grafanaTags is how long the tags of an annotation may be as JSON, unless Grafana is told otherwise (annotations.tags_length). It
// refuses an annotation with more.
const grafanaTags = 500

// grafana annotates dashboards (wire contract 13).
func grafana() Type {
	return Type{
		Name: "grafana", Title: "Grafana", Group: Observability,
		Address: "URL of the API for annotations, `https://.../api/annotations`",
		Secret:  "`token`: the token of a service account, or `username` and `password`",
		New: func(c Config) (Notifier, error) {
			if c.Address == "" {
				return nil, errors.New("spec.address is empty: give the URL of the API for annotations, which ends in /api/annotations")
			}
			header := loginOf(&c)
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				body := grafanaAnnotation{When: e.Timestamp.Unix(), Text: objectName(&e), Tags: grafanaTagsOf(&e)}
				if _, err := c.HTTP.PostJSON(ctx, c.Address, body, header); err != nil {
					return PostFailed(err)
				}
				return nil
			}), nil
		},
	}
}

type grafanaAnnotation struct {
	When int64    `json:"when"` // seconds since 1970
	Text string   `json:"text"`
	Tags []string `json:"tags"`
}

// grafanaTagsOf returns the tags. Grafana takes what follows a colon for the value of a tag, so that none may be in the value. Metadata that
// has no room is left out: the annotation matters more.
func grafanaTagsOf(e *event.Payload) []string {
	o := &e.InvolvedObject
	tag := func(key, value string) string { return tagPart(key) + ": " + tagPart(value) }
	object := []string{tag("kind", o.Kind), tag("name", o.Name), tag("namespace", o.Namespace)}
	tags := []string{"flux", e.ReportingController}
	left := grafanaTags - len("[]")
	for _, each := range append(tags, object...) {
		left -= len(each) + len(`"",`)
	}
	for _, each := range sortedMetadata(e) {
		made := tag(each.Key, each.Value)
		if cost := len(made) + len(`"",`); cost <= left {
			left -= cost
			tags = append(tags, made)
		}
	}
	return append(tags, object...)
}

func tagPart(s string) string { return strings.ReplaceAll(s, ":", "|") }
