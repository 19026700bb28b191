package oci

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

// Verifier checks that a manifest carries a signature that is trusted. It may
// be used by several goroutines.
type Verifier interface {
	// Verify checks the manifest named by repository and digest. It fails
	// closed: a registry that does not answer is an error, as is a signature
	// that cannot be read. The errors have one of the properties
	// ErrNotVerified, ErrInvalidTrust and ErrLimit; all others come from the
	// registry or the context.
	Verify(ctx context.Context, ref name.Digest) (Outcome, error)
	// Trust identifies what is trusted: keys, identities, roots, policy. Equal
	// strings mean equal verdicts. It holds no secret.
	Trust() string
}

// Outcome is what a check without an error has found. Its zero value is none.
type Outcome int

const (
	// Verified: a trusted signature was found.
	Verified Outcome = iota + 1
	// Ignored: the policy says not to insist; nothing was proven (contract:
	// ocirepository 47).
	Ignored
)

// Properties of the errors of verifiers, for errors.Is.
var (
	// ErrNotVerified: there is no signature, or none that is trusted.
	ErrNotVerified = errors.New("not verified")
	// ErrInvalidTrust: the keys, certificates, identities, roots or the policy
	// cannot be used.
	ErrInvalidTrust = errors.New("invalid trust")
)

// SignatureLimits bound what is read of the signatures of one manifest. Anyone
// who may push to a repository may attach signatures to what it holds.
type SignatureLimits struct {
	// Signatures is the number of signatures that are tried.
	Signatures int
	// ManifestBytes is the size of a manifest that lists or holds signatures.
	ManifestBytes int64
	// PayloadBytes is the size of what was signed.
	PayloadBytes int64
	// BundleBytes is the size of a signature with all that comes with it.
	BundleBytes int64
	// Time is how long a check may take as a whole.
	Time time.Duration
}

// DefaultSignatureLimits admits every set of signatures a release process
// leaves behind.
func DefaultSignatureLimits() SignatureLimits {
	return SignatureLimits{
		Signatures:    256,
		ManifestBytes: 4 << 20,
		PayloadBytes:  1 << 20,
		BundleBytes:   4 << 20,
		Time:          time.Minute,
	}
}

// OrDefault returns the limits with the default for each field that is zero.
func (l SignatureLimits) OrDefault() SignatureLimits {
	d := DefaultSignatureLimits()
	return SignatureLimits{
		Signatures:    cmp.Or(l.Signatures, d.Signatures),
		ManifestBytes: cmp.Or(l.ManifestBytes, d.ManifestBytes),
		PayloadBytes:  cmp.Or(l.PayloadBytes, d.PayloadBytes),
		BundleBytes:   cmp.Or(l.BundleBytes, d.BundleBytes),
		Time:          cmp.Or(l.Time, d.Time),
	}
}
