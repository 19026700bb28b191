package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

const (
	// maxDispatchType is the length of an event_type that GitHub takes.
	maxDispatchType = 100
	// maxDispatchPayload is the size of a client_payload that GitHub takes.
	maxDispatchPayload = 64<<10 - 1
)

// githubDispatch starts workflows of GitHub Actions (wire contract 13).
func githubDispatch() Type {
	return Type{
		Name: "githubdispatch", Title: "GitHub repository dispatch", Group: Comment, Address: gitHubAddress, Secret: gitHubSecret,
		New: func(c Config) (Notifier, error) {
			api, err := newGitHub(&c)
			if err != nil {
				return nil, err
			}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error { return dispatch(ctx, api, e) }), nil
		},
	}
}

func dispatch(ctx context.Context, api *gitHub, e event.Payload) error {
	payload, err := dispatchPayload(e)
	if err != nil {
		return err
	}
	o := &e.InvolvedObject
	body := struct {
		EventType     string          `json:"event_type"`
		ClientPayload json.RawMessage `json:"client_payload"`
	}{cutForForge(fmt.Sprintf("%s/%s.%s", o.Kind, o.Name, o.Namespace), maxDispatchType), payload}
	if err := api.send(ctx, http.MethodPost, api.repo+"/dispatches", body); err != nil {
		return fmt.Errorf("could not send github repository dispatch webhook: %w%s", err, refusalHint(err))
	}
	return nil
}

// dispatchPayload is the event, with as much of its message as GitHub takes.
func dispatchPayload(e event.Payload) (json.RawMessage, error) {
	payload, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding the event: %w", err)
	}
	if over := len(payload) - maxDispatchPayload; over > 0 {
		// A byte of the message is at least one of the payload.
		e.Message = cutForForge(e.Message, max(len("…"), len(e.Message)-over))
		if payload, err = json.Marshal(e); err != nil {
			return nil, fmt.Errorf("encoding the event: %w", err)
		}
	}
	return payload, nil
}
