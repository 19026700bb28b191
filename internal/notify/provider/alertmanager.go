package provider

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// alertmanager fires an alert for each event. Its labels identify it: an event of the same object, reason and metadata updates the alert
// (provider 23, wire contract 13).
func alertmanager() Type {
	return Type{
		Name: "alertmanager", Title: "Prometheus Alertmanager", Group: Incident,
		Address: "URL of the API for alerts, `https://.../api/v2/alerts/`", Secret: "`token`, or `username` and `password` (optional)",
		New: func(c Config) (Notifier, error) {
			if c.Address == "" {
				return nil, errors.New("spec.address is empty: give the URL of the API for alerts, which ends in /api/v2/alerts/")
			}
			header := loginOf(&c)
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				if _, err := c.HTTP.PostJSON(ctx, c.Address, []prometheusAlert{prometheusAlertOf(&e)}, header); err != nil {
					return PostFailed(err)
				}
				return nil
			}), nil
		},
	}
}

// loginOf returns the header Authorization: a token before user name and password, which go together (provider 36).
func loginOf(c *Config) http.Header {
	switch {
	case c.Token != "":
		return http.Header{"Authorization": {"Bearer " + c.Token}}
	case c.Username != "" && c.Password != "":
		return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))}}
	}
	return http.Header{}
}

type prometheusAlert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	// EndsAt is never set: Alertmanager decides when an alert is over.
	EndsAt time.Time `json:"endsAt"`
}

func prometheusAlertOf(e *event.Payload) prometheusAlert {
	o := &e.InvolvedObject
	labels := asMap(sortedMetadata(e, summaryKey))
	labels["alertname"] = "Flux" + o.Kind + titleCase(e.Reason)
	labels["severity"] = string(e.Severity)
	labels["reason"] = e.Reason
	labels["kind"] = o.Kind
	labels["name"] = o.Name
	labels["namespace"] = o.Namespace
	labels["reportingcontroller"] = e.ReportingController
	annotations := map[string]string{"message": e.Message}
	if summary := e.Metadata[summaryKey]; summary != "" {
		annotations[summaryKey] = summary
	}
	return prometheusAlert{Status: "firing", Labels: labels, Annotations: annotations, StartsAt: e.Timestamp.Time}
}

// titleCase lower-cases all but the first letter: "BuildFailed" is "Buildfailed" in the name of an alert, and rules match on it.
func titleCase(reason string) string {
	if reason == "" {
		return ""
	}
	runes := []rune(reason)
	return strings.ToUpper(string(runes[:1])) + strings.ToLower(string(runes[1:]))
}
