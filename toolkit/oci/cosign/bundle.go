package cosign

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"

	"github.com/seed-79636ae9/flux/toolkit/oci/internal/attached"
)

// bundleType begins the media types of all versions of the bundle.
const bundleType = "application/vnd.dev.sigstore.bundle"

// bundles tries the bundles that refer to the manifest. A signature is a
// statement about the digest of the manifest; so are other attestations, and
// whoever is trusted to sign is trusted to attest.
func bundles(ctx context.Context, s *attached.Search, j judge) bool {
	matches := func(artifactType string) bool { return strings.HasPrefix(artifactType, bundleType) }
	return s.Referring(ctx, "bundles", matches, func(_ v1.Descriptor, content []byte) error {
		return checkBundle(j, content, s.Ref.DigestStr())
	})
}

// checkBundle decides about the content of a bundle.
func checkBundle(j judge, content []byte, manifest string) error {
	digest, err := hex.DecodeString(strings.TrimPrefix(manifest, "sha256:"))
	if err != nil {
		return fmt.Errorf("digest '%s' is not of the kind sha256", manifest)
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(content); err != nil {
		return fmt.Errorf("malformed bundle: %w", err)
	}
	return j.bundle(&b, digest)
}
