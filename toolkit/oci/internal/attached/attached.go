// Package attached reads what is attached to a manifest in a registry, within
// limits: manifests that refer to it, manifests found by a tag, their blobs.
package attached

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// reader reads from one registry. It keeps what was agreed on with the registry,
// such as a token, and is meant for one check.
type reader struct {
	puller *remote.Puller
	limits oci.SignatureLimits
}

// newReader returns a reader; it does not connect.
func newReader(options []remote.Option, limits oci.SignatureLimits) (*reader, error) {
	puller, err := remote.NewPuller(options...)
	if err != nil {
		return nil, fmt.Errorf("preparing requests to the registry: %w", err)
	}
	return &reader{puller: puller, limits: limits}, nil
}

// Describe asks the registry for type and size of a manifest.
func (r *reader) Describe(ctx context.Context, ref name.Digest) (*v1.Descriptor, error) {
	d, err := r.puller.Head(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("looking up '%s': %w", ref.Name(), err)
	}
	return d, nil
}

// referrers lists what refers to a manifest, whether the registry has the API
// for it or the list is kept under a tag.
func (r *reader) referrers(ctx context.Context, ref name.Digest) ([]v1.Descriptor, error) {
	what := fmt.Sprintf("the list of what refers to '%s'", ref.Name())
	index, err := remote.Referrers(ref, remote.Reuse(r.puller), remote.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	raw, err := index.RawManifest()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	if err := r.checkManifest(what, int64(len(raw))); err != nil {
		return nil, err
	}
	parsed, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, Failed(oci.ErrNotVerified, "reading %s: %w", what, err)
	}
	return parsed.Manifests, nil
}

// tagged returns the manifest under a tag, or nil when there is none.
func (r *reader) tagged(ctx context.Context, tag name.Tag) (*v1.Manifest, error) {
	// The size is asked for first, because a GET is bounded by the library alone,
	// and far above any sensible limit.
	d, err := r.puller.Head(ctx, tag)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking up '%s': %w", tag.Name(), err)
	}
	return r.manifest(ctx, tag.Context(), *d)
}

// manifest returns the manifest a descriptor stands for.
func (r *reader) manifest(ctx context.Context, repository name.Repository, d v1.Descriptor) (*v1.Manifest, error) {
	ref := repository.Digest(d.Digest.String())
	if err := r.checkManifest(fmt.Sprintf("manifest '%s'", ref.Name()), d.Size); err != nil {
		return nil, err
	}
	got, err := r.puller.Get(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("reading manifest '%s': %w", ref.Name(), err)
	}
	if err := r.checkManifest(fmt.Sprintf("manifest '%s'", ref.Name()), int64(len(got.Manifest))); err != nil {
		return nil, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(got.Manifest))
	if err != nil {
		return nil, Failed(oci.ErrNotVerified, "reading manifest '%s': %w", ref.Name(), err)
	}
	return m, nil
}

// blob returns the content a descriptor stands for, verified by its digest.
func (r *reader) blob(ctx context.Context, repository name.Repository, d v1.Descriptor, limit int64) (content []byte, err error) {
	ref := repository.Digest(d.Digest.String())
	what := fmt.Sprintf("blob '%s'", ref.Name())
	if err := checkSize(what, d.Size, limit); err != nil {
		return nil, err
	}
	layer, err := r.puller.Layer(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	body, err := layer.Compressed()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	defer body.Close()
	// The descriptor is the word of whoever pushed it; the stream is what counts.
	content, err = io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	return content, checkSize(what, int64(len(content)), limit)
}

func (r *reader) checkManifest(what string, size int64) error {
	return checkSize(what, size, r.limits.ManifestBytes)
}

func checkSize(what string, size, limit int64) error {
	if size > limit {
		return Failed(oci.ErrLimit, "limit exceeded: %s has more than the %d bytes allowed", what, limit)
	}
	return nil
}

// isNotFound tells whether the registry says that there is no such thing.
func isNotFound(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}

// Failed returns an error with a property that its text does not repeat.
func Failed(property error, format string, args ...any) error {
	return &failure{property, fmt.Errorf(format, args...)}
}

type failure struct{ property, err error }

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() []error { return []error{f.property, f.err} }
