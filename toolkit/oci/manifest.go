package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Manifest describes an artifact.
type Manifest struct {
	// Digest of the manifest; that of the one for linux/amd64 where an index was
	// asked for.
	Digest string
	// ConfigType is the media type of the config.
	ConfigType  string
	Annotations map[string]string
	Layers      []Layer
}

// Layer describes a layer of an artifact.
type Layer struct {
	MediaType string
	// Digest as <algorithm>:<hex>, and Size in bytes, of the layer as it is stored.
	Digest string
	Size   int64
	// Foreign: the manifest says that the layer is elsewhere. It is asked for at the
	// registry alone.
	Foreign bool
}

// Manifest reads the manifest with this digest. Of an index it reads the
// manifest for linux/amd64; one without a platform counts as that. What a
// registry sends for another digest is an error.
func (c *Client) Manifest(ctx context.Context, repo name.Repository, digest string) (*Manifest, error) {
	got, err := c.descriptor(ctx, repo, digest)
	if err != nil {
		return nil, err
	}
	if !got.MediaType.IsIndex() {
		return c.parse(got)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(got.Manifest))
	if err != nil {
		return nil, malformed("index %s is malformed: %w", digest, err)
	}
	for _, child := range index.Manifests {
		if !child.MediaType.IsImage() || child.Platform != nil && (child.Platform.OS != "linux" || child.Platform.Architecture != "amd64") {
			continue
		}
		if got, err = c.descriptor(ctx, repo, child.Digest.String()); err != nil {
			return nil, err
		}
		if got.MediaType.IsIndex() {
			return nil, malformed("index %s calls index %s a manifest", digest, child.Digest)
		}
		return c.parse(got)
	}
	return nil, &propertyError{ErrNotFound, fmt.Errorf("%s is an index without a manifest for linux/amd64: refer to one of its %d manifests by digest", digest, len(index.Manifests))}
}

func (c *Client) descriptor(ctx context.Context, repo name.Repository, digest string) (got *remote.Descriptor, err error) {
	err = c.do(ctx, repo, func(p *remote.Puller) error {
		got, err = p.Get(ctx, repo.Digest(digest))
		return err
	})
	return got, err
}

func (c *Client) parse(got *remote.Descriptor) (*Manifest, error) {
	parsed, err := v1.ParseManifest(bytes.NewReader(got.Manifest))
	if err != nil {
		return nil, malformed("manifest %s is malformed: %w", got.Digest, err)
	}
	if len(parsed.Layers) > c.options.Limits.Layers {
		return nil, limitError("the manifest", int64(c.options.Limits.Layers), "layers")
	}
	size := 0
	for key, value := range parsed.Annotations {
		size += len(key) + len(value)
	}
	if size > c.options.Limits.AnnotationBytes {
		return nil, limitError("the annotations of the manifest", int64(c.options.Limits.AnnotationBytes), "bytes")
	}
	m := &Manifest{Digest: got.Digest.String(), ConfigType: string(parsed.Config.MediaType), Annotations: parsed.Annotations}
	for _, l := range parsed.Layers {
		m.Layers = append(m.Layers, Layer{MediaType: string(l.MediaType), Digest: l.Digest.String(), Size: l.Size, Foreign: len(l.URLs) > 0})
	}
	return m, nil
}

// Layer opens a layer as it is stored. Reading it to the end fails unless size
// and digest are those of the description; who has not come to the end has
// nothing to rely on. The layer is asked for at the registry, never at addresses
// that the manifest names.
func (c *Client) Layer(ctx context.Context, repo name.Repository, l Layer) (io.ReadCloser, error) {
	limit := c.options.Limits.LayerBytes
	if l.Size > limit {
		return nil, limitError("layer "+l.Digest, limit, "bytes")
	}
	if l.Size < 0 {
		return nil, malformed("layer %s is malformed: it has a size of %d", l.Digest, l.Size)
	}
	var content io.ReadCloser
	err := c.do(ctx, repo, func(p *remote.Puller) error {
		layer, err := p.Layer(ctx, repo.Digest(l.Digest))
		if err != nil {
			return err
		}
		content, err = layer.Compressed()
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound) && l.Foreign:
		return nil, fmt.Errorf("%w: the layer is foreign, push it to the registry", err)
	case err != nil:
		return nil, err
	}
	return &sizedBody{ReadCloser: content, layer: l, left: l.Size}, nil
}

// sizedBody fails when the layer is larger or smaller than described.
type sizedBody struct {
	io.ReadCloser
	layer Layer
	left  int64
}

func (s *sizedBody) Read(p []byte) (int, error) {
	if s.left < 0 {
		return 0, s.mismatch()
	}
	n, err := s.ReadCloser.Read(p)
	s.left -= int64(n)
	if s.left < 0 || errors.Is(err, io.EOF) && s.left > 0 {
		return n, s.mismatch()
	}
	return n, err
}

func (s *sizedBody) mismatch() error {
	return malformed("layer %s does not have the size of %d bytes that its manifest tells", s.layer.Digest, s.layer.Size)
}
