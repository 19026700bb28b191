package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/chartfile"
)

// demo is a chart's directory "demo" with further files, or without some: those with the content "-".
func demo(more map[string]string) map[string]string {
	files := map[string]string{
		"demo/Chart.yaml":                "apiVersion: v2\nname: demo\nversion: 1.0.0\n",
		"demo/values.yaml":               "# the defaults\nreplicas: 1\nimage: {name: web, tag: \"1\"}\nlist: [a, b]\n",
		"demo/templates/deployment.yaml": "kind: Deployment\n",
	}
	for name, content := range more {
		files[name] = content
	}
	for name, content := range files {
		if content == "-" {
			delete(files, name)
		}
	}
	return files
}

// source writes a source tree and returns its directory.
func source(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, files)
	return dir
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

func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tgz packs files, sorted by name.
func tgz(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var headers []*tar.Header
	var contents []string
	for _, name := range names {
		headers = append(headers, &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name]))})
		contents = append(contents, files[name])
	}
	return raw(t, headers, contents)
}

func raw(t testing.TB, headers []*tar.Header, contents []string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, contents[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unpack returns the files of an archive in their order, each as "name: content", and checks what all packed charts have.
func unpack(t testing.TB, r *Result) map[string]string {
	t.Helper()
	data, err := os.ReadFile(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Packaged && h.ModTime.Unix() != 0 {
			t.Errorf("%s has the time %s", h.Name, h.ModTime)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := files[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		files[h.Name] = string(content)
	}
}

// local builds a chart of a source tree.
func local(t testing.TB, dir, path string, request Request, limits chartfile.Limits, repositories Repositories) (*Result, error) {
	t.Helper()
	l, err := OpenLocal(t.Context(), diskFS(t, dir), path, request, limits)
	if err != nil {
		return nil, err
	}
	return l.Build(t.Context(), repositories, t.TempDir())
}

// shelf is a Repositories with charts by "<url> <name>", versions in order.
type shelf struct {
	charts map[string][]offered
	log    []string
}

type offered struct {
	version string
	data    []byte
}

func (s *shelf) Repository(_ context.Context, url string) (Repository, error) {
	s.log = append(s.log, "open "+url)
	return &shelved{s, url}, nil
}

type shelved struct {
	shelf *shelf
	url   string
}

func (s *shelved) Find(_ context.Context, name, version string) (*Found, error) {
	s.shelf.log = append(s.shelf.log, "find "+name+" "+version)
	for _, o := range s.shelf.charts[s.url+" "+name] {
		if version == o.version || version == "" || strings.HasPrefix(version, ">=") {
			return &Found{Version: o.version, URL: s.url + " " + name}, nil
		}
	}
	return nil, fmt.Errorf("no '%s' chart with version matching '%s' found: %w", name, version, ErrNotFound)
}

func (s *shelved) Download(_ context.Context, f *Found, _ int64) ([]byte, error) {
	s.shelf.log = append(s.shelf.log, "download "+f.Version)
	for _, o := range s.shelf.charts[f.URL] {
		if o.version == f.Version {
			return o.data, nil
		}
	}
	return nil, ErrNotFound
}

func (s *shelved) Close() {}

func digest(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func expect(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
