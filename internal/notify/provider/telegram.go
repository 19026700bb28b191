package provider

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// telegramMarkup are the characters that https://core.telegram.org/bots/api#markdownv2-style reserves.
var telegramMarkup = func() escaped {
	out := escaped{}
	for _, r := range "_*[]()~`>#+-=|{}.!\\" {
		out[r] = `\` + string(r)
	}
	return out
}()

// telegramFrame: a message has up to 4096 UTF-16 code units, which are counted when its markup is gone:
// https://core.telegram.org/bots/api#sendmessage
var telegramFrame = frame{size: utf16Units, total: 4096, text: 4096, entries: 50, key: 300, value: 1024, each: len("\n- : ")}

type telegramMessage struct {
	Chat      string `json:"chat_id"`
	Thread    int    `json:"message_thread_id,omitempty"`
	Text      string `json:"text"`
	ParseMode string `json:"parse_mode"`
}

// telegram posts as a bot of Telegram (provider 21, wire contract 13).
func telegram() Type {
	return Type{
		Name: "telegram", Title: "Telegram", Group: Chat,
		Channel: "id of the chat, or `@` and the name of a channel; `:` and the number of a thread may follow", Secret: "`token`: the bot's token",
		New: func(c Config) (Notifier, error) {
			chat, thread, threaded := strings.Cut(c.Channel, ":")
			message := telegramMessage{Chat: chat, ParseMode: "MarkdownV2"}
			if threaded {
				var err error
				if message.Thread, err = strconv.Atoi(thread); err != nil || message.Thread <= 0 {
					return nil, errors.New("spec.channel has no number after the colon: give the chat, or the chat, a colon and the number of a thread")
				}
			}
			switch {
			case chat == "":
				return nil, errors.New("spec.channel is empty: give the id of the chat, or @ and the name of a channel")
			case c.Token == "":
				return nil, errors.New("there is no 'token' in the Secret of spec.secretRef: give the bot's token")
			}
			address := &url.URL{Scheme: "https", Host: "api.telegram.org"}
			// A slash in the token is none of the path.
			address = address.JoinPath("bot"+url.PathEscape(c.Token), "sendMessage")
			hook := &chatHook{client: c.HTTP, address: address, header: http.Header{}}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				message := message
				message.Text = telegramText(&e)
				_, err := hook.post(ctx, message)
				return err
			}), nil
		},
	}
}

func telegramText(e *event.Payload) string {
	f := telegramFrame
	emoji, title := newsEmoji(e)+" ", f.cut(objectName(e), titleLimit)
	f.total -= f.measure(emoji) + f.measure(title) + len("\n\n")
	text, entries := f.fit(e.Message, sortedMetadata(e))
	var out strings.Builder
	out.WriteString(emoji + "*" + telegramMarkup.write(title) + "*\n" + telegramMarkup.write(text))
	if len(entries) > 0 {
		out.WriteByte('\n')
	}
	for _, each := range entries {
		out.WriteString("\n" + telegramMarkup.write("- "+each.Key+": "+each.Value))
	}
	return out.String()
}
