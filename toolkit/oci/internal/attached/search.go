package attached

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// Search looks for a trusted signature of one manifest.
type Search struct {
	*reader
	Ref name.Digest
	attempts
}

// Try decides about a signature: nil means that it is trusted, and an error why
// it is not.
type Try func(d v1.Descriptor, content []byte) error

// Run searches within the limits. The search reports whether it found a trusted
// signature; the error says why it did not: because the registry failed, as then
// nobody knows, or because of the signatures. Where there is none at all the text
// is that of 2.9 (contract: ocirepository 48).
func Run(ctx context.Context, ref name.Digest, options []remote.Option, limits oci.SignatureLimits, search func(context.Context, *Search) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limits.Time,
		Failed(oci.ErrLimit, "limit exceeded: checking the signatures of '%s' took longer than %s", ref.Name(), limits.Time))
	defer cancel()
	reader, err := newReader(options, limits)
	if err != nil {
		return err
	}
	s := &Search{reader: reader, Ref: ref}
	switch {
	case search(ctx, s):
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("checking the signatures of '%s': %w", ref.Name(), context.Cause(ctx))
	}
	return s.verdict(ref)
}

// Referring tries the signatures that refer to the manifest and whose artifact
// type matches. Each is the single layer of its manifest.
func (s *Search) Referring(ctx context.Context, what string, match func(artifactType string) bool, try Try) bool {
	referrers, err := s.referrers(ctx, s.Ref)
	if err != nil {
		s.Unreadable(err)
		return false
	}
	var found []v1.Descriptor
	for _, d := range referrers {
		if match(d.ArtifactType) {
			found = append(found, d)
		}
	}
	return s.each(what, found, func(d v1.Descriptor) error {
		m, err := s.manifest(ctx, s.Ref.Context(), d)
		if err != nil {
			return err
		}
		if len(m.Layers) != 1 {
			return Failed(oci.ErrNotVerified, "manifest '%s' has %d layers where one is a signature", d.Digest, len(m.Layers))
		}
		content, err := s.blob(ctx, s.Ref.Context(), m.Layers[0], s.limits.BundleBytes)
		if err != nil {
			return err
		}
		return refusal(try(m.Layers[0], content))
	})
}

// Layered tries the signatures that are layers, of one media type, of the image
// under a tag.
func (s *Search) Layered(ctx context.Context, what string, tag name.Tag, mediaType string, try Try) bool {
	m, err := s.tagged(ctx, tag)
	if err != nil {
		s.Unreadable(err)
		return false
	}
	if m == nil {
		return false
	}
	var found []v1.Descriptor
	for _, layer := range m.Layers {
		if string(layer.MediaType) == mediaType {
			found = append(found, layer)
		}
	}
	// Whoever signs again signs the same payload.
	var last v1.Hash
	var content []byte
	return s.each(what, found, func(d v1.Descriptor) error {
		if content == nil || d.Digest != last {
			var err error
			if content, err = s.blob(ctx, s.Ref.Context(), d, s.limits.PayloadBytes); err != nil {
				content = nil
				return err
			}
			last = d.Digest
		}
		return refusal(try(d, content))
	})
}

func (s *Search) each(what string, found []v1.Descriptor, try func(v1.Descriptor) error) bool {
	if n := s.limits.Signatures; len(found) > n {
		s.exceeded(what, len(found), n)
		found = found[:n]
	}
	for _, d := range found {
		err := try(d)
		if err == nil {
			return true
		}
		if !s.Unreadable(err) {
			return false
		}
	}
	return false
}

func refusal(err error) error {
	if err == nil {
		return nil
	}
	return Failed(oci.ErrNotVerified, "%w", err)
}
