package provider

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

func TestShorten(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 0, ""},
		{"short", 5, "short"},
		{"longer", 5, "lo…"},
		{"üüü", 6, "üüü"},
		{"üüüü", 6, "ü…"},
		{"🚀🚀", 7, "🚀…"},
		{"longer", 3, "…"},
	} {
		got := shorten(c.text, c.limit)
		if got != c.want {
			t.Errorf("shorten(%q, %d) = %q, want %q", c.text, c.limit, got, c.want)
		}
		if len(got) > c.limit || !utf8.ValidString(got) {
			t.Errorf("shorten(%q, %d) = %q has %d bytes, valid: %t", c.text, c.limit, got, len(got), utf8.ValidString(got))
		}
	}
}

func TestFitMetadata(t *testing.T) {
	for _, c := range []struct {
		name     string
		metadata map[string]string
		room     int
		without  string
		want     []entry
	}{
		{"nothing", nil, 10, "", nil},
		{"all of it", map[string]string{"b": "2", "a": "1"}, 4, "", []entry{{"a", "1"}, {"b", "2"}}},
		{"without", map[string]string{"b": "2", "a": "1"}, 4, "a", []entry{{"b", "2"}}},
		{"a long value is cut", map[string]string{"a": strings.Repeat("x", 9), "b": ""}, 8, "", []entry{{"a", "xxxx…"}}},
		{"a long key leaves room for others", map[string]string{strings.Repeat("a", 9): "1", "b": "2"}, 8, "", []entry{{"b", "2"}}},
		{"no room for the mark", map[string]string{"a": "1234"}, 3, "", nil},
		{"an empty value", map[string]string{"a": ""}, 1, "", []entry{{"a", ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := fitMetadata(&event.Payload{Metadata: c.metadata}, c.room, c.without)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
