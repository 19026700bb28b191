// Package cosign checks signatures of OCI manifests made with cosign: by key,
// or keyless with a certificate that names an identity. Signatures come as
// bundles that refer to the manifest, or in the older way under a tag derived
// from its digest.
//
// All is checked offline, with what comes along with a signature; of the
// transparency log that is the proof of inclusion or its promise.
package cosign

import (
	"context"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/internal/attached"
)

// Options say what is trusted and how the registry is reached.
type Options struct {
	// Keys are the files of a Secret: those named *.pub are public keys in PEM,
	// all others are passed over. A signature by one of them is wanted, and the
	// transparency log is not asked (contract: ocirepository 41).
	Keys map[string][]byte
	// Keyless wants a certificate from the root instead of a key. It is said
	// aloud, lest an empty Secret mean that anyone may sign.
	Keyless bool
	// Identities are the signers that are trusted, any of them; none means
	// everyone whose certificate comes from the root (contract: ocirepository
	// 42, 66).
	Identities []Identity
	// TrustedRoot is a trusted_root.json that takes the place of the public
	// root; nil: the public root. What is empty but not nil is an error
	// (contract: ocirepository 43).
	TrustedRoot []byte
	// PublicRoot gives the root of keyless signatures without TrustedRoot;
	// usually the Get of one PublicRoot for the whole process.
	PublicRoot func(context.Context) (root.TrustedMaterial, error)
	// Remote are the options of each request: transport, credentials.
	Remote []remote.Option
	// Limits bound what the registry may send; zero fields take the default.
	Limits oci.SignatureLimits
}

// Identity matches a signer. Both regular expressions have to match somewhere
// in the value; ^ and $ anchor them.
type Identity struct {
	Issuer  string
	Subject string
}

// Verifier is an oci.Verifier.
type Verifier struct {
	trust  trust
	id     string
	remote []remote.Option
	limits oci.SignatureLimits
}

var _ oci.Verifier = (*Verifier)(nil)

// New reads keys, identities and root; it does not connect. The errors have
// the property oci.ErrInvalidTrust.
func New(o Options) (*Verifier, error) {
	var t trust
	var err error
	if o.Keyless {
		t, err = newKeyless(o)
	} else {
		t, err = newKeys(o)
	}
	if err != nil {
		return nil, err
	}
	return &Verifier{trust: t, id: t.fingerprint(), remote: o.Remote, limits: o.Limits.OrDefault()}, nil
}

// Trust identifies keys, identities and root.
func (v *Verifier) Trust() string { return v.id }

// Verify tells whether the manifest carries a signature that is trusted; one is
// enough. Bundles are tried before the older signatures (contract:
// ocirepository 45). The outcome is never oci.Ignored.
func (v *Verifier) Verify(ctx context.Context, ref name.Digest) (oci.Outcome, error) {
	judge, err := v.trust.judge(ctx)
	if err != nil {
		return 0, err
	}
	err = attached.Run(ctx, ref, v.remote, v.limits, func(ctx context.Context, s *attached.Search) bool {
		// A registry that fails to list what refers to a manifest may well have
		// the older signature, which proves as much.
		return bundles(ctx, s, judge) || legacy(ctx, s, judge)
	})
	if err != nil {
		return 0, err
	}
	return oci.Verified, nil
}
