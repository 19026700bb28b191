package helmrepo

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/sourcetest"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// indexServer is a Helm repository with an index, which it knows to be unchanged by its digest.
type indexServer struct {
	mu    sync.Mutex // guards index
	index []byte
}

// Publish makes an index of one chart, which is annotated with the files.
func (s *indexServer) Publish(t testing.TB, files map[string]string) {
	t.Helper()
	data, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "generated": "2026-01-01T00:00:00Z",
		"entries": map[string]any{"demo": []any{map[string]any{
			"apiVersion": "v2", "name": "demo", "version": "1.0.0", "annotations": files, "urls": []string{"demo-1.0.0.tgz"},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.set(data)
}

func (s *indexServer) set(index []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index = index
}

func (s *indexServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	index := s.index
	s.mu.Unlock()
	if !strings.HasSuffix(r.URL.Path, "/index.yaml") {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(index)
	tag := `"` + hex.EncodeToString(sum[:]) + `"`
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(index)
}

// A HelmRepository is a source like any other.
func TestSource(t *testing.T) {
	hostile := func(index string) func(testing.TB) http.Handler {
		return func(testing.TB) http.Handler {
			s := &indexServer{}
			s.set([]byte(index))
			return s
		}
	}
	sourcetest.Run(t, sourcetest.Subject[*sourcev1.HelmRepository]{
		New: func() *sourcev1.HelmRepository { return &sourcev1.HelmRepository{} },
		Controller: func(_ testing.TB, e sourcetest.Environment) *loop.Controller[*sourcev1.HelmRepository] {
			return Controller("source-controller", e.Client, e.Store, Options{TempDir: e.TempDir})
		},
		Upstream: func(testing.TB) sourcetest.Upstream { return &indexServer{} },
		Configure: func(obj *sourcev1.HelmRepository, c sourcetest.Config) {
			scheme := "http://"
			if c.TLS {
				scheme = "https://"
			}
			obj.Spec.URL = scheme + c.Host + "/charts"
			obj.Spec.Interval = meta.DurationOf(10 * time.Minute)
			if c.Secret != "" {
				obj.Spec.SecretRef = &meta.LocalObjectReference{Name: c.Secret}
			}
		},
		Login: func(_ sourcetest.Config, user, password string) map[string][]byte {
			return map[string][]byte{"username": []byte(user), "password": []byte(password)}
		},
		Suspend:    func(obj *sourcev1.HelmRepository, suspend bool) { obj.Spec.Suspend = suspend },
		SetTimeout: func(obj *sourcev1.HelmRepository, d time.Duration) { obj.Spec.Timeout = meta.DurationOf(d) },
		Unchanged:  1,
		Hostile: map[string]func(testing.TB) http.Handler{
			"alias bomb":      hostile(aliasBomb()),
			"endless alias":   hostile("apiVersion: v1\nentries:\n  a: &a\n  - dependencies: *a\n"),
			"deep":            hostile("apiVersion: v1\nentries: " + strings.Repeat("[", 1<<20)),
			"deep JSON":       hostile(`{"apiVersion":"v1","entries":` + strings.Repeat(`{"a":`, 1<<20)),
			"names of files":  hostile("apiVersion: v1\nentries:\n  ../../../etc/passwd:\n  - {name: ../../../etc/passwd, version: 1.0.0}\n"),
			"gzip bomb":       gzipBomb,
			"endless":         endless,
			"endless headers": endlessHeaders,
		},
	})
}
