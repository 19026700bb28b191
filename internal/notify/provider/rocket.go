package provider

import (
	"context"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// rocketFrame is Slack's without its escapes: Rocket.Chat documents no limit for attachments.
var rocketFrame = frame{size: utf16Units, total: 40000, text: 40000, entries: 100, key: 300, value: 8000}

// rocket posts to Rocket.Chat's webhooks, in Slack's format (wire contract 13).
func rocket() Type {
	return Type{
		Name: "rocket", Title: "Rocket.Chat", Group: Chat,
		Address: "URL of an incoming webhook", Channel: "channel or user to post to; empty: that of the webhook",
		New: func(c Config) (Notifier, error) {
			hook, err := newChatHook(&c)
			if err != nil {
				return nil, err
			}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				message, _ := slackShape(&e, rocketFrame, titleLimit, "#0076D7", "#FF0000")
				message.Channel, message.Username = c.Channel, c.Username
				_, err := hook.post(ctx, message)
				return err
			}), nil
		},
	}
}
