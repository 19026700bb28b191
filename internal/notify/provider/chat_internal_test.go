package provider

import (
	"encoding/json"
	"fmt"
	"testing"
	"unicode/utf8"
)

// What is counted is what is sent.
func TestJSONBytes(t *testing.T) {
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if r > 0x3000 && r%97 != 0 || !utf8.ValidRune(r) || r == utf8.RuneError {
			continue
		}
		data, err := json.Marshal(string(r))
		if err != nil {
			t.Fatal(err)
		}
		if want := len(data) - len(`""`); jsonBytes(r) != want {
			t.Errorf("%U is counted as %d bytes, it has %d", r, jsonBytes(r), want)
		}
	}
}

func TestCut(t *testing.T) {
	units, bytes := frame{size: utf16Units}, frame{size: jsonBytes}
	for _, c := range []struct {
		frame frame
		in    string
		limit int
		want  string
	}{
		{units, "", 0, ""},
		{units, "abc", 3, "abc"},
		{units, "abcd", 3, "ab…"},
		{units, "abcd", 1, "…"},
		{units, "abcd", 0, ""},
		{units, "abcd", -7, ""},
		{units, "🚀🚀", 4, "🚀🚀"},
		{units, "🚀🚀", 3, "🚀…"},
		{units, "🚀🚀", 2, "…"},
		{bytes, "<<", 12, "<<"},
		{bytes, "<<", 11, "<…"},
		{bytes, "<<", 8, "…"},
		{bytes, "<<", 2, ""},
	} {
		if got := c.frame.cut(c.in, c.limit); got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.in, c.limit, got, c.want)
		}
	}
}

func TestFit(t *testing.T) {
	f := frame{size: utf16Units, total: 64, text: 60, entries: 3, key: 8, value: 20, each: 2}
	entries := func(pairs ...string) (out []entry) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, entry{pairs[i], pairs[i+1]})
		}
		return out
	}
	long := "0123456789012345678901234567890123456789012345678901234567890123456789"
	for _, c := range []struct {
		name     string
		text     string
		entries  []entry
		wantText string
		want     []entry
	}{
		{"all fits", "text", entries("a", "1", "b", "2", "c", "3"), "text", entries("a", "1", "b", "2", "c", "3")},
		{"no entries", "text", nil, "text", nil},
		{"too many", "text", entries("a", "1", "b", "2", "c", "3", "d", "4"), "text", entries("a", "1", "b", "2", "…", "2 more")},
		{"long key and value", "text", entries("0123456789", long), "text", entries("0123456…", "0123456789012345678…")},
		{"a long text leaves its half to entries", long, entries("a", "0123456789"), long[:50] + "…", entries("a", "0123456789")},
		{"entries leave its half to a long text", long, entries("a", long[:20], "b", long[:20], "c", long[:20]), long[:31] + "…",
			entries("a", long[:20], "…", "2 more")},
		{"a long text alone", long, nil, long[:59] + "…", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, kept := f.fit(c.text, c.entries)
			if text != c.wantText || fmt.Sprint(kept) != fmt.Sprint(c.want) {
				t.Errorf("got %q and %q, want %q and %q", text, kept, c.wantText, c.want)
			}
		})
	}
}

// Whatever comes, a frame is never left.
func FuzzFit(f *testing.F) {
	f.Add("text", "key", "value", uint8(3), uint16(100))
	f.Add("<🚀\xff>", "<🚀\xff>", "\n\n\n\n", uint8(200), uint16(64))
	f.Fuzz(func(t *testing.T, text, key, value string, count uint8, total uint16) {
		for _, size := range []func(rune) int{utf16Units, jsonBytes, teamsBytes, googleMarkup.size(jsonBytes), webexMarkup.size(utf8.RuneLen)} {
			frame := frame{size: size, total: max(int(total), 100), text: 5000, entries: 20, key: 100, value: 300, each: 3}
			var entries []entry
			for range count {
				entries = append(entries, entry{key, value})
			}
			gotText, got := frame.fit(text, entries)
			sum := frame.measure(gotText)
			for _, each := range got {
				sum += frame.cost(each)
			}
			if sum > frame.total || len(got) > frame.entries {
				t.Errorf("%d entries and text together are %d, the frame has %d", len(got), sum, frame.total)
			}
			if len(entries) > 0 && len(got) == 0 {
				t.Error("entries are left out, and nothing tells")
			}
		}
	})
}
