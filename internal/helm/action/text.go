package action

import (
	"strings"
	"unicode/utf8"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// tidy makes foreign text one line of at most limit bytes, without the credentials of URLs in it.
func tidy(text string, limit int) string {
	return cut(strings.Join(strings.Fields(secret.Redact(strings.ToValidUTF8(text, "?"))), " "), limit)
}

// cut shortens text to at most limit bytes.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	end := limit - len("...")
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "..."
}
