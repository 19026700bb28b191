package provider

import (
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// slackMessage is a message of Slack's legacy format, with one attachment. Other chats take it too. Every key is always there, as in 2.9.
type slackMessage struct {
	Channel     string            `json:"channel"`
	Username    string            `json:"username"`
	IconURL     string            `json:"icon_url"`
	IconEmoji   string            `json:"icon_emoji"`
	Attachments []slackAttachment `json:"attachments"`
}

type slackAttachment struct {
	Fallback   string       `json:"fallback"`
	Color      string       `json:"color"`
	AuthorName string       `json:"author_name"`
	Text       string       `json:"text"`
	MrkdwnIn   []string     `json:"mrkdwn_in"`
	Fields     []slackField `json:"fields"`
}

type slackField struct {
	Title string `json:"title"`
	Value string `json:"value"`
	Short bool   `json:"short"`
}

// slackShape is an event in Slack's format, cut to the frame.
func slackShape(e *event.Payload, f frame, title int, good, bad string) (slackMessage, *slackAttachment) {
	text, entries := f.fit(e.Message, sortedMetadata(e))
	attachment := slackAttachment{
		Color: good, AuthorName: f.cut(objectName(e), title), Text: text, MrkdwnIn: []string{"text"}, Fields: make([]slackField, len(entries)),
	}
	if e.Severity == event.Error {
		attachment.Color = bad
	}
	for i, each := range entries {
		attachment.Fields[i] = slackField{Title: each.Key, Value: each.Value}
	}
	message := slackMessage{Attachments: []slackAttachment{attachment}}
	return message, &message.Attachments[0]
}

// senderName is the name that messages are posted under (provider 6).
func senderName(c *Config, e *event.Payload) string {
	if c.Username != "" {
		return c.Username
	}
	return e.ReportingController
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
