package testkit

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
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Registry is an OCI registry over plain HTTP on loopback, in memory.
type Registry struct {
	server   *httptest.Server
	requests atomic.Int64
}

// NewRegistry starts a registry; Close ends it.
func NewRegistry() *Registry {
	quiet := registry.Logger(log.New(io.Discard, "", 0))
	handler := registry.New(quiet, registry.WithReferrersSupport(true))
	r := &Registry{}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.requests.Add(1)
		handler.ServeHTTP(w, request)
	}))
	return r
}

// Requests is how many requests the registry has had.
func (r *Registry) Requests() int64 { return r.requests.Load() }

// Host is the registry's host:port.
func (r *Registry) Host() string { return strings.TrimPrefix(r.server.URL, "http://") }

// Close ends the registry and drops what it holds.
func (r *Registry) Close() { r.server.Close() }

// Push uploads an image as repository:tag below this registry, and under each further tag.
func (r *Registry) Push(ref string, img v1.Image, tags ...string) error {
	parsed, err := name.ParseReference(r.Host()+"/"+ref, name.Insecure)
	if err != nil {
		return fmt.Errorf("naming the image %q: %w", ref, err)
	}
	if err := remote.Write(parsed, img); err != nil {
		return fmt.Errorf("pushing %s: %w", ref, err)
	}
	for _, tag := range tags {
		if err := remote.Tag(parsed.Context().Tag(tag), img); err != nil {
			return fmt.Errorf("tagging %s as %s: %w", ref, tag, err)
		}
	}
	return nil
}

// Layer is one layer of an image to build: either Files, packed by TarGzip, or Raw bytes.
type Layer struct {
	MediaType string
	Files     map[string]string
	Raw       string
}

// BuildImage builds an OCI image whose digest depends on the arguments alone.
func BuildImage(configType string, annotations map[string]string, layers []Layer) (v1.Image, error) {
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.MediaType(configType))
	if len(annotations) > 0 {
		img = mutate.Annotations(img, annotations).(v1.Image)
	}
	for _, l := range layers {
		content := []byte(l.Raw)
		if l.Files != nil {
			var err error
			if content, err = TarGzip(l.Files); err != nil {
				return nil, err
			}
		}
		var err error
		if img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(content, types.MediaType(l.MediaType))}); err != nil {
			return nil, fmt.Errorf("adding a layer of type %s: %w", l.MediaType, err)
		}
	}
	return img, nil
}

// TarGzip packs files, sorted by name, with mode 0644 and neither times nor owners: equal files
// give equal bytes.
func TarGzip(files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, path := range sortedKeys(files) {
		content := files[path]
		if err := tw.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(content))}); err != nil {
			return nil, fmt.Errorf("packing %s: %w", path, err)
		}
		if _, err := io.WriteString(tw, content); err != nil {
			return nil, fmt.Errorf("packing %s: %w", path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("closing the tar: %w", err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("closing the gzip stream: %w", err)
	}
	return b.Bytes(), nil
}
