package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dirTree writes files, given as name=content, and names of directories, which end in a slash.
func dirTree(t testing.TB, files ...string) Source {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		name, content, isFile := strings.Cut(f, "=")
		target := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		err := error(nil)
		if isFile {
			err = os.WriteFile(target, []byte(content), 0o600)
		} else {
			err = os.MkdirAll(target, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return Dir(dir)
}

func TestMerge(t *testing.T) {
	base := []string{"a/x=1", "a/y=1", "a-b=1", "b=1", "c/d/e=1"}
	for name, test := range map[string]struct {
		layers []Layer
		want   string
	}{
		"one":                  {nil, "a/ a/x=1 a/y=1 a-b=1 b=1 c/ c/d/ c/d/e=1"},
		"beside":               {[]Layer{{"lib", dirTree(t, "f=2")}}, "a/ a/x=1 a/y=1 a-b=1 b=1 c/ c/d/ c/d/e=1 lib/ lib/f=2"},
		"deep and new":         {[]Layer{{"x/y/z", dirTree(t)}}, "a/ a/x=1 a/y=1 a-b=1 b=1 c/ c/d/ c/d/e=1 x/ x/y/ x/y/z/"},
		"joined":               {[]Layer{{"a", dirTree(t, "y=2", "z=2")}}, "a/ a/x=1 a/y=2 a/z=2 a-b=1 b=1 c/ c/d/ c/d/e=1"},
		"root":                 {[]Layer{{"", dirTree(t, "b=2")}}, "a/ a/x=1 a/y=1 a-b=1 b=2 c/ c/d/ c/d/e=1"},
		"file for directory":   {[]Layer{{"", dirTree(t, "c=2")}}, "a/ a/x=1 a/y=1 a-b=1 b=1 c=2"},
		"directory for file":   {[]Layer{{"b", dirTree(t, "f=2")}}, "a/ a/x=1 a/y=1 a-b=1 b/ b/f=2 c/ c/d/ c/d/e=1"},
		"there and back again": {[]Layer{{"", dirTree(t, "c=2")}, {"c/d", dirTree(t, "g=3")}}, "a/ a/x=1 a/y=1 a-b=1 b=1 c/ c/d/ c/d/g=3"},
		"below a file":         {[]Layer{{"b/under", dirTree(t, "f=2")}}, "a/ a/x=1 a/y=1 a-b=1 b/ b/under/ b/under/f=2 c/ c/d/ c/d/e=1"},
	} {
		merged, err := Merge(t.Context(), append([]Layer{{"", dirTree(t, base...)}}, test.layers...)...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, show(t, merged)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, at := range []string{"..", "../a", "a/../../b", "/a"} {
		if _, err := Merge(t.Context(), Layer{at, dirTree(t)}); err == nil {
			t.Errorf("a layer at %q is taken", at)
		}
	}
}

func show(t testing.TB, s Source) string {
	t.Helper()
	var out []string
	err := s.Walk(t.Context(), func(e Entry) error {
		if e.Mode.IsDir() {
			out = append(out, e.Path+"/")
			return nil
		}
		r, err := e.Open()
		if err != nil {
			return err
		}
		content, err := io.ReadAll(r)
		out = append(out, e.Path+"="+string(content))
		return errors.Join(err, r.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

// TestMergeArchives: a merged tree is archived as one directory with that content is.
func TestMergeArchives(t *testing.T) {
	whole := dirTree(t, "a-b=1", "a/x=1", "a.c=1", "lib/base/f=2")
	merged, err := Merge(t.Context(), Layer{"", dirTree(t, "a-b=1", "a/x=1", "a.c=1")}, Layer{"lib", dirTree(t, "base/f=2")})
	if err != nil {
		t.Fatal(err)
	}
	var archives [2]bytes.Buffer
	for i, s := range []Source{whole, merged} {
		if err := Write(t.Context(), &archives[i], s, NewMatcher()); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0].Bytes(), archives[1].Bytes()) {
		t.Error("the archives differ")
	}
}

// TestDirOpensLater: what Dir lists can be opened after the walk, and no link that came since leads out.
func TestDirOpensLater(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	for name, content := range map[string]string{filepath.Join(dir, "f"): "1", filepath.Join(dir, "g"): "1", outside: "no"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opens := map[string]func() (io.ReadCloser, error){}
	err := Dir(dir).Walk(context.Background(), func(e Entry) error { opens[e.Path] = e.Open; return nil })
	if err = errors.Join(err, os.Remove(filepath.Join(dir, "g")), os.Symlink(outside, filepath.Join(dir, "g"))); err != nil {
		t.Fatal(err)
	}
	r, err := opens["f"]()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err := opens["g"](); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link that leads out: %v, %v", r, err)
	}
}

// BenchmarkMerge joins a tree of 10,000 files with one of 1,000.
func BenchmarkMerge(b *testing.B) {
	var base, layer entries
	for i := range 10_000 {
		base = append(base, Entry{Path: fmt.Sprintf("apps/%03d-%d.yaml", i%100, i)})
	}
	for i := range 1_000 {
		layer = append(layer, Entry{Path: fmt.Sprintf("%d.yaml", i)})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Merge(b.Context(), Layer{"", base}, Layer{"lib", layer}); err != nil {
			b.Fatal(err)
		}
	}
}
