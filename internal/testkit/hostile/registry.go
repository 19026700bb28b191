package hostile

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Registry is an OCI registry that can be told to lie.
type Registry struct {
	server *httptest.Server
	mu     sync.Mutex // guards lie
	lie    func(http.ResponseWriter, *http.Request) bool
}

// NewRegistry starts an honest registry on loopback.
func NewRegistry() *Registry {
	r := &Registry{}
	honest := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		lie := r.lie
		r.mu.Unlock()
		if lie == nil || !lie(w, q) {
			honest.ServeHTTP(w, q)
		}
	}))
	return r
}

// Lie makes the registry ask lie first, which answers the request or returns false.
func (r *Registry) Lie(lie func(http.ResponseWriter, *http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lie = lie
}

// Host is its host:port.
func (r *Registry) Host() string { return strings.TrimPrefix(r.server.URL, "http://") }

// Push uploads an image as repository:tag and returns its digest.
func (r *Registry) Push(ref string, img v1.Image) (string, error) {
	parsed, err := name.ParseReference(r.Host()+"/"+ref, name.Insecure)
	if err != nil {
		return "", fmt.Errorf("naming the image %q: %w", ref, err)
	}
	if err := remote.Write(parsed, img); err != nil {
		return "", fmt.Errorf("pushing %s: %w", ref, err)
	}
	digest, err := img.Digest()
	return digest.String(), err
}

// Close ends the registry and its connections.
func (r *Registry) Close() {
	r.server.CloseClientConnections()
	r.server.Close()
}

// Replace is a lie about requests of the method whose path has the part.
func Replace(method, part string, answer http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.Contains(r.URL.Path, part) {
			return false
		}
		answer(w, r)
		return true
	}
}

// Text answers with a text.
func Text(contentType, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, text)
	}
}
