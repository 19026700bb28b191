package provider

import (
	"context"
	"fmt"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// larkMarkup keeps Lark from taking text for mentions, links and the end of the bold text.
var larkMarkup = escaped{'<': "&#60;", '>': "&#62;", '*': "&#42;"}

// larkFrame: a request may have 20 KB, https://open.larksuite.com/document/client-docs/bot-v3/add-custom-bot. What surrounds text and
// metadata is counted off.
var larkFrame = frame{size: larkMarkup.size(jsonBytes), total: 20000 - 1000, text: 20000, entries: 100, key: 300, value: 4000, each: 4}

type (
	larkMessage struct {
		MsgType string   `json:"msg_type"`
		Card    larkCard `json:"card"`
	}
	larkCard struct {
		Config   larkConfig    `json:"config"`
		Header   larkHeader    `json:"header"`
		Elements []larkElement `json:"elements"`
	}
	larkConfig struct {
		WideScreenMode bool `json:"wide_screen_mode"`
	}
	larkHeader struct {
		Title    larkText `json:"title"`
		Template string   `json:"template"`
	}
	larkElement struct {
		Tag  string   `json:"tag"`
		Text larkText `json:"text"`
	}
	larkText struct {
		Tag     string `json:"tag"`
		Content string `json:"content"`
	}
)

// lark posts cards to Lark's custom bots (wire contract 13).
func lark() Type {
	return Type{
		Name: "lark", Title: "Lark (Feishu)", Group: Chat,
		Address: "URL of a custom bot's webhook",
		New: func(c Config) (Notifier, error) {
			hook, err := newChatHook(&c)
			if err != nil {
				return nil, err
			}
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				answer, err := hook.post(ctx, newLarkMessage(&e))
				if err != nil {
					return err
				}
				return larkVerdict(answer)
			}), nil
		},
	}
}

// larkVerdict reads what Lark answers with status 200 to what it refuses. Whoever else answers at this address needs no JSON.
func larkVerdict(answer *Answer) error {
	var verdict struct {
		Code int `json:"code"`
	}
	if answer.JSON(&verdict) != nil || verdict.Code == 0 {
		return nil
	}
	return PostFailed(fmt.Errorf("refused by Lark with code %d", verdict.Code))
}

func newLarkMessage(e *event.Payload) larkMessage {
	text, entries := larkFrame.fit(e.Message, sortedMetadata(e))
	content := new(strings.Builder)
	content.WriteString("**" + larkMarkup.write(text) + "**\n\n")
	for _, each := range entries {
		fmt.Fprintf(content, "%s: %s\n", each.Key, each.Value)
	}
	template := "turquoise"
	if e.Severity == event.Error {
		template = "red"
	}
	title := newsEmoji(e) + " " + larkFrame.cut(objectName(e), titleLimit)
	return larkMessage{MsgType: "interactive", Card: larkCard{
		Config: larkConfig{WideScreenMode: true}, Header: larkHeader{Title: larkText{"plain_text", title}, Template: template},
		Elements: []larkElement{{Tag: "div", Text: larkText{"lark_md", content.String()}}},
	}}
}
