package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func unpack(t testing.TB, content []byte) (*Index, fs.FS) {
	t.Helper()
	var w bytes.Buffer
	index, err := Unpack(t.Context(), bytes.NewReader(content), &w, DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if index.ContentBytes() != int64(w.Len()) {
		t.Errorf("%d bytes of content are %d", w.Len(), index.ContentBytes())
	}
	return index, index.FS(bytes.NewReader(w.Bytes()))
}

// describe lists modes and contents, without the right to write.
func describe(t testing.TB, fsys fs.FS) []string {
	t.Helper()
	var got []string
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if !fs.ValidPath(p) && d.IsDir() {
			// os.Root cannot list what is not UTF-8.
			return fs.SkipDir
		}
		if err != nil || p == "." || !fs.ValidPath(p) {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := (info.Mode() &^ 0o222).String() + " " + p
		if info.Mode().IsRegular() {
			content, err := fs.ReadFile(fsys, p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %q", info.Size(), content)
		}
		got = append(got, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// compare extracts and unpacks an archive, both with the same result.
func compare(t testing.TB, content []byte, l Limits) error {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "work")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	extractErr := Extract(t.Context(), bytes.NewReader(content), dir, l)
	var w bytes.Buffer
	index, err := Unpack(t.Context(), bytes.NewReader(content), &w, l)
	if fmt.Sprint(extractErr) != fmt.Sprint(err) || errors.Is(extractErr, ErrUnsafe) != errors.Is(err, ErrUnsafe) {
		t.Errorf("Extract says '%v', Unpack '%v'", extractErr, err)
	}
	if extractErr == nil && err == nil {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if diff := cmp.Diff(describe(t, root.FS()), describe(t, index.FS(bytes.NewReader(w.Bytes())))); diff != "" {
			t.Errorf("-Extract +Unpack:\n%s", diff)
		}
	}
	return err
}

func TestUnpack(t *testing.T) {
	directory := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }
	withMode := func(name string, mode int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}
	}
	sized := func(name string, size int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size}
	}
	for name, content := range map[string][]byte{
		"nothing":                 tgz(t),
		"in any order":            tgz(t, file("z"), file("b/c/d"), file("a"), directory("b"), file("b/a"), directory("c/"), file("b/c/a"), file("a.a")),
		"modes":                   tgz(t, withMode("a", 0o6444), withMode("b", 0o755), withMode("c", 0o007), directory("d")),
		"the last of two":         tgz(t, sized("a", 3), file("b"), sized("a", 5)),
		"the mode of the first":   tgz(t, withMode("a", 0o755), withMode("a", 0o644)),
		"a directory twice":       tgz(t, directory("a"), file("a/b"), directory("a/")),
		"names that are a prefix": tgz(t, file("a"), file("a-b/c"), file("ab"), file("a.b/c/d"), file("a.b/c/e")),
		"more than a buffer":      tgz(t, sized("a", 3*readBuffer+1), sized("b", readBuffer), file("c")),
		"long names":              tgz(t, file(strings.Repeat("x", maxName)), file(strings.Repeat("y/", 100)+"z")),
		"a long name of a file":   tgz(t, file("a"), file(strings.Repeat("x", maxName+1))),
		"a file and a link":       tgz(t, file("a"), tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: "b"}),
		"a file in a file":        tgz(t, file("a"), file("a/b")),
		"a directory on a file":   tgz(t, file("a"), directory("a")),
		"further below a file":    tgz(t, file("a"), file("a/b/c")),
		"a file on a directory":   tgz(t, file("a/b"), file("a")),
	} {
		t.Run(name, func(t *testing.T) { _ = compare(t, content, DefaultLimits()) })
	}
}

func TestUnpackManyDirectories(t *testing.T) {
	// Each directory counts, with or without an entry of its own: all are kept in memory.
	content := tgz(t, file("a/b/c/d"))
	for entries, want := range map[int64]bool{3: false, 4: true} {
		_, err := Unpack(t.Context(), bytes.NewReader(content), io.Discard, Limits{Entries: entries})
		if (err == nil) != want || err != nil && !errors.Is(err, ErrUnsafe) {
			t.Errorf("limit of %d: %v", entries, err)
		}
	}
}

// TestUnpackManyNames: more names than lie together.
func TestUnpackManyNames(t *testing.T) {
	m := memory{}
	for i := range 2000 {
		m[fmt.Sprintf("%d/%s-%d", i%7, strings.Repeat("n", i%200), i)] = fmt.Sprint(i)
	}
	index, fsys := unpack(t, write(t, m, Matcher{}))
	for name, want := range m {
		if got, err := fs.ReadFile(fsys, name); err != nil || string(got) != want {
			t.Errorf("'%s' holds %q, %v; want %q", name, got, err, want)
		}
	}
	if size := index.MemoryBytes() / int64(len(m)); size < 100 || size > 250 {
		t.Errorf("%d bytes for a name of 100", size)
	}
}

func TestUnpackFailsToWrite(t *testing.T) {
	full := errors.New("no space")
	for name, content := range map[string][]byte{
		"at the end":  tgz(t, file("a")),
		"in a file":   tgz(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 10 * readBuffer}),
		"between two": tgz(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: readBuffer}, file("b")),
	} {
		if _, err := Unpack(t.Context(), bytes.NewReader(content), writerFunc(func([]byte) (int, error) { return 0, full }), Limits{}); !errors.Is(err, full) {
			t.Errorf("%s: %v", name, err)
		}
	}
	closed, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err == nil {
		err = closed.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Unpack(t.Context(), bytes.NewReader(tgz(t, file("a"))), closed, Limits{})
	if !errors.Is(err, fs.ErrClosed) || strings.Contains(err.Error(), closed.Name()) {
		t.Errorf("%v, want one without the name of the file", err)
	}
	// What failed once is as good as new.
	unpack(t, tgz(t, file("a")))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestUnpackEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Unpack(ctx, bytes.NewReader(tgz(t, file("a"))), io.Discard, Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("unpack: %v, want the context's error", err)
	}
}

func TestIndexFS(t *testing.T) {
	m := thousand()
	m["empty/"], m["top"] = "", "t"
	_, fsys := unpack(t, write(t, m, Matcher{}))
	if err := fstest.TestFS(fsys, "top", "empty", "apps/00/deployment-0.yaml", "apps/49/deployment-999.yaml"); err != nil {
		t.Error(err)
	}
}

// TestIndexFSErrors: they read as those of a disk, which users know.
func TestIndexFSErrors(t *testing.T) {
	_, fsys := unpack(t, tgz(t, file("d/a"), file("\xff")))
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"absent", second(fs.Stat(fsys, "d/b")), "stat d/b: " + syscall.ENOENT.Error()},
		{"below absent", second(fsys.Open("e/b")), "open e/b: " + syscall.ENOENT.Error()},
		{"below a file", second(fs.Stat(fsys, "d/a/b")), "stat d/a/b: " + syscall.ENOTDIR.Error()},
		{"directory read", second(fs.ReadFile(fsys, "d")), "read d: " + syscall.EISDIR.Error()},
		{"file listed", second(fs.ReadDir(fsys, "d/a")), "readdir d/a: " + syscall.ENOTDIR.Error()},
		{"absolute", second(fs.Stat(fsys, "/d")), "stat /d: invalid argument"},
		{"parent", second(fs.Stat(fsys, "d/..")), "stat d/..: invalid argument"},
		{"not UTF-8", second(fs.ReadFile(fsys, "\xff")), "<nil>"},
		{"not UTF-8 either", second(fs.ReadFile(fsys, "\xfe")), "open \xfe: invalid argument"},
	} {
		if got := fmt.Sprint(test.err); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	index, _ := unpack(t, tgz(t, file("a"), file("b")))
	if _, err := fs.ReadFile(index.FS(strings.NewReader("x")), "b"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("content that was cut: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestFS: a tree that was unpacked is written as one on disk.
func TestFS(t *testing.T) {
	content := tgz(t, file("b/c"), tar.Header{Typeflag: tar.TypeReg, Name: "b/run", Mode: 0o755}, file("a"), tar.Header{Typeflag: tar.TypeDir, Name: "b/d"})
	dir := t.TempDir()
	if err := Extract(t.Context(), bytes.NewReader(content), dir, DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	_, fsys := unpack(t, content)
	for _, at := range []string{".", "b"} {
		if !bytes.Equal(write(t, Dir(filepath.Join(dir, at)), Matcher{}), write(t, FS(fsys, at), Matcher{})) {
			t.Errorf("other bytes from '%s' in memory", at)
		}
	}
	if err := Write(t.Context(), io.Discard, FS(fsys, "absent"), Matcher{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent directory: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := FS(fsys, ".").Walk(ctx, func(Entry) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestWriteAgain: what a compressor was used for before, and how that ended, does not show (gitrepository 65).
func TestWriteAgain(t *testing.T) {
	first := write(t, thousand(), Matcher{})
	if !bytes.Equal(first, write(t, thousand(), Matcher{})) {
		t.Fatal("equal content gives other bytes")
	}
	broken := errors.New("broken")
	left := 10
	err := Write(t.Context(), writerFunc(func(p []byte) (int, error) {
		if left--; left < 0 {
			return 0, broken
		}
		return len(p), nil
	}), thousand(), Matcher{})
	if !errors.Is(err, broken) {
		t.Errorf("write: %v", err)
	}
	write(t, files("a", "b"), Matcher{})
	if !bytes.Equal(first, write(t, thousand(), Matcher{})) {
		t.Error("equal content gives other bytes after other content")
	}
}

func BenchmarkUnpack(b *testing.B) {
	many := memory{}
	for i := range 50_000 {
		many[fmt.Sprintf("apps/team-%d/app-%d.yaml", i%500, i)] = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app-%d\ndata:\n  key: value-%d\n", i, i)
	}
	for _, c := range []struct {
		name string
		tree memory
	}{{"1000", thousand()}, {"50000", many}} {
		content := write(b, c.tree, Matcher{})
		w, err := os.Create(filepath.Join(b.TempDir(), "content"))
		if err != nil {
			b.Fatal(err)
		}
		defer w.Close()
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Truncate(0); err != nil {
					b.Fatal(err)
				}
				index, err := Unpack(b.Context(), bytes.NewReader(content), io.NewOffsetWriter(w, 0), DefaultLimits())
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(index.MemoryBytes())/float64(len(index.nodes)), "B/node")
			}
		})
	}
}

func BenchmarkIndexFS(b *testing.B) {
	m := thousand()
	_, fsys := unpack(b, write(b, m, Matcher{}))
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := fs.Stat(fsys, names[i%len(names)]); err != nil {
			b.Fatal(err)
		}
	}
}
