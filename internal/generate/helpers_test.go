package generate

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
)

// files are contents by path; a path that ends in a slash is an empty directory.
type files map[string]string

// onDisk writes files and reads their directory.
func onDisk(t testing.TB, content files) *node {
	t.Helper()
	return treeOf(t, dirOf(t, content))
}

// treeOf reads a directory.
func treeOf(t testing.TB, dir string) *node {
	t.Helper()
	root, err := readTree(t.Context(), diskFS(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func diskFS(t testing.TB, dir string) fs.FS {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root.FS()
}

// dirOf writes files.
func dirOf(t testing.TB, content files) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(p, 0o750); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contentOf reads what lies below a directory; only empty directories are shown.
func contentOf(t testing.TB, root *node) files {
	t.Helper()
	out := files{}
	err := root.walk(".", func(p string, n *node) error {
		if n.isDir() {
			if len(n.entries) == 0 {
				out[p+"/"] = ""
			}
			return nil
		}
		r, err := n.file.open()
		if err != nil {
			return err
		}
		text, err := io.ReadAll(r)
		out[p] = string(text)
		return errors.Join(err, r.Close())
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// op is a copy operation with as few words as possible.
func op(from, to string, exclude ...string) v1beta1.CopyOperation {
	return v1beta1.CopyOperation{From: from, To: to, Exclude: exclude}
}

func with(strategy v1beta1.CopyStrategy, c v1beta1.CopyOperation) v1beta1.CopyOperation {
	c.Strategy = strategy
	return c
}

// newWorkshop is a workshop without anything to publish to.
func newWorkshop(t testing.TB, limits Limits, sources map[string]*node) *workshop {
	w := &workshop{Generator: &Generator{Limits: limits}, trees: sources}
	t.Cleanup(func() { w.close(context.Background()) })
	return w
}

// staged executes operations on a source "repo".
func staged(t testing.TB, source *node, ops ...v1beta1.CopyOperation) (*stage, error) {
	t.Helper()
	w := newWorkshop(t, DefaultLimits(), map[string]*node{"repo": source})
	s := &stage{root: newDir(), limits: w.Limits, extract: w.extract}
	for _, c := range ops {
		if err := w.apply(t.Context(), s, c); err != nil {
			return s, err
		}
	}
	return s, nil
}

// tarball packs files, and whatever headers a test adds.
func tarball(t testing.TB, content files, more ...*tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for name, text := range content {
		if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, text); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range more {
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func gunzip(t testing.TB, data string) io.Reader {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return r
}
