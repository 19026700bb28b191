package oci

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/sourcetest"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// hasty is a clock on which so much time passes between two looks that no answer is remembered.
type hasty struct {
	mu  sync.Mutex
	now time.Time
}

func (h *hasty) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(4 * time.Second)
	return h.now
}

func (h *hasty) Since(t time.Time) time.Duration { return h.Now().Sub(t) }

// handler is a registry in memory.
func handler() http.Handler {
	return registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
}

// ociUpstream is a registry with one repository.
type ociUpstream struct{ http.Handler }

func (u *ociUpstream) Publish(t testing.TB, files map[string]string) {
	t.Helper()
	push(t, u.Handler, "app:latest", image(t, nil, testkit.Layer{MediaType: oci.ContentLayer, Files: files}))
}

func image(t testing.TB, annotations map[string]string, layers ...testkit.Layer) v1.Image {
	t.Helper()
	img, err := testkit.BuildImage(oci.ConfigType, annotations, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// push uploads an image to a registry, whatever stands before it for others.
func push(t testing.TB, behind http.Handler, ref string, img v1.Image) {
	t.Helper()
	server := httptest.NewServer(behind)
	defer server.Close()
	parsed, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(parsed, img); err != nil {
		t.Fatal(err)
	}
}

// An OCIRepository is a source like any other.
func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject[*sourcev1.OCIRepository]{
		New: func() *sourcev1.OCIRepository { return &sourcev1.OCIRepository{} },
		Controller: func(_ testing.TB, e sourcetest.Environment) *loop.Controller[*sourcev1.OCIRepository] {
			return Controller("source-controller", e.Client, e.Store, Options{TempDir: e.TempDir, Pool: oci.NewPool(&hasty{})})
		},
		Upstream: func(testing.TB) sourcetest.Upstream { return &ociUpstream{handler()} },
		Configure: func(obj *sourcev1.OCIRepository, c sourcetest.Config) {
			obj.Spec.URL = "oci://" + c.Host + "/app"
			obj.Spec.Interval = meta.DurationOf(10 * time.Minute)
			switch {
			case c.Secret == "":
			case c.TLS:
				obj.Spec.CertSecretRef = &meta.LocalObjectReference{Name: c.Secret}
			default:
				obj.Spec.SecretRef = &meta.LocalObjectReference{Name: c.Secret}
			}
		},
		Login: func(c sourcetest.Config, user, password string) map[string][]byte {
			return map[string][]byte{oci.DockerConfigKey: login(c.Host, user, password)}
		},
		Suspend:    func(obj *sourcev1.OCIRepository, suspend bool) { obj.Spec.Suspend = suspend },
		SetTimeout: func(obj *sourcev1.OCIRepository, d time.Duration) { obj.Spec.Timeout = meta.DurationOf(d) },
		Unchanged:  1,
		Hostile:    hostile(),
	})
}

func login(host, user, password string) []byte {
	return fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, host, user, password)
}

// hostile are registries whose artifacts are attacks (reliability 004, 020).
func hostile() map[string]func(testing.TB) http.Handler {
	layer := func(content func(*tar.Writer) error) func(testing.TB) http.Handler {
		return func(t testing.TB) http.Handler {
			var b bytes.Buffer
			zw := gzip.NewWriter(&b)
			tw := tar.NewWriter(zw)
			if err := content(tw); err != nil {
				t.Fatal(err)
			}
			if err := tw.Close(); err != nil {
				t.Fatal(err)
			}
			if err := zw.Close(); err != nil {
				t.Fatal(err)
			}
			h := handler()
			push(t, h, "app:latest", image(t, nil, testkit.Layer{MediaType: oci.ContentLayer, Raw: b.String()}))
			return h
		}
	}
	entry := func(h tar.Header, content string) func(*tar.Writer) error {
		return func(tw *tar.Writer) error {
			h.Mode, h.Size = 0o644, int64(len(content))
			if err := tw.WriteHeader(&h); err != nil {
				return err
			}
			_, err := io.WriteString(tw, content)
			return err
		}
	}
	return map[string]func(testing.TB) http.Handler{
		"absolute path":       layer(entry(tar.Header{Name: "/tmp/absolute"}, "x")),
		"path out of the dir": layer(entry(tar.Header{Name: "../../escaped"}, "x")),
		"hard link":           layer(entry(tar.Header{Name: "link", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}, "")),
		"device":              layer(entry(tar.Header{Name: "device", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, "")),
		"link, then a file through it": layer(func(tw *tar.Writer) error {
			if err := entry(tar.Header{Name: "dir", Typeflag: tar.TypeSymlink, Linkname: "../.."}, "")(tw); err != nil {
				return err
			}
			return entry(tar.Header{Name: "dir/through"}, "x")(tw)
		}),
		"bomb": layer(func(tw *tar.Writer) error {
			if err := tw.WriteHeader(&tar.Header{Name: "bomb", Mode: 0o644, Size: 80 << 20}); err != nil {
				return err
			}
			_, err := io.CopyN(tw, zeros{}, 80<<20)
			return err
		}),
		"endless answers": func(testing.TB) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for r.Method != http.MethodHead {
					if _, err := io.WriteString(w, strings.Repeat("a", 1<<20)); err != nil || r.Context().Err() != nil {
						return
					}
				}
			})
		},
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
