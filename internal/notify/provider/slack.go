package provider

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// slackMarkup are the characters that begin links and mentions in Slack, in its own spelling:
// https://docs.slack.dev/messaging/formatting-message-text#escaping
var slackMarkup = escaped{'&': "&amp;", '<': "&lt;", '>': "&gt;"}

// slackFrame: Slack cuts at 40000 characters, without a mark.
var slackFrame = frame{size: slackMarkup.size(utf16Units), total: 40000, text: 40000, entries: 100, key: 300, value: 8000}

// slackFallback is how much of a message is shown where there is no room for formatted text, as on a phone.
const slackFallback = 1000

// slackWord is how Slack names what is wrong, like channel_not_found. Anything else may be what somebody wants to be seen.
var slackWord = regexp.MustCompile(`^[a-z_]{1,64}$`)

// slack posts to webhooks of Slack's format, and with a token to Slack's API (provider 17, wire contract 13).
func slack() Type {
	return Type{
		Name: "slack", Title: "Slack; also Mattermost and other webhooks that take Slack's format", Group: Chat,
		Address: "URL of an incoming webhook, or `https://slack.com/api/chat.postMessage`",
		Channel: "channel to post to; a webhook of Slack has its own",
		Secret:  "`token`: the bot's token, needed for `chat.postMessage`",
		New: func(c Config) (Notifier, error) {
			hook, err := newChatHook(&c)
			if err != nil {
				return nil, err
			}
			hook.bearer(c.Token)
			api := strings.HasSuffix(hook.address.Path, "/chat.postMessage")
			if api && c.Channel == "" {
				return nil, errors.New("spec.channel is empty: give the channel that chat.postMessage is to post to")
			}
			// Only Slack itself reads its escapes; others would show them.
			markup, host := escaped{}, hook.address.Hostname()
			for _, domain := range []string{"slack.com", "slack-gov.com"} {
				if host == domain || strings.HasSuffix(host, "."+domain) {
					markup = slackMarkup
				}
			}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				message, attachment := slackShape(&e, slackFrame, titleLimit, "good", "danger")
				message.Channel, message.Username = c.Channel, senderName(&c, &e)
				attachment.Fallback = attachment.AuthorName + ": " + markup.write(slackFrame.cut(firstLine(attachment.Text), slackFallback))
				attachment.Text = markup.write(attachment.Text)
				answer, err := hook.post(ctx, message)
				if err != nil || !api {
					return err
				}
				return slackVerdict(answer)
			}), nil
		},
	}
}

// slackVerdict reads what the API answers with status 200 to what it refuses.
func slackVerdict(answer *Answer) error {
	var verdict struct {
		OK    bool   `json:"ok"`
		Error string `json:"error"`
	}
	if err := answer.JSON(&verdict); err != nil {
		return PostFailed(fmt.Errorf("reading the answer of Slack: %w", err))
	}
	switch {
	case verdict.OK:
		return nil
	case slackWord.MatchString(verdict.Error):
		return PostFailed(fmt.Errorf("refused by Slack: %s", verdict.Error))
	}
	return PostFailed(errors.New("refused by Slack"))
}
