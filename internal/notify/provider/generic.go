package provider

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// generic posts the event itself (provider 31, wire contract 13).
func generic() Type {
	return Type{
		Name: "generic", Title: "any webhook", Group: Webhook, StatusUpdates: true,
		Address: "URL the event is posted to", Secret: "`headers` (optional): a YAML map of headers",
		New: func(c Config) (Notifier, error) {
			return NotifierFunc(func(ctx context.Context, e event.Payload) error { return postEvent(ctx, &c, e, nil) }), nil
		},
	}
}

// genericHMAC also signs the body (provider 31).
func genericHMAC() Type {
	return Type{
		Name: "generic-hmac", Title: "any webhook, signed", Group: Webhook, StatusUpdates: true,
		Address: "URL the event is posted to", Secret: "`token`: the key of the HMAC-SHA256 in the header `X-Signature`; `headers` (optional)",
		New: func(c Config) (Notifier, error) {
			if c.Token == "" {
				return nil, errors.New("HMAC key is empty")
			}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error { return postEvent(ctx, &c, e, []byte(c.Token)) }), nil
		},
	}
}

func postEvent(ctx context.Context, c *Config, e event.Payload, key []byte) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding the event: %w", err)
	}
	header := http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set("Gotk-Component", e.ReportingController)
	if key != nil {
		mac := hmac.New(sha256.New, key)
		mac.Write(body)
		header.Set("X-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	for name, value := range c.Headers {
		header.Set(name, value)
	}
	if _, err := c.HTTP.Do(ctx, Request{URL: c.Address, Header: header, Body: body}); err != nil {
		return PostFailed(err)
	}
	return nil
}

// PostFailed is the error of a webhook (alert 19). It keeps the error it wraps.
func PostFailed(err error) error {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return fmt.Errorf("postMessage failed: request failed: %w", status)
	}
	return fmt.Errorf("postMessage failed: %w", err)
}
