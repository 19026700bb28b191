package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// What chats share. Every one of them has a limit of its own to what a message may hold, and refuses what is longer: a notification is
// cut and sent rather than lost. Text is cut as the service counts it.
//
// Most chats read markup in what they are sent. What controllers write, which holds messages of commits and of compilers, is shown as it
// is where the service has a way to say so. Metadata is not touched: those who set an Alert up mention people in it.

// titleLimit holds every name that Kubernetes allows: kind, name and namespace are at most 381 characters together.
const titleLimit = 400

// cutMark ends a text that was cut.
const cutMark = '…'

// frame is how much one message may hold. Lengths are sums of size.
type frame struct {
	// size is what one character costs.
	size func(rune) int
	// total is the limit of text and entries together, text that of the text alone.
	total, text int
	// entries is how many there may be; key and value are the limits of one, each is what one costs besides.
	entries, key, value, each int
}

func (f frame) measure(s string) int {
	sum := 0
	for _, r := range s {
		sum += f.size(r)
	}
	return sum
}

// cut shortens a text to the limit, its mark included.
func (f frame) cut(s string, limit int) string {
	used, end := 0, -1
	for i, r := range s {
		if used+f.size(cutMark) <= limit {
			end = i
		}
		if used += f.size(r); used <= limit {
			continue
		}
		if end < 0 {
			return ""
		}
		return s[:end] + string(cutMark)
	}
	return s
}

func (f frame) cost(e entry) int { return f.each + f.measure(e.Key) + f.measure(e.Value) }

// fit shortens text and entries to what the frame holds. Entries get what the text leaves, and half of the room in any case: a long error
// does not push out the revision it is about. Instead of those that are left out, a last one tells how many they are.
func (f frame) fit(text string, all []entry) (string, []entry) {
	text = f.cut(text, f.text)
	room := max(f.total-f.measure(text), f.total/2)
	left, kept := f.total, make([]entry, 0, min(len(all), f.entries))
	for i, e := range all {
		last, rest := i == len(all)-1, entry{string(cutMark), fmt.Sprintf("%d more", len(all)-i)}
		e.Key = f.cut(e.Key, f.key)
		space := room - f.each - f.measure(e.Key)
		if !last {
			space -= f.cost(rest)
		}
		e.Value = f.cut(e.Value, f.value)
		full := len(kept) >= f.entries-1 && !last || len(kept) >= f.entries
		// A few letters of a value help nobody.
		if full || space < min(f.measure(e.Value), 16) {
			kept, left = append(kept, rest), left-f.cost(rest)
			break
		}
		e.Value = f.cut(e.Value, space)
		kept, left, room = append(kept, e), left-f.cost(e), room-f.cost(e)
	}
	return f.cut(text, min(f.text, left)), kept
}

// utf16Units is the cost of a character where lengths are UTF-16 code units, which are never fewer than characters.
func utf16Units(r rune) int { return max(utf16.RuneLen(r), 1) }

// jsonBytes is the cost of a character where the encoded request counts.
func jsonBytes(r rune) int {
	switch r {
	case '"', '\\', '\b', '\f', '\n', '\r', '\t':
		return 2
	case '<', '>', '&', '\u2028', '\u2029', utf8.RuneError:
		return 6
	}
	if r < ' ' {
		return 6
	}
	return utf8.RuneLen(r)
}

// escaped is a way to write characters that a service would take for markup.
type escaped map[rune]string

func (e escaped) write(s string) string {
	var out []byte
	for _, r := range s {
		if form, ok := e[r]; ok {
			out = append(out, form...)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return string(out)
}

// size is the cost of a character that is written like this and then counted.
func (e escaped) size(count func(rune) int) func(rune) int {
	return func(r rune) int {
		form, ok := e[r]
		if !ok {
			return count(r)
		}
		sum := 0
		for _, each := range form {
			sum += count(each)
		}
		return sum
	}
}

// chatHook is where a chat takes messages.
type chatHook struct {
	client  *Client
	address *url.URL
	header  http.Header
}

// newChatHook checks the address.
func newChatHook(c *Config) (*chatHook, error) {
	if c.Address == "" {
		return nil, errors.New("spec.address is empty: give the URL there, or as 'address' in the Secret")
	}
	address, err := url.Parse(c.Address)
	if err != nil || address.Host == "" || address.Scheme != "https" && address.Scheme != "http" {
		return nil, errors.New("the address is not a URL: give one that begins with https:// or http://")
	}
	return &chatHook{client: c.HTTP, address: address, header: http.Header{}}, nil
}

// bearer signs the requests with a token, if there is one.
func (h *chatHook) bearer(token string) {
	if token != "" {
		h.header.Set("Authorization", "Bearer "+token)
	}
}

func (h *chatHook) post(ctx context.Context, body any) (*Answer, error) {
	answer, err := h.client.PostJSON(ctx, h.address.String(), body, h.header)
	if err != nil {
		return nil, PostFailed(err)
	}
	return answer, nil
}

// newsEmoji is what some chats put in front of a message.
func newsEmoji(e *event.Payload) string {
	if e.Severity == event.Error {
		return "🚨"
	}
	return "💫"
}
