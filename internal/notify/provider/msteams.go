package provider

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// teamsFrame: a message may have about 28 KB, https://learn.microsoft.com/microsoftteams/limits-specifications-teams#chat. What surrounds
// text and facts is counted off.
var teamsFrame = frame{size: teamsBytes, total: 28000 - 2*2000, text: 28000, entries: 100, key: 600, value: 4000, each: 50}

// teamsBytes is the cost of a character in UTF-8 or in UTF-16, whichever is more: Teams has refused messages of 15 KB in UTF-8, for
// it counts them as UTF-16.
func teamsBytes(r rune) int {
	encoded := jsonBytes(r)
	if r < utf8.RuneSelf || encoded > utf8.UTFMax {
		return 2 * encoded
	}
	return max(encoded, 2*utf16.RuneLen(r))
}

// connectorRefusal is what a connector answers with status 200 when Teams has refused the message:
// https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using#rate-limiting-for-connectors
var connectorRefusal = regexp.MustCompile(`Microsoft Teams endpoint returned HTTP error (\d{3})\b`)

// msteams posts to Microsoft Teams: adaptive cards to workflows, connector cards to the older webhooks (provider 18, wire contract 13).
func msteams() Type {
	return Type{
		Name: "msteams", Title: "Microsoft Teams", Group: Chat,
		Address: "URL of a workflow that takes webhook requests; or of an Office 365 connector (`*.webhook.office.com`, which Microsoft ends)",
		New: func(c Config) (Notifier, error) {
			hook, err := newChatHook(&c)
			if err != nil {
				return nil, err
			}
			if strings.HasSuffix(hook.address.Hostname(), ".webhook.office.com") {
				return NotifierFunc(func(ctx context.Context, e event.Payload) error {
					answer, err := hook.post(ctx, newConnectorCard(&e))
					if err != nil {
						return err
					}
					return connectorVerdict(answer.Body)
				}), nil
			}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				_, err := hook.post(ctx, newAdaptiveMessage(&e))
				return err
			}), nil
		},
	}
}

func connectorVerdict(body []byte) error {
	if found := connectorRefusal.FindSubmatch(body); found != nil {
		code, _ := strconv.Atoi(string(found[1]))
		return PostFailed(&StatusError{Code: code})
	}
	if bytes.Contains(body, []byte("Webhook message delivery failed")) {
		return PostFailed(errors.New("refused by Teams"))
	}
	return nil
}

// teamsFacts are text and metadata as they fit; the summary comes first.
func teamsFacts(e *event.Payload) (string, []entry) {
	entries := sortedMetadata(e, summaryKey)
	if summary, ok := e.Metadata[summaryKey]; ok {
		entries = slices.Insert(entries, 0, entry{summaryKey, summary})
	}
	return teamsFrame.fit(e.Message, entries)
}

func teamsTitle(e *event.Payload) string { return teamsFrame.cut(objectName(e), 2*titleLimit) }

type adaptiveMessage struct {
	Type        string               `json:"type"`
	Attachments []adaptiveAttachment `json:"attachments"`
}

type adaptiveAttachment struct {
	ContentType string       `json:"contentType"`
	Content     adaptiveCard `json:"content"`
}

// adaptiveCard is a card of https://adaptivecards.io/explorer.
type adaptiveCard struct {
	Schema  string              `json:"$schema"`
	Type    string              `json:"type"`
	Version string              `json:"version"`
	MSTeams adaptiveTeams       `json:"msteams"`
	Body    []adaptiveContainer `json:"body"`
}

type adaptiveTeams struct {
	Width string `json:"width"`
}

type adaptiveContainer struct {
	Type  string `json:"type"`
	Items []any  `json:"items"`
}

type adaptiveText struct {
	Type   string `json:"type"`
	Text   string `json:"text"`
	Size   string `json:"size,omitempty"`
	Weight string `json:"weight,omitempty"`
	Color  string `json:"color,omitempty"`
	Wrap   bool   `json:"wrap"`
}

type adaptiveFacts struct {
	Type  string         `json:"type"`
	Facts []adaptiveFact `json:"facts"`
}

type adaptiveFact struct {
	Title string `json:"title"`
	Value string `json:"value"`
}

func newAdaptiveMessage(e *event.Payload) adaptiveMessage {
	text, entries := teamsFacts(e)
	color := ""
	if e.Severity == event.Error {
		color = "attention"
	}
	items := []any{
		adaptiveText{Type: "TextBlock", Text: teamsTitle(e), Size: "large", Weight: "bolder", Wrap: true},
		adaptiveText{Type: "TextBlock", Text: text, Color: color, Wrap: true},
	}
	if len(entries) > 0 {
		facts := adaptiveFacts{Type: "FactSet"}
		for _, each := range entries {
			facts.Facts = append(facts.Facts, adaptiveFact{Title: each.Key, Value: each.Value})
		}
		items = append(items, facts)
	}
	return adaptiveMessage{Type: "message", Attachments: []adaptiveAttachment{{
		ContentType: "application/vnd.microsoft.card.adaptive",
		Content: adaptiveCard{
			Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.4", MSTeams: adaptiveTeams{"Full"},
			Body: []adaptiveContainer{{Type: "Container", Items: items}},
		},
	}}}
}

// connectorCard is a card of https://learn.microsoft.com/outlook/actionable-messages/message-card-reference.
type connectorCard struct {
	Type       string             `json:"@type"`
	Context    string             `json:"@context"`
	ThemeColor string             `json:"themeColor"`
	Summary    string             `json:"summary"`
	Sections   []connectorSection `json:"sections"`
}

type connectorSection struct {
	Title    string          `json:"activityTitle"`
	Subtitle string          `json:"activitySubtitle"`
	Facts    []connectorFact `json:"facts"`
}

type connectorFact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func newConnectorCard(e *event.Payload) connectorCard {
	text, entries := teamsFacts(e)
	title, color := teamsTitle(e), "0076D7"
	if e.Severity == event.Error {
		color = "FF0000"
	}
	facts := make([]connectorFact, len(entries))
	for i, each := range entries {
		facts[i] = connectorFact{Name: each.Key, Value: each.Value}
	}
	return connectorCard{
		Type: "MessageCard", Context: "http://schema.org/extensions", ThemeColor: color, Summary: title,
		Sections: []connectorSection{{Title: text, Subtitle: title, Facts: facts}},
	}
}
