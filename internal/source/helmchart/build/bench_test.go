package build

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/internal/chartfile"
)

// BenchmarkLocal packages a chart of a hundred files, BenchmarkObserve is what an interval without news costs.
func BenchmarkLocal(b *testing.B) {
	files := demo(nil)
	for i := range 100 {
		files[fmt.Sprintf("demo/templates/file-%d.yaml", i)] = strings.Repeat("key: {{ .Values.replicas }}\n", 100)
	}
	dir, out := b.TempDir(), b.TempDir()
	write(b, dir, files)
	tree := diskFS(b, dir)
	b.ReportAllocs()
	for b.Loop() {
		l, err := OpenLocal(b.Context(), tree, "demo", Request{}, chartfile.DefaultLimits())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := l.Build(b.Context(), nil, out); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	dir := b.TempDir()
	write(b, dir, demo(nil))
	tree := diskFS(b, dir)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := OpenLocal(b.Context(), tree, "demo", Request{}, chartfile.DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzRemote: whatever a repository sends, a build ends with a chart of it or an Error, and writes nothing beside its
// directory.
func FuzzRemote(f *testing.F) {
	f.Add(tgz(f, demo(nil)))
	f.Add(tgz(f, demo(map[string]string{"demo/charts/sub.tgz": string(tgz(f, demo(nil))), "demo/requirements.yaml": "dependencies: [{name: a}]"})))
	f.Add([]byte("\x1f\x8b"))
	f.Add(tgz(f, map[string]string{"demo/Chart.yaml": "apiVersion: v2\nname: ../../x\nversion: 1.0.0\n"}))
	limits := chartfile.DefaultLimits()
	limits.Bytes = 1 << 20
	f.Fuzz(func(t *testing.T, data []byte) {
		above := t.TempDir()
		dir := filepath.Join(above, "dir")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		request := Request{Values: Values{Files: []string{"values.yaml", "a.yaml"}, IgnoreMissing: true}, Generation: 1}
		result, err := Remote(context.Background(), data, "1.0.0+1", request, limits, dir)
		if err == nil && filepath.Dir(result.Path) != dir {
			t.Errorf("the chart was written to %s", result.Path)
		}
		if entries, err := os.ReadDir(above); err != nil || len(entries) != 1 {
			t.Errorf("beside the directory: %v, %v", entries, err)
		}
	})
}

// FuzzMetadata: Chart.yaml is either understood or refused.
func FuzzMetadata(f *testing.F) {
	f.Add([]byte("apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies: [{name: a, alias: b}]\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("dependencies: [null]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := metadata(bytes.Clone(data))
		if err == nil && (m.Name == "" || m.Version == "" || filepath.Base(m.Name) != m.Name) {
			t.Errorf("accepted name %q, version %q", m.Name, m.Version)
		}
	})
}
