// Package notation checks signatures of OCI manifests made with notation, under
// a trust policy. It runs no plugins, and asks about revocation only of
// certificates that the policy trusts and wants asked about.
package notation

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	notationgo "github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/registry"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/internal/attached"
)

// Options say what is trusted and how the registry is reached.
type Options struct {
	// TrustPolicy is the content of trustpolicy.json (contract: ocirepository
	// 46, 64). All its statements but those with the level skip apply to every
	// registry, so there can be one of them.
	TrustPolicy []byte
	// Certificates are the files of a Secret: those named *.crt and *.pem are
	// roots, all others are passed over.
	Certificates map[string][]byte
	// Remote are the options of each request: transport, credentials.
	Remote []remote.Option
	// Revocation carries the questions about revoked certificates; nil is the
	// default transport.
	Revocation http.RoundTripper
	// Limits bound what the registry may send; zero fields take the default.
	Limits oci.SignatureLimits
}

// Verifier is an oci.Verifier.
type Verifier struct {
	verifier notationgo.Verifier
	id       string
	remote   []remote.Option
	limits   oci.SignatureLimits
}

var _ oci.Verifier = (*Verifier)(nil)

// New reads policy and certificates; it does not connect. The errors have the
// property oci.ErrInvalidTrust.
func New(o Options) (*Verifier, error) {
	policy, err := readPolicy(o.TrustPolicy)
	if err != nil {
		return nil, err
	}
	roots, err := readRoots(o.Certificates)
	if err != nil {
		return nil, err
	}
	verifier, err := newVerifier(policy, roots, o.Revocation)
	if err != nil {
		return nil, err
	}
	return &Verifier{verifier: verifier, id: fingerprint(policy, roots), remote: o.Remote, limits: o.Limits.OrDefault()}, nil
}

// Trust identifies policy and certificates.
func (v *Verifier) Trust() string { return v.id }

// Verify tells whether the manifest carries a signature that the policy trusts;
// one is enough. The outcome is oci.Ignored where the policy merely takes note of
// a signer it does not trust (contract: ocirepository 47, 65).
func (v *Verifier) Verify(ctx context.Context, ref name.Digest) (oci.Outcome, error) {
	var outcome oci.Outcome
	err := attached.Run(ctx, ref, v.remote, v.limits, func(ctx context.Context, s *attached.Search) bool {
		target, err := describe(ctx, s)
		if err != nil {
			s.Unreadable(err)
			return false
		}
		matches := func(artifactType string) bool { return artifactType == registry.ArtifactTypeNotation }
		s.Referring(ctx, "signatures", matches, func(d v1.Descriptor, content []byte) error {
			result, err := v.verifier.Verify(ctx, target, content, notationgo.VerifierVerifyOptions{
				ArtifactReference:  ref.Name(),
				SignatureMediaType: string(d.MediaType),
			})
			if err != nil {
				return err
			}
			if err := untrusted(result); err != nil {
				outcome = oci.Ignored
				return err
			}
			outcome = oci.Verified
			return nil
		})
		return outcome != 0
	})
	if err != nil {
		return 0, err
	}
	return outcome, nil
}

// untrusted returns why the policy would not trust the signer if it insisted.
func untrusted(outcome *notationgo.VerificationOutcome) error {
	for _, result := range outcome.VerificationResults {
		if result.Type == trustpolicy.TypeAuthenticity && result.Error != nil {
			return fmt.Errorf("the signer is not trusted: %w", result.Error)
		}
	}
	return nil
}

// describe returns the manifest's descriptor, which is what was signed.
func describe(ctx context.Context, s *attached.Search) (ocispec.Descriptor, error) {
	d, err := s.Describe(ctx, s.Ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size}, nil
}
