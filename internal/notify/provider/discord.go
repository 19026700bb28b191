package provider

import (
	"context"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// discordFrame are the limits of an embed, which is what Discord makes of the attachment; its title counts too, and the dash for an empty value:
// https://discord.com/developers/docs/resources/message#embed-object-embed-limits
var discordFrame = frame{size: utf16Units, total: 6000 - discordTitle, text: 4096, entries: 25, key: 256, value: 1024, each: 1}

const (
	discordTitle = 256
	// discordName is the limit of the name that a webhook posts under.
	discordName = 80
)

// discord posts to Discord's webhooks, in Slack's format (provider 19, wire contract 13).
func discord() Type {
	return Type{
		Name: "discord", Title: "Discord", Group: Chat,
		Address: "URL of a webhook; `/slack` is added to its path",
		New: func(c Config) (Notifier, error) {
			hook, err := newChatHook(&c)
			if err != nil {
				return nil, err
			}
			if !strings.HasSuffix(hook.address.Path, "/slack") {
				hook.address = hook.address.JoinPath("slack")
			}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				message, attachment := slackShape(&e, discordFrame, discordTitle, "good", "danger")
				message.Username = discordFrame.cut(senderName(&c, &e), discordName)
				for i := range attachment.Fields {
					// Discord refuses the whole message for one empty field.
					if field := &attachment.Fields[i]; strings.TrimSpace(field.Value) == "" {
						field.Value = "-"
					}
				}
				_, err := hook.post(ctx, message)
				return err
			}), nil
		},
	}
}
