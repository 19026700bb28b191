package provider

import (
	"context"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// googleMarkup are the characters of HTML, which text of a card is. Quotes mean nothing outside of tags.
var googleMarkup = escaped{'&': "&amp;", '<': "&lt;", '>': "&gt;"}

// googleFrame: a message may have 32000 bytes, https://developers.google.com/workspace/chat/api/reference/rest/v1/spaces.messages/create,
// and a card shows 100 widgets. What surrounds text and metadata is counted off.
var googleFrame = frame{size: googleMarkup.size(jsonBytes), total: 32000 - 2000, text: 32000, entries: 99, key: 300, value: 4000, each: 140}

// The parts of a card of version 1. Keys without a value are null, as in 2.9.
type (
	googleMessage struct {
		Cards []googleCard `json:"cards"`
	}
	googleCard struct {
		Header   googleHeader    `json:"header"`
		Sections []googleSection `json:"sections"`
	}
	googleHeader struct {
		Title      string  `json:"title"`
		Subtitle   string  `json:"subtitle"`
		ImageURL   *string `json:"imageUrl"`
		ImageStyle *string `json:"imageStyle"`
	}
	googleSection struct {
		Header  string         `json:"header"`
		Widgets []googleWidget `json:"widgets"`
	}
	googleWidget struct {
		TextParagraph *googleText     `json:"textParagraph"`
		KeyValue      *googleKeyValue `json:"keyValue"`
	}
	googleText struct {
		Text string `json:"text"`
	}
	googleKeyValue struct {
		TopLabel         string  `json:"topLabel"`
		Content          string  `json:"content"`
		ContentMultiline bool    `json:"contentMultiline"`
		BottomLabel      *string `json:"bottomLabel"`
		Icon             *string `json:"icon"`
	}
)

// googleChat posts cards to Google Chat's webhooks (wire contract 13).
func googleChat() Type {
	return Type{
		Name: "googlechat", Title: "Google Chat", Group: Chat,
		Address: "URL of a webhook of the space",
		New: func(c Config) (Notifier, error) {
			hook, err := newChatHook(&c)
			if err != nil {
				return nil, err
			}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				_, err := hook.post(ctx, newGoogleMessage(&e))
				return err
			}), nil
		},
	}
}

func newGoogleMessage(e *event.Payload) googleMessage {
	text, entries := googleFrame.fit(e.Message, sortedMetadata(e))
	text = googleMarkup.write(text)
	if e.Severity == event.Error {
		text = `<font color="#ff0000">` + text + "</font>"
	}
	sections := []googleSection{{Widgets: []googleWidget{{TextParagraph: &googleText{text}}}}}
	if len(entries) > 0 {
		widgets := make([]googleWidget, len(entries))
		for i, each := range entries {
			widgets[i].KeyValue = &googleKeyValue{TopLabel: each.Key, Content: each.Value}
		}
		sections = append(sections, googleSection{Widgets: widgets})
	}
	header := googleHeader{Title: googleFrame.cut(objectName(e), titleLimit), Subtitle: googleFrame.cut(e.ReportingController, titleLimit)}
	return googleMessage{Cards: []googleCard{{Header: header, Sections: sections}}}
}
