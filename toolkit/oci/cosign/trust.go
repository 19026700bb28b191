package cosign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/internal/attached"
)

// trust is whose signatures count: those of keys, or of certificates.
type trust interface {
	// judge returns who decides about signatures now.
	judge(ctx context.Context) (judge, error)
	fingerprint() string
}

// judge decides about a signature that was read.
type judge interface {
	// bundle checks a signature of the manifest with a sha256 digest.
	bundle(entity verify.SignedEntity, manifest []byte) error
	// legacy checks a signature of a payload.
	legacy(s *legacySignature) error
}

// keys trust signatures by any of several keys.
type keys struct {
	names     []string
	verifiers []keyVerifier
	digests   []string
}

// keyVerifier is one key with the hashes that signers combine it with: SHA-256,
// and for large keys of elliptic curves the one that fits their size.
type keyVerifier []signature.Verifier

func newKeys(o Options) (*keys, error) {
	k := &keys{}
	for _, file := range slices.Sorted(maps.Keys(o.Keys)) {
		if !strings.HasSuffix(file, ".pub") {
			continue
		}
		public, err := cryptoutils.UnmarshalPEMToPublicKey(o.Keys[file])
		if err != nil {
			return nil, attached.Failed(oci.ErrInvalidTrust, "reading public key '%s': %w; it has to be PEM as in the cosign.pub that 'cosign generate-key-pair' writes", file, err)
		}
		verifiers, err := verifiersOf(public)
		if err != nil {
			return nil, attached.Failed(oci.ErrInvalidTrust, "using public key '%s': %w", file, err)
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return nil, attached.Failed(oci.ErrInvalidTrust, "using public key '%s': %w", file, err)
		}
		k.names = append(k.names, file)
		k.verifiers = append(k.verifiers, verifiers)
		k.digests = append(k.digests, digestOf(der))
	}
	if len(k.names) == 0 {
		return nil, attached.Failed(oci.ErrInvalidTrust, "no public keys found: the Secret needs a file that is named *.pub")
	}
	return k, nil
}

func verifiersOf(public crypto.PublicKey) (keyVerifier, error) {
	plain, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	if curve, ok := public.(*ecdsa.PublicKey); !ok || curve.Params().BitSize <= 256 {
		return keyVerifier{plain}, nil
	}
	fitting, err := signature.LoadDefaultVerifier(public)
	if err != nil {
		return nil, err
	}
	return keyVerifier{fitting, plain}, nil
}

func (k *keys) judge(context.Context) (judge, error) { return k, nil }

func (k *keys) fingerprint() string {
	slices.Sort(k.digests)
	return fingerprint("keys", slices.Compact(k.digests))
}

func (k *keys) bundle(entity verify.SignedEntity, manifest []byte) error {
	return k.any(func(v signature.Verifier) error {
		// The bundle's hint at a key is the word of whoever attached it.
		material := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
			return root.NewExpiringKey(v, time.Time{}, time.Time{}), nil
		})
		verifier, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps(), verify.WithoutStatementPredicate())
		if err != nil {
			return err
		}
		_, err = verifier.Verify(entity, verify.NewPolicy(verify.WithArtifactDigest("sha256", manifest), verify.WithKey()))
		return err
	})
}

func (k *keys) legacy(s *legacySignature) error {
	return k.any(func(v signature.Verifier) error {
		return v.VerifySignature(bytes.NewReader(s.signature), bytes.NewReader(s.payload))
	})
}

// any tries all keys and tells about the first.
func (k *keys) any(check func(signature.Verifier) error) error {
	var first error
	for _, verifiers := range k.verifiers {
		for _, v := range verifiers {
			err := check(v)
			if err == nil {
				return nil
			}
			if first == nil {
				first = err
			}
		}
	}
	return fmt.Errorf("made with none of the keys %s: %w", strings.Join(k.names, ", "), first)
}

// keyless trusts signatures with a certificate of a root.
type keyless struct {
	identities []Identity
	policy     []verify.PolicyOption
	rootDigest string
	root       func(context.Context) (root.TrustedMaterial, error)
}

func newKeyless(o Options) (*keyless, error) {
	if len(o.Keys) > 0 {
		return nil, attached.Failed(oci.ErrInvalidTrust, "both keys and keyless signatures are asked for: leave out one of them")
	}
	k := &keyless{identities: o.Identities, root: o.PublicRoot, rootDigest: "public"}
	for i, identity := range o.Identities {
		matcher, err := verify.NewShortCertificateIdentity("", identity.Issuer, "", identity.Subject)
		if err != nil {
			return nil, attached.Failed(oci.ErrInvalidTrust, "reading identity %d, with issuer '%s' and subject '%s': %w", i, identity.Issuer, identity.Subject, err)
		}
		k.policy = append(k.policy, verify.WithCertificateIdentity(matcher))
	}
	if len(k.policy) == 0 {
		k.policy = []verify.PolicyOption{verify.WithoutIdentitiesUnsafe()}
	}
	switch {
	case o.TrustedRoot != nil:
		trusted, err := root.NewTrustedRootFromJSON(o.TrustedRoot)
		if err != nil {
			return nil, attached.Failed(oci.ErrInvalidTrust, "reading the trusted root: %w", err)
		}
		if err := complete(trusted); err != nil {
			return nil, err
		}
		k.rootDigest = digestOf(o.TrustedRoot)
		k.root = func(context.Context) (root.TrustedMaterial, error) { return trusted, nil }
	case o.PublicRoot == nil:
		return nil, attached.Failed(oci.ErrInvalidTrust, "keyless signatures need a trusted root, and neither a public one nor one in a Secret is there")
	}
	return k, nil
}

// complete tells at once what would let every signature fail.
func complete(trusted root.TrustedMaterial) error {
	for _, part := range []struct {
		name string
		n    int
	}{
		{"certificate authority", len(trusted.FulcioCertificateAuthorities())},
		{"transparency log", len(trusted.RekorLogs())},
		{"certificate transparency log", len(trusted.CTLogs())},
	} {
		if part.n == 0 {
			return attached.Failed(oci.ErrInvalidTrust, "the trusted root has no %s", part.name)
		}
	}
	return nil
}

func (k *keyless) fingerprint() string { return fingerprint("keyless", k.rootDigest, k.identities) }

func (k *keyless) judge(ctx context.Context) (judge, error) {
	trusted, err := k.root(ctx)
	if err != nil {
		return nil, err
	}
	verifier, err := verify.NewVerifier(trusted, verify.WithSignedCertificateTimestamps(1), verify.WithTransparencyLog(1),
		verify.WithObserverTimestamps(1), verify.WithoutStatementPredicate())
	if err != nil {
		return nil, fmt.Errorf("preparing the check of certificates: %w", err)
	}
	return &authority{verifier: verifier, policy: k.policy}, nil
}

// authority decides about certificates.
type authority struct {
	verifier *verify.Verifier
	policy   []verify.PolicyOption
}

func (a *authority) bundle(entity verify.SignedEntity, manifest []byte) error {
	_, err := a.verifier.Verify(entity, verify.NewPolicy(verify.WithArtifactDigest("sha256", manifest), a.policy...))
	return err
}

func (a *authority) legacy(s *legacySignature) error {
	entity, err := s.entity()
	if err != nil {
		return err
	}
	_, err = a.verifier.Verify(entity, verify.NewPolicy(verify.WithArtifact(bytes.NewReader(s.payload)), a.policy...))
	return err
}

// fingerprint digests values; equal values have equal fingerprints.
func fingerprint(values ...any) string {
	// Strings and lists of strings always have a JSON form.
	text, _ := json.Marshal(values)
	return "cosign:" + digestOf(text)
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
