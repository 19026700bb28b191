package oci

import (
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// What artifacts are made of (contract: wire 8).
const (
	// ConfigType is the media type of the config of a pushed artifact.
	ConfigType = "application/vnd.cncf.flux.config.v1+json"
	// ContentLayer is the media type of a layer that is a gzipped tar.
	ContentLayer = "application/vnd.cncf.flux.content.v1.tar+gzip"
	// StaticLayer is the media type of a layer that is any other file; its extension
	// follows after a dot.
	StaticLayer = "application/vnd.cncf.flux.content.v1"

	CreatedAnnotation  = "org.opencontainers.image.created"
	SourceAnnotation   = "org.opencontainers.image.source"
	RevisionAnnotation = "org.opencontainers.image.revision"
)

// Content is the only layer of an artifact to push.
type Content struct {
	// MediaType of the layer; ContentLayer or one that begins with StaticLayer.
	MediaType string
	// Open returns the bytes, as often as it is called.
	Open func() (io.ReadCloser, error)
}

// Push uploads an artifact under a tag, and returns the digest of its manifest.
// The digest depends on the arguments alone.
func (c *Client) Push(ctx context.Context, tag name.Tag, content Content, annotations map[string]string) (string, error) {
	l, err := newFileLayer(content)
	if err != nil {
		return "", fmt.Errorf("read the content: %w", err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), ConfigType)
	if len(annotations) > 0 {
		img = mutate.Annotations(img, annotations).(v1.Image)
	}
	if img, err = mutate.Append(img, mutate.Addendum{Layer: l}); err != nil {
		return "", fmt.Errorf("make the manifest: %w", err)
	}
	digest, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("make the manifest: %w", err)
	}
	err = c.write(ctx, tag.Repository, func(o []remote.Option) error { return remote.Write(tag, img, o...) })
	return digest.String(), err
}

// Tag gives what ref stands for further tags.
func (c *Client) Tag(ctx context.Context, ref name.Reference, tags ...string) error {
	return c.write(ctx, ref.Context(), func(o []remote.Option) error {
		got, err := remote.Get(ref, o...)
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if err := remote.Tag(ref.Context().Tag(tag), got, o...); err != nil {
				return err
			}
		}
		return nil
	})
}

// write makes a call that needs the right to push, which the sessions for
// reading do not have.
func (c *Client) write(ctx context.Context, repo name.Repository, f func([]remote.Option) error) error {
	s, err := c.session(ctx, repo)
	if err != nil {
		return err
	}
	if err := f(c.RemoteOptions(ctx)); err != nil {
		return c.explain(err, s)
	}
	return nil
}

// fileLayer is a layer whose bytes are read when they are needed.
type fileLayer struct {
	content Content
	digest  v1.Hash
	size    int64
}

func newFileLayer(content Content) (*fileLayer, error) {
	r, err := content.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	l := &fileLayer{content: content}
	l.digest, l.size, err = v1.SHA256(r)
	return l, err
}

// Digest implements v1.Layer.
func (l *fileLayer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID implements v1.Layer. The config of an artifact is none of an image, and
// nobody unpacks layers by it.
func (l *fileLayer) DiffID() (v1.Hash, error) { return l.digest, nil }

// Compressed implements v1.Layer.
func (l *fileLayer) Compressed() (io.ReadCloser, error) { return l.content.Open() }

// Uncompressed implements v1.Layer.
func (l *fileLayer) Uncompressed() (io.ReadCloser, error) { return l.content.Open() }

// Size implements v1.Layer.
func (l *fileLayer) Size() (int64, error) { return l.size, nil }

// MediaType implements v1.Layer.
func (l *fileLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(l.content.MediaType), nil
}
