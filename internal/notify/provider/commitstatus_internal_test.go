package provider

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-79636ae9/flux/toolkit/event"
)

const someSHA = "d74070d84f79b5d3474c344203643735b563dfeb"

// provider 12, alert 20
func TestCommitOf(t *testing.T) {
	other := strings.Repeat("0123456789", 4)
	for _, test := range []struct {
		name     string
		metadata map[string]string
		want     string // empty: an error
	}{
		{"branch", map[string]string{"revision": "main@sha1:" + someSHA}, someSHA},
		{"full reference", map[string]string{"revision": "refs/heads/x@sha1:" + someSHA}, someSHA},
		{"bare", map[string]string{"revision": someSHA}, someSHA},
		{"algorithm only", map[string]string{"revision": "sha1:" + someSHA}, someSHA},
		{"old form", map[string]string{"revision": "feature/x/" + someSHA}, someSHA},
		{"capitals", map[string]string{"revision": "main@sha1:" + strings.ToUpper(someSHA)}, someSHA},
		{"origin first", map[string]string{"revision": "main@sha1:" + other, "originRevision": "main@sha1:" + someSHA}, someSHA},
		{"commit first of all", map[string]string{"commit": someSHA, "revision": "main@sha1:" + other, "originRevision": "main@sha1:" + other}, someSHA},
		{"empty commit", map[string]string{"commit": "", "revision": someSHA}, someSHA},
		{"no revision", nil, ""},
		{"a version", map[string]string{"revision": "6.5.1"}, ""},
		{"a digest", map[string]string{"revision": "latest@sha256:" + strings.Repeat("ab", 32)}, ""},
		{"too short", map[string]string{"revision": "main@sha1:" + someSHA[1:]}, ""},
		{"no hexadecimal digit", map[string]string{"revision": "main@sha1:g" + someSHA[1:]}, ""},
		{"an origin without one", map[string]string{"originRevision": "6.5.1", "revision": "main@sha1:" + someSHA}, ""},
		{"a line break at its end", map[string]string{"revision": someSHA + "\n"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := commitOf(&event.Payload{Metadata: test.metadata})
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func FuzzCommit(f *testing.F) {
	for _, seed := range []string{"main@sha1:" + someSHA, "", ":", "/", "a/b:" + someSHA, "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, revision string) {
		sha, err := commitOf(&event.Payload{Metadata: map[string]string{"revision": revision}})
		if err == nil && (len(sha) != 40 || !strings.HasSuffix(strings.ToLower(revision), sha)) {
			t.Errorf("the commit of %q is %q", revision, sha)
		}
	})
}

func TestCutForForge(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("x", 140), strings.Repeat("x", 141), strings.Repeat("ü", 100), strings.Repeat("🚀", 50)} {
		got := cutForForge(text, 140)
		if len(got) > 140 || !utf8.ValidString(got) {
			t.Errorf("%q is cut to %q, %d bytes", text, got, len(got))
		}
		if cut := len(text) > 140; cut != strings.HasSuffix(got, "…") || !cut && got != text {
			t.Errorf("%q is cut to %q", text, got)
		}
	}
}
