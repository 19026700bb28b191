package provider

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// webexMarkup keeps Webex from taking text for HTML and mentions, which both begin with an angle bracket. Two spaces keep an end of line.
var webexMarkup = escaped{'&': "&amp;", '<': "&lt;", '\n': "  \n"}

// webexFrame: a message may have 7439 bytes, https://developer.webex.com/docs/api/v1/messages/create-a-message.
var webexFrame = frame{size: webexMarkup.size(utf8.RuneLen), total: 7439, text: 7439, entries: 50, key: 300, value: 2000, each: len("> : \n") + 2}

type webexMessage struct {
	RoomID   string `json:"roomId"`
	Markdown string `json:"markdown"`
}

// webex posts to Webex's API (wire contract 13).
func webex() Type {
	return Type{
		Name: "webex", Title: "Webex", Group: Chat,
		Address: "`https://webexapis.com/v1/messages`", Channel: "id of the room", Secret: "`token`: the bot's access token",
		New: func(c Config) (Notifier, error) {
			hook, err := newChatHook(&c)
			switch {
			case err != nil:
				return nil, err
			case c.Channel == "":
				return nil, errors.New("spec.channel is empty: give the id of the room")
			case c.Token == "":
				return nil, errors.New("there is no 'token' in the Secret of spec.secretRef: give the bot's access token")
			}
			hook.bearer(c.Token)
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				_, err := hook.post(ctx, webexMessage{c.Channel, webexMarkdown(&e)})
				return err
			}), nil
		},
	}
}

func webexMarkdown(e *event.Payload) string {
	emoji := "✅"
	if e.Severity == event.Error {
		emoji = "💣"
	}
	f := webexFrame
	head := fmt.Sprintf("%s **%s**\n\n", emoji, f.cut(objectName(e), titleLimit))
	// The ends of lines around the text count as escaped ones do.
	f.total -= f.measure(head) + 2*f.size('\n')
	text, entries := f.fit(e.Message, sortedMetadata(e))
	var out strings.Builder
	out.WriteString(head + webexMarkup.write(text) + "\n")
	if len(entries) > 0 {
		out.WriteByte('\n')
	}
	for _, each := range entries {
		fmt.Fprintf(&out, "> %s: %s  \n", each.Key, strings.ReplaceAll(each.Value, "\n", "  \n"))
	}
	return out.String()
}
