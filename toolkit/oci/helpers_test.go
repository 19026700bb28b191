package oci_test

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// server is a real registry behind a hook that may answer in its place.
type server struct {
	*httptest.Server
	behind http.Handler

	mu   sync.Mutex // guards what follows
	hook func(w http.ResponseWriter, r *http.Request) bool
	log  []string
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{behind: registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.log = append(s.log, r.Method+" "+r.URL.RequestURI())
	hook := s.hook
	s.mu.Unlock()
	if hook == nil || !hook(w, r) {
		s.behind.ServeHTTP(w, r)
	}
}

func (s *server) on(hook func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

// requests returns what was asked since the last call.
func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.log
	s.log = nil
	return out
}

func (s *server) host() string { return strings.TrimPrefix(s.URL, "http://") }

func (s *server) repo(t testing.TB, path string) name.Repository {
	t.Helper()
	repo, err := client(t, oci.Options{}).Repository("oci://" + s.host() + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// push makes content the artifact of a tag and returns its digest.
func (s *server) push(t testing.TB, repo name.Repository, tag, content string) string {
	t.Helper()
	s.mu.Lock()
	hook := s.hook
	s.mu.Unlock()
	s.on(nil)
	defer s.on(hook)
	digest, err := client(t, oci.Options{}).Push(t.Context(), repo.Tag(tag), contentOf(content), map[string]string{oci.RevisionAnnotation: content})
	if err != nil {
		t.Fatal(err)
	}
	s.requests()
	return digest
}

func contentOf(text string) oci.Content {
	return oci.Content{MediaType: oci.ContentLayer, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(text)), nil
	}}
}

func client(t testing.TB, o oci.Options) *oci.Client {
	t.Helper()
	c, err := oci.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func expect(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// read reads the layers of a manifest.
func read(t *testing.T, c *oci.Client, repo name.Repository, l oci.Layer) (string, error) {
	t.Helper()
	r, err := c.Layer(t.Context(), repo, l)
	if err != nil {
		return "", err
	}
	defer r.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(r)
	return b.String(), err
}
