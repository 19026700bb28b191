package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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
	// sentryTagKey and sentryTagValue are how long a tag may be; Sentry drops longer ones.
	sentryTagKey, sentryTagValue = 200, 200
	// sentryMessage is how many characters of a message Sentry keeps.
	sentryMessage = 8192
	// sentryMetadata keeps an event well below the 1 MB that Sentry takes.
	sentryMetadata = 256 << 10
)

// sentry reports failures as events and good news as transactions (provider 22, wire contract 13). It writes Sentry's envelopes itself: the
// SDK sends in the background and does not tell what became of an event.
func sentry() Type {
	return Type{
		Name: "sentry", Title: "Sentry", Group: Incident,
		Address: "the DSN of the project", Channel: "the environment (optional)",
		New: func(c Config) (Notifier, error) {
			dsn, err := parseDSN(c.Address)
			if err != nil {
				return nil, err
			}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				body, err := sentryEnvelope(&e, c.Channel)
				if err != nil {
					return err
				}
				header := http.Header{"Content-Type": {"application/x-sentry-envelope"}, "X-Sentry-Auth": {dsn.auth(c.HTTP.UserAgent)}}
				if _, err := c.HTTP.Do(ctx, Request{URL: dsn.envelopes, Header: header, Body: body}); err != nil {
					return PostFailed(err)
				}
				return nil
			}), nil
		},
	}
}

// sentryDSN says where a project is and who may write to it.
type sentryDSN struct{ envelopes, key, secret string }

var errDSN = errors.New("spec.address is not the DSN of a project, which looks like https://<key>@<host>/<project id>: " +
	"copy it from the settings of the project")

// parseDSN reads "{scheme}://{key}[:{secret}]@{host}[:{port}][/{path}]/{project id}".
func parseDSN(dsn string) (sentryDSN, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User == nil || !headerWord(u.User.Username()) {
		return sentryDSN{}, errDSN
	}
	slash := strings.LastIndexByte(u.Path, '/')
	if slash < 0 || slash == len(u.Path)-1 {
		return sentryDSN{}, errDSN
	}
	secret, _ := u.User.Password()
	if secret != "" && !headerWord(secret) {
		return sentryDSN{}, errDSN
	}
	at := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path[:slash] + "/api/" + u.Path[slash+1:] + "/envelope/"}
	return sentryDSN{at.String(), u.User.Username(), secret}, nil
}

// headerWord reports whether s can be a value in a list of a header.
func headerWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ',' || r == '"' || r == '=' })
}

// auth is the header X-Sentry-Auth.
func (d sentryDSN) auth(client string) string {
	out := "Sentry sentry_version=7, sentry_client=" + client + ", sentry_key=" + d.key
	if d.secret != "" {
		// Only servers from before 2018 want it.
		out += ", sentry_secret=" + d.secret
	}
	return out
}

type sentryEvent struct {
	ID          string                    `json:"event_id"`
	Type        string                    `json:"type,omitempty"`
	Platform    string                    `json:"platform"`
	Timestamp   time.Time                 `json:"timestamp"`
	Start       *time.Time                `json:"start_timestamp,omitempty"`
	Level       string                    `json:"level"`
	Environment string                    `json:"environment,omitempty"`
	Server      string                    `json:"server_name"`
	Transaction string                    `json:"transaction"`
	Info        *sentryInfo               `json:"transaction_info,omitempty"`
	Message     sentryText                `json:"logentry"`
	Tags        map[string]string         `json:"tags,omitempty"`
	Contexts    map[string]map[string]any `json:"contexts"`
}

type sentryInfo struct {
	Source string `json:"source"`
}

type sentryText struct {
	Formatted string `json:"formatted"`
}

// sentryEnvelope encodes an event as https://develop.sentry.dev/sdk/foundations/transport/envelopes/ says: a header, and of the one item a
// header and the payload, each in a line.
func sentryEnvelope(e *event.Payload, environment string) ([]byte, error) {
	made := sentryEventOf(e, environment)
	payload, err := json.Marshal(made)
	if err != nil {
		return nil, fmt.Errorf("encoding the notification: %w", err)
	}
	item := "event"
	if made.Type != "" {
		item = made.Type
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "{\"event_id\":%q}\n{\"type\":%q,\"length\":%d,\"content_type\":\"application/json\"}\n", made.ID, item, len(payload))
	out.Write(payload)
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func sentryEventOf(e *event.Payload, environment string) sentryEvent {
	o := &e.InvolvedObject
	id := eventDigest(e, environment)
	made := sentryEvent{
		// The id of an event that is sent again is that of the first time, so that Sentry keeps one of them.
		ID: hex.EncodeToString(id[:16]), Platform: "other", Timestamp: e.Timestamp.UTC(), Level: string(event.Error),
		Environment: environment, Server: e.ReportingController,
		Transaction: fmt.Sprintf("%s: %s/%s", o.Kind, o.Namespace, o.Name), Message: sentryText{shorten(e.Message, sentryMessage)},
	}
	if e.Severity == event.Error {
		metadata := map[string]any{}
		for _, each := range fitMetadata(e, sentryMetadata) {
			metadata[each.Key] = each.Value
		}
		made.Contexts = map[string]map[string]any{"metadata": metadata}
		return made
	}
	made.Type, made.Level, made.Start, made.Info = "transaction", string(event.Info), &made.Timestamp, &sentryInfo{"custom"}
	made.Tags = sentryTags(e)
	made.Contexts = map[string]map[string]any{"trace": {
		"trace_id": made.ID, "span_id": hex.EncodeToString(id[16:24]), "op": "flux." + sentryWord(e.Reason), "status": "ok",
	}}
	return made
}

// eventDigest is that of what tells an event from all others, told to one receiver.
func eventDigest(e *event.Payload, receiver string) [sha256.Size]byte {
	o := &e.InvolvedObject
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %q %q %q %q %d", receiver, o.UID, o.Kind, o.Namespace, o.Name, o.ResourceVersion,
		e.Severity, e.Reason, e.Message, e.Timestamp.UnixNano()))
}

// sentryTags returns the tags of a transaction: those of the metadata, and those of the object, which win.
func sentryTags(e *event.Payload) map[string]string {
	o := &e.InvolvedObject
	tags := map[string]string{}
	add := func(key, value string) {
		// Sentry refuses tags of more than one line, and other characters in keys.
		value = shorten(strings.Join(strings.Fields(value), " "), sentryTagValue)
		if key = sentryWord(key); key != "" && value != "" {
			tags[key] = value
		}
	}
	for _, each := range fitMetadata(e, sentryMetadata) {
		add(each.Key, each.Value)
	}
	add("flux_involved_object_kind", o.Kind)
	add("flux_involved_object_namespace", o.Namespace)
	add("flux_involved_object_name", o.Name)
	add("flux_reporting_controller", e.ReportingController)
	add("flux_reporting_instance", e.ReportingInstance)
	add("flux_reason", e.Reason)
	return tags
}

// sentryWord replaces what may not be in the key of a tag.
func sentryWord(key string) string {
	key = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '_', r == '.', r == ':', r == '-':
			return r
		}
		return '_'
	}, key)
	return key[:min(len(key), sentryTagKey)]
}
