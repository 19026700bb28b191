package provider

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// The limits of the Alert API of Opsgenie, in characters.
const opsgenieMessage, opsgenieDescription, opsgenieDetails = 130, 15000, 8000

// opsgenie creates an alert for each event (provider 24, wire contract 13). A failure that repeats counts up the alert that is open for it.
func opsgenie() Type {
	return Type{
		Name: "opsgenie", Title: "Opsgenie", Group: Incident,
		Address: "URL of the Alert API, `https://api.opsgenie.com/v2/alerts`", Secret: "`token`: the API key",
		New: func(c Config) (Notifier, error) {
			if c.Address == "" {
				return nil, errors.New("spec.address is empty: give the URL of the Alert API, https://api.opsgenie.com/v2/alerts")
			}
			if c.Token == "" {
				return nil, errors.New("the Secret of spec.secretRef has no token: give the API key of the integration")
			}
			header := http.Header{"Authorization": {"GenieKey " + c.Token}}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				if _, err := c.HTTP.PostJSON(ctx, c.Address, opsgenieAlertOf(&e), header); err != nil {
					return PostFailed(err)
				}
				return nil
			}), nil
		},
	}
}

type opsgenieAlert struct {
	Message     string            `json:"message"`
	Alias       string            `json:"alias,omitempty"`
	Description string            `json:"description"`
	Details     map[string]string `json:"details"`
}

func opsgenieAlertOf(e *event.Payload) opsgenieAlert {
	const severityKey = "severity"
	o := &e.InvolvedObject
	alert := opsgenieAlert{
		Message:     shorten(o.Kind+"/"+o.Name, opsgenieMessage),
		Description: shorten(e.Message, opsgenieDescription),
		Details:     asMap(fitMetadata(e, opsgenieDetails-len(severityKey)-len(e.Severity))),
	}
	alert.Details[severityKey] = string(e.Severity)
	if e.Severity == event.Error {
		// Good news has no alias: while its alert is open, news of another revision would only be counted.
		alert.Alias = failureKey(e)
	}
	return alert
}

// failureKey is equal for equal failures of one object. The UID tells apart what has the same name in another cluster.
func failureKey(e *event.Payload) string {
	o := &e.InvolvedObject
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q", o.UID, o.Kind, o.Namespace, o.Name, e.Reason))
	return hex.EncodeToString(sum[:])
}
