package setters

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// images are the policies of the tests.
func images() map[string]Image {
	return map[string]Image{
		"apps:web":   {Name: "registry.test/web", Tag: "1.1.0"},
		"apps:num":   {Name: "registry.test/num", Tag: "1.2"},
		"apps:hex":   {Name: "registry.test/hex", Tag: "0x1F"},
		"apps:exp":   {Name: "registry.test/exp", Tag: "1234567e8"},
		"apps:day":   {Name: "registry.test/day", Tag: "2026-01-02"},
		"apps:word":  {Name: "registry.test/word", Tag: "yes"},
		"apps:clock": {Name: "12", Tag: "30"},
		"apps:pin":   {Name: "registry.test/pin", Tag: "2", Digest: "sha256:" + strings.Repeat("a", 64)},
	}
}

// m is the marker of a policy.
func m(setter string) string { return `# {"$imagepolicy": "` + setter + `"}` }

// imageupdateautomation 17, 18, 21, 22, 52-54: which scalars are found, what is written, and that every other byte stays.
func TestEdit(t *testing.T) {
	digest := images()["apps:pin"].Digest
	for name, test := range map[string]struct{ before, after string }{
		"whole reference":       {"image: old:1 " + m("apps:web") + "\n", "image: registry.test/web:1.1.0 " + m("apps:web") + "\n"},
		"name":                  {"a: x " + m("apps:web:name"), "a: registry.test/web " + m("apps:web:name")},
		"tag":                   {"a: x " + m("apps:web:tag"), "a: 1.1.0 " + m("apps:web:tag")},
		"digest":                {"a: x " + m("apps:pin:digest"), "a: " + digest + " " + m("apps:pin:digest")},
		"reference with digest": {"a: x " + m("apps:pin"), "a: registry.test/pin:2@" + digest + " " + m("apps:pin")},
		"no digest":             {"a: x " + m("apps:web:digest"), ""},
		"unknown policy":        {"a: x " + m("apps:other"), ""},
		"policy elsewhere":      {"a: x " + m("other:web"), ""},
		"unknown part":          {"a: x " + m("apps:web:colour"), ""},
		"no policy":             {"a: x " + m("web"), ""},
		"same value":            {"a: 1.1.0 " + m("apps:web:tag"), ""},
		"same value of a number, which stays one": {"a: 1.2 " + m("apps:num:tag"), ""},

		"formatting": {
			"# head\n\nother:   keep  # spacing\na :  x   " + m("apps:web:tag") + "   \n\n\nb:    [1,2 ,3]\n",
			"# head\n\nother:   keep  # spacing\na :  1.1.0   " + m("apps:web:tag") + "   \n\n\nb:    [1,2 ,3]\n",
		},
		"blanks in the marker":       {`a: x  #   {  "$imagepolicy"  :"apps:web:tag"}`, `a: 1.1.0  #   {  "$imagepolicy"  :"apps:web:tag"}`},
		"Windows line ends":          {"b: 1\r\na: x " + m("apps:web:tag") + "\r\nc: 2\r\n", "b: 1\r\na: 1.1.0 " + m("apps:web:tag") + "\r\nc: 2\r\n"},
		"old Mac line ends":          {"b: 1\ra: x " + m("apps:web:tag") + "\rc: 2\r", "b: 1\ra: 1.1.0 " + m("apps:web:tag") + "\rc: 2\r"},
		"byte order mark":            {"\ufeffa: x " + m("apps:web:tag") + "\n", "\ufeffa: 1.1.0 " + m("apps:web:tag") + "\n"},
		"letters of several bytes":   {"ä: {ö: ü}\nß: x " + m("apps:web:tag") + " \n", "ä: {ö: ü}\nß: 1.1.0 " + m("apps:web:tag") + " \n"},
		"separators of Unicode":      {"b: 'x\u2028  y'\na: x " + m("apps:web:tag") + "\n", "b: 'x\u2028  y'\na: 1.1.0 " + m("apps:web:tag") + "\n"},
		"tabs":                       {"a:\tx\t" + m("apps:web:tag") + "\n", "a:\t1.1.0\t" + m("apps:web:tag") + "\n"},
		"double quotes":              {`a: "x\"\u0041" ` + m("apps:web:tag"), `a: "1.1.0" ` + m("apps:web:tag")},
		"single quotes":              {"a: 'it''s' " + m("apps:web:tag"), "a: '1.1.0' " + m("apps:web:tag")},
		"number in single quotes":    {"a: '1.0' " + m("apps:num:tag"), "a: '1.2' " + m("apps:num:tag")},
		"several lines in quotes":    {"a: \"x\n  y\" " + m("apps:web:tag"), "a: \"1.1.0\" " + m("apps:web:tag")},
		"several lines":              {"a: x\n  y " + m("apps:web:tag"), "a: 1.1.0 " + m("apps:web:tag")},
		"a number becomes a text":    {"a: 1.0 " + m("apps:num:tag"), `a: "1.2" ` + m("apps:num:tag")},
		"a text that is hex":         {"a: x " + m("apps:hex:tag"), `a: "0x1F" ` + m("apps:hex:tag")},
		"a text with an exponent":    {"a: x " + m("apps:exp:tag"), `a: "1234567e8" ` + m("apps:exp:tag")},
		"a text that is a date":      {"a: x " + m("apps:day:tag"), `a: "2026-01-02" ` + m("apps:day:tag")},
		"a text that is a word":      {"a: true " + m("apps:word:tag"), `a: "yes" ` + m("apps:word:tag")},
		"a text to the base 60":      {"a: x " + m("apps:clock"), `a: "12:30" ` + m("apps:clock")},
		"anchor and tag":             {"a: &img !!str x " + m("apps:web:tag") + "\nb: *img\n", "a: &img !!str 1.1.0 " + m("apps:web:tag") + "\nb: *img\n"},
		"tag in a line of its own":   {"a: !!str # why\n  x " + m("apps:web:tag") + "\n", "a: !!str # why\n  1.1.0 " + m("apps:web:tag") + "\n"},
		"sequence":                   {"- x " + m("apps:web:tag") + "\n- y # no\n", "- 1.1.0 " + m("apps:web:tag") + "\n- y # no\n"},
		"sequence of mappings":       {"- n: 1\n  i: x " + m("apps:web:tag") + "\n", "- n: 1\n  i: 1.1.0 " + m("apps:web:tag") + "\n"},
		"explicit key":               {"? a\n: x " + m("apps:web:tag") + "\n", "? a\n: 1.1.0 " + m("apps:web:tag") + "\n"},
		"the document itself":        {"x " + m("apps:web:tag") + "\n", "1.1.0 " + m("apps:web:tag") + "\n"},
		"braces over lines":          {"a: {b: x, " + m("apps:web:tag") + "\n  c: y " + m("apps:num:tag") + "\n}", "a: {b: 1.1.0, " + m("apps:web:tag") + "\n  c: \"1.2\" " + m("apps:num:tag") + "\n}"},
		"brackets over lines":        {"[\n  x, " + m("apps:web") + "\n  'y' " + m("apps:web") + "\n]", "[\n  registry.test/web:1.1.0, " + m("apps:web") + "\n  'registry.test/web:1.1.0' " + m("apps:web") + "\n]"},
		"literal":                    {"a: | " + m("apps:web:tag") + "\n  x\nb: 1\n", "a: | " + m("apps:web:tag") + "\n  1.1.0\nb: 1\n"},
		"literal of a number":        {"a: |- " + m("apps:num:tag") + "\n\n    1.0\n\n\nb: 1\n", "a: |- " + m("apps:num:tag") + "\n\n    1.2\n\n\nb: 1\n"},
		"folded":                     {"- >2 " + m("apps:web:tag") + "\r\n  x\r\n", "- >2 " + m("apps:web:tag") + "\r\n  1.1.0\r\n"},
		"two documents":              {"a: x " + m("apps:web:tag") + "\n---\nb:   1\n---\na: y " + m("apps:web:tag"), "a: 1.1.0 " + m("apps:web:tag") + "\n---\nb:   1\n---\na: 1.1.0 " + m("apps:web:tag")},
		"directive and end":          {"%YAML 1.1\n---\na: x " + m("apps:web:tag") + "\n...\n", "%YAML 1.1\n---\na: 1.1.0 " + m("apps:web:tag") + "\n...\n"},
		"duplicate keys":             {"a: x " + m("apps:web:tag") + "\na: y\n", "a: 1.1.0 " + m("apps:web:tag") + "\na: y\n"},
		"an apostrophe":              {"a: it's " + m("apps:web:tag"), "a: 1.1.0 " + m("apps:web:tag")},
		"number sign in the value":   {"a: x#y " + m("apps:web:tag"), "a: 1.1.0 " + m("apps:web:tag")},
		"of the same line, the last": {"{a: x, b: y " + m("apps:web:tag") + "\n}", "{a: x, b: 1.1.0 " + m("apps:web:tag") + "\n}"},

		"on a key":             {"a: " + m("apps:web:tag") + "\n  b: x\n", ""},
		"on nothing":           {"a: " + m("apps:web:tag") + "\nb: x\n", ""},
		"on a line of its own": {m("apps:web:tag") + "\na: x\n" + m("apps:web:tag") + "\n", ""},
		"above an item":        {"-\n  " + m("apps:web:tag") + "\n  x\n", ""},
		"on a collection":      {"a: [x, y] " + m("apps:web:tag") + "\nb: {c: d} " + m("apps:web:tag"), ""},
		"on an alias":          {"a: &b x\nc: *b " + m("apps:web:tag"), ""},
		"literal of two lines": {"a: | " + m("apps:web:tag") + "\n  x\n  y\n", ""},
		"inside a text":        {`a: 'x ` + m("apps:web:tag") + `'`, ""},
		"inside a literal":     {"a: |\n  b: x " + m("apps:web:tag") + "\n", ""},
		"something behind it":  {"a: x " + m("apps:web:tag") + " and so on", ""},
		"a comment before it":  {"a: x # see " + m("apps:web:tag"), ""},
		"not of text":          {`a: x # {"$imagepolicy": 1}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if test.after == "" {
				test.after = test.before
			}
			got, changes, err := Edit([]byte(test.before), images())
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.after {
				t.Errorf("\n got %q\nwant %q", got, test.after)
			}
			if changed := test.after != test.before; changed != (len(changes) > 0) {
				t.Errorf("changes: %+v", changes)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	const before = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: apps
image: old:1 # {"$imagepolicy": "apps:web"}
---
tag: "1.0" # {"$imagepolicy": "apps:num:tag"}
`
	_, got, err := Edit([]byte(before), images())
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{
		{Line: 6, Object: Object{"apps/v1", "Deployment", "apps", "web"}, Setter: "apps:web", Old: "old:1", New: "registry.test/web:1.1.0"},
		{Line: 8, Setter: "apps:num:tag", Old: "1.0", New: "1.2"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// imageupdateautomation 20: what is no YAML is told apart, so that it can be skipped.
func TestUnparseable(t *testing.T) {
	for name, text := range map[string]string{
		"template":        "{{- if .Values.x }}\nb: x " + m("apps:web"),
		"second document": "b: x " + m("apps:web") + "\n---\n\ta: [",
		"unknown alias":   "b: x " + m("apps:web") + "\na: *none\n",
		"binary":          "b: x " + m("apps:web") + "\na: \x00\xff",
	} {
		if _, _, err := Edit([]byte(text), images()); !errors.Is(err, ErrUnparseable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	text := []byte("a: {{ no YAML, and no marker")
	if got, _, err := Edit(text, images()); err != nil || &got[0] != &text[0] {
		t.Errorf("a file without a marker is looked into: %v", err)
	}
}

// A value that no image has, and that cannot be written, is refused.
func TestUnwritable(t *testing.T) {
	for _, value := range []string{"a\nb", "ä", "a\x00"} {
		for _, text := range []string{"a: x ", "a: 'x' ", "a: \"x\" "} {
			text += m("apps:web:tag")
			if got, _, err := Edit([]byte(text), map[string]Image{"apps:web": {Name: "x", Tag: value}}); err == nil {
				t.Errorf("%q is written as %q", value, got)
			}
		}
	}
	// Odd values that can be are quoted.
	for _, value := range []string{"a b", "it's", `a"b\c`, "a: b", "a #b", "- a", "&a", "{a", ""} {
		if value == "" {
			continue
		}
		for _, text := range []string{"a: x ", "a: 'x' ", "a: \"x\" ", "{ a: x , "} {
			text += m("apps:web:tag") + "\n"
			if strings.HasPrefix(text, "{") {
				text += "}"
			}
			got, changes, err := Edit([]byte(text), map[string]Image{"apps:web": {Name: "x", Tag: value}})
			if err != nil || len(changes) != 1 {
				t.Errorf("%q into %q: %q, %v", value, text, got, err)
			}
		}
	}
}
