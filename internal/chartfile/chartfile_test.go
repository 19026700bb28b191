package chartfile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

func pack(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for i := 0; i < len(files); i += 2 {
		if err := tw.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const metadata = "apiVersion: v2\nname: demo\nversion: 1.0.0\n"

func TestArchive(t *testing.T) {
	data := pack(t, "demo/Chart.yaml", BOM+metadata, "./demo/templates/a.yaml", "a: b", `demo\windows.txt`, "x", "demo/empty", "")
	files, err := NewBudget(DefaultLimits()).Archive(t.Context(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range files {
		got[f.Name] = string(f.Data)
	}
	want := map[string]string{"Chart.yaml": metadata, "templates/a.yaml": "a: b", "windows.txt": "x", "empty": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	c, err := Load(files, DefaultLimits())
	if err != nil || c.Name() != "demo" || len(c.Templates) != 1 {
		t.Errorf("chart %v, %v", c, err)
	}
}

func TestFlagsHaveTheDefaults(t *testing.T) {
	var l Limits
	l.Bind(pflag.NewFlagSet("test", pflag.ContinueOnError))
	if diff := cmp.Diff(DefaultLimits(), l); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}

// Whatever bytes come, what is read of them is within the limits (reliability 010).
func FuzzArchive(f *testing.F) {
	inner := pack(f, "sub/Chart.yaml", metadata)
	f.Add(pack(f, "demo/Chart.yaml", metadata, "demo/charts/sub.tgz", string(inner)))
	f.Add(pack(f, "demo/../x", "y"))
	f.Add(pack(f, "/etc/passwd", "y"))
	f.Add([]byte("\x1f\x8b"))
	limits := Limits{ArchiveBytes: 1 << 20, FileBytes: 1000, Bytes: 10_000, Entries: 20, PathBytes: 100, Depth: 5, Nesting: 2, Dependencies: 5}
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := NewBudget(limits).Archive(t.Context(), bytes.NewReader(data))
		if err != nil {
			return
		}
		total := 0
		for _, file := range files {
			total += len(file.Data)
			if len(file.Data) > 1000 || len(file.Name) > 100 || strings.HasPrefix(file.Name, "/") || strings.HasPrefix(file.Name, "..") {
				t.Errorf("file %q of %d bytes", file.Name, len(file.Data))
			}
		}
		if len(files) > 20 || total > 10_000 {
			t.Errorf("%d files of %d bytes", len(files), total)
		}
		_, _ = Load(files, limits)
	})
}
