package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// datadogText is how many characters of an event Datadog keeps.
const datadogText = 4000

// datadog posts to the event stream (provider 24, wire contract 13).
func datadog() Type {
	const example = "https://api.datadoghq.com"
	return Type{
		Name: "datadog", Title: "Datadog", Group: Observability,
		Address: "URL of the API of your site, of which scheme and host are used, such as `" + example + "`", Secret: "`token`: the API key",
		New: func(c Config) (Notifier, error) {
			if c.Address == "" {
				return nil, errors.New("spec.address is empty: give the URL of the API of your site, such as " + example)
			}
			base, err := hostOf(c.Address, example)
			if err != nil {
				return nil, err
			}
			if c.Token == "" {
				return nil, errors.New("the Secret of spec.secretRef has no token: give the API key")
			}
			header := http.Header{"Dd-Api-Key": {c.Token}}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				if _, err := c.HTTP.PostJSON(ctx, base+"/api/v1/events", datadogEventOf(&e), header); err != nil {
					return PostFailed(err)
				}
				return nil
			}), nil
		},
	}
}

type datadogEvent struct {
	Title    string   `json:"title"`
	Text     string   `json:"text"`
	Tags     []string `json:"tags"`
	Source   string   `json:"source_type_name"`
	Happened int64    `json:"date_happened"` // seconds since 1970
	Type     string   `json:"alert_type"`
}

func datadogEventOf(e *event.Payload) datadogEvent {
	o := &e.InvolvedObject
	tags := []string{
		"flux_reporting_controller:" + e.ReportingController, "flux_reason:" + e.Reason,
		"kube_kind:" + o.Kind, "kube_name:" + o.Name, "kube_namespace:" + o.Namespace,
	}
	for _, each := range sortedMetadata(e) {
		tags = append(tags, each.Key+":"+each.Value)
	}
	for i := range tags {
		tags[i] = strings.ToLower(tags[i])
	}
	kind := "info"
	if e.Severity == event.Error {
		kind = "error"
	}
	return datadogEvent{
		Title: fmt.Sprintf("Events from the %s %s/%s", o.Kind, o.Name, o.Namespace), Text: shorten(e.Message, datadogText), Tags: tags,
		Source: "fluxcd", Happened: e.Timestamp.Unix(), Type: kind,
	}
}
