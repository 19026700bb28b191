package provider

import (
	"unicode/utf8"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

// fitMark ends what was cut.
const fitMark = "…"

// shorten cuts s to at most limit bytes, and so to at most as many characters however a service counts them.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := max(0, limit-len(fitMark))
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + fitMark
}

// fitMetadata returns the metadata by key as far as there is room for, in bytes of keys and values: long values are cut, and what has no room
// at all is left out.
func fitMetadata(e *event.Payload, room int, without ...string) []entry {
	var out []entry
	for _, each := range sortedMetadata(e, without...) {
		left := room - len(each.Key)
		if left < len(fitMark) && left < len(each.Value) {
			continue
		}
		each.Value = shorten(each.Value, left)
		room = left - len(each.Value)
		out = append(out, each)
	}
	return out
}

// asMap returns a map that is never nil.
func asMap(entries []entry) map[string]string {
	out := make(map[string]string, len(entries))
	for _, each := range entries {
		out[each.Key] = each.Value
	}
	return out
}
