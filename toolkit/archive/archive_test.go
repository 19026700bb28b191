package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memory is a Source of text files; a name that ends with a slash is a
// directory of its own.
type memory map[string]string

func (m memory) Walk(_ context.Context, fn func(Entry) error) error {
	entries := map[string]Entry{}
	for name, content := range m {
		dir := strings.HasSuffix(name, "/")
		name = strings.TrimSuffix(name, "/")
		for i, c := range name {
			if c == '/' {
				entries[name[:i]] = Entry{Path: name[:i], Mode: fs.ModeDir | 0o755}
			}
		}
		if dir {
			entries[name] = Entry{Path: name, Mode: fs.ModeDir | 0o755}
			continue
		}
		entries[name] = Entry{Path: name, Mode: 0o644, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(content)), nil
		}}
	}
	sorted := make([]Entry, 0, len(entries))
	for _, e := range entries {
		sorted = append(sorted, e)
	}
	slices.SortFunc(sorted, func(a, b Entry) int {
		return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/"))
	})
	for _, e := range sorted {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func files(names ...string) memory {
	m := memory{}
	for _, name := range names {
		m[name] = "x"
	}
	return m
}

// list returns the entries of an archive as the recordings show them.
func list(t testing.TB, content []byte) []string {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var entries []string
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		kind := "-"
		if h.Typeflag == tar.TypeDir {
			kind = "d"
		}
		entries = append(entries, fmt.Sprintf("%s %o %d:%d mtime=%d %s", kind, h.Mode, h.Uid, h.Gid, h.ModTime.Unix(), h.Name))
	}
}

func write(t testing.TB, src Source, ignore Matcher) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(t.Context(), &b, src, ignore); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestWriteDir: links and special files are dropped, owners, times and modes
// do not matter (gitrepository 64; wire 8).
func TestWriteDir(t *testing.T) {
	dir := t.TempDir()
	make := func(mode os.FileMode) {
		for name, content := range map[string]string{"deploy/app.yaml": "a", "README.md": "b", "deploy-2.yaml": "c"} {
			p := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(content), mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(p, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	make(0o644)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("deploy", filepath.Join(dir, "dirlink")); err != nil {
		t.Fatal(err)
	}
	first := write(t, Dir(dir), Matcher{})
	want := []string{
		"d 750 0:0 mtime=0 .",
		"- 600 0:0 mtime=0 README.md",
		"d 750 0:0 mtime=0 deploy",
		"- 600 0:0 mtime=0 deploy/app.yaml",
		"- 600 0:0 mtime=0 deploy-2.yaml",
	}
	if diff := cmp.Diff(want, list(t, first)); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	make(0o400)
	if !bytes.Equal(first, write(t, Dir(dir), Matcher{})) {
		t.Error("gitrepository 65: equal content gives other bytes")
	}
	make(0o700)
	if got := list(t, write(t, Dir(dir), Matcher{}))[1]; got != "- 700 0:0 mtime=0 README.md" {
		t.Errorf("executable: %s", got)
	}
}

func TestWriteFails(t *testing.T) {
	wrongSize := sourceFunc(func(_ context.Context, fn func(Entry) error) error {
		return fn(Entry{Path: "a", Mode: 0o644, Size: 5, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil }})
	})
	if err := Write(t.Context(), io.Discard, wrongSize, Matcher{}); err == nil || !strings.Contains(err.Error(), "'a'") {
		t.Errorf("file shorter than announced: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(ctx, io.Discard, files("a"), Matcher{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := Write(t.Context(), io.Discard, Dir(filepath.Join(t.TempDir(), "absent")), Matcher{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent directory: %v", err)
	}
}

type sourceFunc func(context.Context, func(Entry) error) error

func (f sourceFunc) Walk(ctx context.Context, fn func(Entry) error) error { return f(ctx, fn) }

func TestIgnore(t *testing.T) {
	tests := []struct {
		name  string
		files memory
		extra string
		want  []string // what is left, without "."
	}{
		{
			name: "gitrepository 61: defaults",
			files: files(".git/config", ".gitignore", ".gitmodules", ".gitattributes", "a.jpg", "a.jpeg", "a.gif", "a.png", "a.wmv", "a.flv",
				"d/a.tar.gz", "a.zip", ".github/w.yaml", ".circleci/c", ".travis.yml", ".gitlab-ci.yml", "appveyor.yml", ".drone.yml",
				"cloudbuild.yaml", "codeship-services.yml", "codeship-steps.yml", ".goreleaser.yml", "d/.sops.yaml", "d/.flux.yaml", "d/keep.svg"),
			want: []string{"d", "d/keep.svg"},
		},
		{
			name: "gitrepository 60: any pattern replaces the defaults, version control stays excluded",
			files: memory{
				".sourceignore": "/x\n", "x": "", "a.jpg": "", ".gitignore": "", ".git/config": "", ".github/w.yaml": "", "d/.gitattributes": "",
			},
			want: []string{".github", ".github/w.yaml", ".sourceignore", "a.jpg", "d"},
		},
		{
			name:  "gitrepository 60: spec.ignore replaces the defaults too",
			files: files("a.jpg", "b.txt", ".gitignore"),
			extra: "b.txt",
			want:  []string{"a.jpg"},
		},
		{
			name:  "gitrepository 60: spec.ignore comes last",
			files: memory{".sourceignore": "*.txt\n", "a.txt": "", "b.txt": ""},
			extra: "!b.txt",
			want:  []string{".sourceignore", "b.txt"},
		},
		{
			name:  "gitrepository 60: spec.ignore can bring back version control files",
			files: files(".gitignore", ".gitmodules"),
			extra: "!.gitignore",
			want:  []string{".gitignore"},
		},
		{
			name:  "gitrepository 63: patterns hold for their directory only",
			files: memory{"a/.sourceignore": "x\n/top\n", "a/x": "", "a/b/x": "", "a/top": "", "a/b/top": "", "x": "", "top": ""},
			want:  []string{"a", "a/.sourceignore", "a/b", "a/b/top", "top", "x"},
		},
		{
			name:  "gitrepository 60: deeper files win, also where their directory sorts before the ignore file",
			files: memory{".sourceignore": "*.txt\n", ".a/.sourceignore": "!*.txt\n", ".a/x.txt": "", "x.txt": ""},
			want:  []string{".a", ".a/.sourceignore", ".a/x.txt", ".sourceignore"},
		},
		{
			name:  "gitrepository 60: ignore files in .git do not count",
			files: memory{".git/.sourceignore": "*\n", "a": "", "m/.git/.sourceignore": "*\n"},
			want:  []string{"a", "m"},
		},
		{
			name:  "gitrepository 63: comments and blank lines",
			files: memory{".sourceignore": "#a\n\n   \nb\r\n", "#a": "", "a": "", "b": ""},
			want:  []string{"#a", ".sourceignore", "a"},
		},
		{
			name:  "gitrepository 62: the last match wins and re-includes a file without its directories",
			files: files("a/b/c.yaml", "a/b/d.yaml", "z"),
			extra: "/a/\n!/a/b/c.yaml",
			want:  []string{"a/b/c.yaml", "z"},
		},
		{
			name:  "gitrepository 62: a directory whose files are all excluded stays",
			files: files("a/b.txt", "z"),
			extra: "*.txt",
			want:  []string{"a", "z"},
		},
		{
			name:  "everything but one directory",
			files: files("a/x", "deploy/y", "deploy/z/w", "root"),
			extra: "/*\n!/deploy",
			want:  []string{"deploy", "deploy/y", "deploy/z", "deploy/z/w"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ignore, err := ReadIgnore(t.Context(), test.files, test.extra)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range list(t, write(t, test.files, ignore))[1:] {
				got = append(got, e[strings.LastIndexByte(e, ' ')+1:])
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIgnoreLimits(t *testing.T) {
	for name, content := range map[string]string{
		"one long line":  strings.Repeat("x", maxIgnoreBytes+1),
		"many lines":     strings.Repeat("x\n", maxIgnoreBytes/2+1),
		"many long ones": strings.Repeat(strings.Repeat("x", 70000)+"\n", 20),
	} {
		if _, err := ReadIgnore(t.Context(), memory{".sourceignore": content}, ""); err == nil || !strings.Contains(err.Error(), "limit") {
			t.Errorf("%s: %v, want an error about the limit", name, err)
		}
		if _, err := ReadIgnore(t.Context(), memory{}, content); err == nil || !strings.Contains(err.Error(), "spec.ignore") {
			t.Errorf("%s in spec.ignore: %v, want an error about the limit", name, err)
		}
	}
}

// reliability 015: many files of patterns add up.
func TestIgnoreFilesLimit(t *testing.T) {
	files := memory{}
	for i := range 3 {
		files[fmt.Sprintf("dir-%d/.sourceignore", i)] = strings.Repeat("x\n", 40_000)
	}
	if _, err := ReadIgnore(t.Context(), files, ""); err == nil || !strings.Contains(err.Error(), "limit of 100000 patterns") {
		t.Errorf("%v, want an error about the limit", err)
	}
}

// TestManyPatterns: patterns cost time, and the context bounds it.
func TestManyPatterns(t *testing.T) {
	ignore, err := ReadIgnore(t.Context(), memory{".sourceignore": strings.Repeat("**/a/**/a/**/b\n", 60_000)}, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	visited := 0
	src := sourceFunc(func(ctx context.Context, fn func(Entry) error) error {
		for ; ; visited++ {
			if visited == 2 {
				cancel()
			}
			if err := fn(Entry{Path: "a/a/a/c", Mode: fs.ModeDir}); err != nil {
				return err
			}
		}
	})
	if err := Write(ctx, io.Discard, src, ignore); !errors.Is(err, context.Canceled) || visited != 2 {
		t.Errorf("%v after %d entries", err, visited)
	}
}

func FuzzIgnore(f *testing.F) {
	f.Add("*.jpg\n!a.jpg\n/x/**/y\n#", "a/b.jpg")
	f.Fuzz(func(t *testing.T, patterns, name string) {
		ignore, err := ReadIgnore(t.Context(), memory{}, patterns)
		if err != nil {
			return
		}
		if again, _ := ReadIgnore(t.Context(), memory{}, patterns); again.Excludes(name, false) != ignore.Excludes(name, false) {
			t.Error("a second reading decides otherwise")
		}
	})
}

// thousand is a tree of 1,000 manifests in 50 directories.
func thousand() memory {
	m := memory{}
	for i := range 1000 {
		m[fmt.Sprintf("apps/%02d/deployment-%d.yaml", i%50, i)] = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app-%d\ndata:\n%s", i, strings.Repeat("  key: value\n", 80))
	}
	return m
}

func BenchmarkWrite(b *testing.B) {
	dir := b.TempDir()
	for name, content := range thousand() {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		ignore, err := ReadIgnore(b.Context(), Dir(dir), "")
		if err != nil {
			b.Fatal(err)
		}
		if err := Write(b.Context(), io.Discard, Dir(dir), ignore); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExtract(b *testing.B) {
	content := write(b, thousand(), Matcher{})
	b.ReportAllocs()
	for b.Loop() {
		if err := Extract(b.Context(), bytes.NewReader(content), b.TempDir(), DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}
