package provider

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

const (
	pagerDutyAddress = "https://events.pagerduty.com"
	// The limits of the Events API v2: an event has at most 512 KB, which an event's message and this much metadata stay well below.
	pagerDutySummary, pagerDutyKey, pagerDutyMetadata = 1024, 255, 256 << 10
)

// pagerDuty opens an incident for an object that fails, and resolves it when there is good news (provider 20, wire contract 13).
func pagerDuty() Type {
	return Type{
		Name: "pagerduty", Title: "PagerDuty", Group: Incident,
		Address: "URL of the Events API, of which scheme and host are used; `" + pagerDutyAddress + "` if empty",
		Channel: "the integration key",
		New: func(c Config) (Notifier, error) {
			if c.Channel == "" {
				return nil, errors.New("spec.channel is empty: give the integration key of the service")
			}
			address := c.Address
			if address == "" {
				address = pagerDutyAddress
			}
			base, err := hostOf(address, pagerDutyAddress)
			if err != nil {
				return nil, err
			}
			p := &pagerDutyNotifier{client: c.HTTP, base: base, key: c.Channel}
			return NotifierFunc(p.notify), nil
		},
	}
}

// hostOf returns scheme and host of the address, without a slash at the end.
func hostOf(address, example string) (string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return "", fmt.Errorf("spec.address is not a URL: give one such as %s", example)
	}
	return u.Scheme + "://" + u.Host, nil
}

type pagerDutyNotifier struct {
	client    *Client
	base, key string
}

// pagerDutyAlert opens or resolves an incident.
type pagerDutyAlert struct {
	RoutingKey string            `json:"routing_key"`
	Action     string            `json:"event_action"`
	DedupKey   string            `json:"dedup_key"`
	Payload    *pagerDutyPayload `json:"payload,omitempty"`
}

type pagerDutyPayload struct {
	Summary   string           `json:"summary"`
	Source    string           `json:"source"`
	Severity  string           `json:"severity,omitempty"`
	Timestamp string           `json:"timestamp"`
	Component string           `json:"component,omitempty"`
	Group     string           `json:"group,omitempty"`
	Details   pagerDutyDetails `json:"custom_details"`
}

type pagerDutyDetails struct {
	Message  string            `json:"message"`
	Metadata map[string]string `json:"metadata"`
}

// pagerDutyChange is a line in the timeline of the service.
type pagerDutyChange struct {
	RoutingKey string           `json:"routing_key"`
	Payload    pagerDutyPayload `json:"payload"`
}

func (p *pagerDutyNotifier) notify(ctx context.Context, e event.Payload) error {
	if e.Reason == progressingReason {
		return nil
	}
	o := &e.InvolvedObject
	payload := pagerDutyPayload{
		Summary:   shorten(fmt.Sprintf("%s: %s/%s", words(e.Reason), strings.ToLower(o.Kind), o.Name), pagerDutySummary),
		Source:    "Flux " + e.ReportingController,
		Timestamp: e.Timestamp.Format(time.RFC3339),
		Details:   pagerDutyDetails{Message: e.Message, Metadata: asMap(fitMetadata(&e, pagerDutyMetadata))},
	}
	// PagerDuty takes no empty key; only events of others have no UID.
	alert := pagerDutyAlert{RoutingKey: p.key, Action: "resolve", DedupKey: cmp.Or(string(o.UID), shorten(objectPath(&e), pagerDutyKey))}
	if e.Severity != event.Error {
		// Each is told though the other may fail.
		resolved := p.post(ctx, "/v2/enqueue", alert)
		return cmp.Or(resolved, p.post(ctx, "/v2/change/enqueue", pagerDutyChange{p.key, payload}))
	}
	payload.Severity, payload.Component, payload.Group = string(event.Error), o.Name, o.Kind
	alert.Action, alert.Payload = "trigger", &payload
	return p.post(ctx, "/v2/enqueue", alert)
}

func (p *pagerDutyNotifier) post(ctx context.Context, path string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding the notification: %w", err)
	}
	request := Request{URL: p.base + path, Header: http.Header{"Content-Type": {"application/json"}}, Body: data, Sealed: true}
	if _, err := p.client.Do(ctx, request); err != nil {
		return PostFailed(err)
	}
	return nil
}
