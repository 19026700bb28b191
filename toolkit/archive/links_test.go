package archive

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cli 35: links are left out, or replaced by what they lead to, on request.
func TestLinked(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "shared", "base.yaml"), "base")
	write(filepath.Join(dir, "app.yaml"), "app")
	link(filepath.Join(outside, "shared"), "shared")
	link("app.yaml", "again.yaml")

	pack := func(src Source) (string, error) {
		t.Helper()
		var b bytes.Buffer
		if err := Write(t.Context(), &b, src, Matcher{}); err != nil {
			return "", err
		}
		into := t.TempDir()
		if err := Extract(t.Context(), &b, into, DefaultLimits()); err != nil {
			t.Fatal(err)
		}
		var files []string
		err := Dir(into).Walk(t.Context(), func(e Entry) error {
			files = append(files, e.Path)
			return nil
		})
		return strings.Join(files, " "), err
	}
	for _, test := range []struct {
		name string
		src  Source
		want string
	}{
		{"links left out", Dir(dir), "app.yaml"},
		{"links resolved", Linked(dir), "again.yaml app.yaml shared shared/base.yaml"},
		{"one file", File(filepath.Join(dir, "app.yaml")), "app.yaml"},
	} {
		if got, err := pack(test.src); err != nil || got != test.want {
			t.Errorf("%s: packed %q (error %v), want %q", test.name, got, err, test.want)
		}
	}

	link("nowhere", "broken.yaml")
	if _, err := pack(Linked(dir)); err == nil || !strings.Contains(err.Error(), "leads nowhere") {
		t.Errorf("a broken link: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "broken.yaml")); err != nil {
		t.Fatal(err)
	}
	link(dir, "loop")
	if _, err := pack(Linked(dir)); err == nil || !strings.Contains(err.Error(), "above it") {
		t.Errorf("a loop: %v", err)
	}
	if _, err := pack(File(dir)); err == nil {
		t.Error("a directory passed for a file")
	}
}
