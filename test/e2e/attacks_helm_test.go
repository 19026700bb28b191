package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/hostile"
)

// index is an answer to the request for an index.
func index(text string) http.Handler { return hostile.Text("application/yaml", text) }

const goodEntry = "  good:\n  - {apiVersion: v2, name: good, version: 1.0.0, urls: [good-1.0.0.tgz]}\n"

// indexes is reliability 009 and 074: indexes that are no index, are huge, or come in pieces.
func (a *arena) indexes(t *testing.T) {
	at := func(name string, server http.Handler, fails ...string) attack {
		return attack{name: name, kind: sourcev1.HelmRepositoryKind, fails: fails, spec: map[string]any{
			"url": serve(t, server), "secretRef": map[string]any{"name": "canary"},
		}}
	}
	const head = "apiVersion: v1\nentries:\n"
	var versions strings.Builder
	versions.WriteString(head + "  many:\n")
	for i := range 200_000 {
		fmt.Fprintf(&versions, "  - {apiVersion: v2, name: many, version: 1.0.%d, urls: [many-1.0.%d.tgz]}\n", i, i)
	}
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
	zipped := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		defer z.Close()
		chunk := bytes.Repeat([]byte("# "), 32<<10)
		for range 4 << 10 {
			if _, err := z.Write(chunk); err != nil {
				return
			}
		}
	}
	patient := func(at attack) attack {
		at.spec["timeout"] = "50s"
		return at
	}
	a.run(t,
		at("null entries", index(head+"  a: null\n  b: [null]\n"+goodEntry)),
		at("no version", index(head+"  a:\n  - {apiVersion: v2, name: a, urls: [a.tgz]}\n"+goodEntry)),
		at("bad version", index(head+"  a:\n  - {apiVersion: v2, name: a, version: not.a.version, urls: [a.tgz]}\n"+goodEntry)),
		at("no URLs", index(head+"  a:\n  - {apiVersion: v2, name: a, version: 1.0.0, urls: []}\n"+goodEntry)),
		at("names twice", index(head+goodEntry+goodEntry), "already set"),
		at("alias bomb", index(head+goodEntry+bomb), "index"),
		at("60 MB", index(head+goodEntry+strings.Repeat("# "+strings.Repeat("x", 1022)+"\n", 60<<10)), "larger than"),
		at("endless", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { endless(w, "# ") }), "larger than"),
		patient(at("200000 versions", index(versions.String()))),
		at("gzip bomb", http.HandlerFunc(zipped), "index"),
		at("half of it", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			_, _ = io.WriteString(w, head+goodEntry)
			panic(http.ErrAbortHandler)
		}), "EOF"),
		at("silence", http.HandlerFunc(hostile.Hang), "deadline exceeded"),
		at("a byte now and then", http.HandlerFunc(hostile.Drip), "deadline exceeded"),
		at("redirects in circles", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }), "redirect"),
		at("304 to whoever asks", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }), "304"),
		at("a page", index("<html>sign in</html>"), "index"),
		at("deep", index(head+"  a: "+strings.Repeat("[", 100_000)), "index"),
		at("repeats the login", hostile.Echo(http.StatusForbidden), "403"),
	)
}

// charts is reliability 010: chart archives that want to get out or are more than they look, from an index, a registry and
// a Git repository.
func (a *arena) charts(t *testing.T) {
	var visits atomic.Int64
	elsewhere := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			visits.Add(1)
		}
		http.NotFound(w, r)
	}))
	var origins []*unstructured.Unstructured
	origin := func(kind, name string, spec map[string]any) *unstructured.Unstructured {
		t.Helper()
		o := a.source(kind, name, spec)
		if err := a.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		origins = append(origins, o)
		return o
	}
	repository := func(url string, archive []byte) string {
		t.Helper()
		if url == "" {
			url = "app-1.0.0.tgz"
		}
		server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/index.yaml") {
				_, _ = io.WriteString(w, "apiVersion: v1\nentries:\n  app:\n  - {apiVersion: v2, name: app, version: 1.0.0, urls: [\""+url+"\"]}\n")
				return
			}
			_, _ = w.Write(archive)
		}))
		name := fmt.Sprintf("repo-%02d", len(origins))
		a.settle(t, origin(sourcev1.HelmRepositoryKind, name, map[string]any{"url": server, "secretRef": map[string]any{"name": "canary"}}), false)
		return name
	}
	from := func(name, url string, archive []byte, fails ...string) attack {
		t.Helper()
		return attack{name: name, kind: sourcev1.HelmChartKind, fails: fails, spec: map[string]any{
			"chart": "app", "version": "1.0.0", "sourceRef": map[string]any{"kind": sourcev1.HelmRepositoryKind, "name": repository(url, archive)},
		}}
	}
	chart := func(metadata string, more ...tar.Header) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "app/Chart.yaml", Mode: 0o644, Size: int64(len(metadata))})
		_, _ = io.WriteString(w, metadata)
		for _, h := range more {
			h.Mode = 0o644
			if w.WriteHeader(&h) == nil && h.Typeflag == tar.TypeReg {
				_, _ = io.CopyN(w, zeros{}, h.Size)
			}
		}
		_ = w.Close()
		_ = z.Close()
		return b.Bytes()
	}
	const good = "apiVersion: v2\nname: app\nversion: 1.0.0\n"
	file := func(name string, size int64) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size}
	}
	named := func(name string) []byte { return chart("apiVersion: v2\nname: \"" + name + "\"\nversion: 1.0.0\n") }
	noise := must[[]byte](t)(testkit.TarGzip(map[string]string{"app/Chart.yaml": good, "app/noise": a.noise(11 << 20)}))
	subcharts := map[string]string{"app/Chart.yaml": good}
	for i := range 500 {
		subcharts[fmt.Sprintf("app/charts/s%03d.tgz", i)] = string(chart(fmt.Sprintf("apiVersion: v2\nname: s%03d\nversion: 1.0.0\n", i), tar.Header{Typeflag: tar.TypeReg, Name: "app/zeros", Size: 1 << 20}))
	}
	archives := []struct {
		name    string
		archive []byte
		fails   []string
	}{
		{"name that leads up", named(".."), []string{"chart"}},
		{"name with a path", named("a/../../b"), []string{"chart"}},
		{"traversal", chart(good, file("app/../../evil", 1)), []string{"chart"}},
		{"absolute", chart(good, file(a.scratch+"/evil", 1)), []string{"chart"}},
		{"link", chart(good, tar.Header{Typeflag: tar.TypeSymlink, Name: "app/templates/x.yaml", Linkname: a.scratch + "/keep.txt"}), nil},
		{"file of 5 MB and a byte", chart(good, file("app/large", 5<<20+1)), []string{"limit"}},
		{"archive of 11 MB", noise, []string{"--helm-chart-max-size"}},
		{"bomb", chart(good, file("app/a", 4<<30)), []string{"limit"}},
		{"500 subcharts of 1 MB", must[[]byte](t)(testkit.TarGzip(subcharts)), []string{"limit"}},
		{"no chart", []byte("hello"), []string{"chart"}},
	}
	registry := testkit.NewRegistry()
	t.Cleanup(registry.Close)
	origin(sourcev1.HelmRepositoryKind, "registry", map[string]any{"url": "oci://" + registry.Host(), "type": "oci", "insecure": true})
	files := map[string]*testkit.GitFile{
		"up/Chart.yaml": {Content: "apiVersion: v2\nname: up\nversion: 1.0.0\ndependencies: [{name: sub, version: 1.0.0, repository: 'file://../../../../.." + a.scratch + "'}]\n"},
	}
	var attacks []attack
	for i, c := range archives {
		attacks = append(attacks, from(c.name, "", c.archive, c.fails...))
		img := must[v1.Image](t)(testkit.BuildImage("application/vnd.cncf.helm.config.v1+json", nil, []testkit.Layer{{
			MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Raw: string(c.archive),
		}}))
		if err := registry.Push(fmt.Sprintf("app-%d:1.0.0", i), img); err != nil {
			t.Fatal(err)
		}
		attacks = append(attacks, attack{name: c.name + ", from a registry", kind: sourcev1.HelmChartKind, fails: c.fails, spec: map[string]any{
			"chart": fmt.Sprintf("app-%d", i), "version": "1.0.0", "sourceRef": map[string]any{"kind": sourcev1.HelmRepositoryKind, "name": "registry"},
		}})
		files[fmt.Sprintf("app-%d.tgz", i)] = &testkit.GitFile{Content: string(c.archive)}
		attacks = append(attacks, attack{name: c.name + ", from Git", kind: sourcev1.HelmChartKind, fails: c.fails, spec: map[string]any{
			"chart": fmt.Sprintf("./app-%d.tgz", i), "sourceRef": map[string]any{"kind": sourcev1.GitRepositoryKind, "name": "charts"},
		}})
	}
	must[string](t)(must[*testkit.GitRepo](t)(a.git.Repo("charts")).Commit(testkit.GitCommit{Branch: "main", Files: files}))
	a.settle(t, origin(sourcev1.GitRepositoryKind, "charts", map[string]any{"url": a.git.URL + "/charts.git", "ref": map[string]any{"branch": "main"}, "timeout": "1m"}), false)
	attacks = append(attacks, attack{name: "dependency outside", kind: sourcev1.HelmChartKind, fails: []string{"sub"}, spec: map[string]any{
		"chart": "./up", "sourceRef": map[string]any{"kind": sourcev1.GitRepositoryKind, "name": "charts"},
	}})
	a.run(t, append(attacks,
		from("file URL", "file:///etc/passwd", nil, "file"),
		from("another host", elsewhere+"/app-1.0.0.tgz", nil, "chart"),
		from("metadata address", "ftp://127.0.0.1/app.tgz", nil, "ftp"),
	)...)
	for _, o := range origins {
		a.remove(t, o)
	}
	if visits.Load() > 0 {
		t.Error("credentials were sent to the host that an index names")
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
