package helmchart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	inmemory "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/sourcetest"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// chartServer is a registry with one chart.
type chartServer struct {
	http.Handler
	published []string // what each version holds
}

func newChartServer(testing.TB) sourcetest.Upstream { return newServer() }

func newServer() *chartServer {
	return &chartServer{Handler: inmemory.New(inmemory.Logger(log.New(io.Discard, "", 0)))}
}

func (s *chartServer) version(i int) string { return fmt.Sprintf("1.%d.0", i) }

// Publish makes the files those of a new version of the chart. What has been there before returns by removing the later
// versions.
func (s *chartServer) Publish(t testing.TB, content map[string]string) {
	t.Helper()
	what := fmt.Sprint(content)
	if known := slices.Index(s.published, what); known >= 0 {
		for i := known + 1; i < len(s.published); i++ {
			s.remove(t, s.version(i))
		}
		s.published = s.published[:known+1]
		return
	}
	version := s.version(len(s.published))
	s.published = append(s.published, what)
	all := map[string]string{}
	for name, text := range content {
		all["demo/files/"+name] = text
	}
	s.upload(t, version, packed(t, files("demo", "demo", version, all)))
}

func (s *chartServer) remove(t testing.TB, version string) {
	t.Helper()
	server := httptest.NewServer(s.Handler)
	defer server.Close()
	tag, err := name.NewTag(strings.TrimPrefix(server.URL, "http://") + "/charts/demo:" + version)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Delete(tag); err != nil {
		t.Fatal(err)
	}
}

// upload goes past whatever stands before the server in the test.
func (s *chartServer) upload(t testing.TB, version string, data []byte) {
	t.Helper()
	server := httptest.NewServer(s.Handler)
	defer server.Close()
	push(t, strings.TrimPrefix(server.URL, "http://")+"/charts/demo", version, data)
}

// hostileChart serves an archive as a chart.
func hostileChart(data func(t testing.TB) []byte) func(t testing.TB) http.Handler {
	return func(t testing.TB) http.Handler {
		s := newServer()
		s.upload(t, "1.0.0", data(t))
		return s
	}
}

// zeros is an archive that unpacks to far more than it is worth.
func zeros(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	chunk := make([]byte, 4<<20)
	for i := range 40 {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("demo/%d", i), Mode: 0o644, Size: int64(len(chunk))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []func() error{w.Close, z.Close} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// A HelmChart of a registry is a source like any other.
func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject[*sourcev1.HelmChart]{
		New: func() *sourcev1.HelmChart { return &sourcev1.HelmChart{} },
		Controller: func(_ testing.TB, e sourcetest.Environment) *loop.Controller[*sourcev1.HelmChart] {
			return Controller("source-controller", e.Store, Options{Cached: e.Client, Reader: e.Client, TempDir: e.TempDir, Pool: oci.NewPool(&hasty{})})
		},
		Upstream: newChartServer,
		Around: func(c sourcetest.Config) []client.Object {
			repository := &sourcev1.HelmRepository{
				ObjectMeta: metav1.ObjectMeta{Name: "repo"},
				Spec: sourcev1.HelmRepositorySpec{
					Type: sourcev1.HelmRepositoryTypeOCI, URL: "oci://" + c.Host + "/charts", Insecure: !c.TLS, Timeout: meta.DurationOf(3 * time.Second),
				},
			}
			switch {
			case c.Secret == "":
			case c.TLS:
				repository.Spec.CertSecretRef = &meta.LocalObjectReference{Name: c.Secret}
			default:
				repository.Spec.SecretRef = &meta.LocalObjectReference{Name: c.Secret}
			}
			return []client.Object{repository}
		},
		Configure: func(obj *sourcev1.HelmChart, _ sourcetest.Config) {
			obj.Spec.Chart, obj.Spec.Version = "demo", "*"
			obj.Spec.SourceRef = sourcev1.HelmChartSourceReference{Kind: sourcev1.HelmRepositoryKind, Name: "repo"}
			obj.Spec.Interval = meta.DurationOf(10 * time.Minute)
		},
		Login: func(_ sourcetest.Config, user, password string) map[string][]byte {
			return map[string][]byte{"username": []byte(user), "password": []byte(password)}
		},
		Suspend: func(obj *sourcev1.HelmChart, suspend bool) { obj.Spec.Suspend = suspend },
		// The registry's greeting, the list of tags and the tag.
		Unchanged: 3,
		Hostile: map[string]func(testing.TB) http.Handler{
			"reliability 010: bomb": hostileChart(zeros),
			"reliability 010: outside": hostileChart(func(t testing.TB) []byte {
				return packed(t, files("demo", "demo", "1.0.0", map[string]string{"demo/../../../outside/x": "x"}))
			}),
			"not an archive": hostileChart(func(testing.TB) []byte { return []byte("<html>") }),
		},
	})
}

// hasty is a clock that is ahead of what was just remembered: each run sees what is there now.
type hasty struct{ n atomic.Int64 }

func (h *hasty) Now() time.Time {
	return time.Unix(0, 0).Add(time.Duration(h.n.Add(1)) * 4 * time.Second)
}
func (h *hasty) Since(t time.Time) time.Duration { return h.Now().Sub(t) }
