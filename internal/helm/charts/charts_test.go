package charts

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	chart "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/chartfile"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
	"github.com/seed-79636ae9/flux/internal/testkit/hostile"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
)

// shelf serves archives by their names.
type shelf struct {
	url    string
	opener *artifact.Opener

	mu    sync.Mutex // guards files
	files map[string][]byte
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	s := &shelf{files: map[string][]byte{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		data, ok := s.files[strings.TrimPrefix(r.URL.Path, "/")]
		s.mu.Unlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	opener, err := artifact.NewOpener(nil, t.TempDir(), artifact.OpenerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opener.Close(); err != nil {
			t.Error(err)
		}
	})
	s.opener = opener
	return s
}

// put offers an archive.
func (s *shelf) put(name string, data []byte) *meta.Artifact {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[name] = data
	return &meta.Artifact{Path: "helmchart/apps/app/" + name, URL: s.url + "/" + name, Digest: digest.FromBytes(data).String()}
}

func archiveOf(t testing.TB, c charts.Chart) []byte {
	t.Helper()
	data, err := c.Archive()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func pack(t testing.TB, files map[string]string) []byte {
	t.Helper()
	data, err := testkit.TarGzip(files)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestLoad(t *testing.T) {
	s := newShelf(t)
	a := s.put("webapp.tgz", archiveOf(t, charts.Webapp(charts.First)))
	first, err := Load(t.Context(), s.opener, a, chartfile.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if first.Name() != "webapp" || first.Metadata.Version != "1.0.0" || len(first.Dependencies()) == 0 || len(first.Templates) == 0 {
		t.Errorf("chart %s %s with %d dependencies and %d templates", first.Name(), first.Metadata.Version, len(first.Dependencies()), len(first.Templates))
	}
	first.Values["changed"], first.Metadata.Version = true, "9.9.9"
	first.SetDependencies()
	second, err := Load(t.Context(), s.opener, a, chartfile.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	if second.Values["changed"] != nil || second.Metadata.Version != "1.0.0" || len(second.Dependencies()) == 0 {
		t.Error("what one caller did to the chart another one sees")
	}
}

const chartYAML = "apiVersion: v2\nname: demo\nversion: 1.0.0\n"

// What is no chart is refused, and a limit is named (helmrelease 22, reliability 010).
func TestLoadRefuses(t *testing.T) {
	s := newShelf(t)
	limits := chartfile.DefaultLimits()
	limits.Bytes, limits.Entries, limits.Dependencies = 8<<20, 100, 5
	demo := func(files map[string]string) map[string]string {
		out := map[string]string{"demo/Chart.yaml": chartYAML}
		for name, content := range files {
			out["demo/"+name] = content
		}
		return out
	}
	many := map[string]string{}
	for i := range 200 {
		many["files/"+strings.Repeat("x", i)] = ""
	}
	nested := pack(t, demo(nil))
	for range 12 {
		nested = pack(t, demo(map[string]string{"charts/sub.tgz": string(nested)}))
	}
	small := limits
	small.ArchiveBytes = 20
	for _, tc := range []struct {
		name   string
		data   []byte
		limits chartfile.Limits
		is     error
		want   string
	}{
		{"no archive", []byte("<html>"), limits, nil, "not a gzipped tar"},
		{"no chart", pack(t, map[string]string{"demo/a": "b"}), limits, nil, "Chart.yaml file is missing"},
		{"a chart without its directory", pack(t, map[string]string{"Chart.yaml": chartYAML}), limits, nil, "not in a directory named like the chart"},
		{"a large archive", pack(t, demo(nil)), small, chartfile.ErrTooLarge, "--helm-chart-max-size"},
		{"reliability 010: a large file", pack(t, demo(map[string]string{"big": strings.Repeat("0", 5<<20+1)})), limits, chartfile.ErrTooLarge, "--helm-chart-file-max-size"},
		{"reliability 010: many files", pack(t, demo(many)), limits, chartfile.ErrTooLarge, "more than 100 files"},
		{"reliability 010: a bomb", hostile.Tar(tar.Header{Name: "demo/a", Typeflag: tar.TypeReg, Size: 4 << 20}, tar.Header{Name: "demo/b", Typeflag: tar.TypeReg, Size: 5 << 20}),
			limits, chartfile.ErrTooLarge, "unpacks to more than"},
		{"reliability 010: charts in charts", nested, limits, chartfile.ErrTooLarge, "vendored in each other more than 8 times"},
		{"reliability 010: a path to outside", hostile.Tar(tar.Header{Name: "demo/../../x", Typeflag: tar.TypeReg}), limits, nil, "outside of the chart"},
		{"reliability 010: a name that is a path", pack(t, map[string]string{"d/Chart.yaml": "apiVersion: v2\nname: ..\nversion: 1.0.0\n"}), limits, nil, "name"},
		{"many dependencies", pack(t, map[string]string{"demo/Chart.yaml": chartYAML + "dependencies:\n" + "- {name: a, version: 1.0.0}\n- {name: b, version: 1.0.0}\n- {name: c, version: 1.0.0}\n- {name: d, version: 1.0.0}\n- {name: e, version: 1.0.0}\n- {name: f, version: 1.0.0}\n"}), limits, chartfile.ErrTooLarge, "6 dependencies"},
		{"cut off", pack(t, demo(nil))[:60], limits, nil, "unexpected EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := s.put(tc.name, tc.data)
			a.URL = strings.ReplaceAll(a.URL, " ", "%20")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Load(t.Context(), s.opener, a, tc.limits)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 100 {
				t.Errorf("it took %d MiB", used)
			}
		})
	}
}

func TestLoadOfWhatIsNotThere(t *testing.T) {
	s := newShelf(t)
	gone := s.put("gone.tgz", []byte("x"))
	delete(s.files, "gone.tgz")
	if _, err := Load(t.Context(), s.opener, gone, chartfile.DefaultLimits()); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("helmrelease 22, gone: %v", err)
	}
	wrong := s.put("wrong.tgz", []byte("x"))
	wrong.Digest = digest.FromString("y").String()
	if _, err := Load(t.Context(), s.opener, wrong, chartfile.DefaultLimits()); !errors.Is(err, artifact.ErrMismatch) {
		t.Errorf("helmrelease 22, digest: %v", err)
	}
}

const (
	full  = "sha256:06f82a7fbf95c84d80a5a9143e20c4d815268d00771abf5e2b9ca7c8144d59b5"
	short = "06f82a7fbf95"
)

func TestMutate(t *testing.T) {
	for _, tc := range []struct {
		name, kind, revision, version string
		untracked                     bool
		want, digest, err             string
	}{
		{"a HelmChart is what it is", "HelmChart", "1.0.0", "1.0.0", false, "1.0.0", "", ""},
		{"helmrelease 23, 25: the digest is added (recording chart-ref-oci)", "OCIRepository", "1.0.0@" + full, "1.0.0", false, "1.0.0+" + short, full, ""},
		{"helmrelease 23: a digest alone", "OCIRepository", full, "1.0.0", false, "1.0.0+" + short, full, ""},
		{"helmrelease 23: a tag that is no version", "OCIRepository", "latest@" + full, "1.0.0", false, "1.0.0+" + short, full, ""},
		{"helmrelease 23: another version (recording chart-ref-oci-tag-mismatch)", "OCIRepository", "2.0.0@" + full, "1.0.0", false, "", "",
			"artifact revision 2.0.0 does not match chart version 1.0.0"},
		{"helmrelease 23: another version, not tracked", "OCIRepository", "2.0.0@" + full, "1.0.0", true, "", "", "artifact revision 2.0.0 does not match chart version 1.0.0"},
		{"helmrelease 23: an underscore is a plus", "OCIRepository", "1.0.0_build.1@" + full, "1.0.0+build.1", false, "1.0.0+" + short, full, ""},
		{"helmrelease 23: a version before the release", "OCIRepository", "1.0.0-rc.1_b@" + full, "1.0.0-rc.1", false, "1.0.0-rc.1+" + short, full, ""},
		{"helmrelease 23: DisableChartDigestTracking", "OCIRepository", "1.0.0@" + full, "1.0.0", true, "1.0.0", full, ""},
		{"a version with a v", "OCIRepository", "v1.0.0@" + full, "v1.0.0", false, "1.0.0+" + short, full, ""},
		{"no digest", "OCIRepository", "1.0.0", "1.0.0", false, "", "", "artifact revision 1.0.0 names no digest"},
		{"a short digest", "OCIRepository", "1.0.0@sha256:06f8", "1.0.0", false, "", "", "artifact revision 1.0.0@sha256:06f8 names no digest"},
		{"a digest of other characters", "OCIRepository", "1.0.0@sha256:../../../../etc", "1.0.0", false, "", "",
			"artifact revision 1.0.0@sha256:../../../../etc names no digest: invalid metadata string"},
		{"helmrelease 24: with a colon", "ExternalArtifact", "latest@" + full, "1.0.0", false, "1.0.0+" + short, full, ""},
		{"helmrelease 24: without", "ExternalArtifact", "1.0.0", "1.0.0", false, "1.0.0", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &chart.Chart{Metadata: &chart.Metadata{Name: "demo", Version: tc.version, AppVersion: "7"}}
			got, err := Mutate(c, &sourceref.Source{Kind: tc.kind, Revision: tc.revision}, !tc.untracked)
			if err != nil || tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("got %v, want %s", err, tc.err)
				}
				return
			}
			if diff := cmp.Diff(Name{Name: "demo", Version: tc.want, AppVersion: "7", OCIDigest: tc.digest}, got); diff != "" {
				t.Errorf("name (-want +got):\n%s", diff)
			}
			if c.Metadata.Version != tc.want {
				t.Errorf("the chart says %s", c.Metadata.Version)
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, c := range []charts.Chart{charts.Webapp(charts.First), charts.Many()} {
		b.Run(c.Name, func(b *testing.B) {
			s := newShelf(b)
			data := archiveOf(b, c)
			a := s.put("chart.tgz", data)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Load(b.Context(), s.opener, a, chartfile.DefaultLimits()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadArchive(b *testing.B) {
	s := newShelf(b)
	a := s.put("chart.tgz", archiveOf(b, charts.Webapp(charts.First)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := s.opener.File(b.Context(), a)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := chartfile.NewBudget(chartfile.DefaultLimits()).Archive(b.Context(), io.Reader(f)); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
