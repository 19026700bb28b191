package provider

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// matrixFrame: an event may have 65536 bytes together with what the server adds:
// https://spec.matrix.org/latest/client-server-api/#size-limits
var matrixFrame = frame{size: jsonBytes, total: 60000, text: 60000, entries: 100, key: 300, value: 8000, each: len(`- : \n`)}

type matrixMessage struct {
	Body    string `json:"body"`
	MsgType string `json:"msgtype"`
}

// matrix sends to a room of Matrix (provider 29, wire contract 13).
func matrix() Type {
	return Type{
		Name: "matrix", Title: "Matrix", Group: Chat,
		Address: "URL of the homeserver", Channel: "id of the room, which begins with `!`", Secret: "`token`: the user's access token",
		New: func(c Config) (Notifier, error) {
			hook, err := newChatHook(&c)
			switch {
			case err != nil:
				return nil, err
			case c.Channel == "":
				return nil, errors.New("spec.channel is empty: give the id of the room, which begins with an exclamation mark")
			case strings.HasPrefix(c.Channel, "#"):
				return nil, errors.New("spec.channel is an alias: give the id of the room, which begins with an exclamation mark")
			case c.Token == "":
				return nil, errors.New("there is no 'token' in the Secret of spec.secretRef: give the user's access token")
			}
			hook.bearer(c.Token)
			// 2.9 writes the exclamation mark as it is.
			room := strings.ReplaceAll(url.PathEscape(c.Channel), "%21", "!")
			hook.address = hook.address.JoinPath("_matrix/client/r0/rooms", room, "send/m.room.message")
			return NotifierFunc(func(ctx context.Context, e event.Payload) error {
				data, err := json.Marshal(e)
				if err != nil {
					return fmt.Errorf("encoding the event: %w", err)
				}
				// A server takes a message of one id only once, however often it is sent.
				id := sha1.Sum(data)
				address := hook.address.JoinPath(hex.EncodeToString(id[:])).String()
				if _, err := hook.client.SendJSON(ctx, http.MethodPut, address, matrixMessage{matrixText(&e), "m.text"}, hook.header); err != nil {
					return PostFailed(err)
				}
				return nil
			}), nil
		},
	}
}

func matrixText(e *event.Payload) string {
	f := matrixFrame
	head := newsEmoji(e) + " " + f.cut(objectName(e), titleLimit) + "\n"
	f.total -= f.measure(head + "\n")
	text, entries := f.fit(e.Message, sortedMetadata(e))
	var out strings.Builder
	out.WriteString(head + text + "\n")
	for _, each := range entries {
		fmt.Fprintf(&out, "- %s: %s\n", each.Key, each.Value)
	}
	return out.String()
}
