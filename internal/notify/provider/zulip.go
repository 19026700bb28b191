package provider

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// zulipFrame: Zulip cuts at 10000 characters, https://zulip.com/api/send-message. What surrounds text and metadata is counted off.
var zulipFrame = frame{size: utf16Units, total: 10000 - 3*zulipName - 100, text: 10000, entries: 100, key: 300, value: 2000, each: len("* ``: \n")}

// zulipName is the longest name of Kubernetes.
const zulipName = 253

// zulip posts to a topic of a Zulip channel, which was called stream (provider 28, wire contract 13).
func zulip() Type {
	return Type{
		Name: "zulip", Title: "Zulip", Group: Chat,
		Address: "URL of the server, of which scheme and host count", Channel: "channel and topic: `channel/topic`",
		Secret: "`username` and `password`: the bot's email address and API key",
		New: func(c Config) (Notifier, error) {
			hook, err := newChatHook(&c)
			if err != nil {
				return nil, err
			}
			stream, topic, _ := strings.Cut(c.Channel, "/")
			switch {
			case stream == "" || topic == "":
				return nil, errors.New("spec.channel does not name both: give the channel, a slash and the topic")
			case c.Username == "" || c.Password == "":
				return nil, errors.New("there are no 'username' and 'password' in the Secret of spec.secretRef: give the bot's email address and API key")
			}
			address := url.URL{Scheme: hook.address.Scheme, Host: hook.address.Host, Path: "/api/v1/messages"}
			header := http.Header{}
			header.Set("Content-Type", "application/x-www-form-urlencoded")
			header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password)))
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				form := url.Values{"type": {"stream"}, "to": {stream}, "topic": {topic}, "content": {zulipContent(e)}}
				_, err := c.HTTP.Do(ctx, Request{URL: address.String(), Header: header, Body: []byte(form.Encode())})
				if err != nil {
					return PostFailed(err)
				}
				return nil
			}), nil
		},
	}
}

func zulipContent(e event.Payload) string {
	o := &e.InvolvedObject
	for _, name := range []*string{&o.Kind, &o.Namespace, &o.Name} {
		*name = zulipFrame.cut(*name, zulipName)
	}
	text, entries := zulipFrame.fit(e.Message, sortedMetadata(&e, changeRequestKey))
	e.Message, e.Metadata = text, make(map[string]string, len(entries))
	for _, each := range entries {
		e.Metadata[each.Key] = each.Value
	}
	return statusMarkdown(&e)
}
