package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/cosign"
	"github.com/seed-79636ae9/flux/toolkit/oci/notation"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Keys of the Secrets that say what to trust (ocirepository 43, 46).
const (
	trustedRootKey = "trusted_root.json"
	trustPolicyKey = "trustpolicy.json"

	providerCosign   = "cosign"
	providerNotation = "notation"
)

var _ frame.Prover = (*upstream)(nil)

// check is the demand for a signature.
type check struct {
	// provider as messages name it.
	provider string
	// generation of the spec: a new one is checked anew (ocirepository 40).
	generation int64
	verifier   oci.Verifier
	// err is why there is no verifier.
	err error
}

// verification reads what the spec trusts. What is wrong with it is told when there is something to check.
func (s *Source) verification(ctx context.Context, obj *sourcev1.OCIRepository, c *oci.Client, proxy *url.URL) *check {
	v := obj.Spec.Verify
	out := &check{provider: v.Provider, generation: obj.Generation}
	if v.Provider == providerCosign && v.SecretRef == nil {
		out.provider = "cosign keyless" // ocirepository 48
	}
	var files map[string][]byte
	if v.SecretRef != nil {
		if files, out.err = s.secret(ctx, obj.Namespace, v.SecretRef.Name); out.err != nil {
			return out
		}
	}
	// The options carry no context that ends: each check has its own time.
	remote := c.RemoteOptions(context.WithoutCancel(ctx))
	switch v.Provider {
	case providerCosign:
		o := cosign.Options{Keys: files, Keyless: v.SecretRef == nil, PublicRoot: s.options.PublicRoot.Get, Remote: remote, Limits: s.options.Signatures}
		for _, identity := range v.MatchOIDCIdentity {
			o.Identities = append(o.Identities, cosign.Identity{Issuer: identity.Issuer, Subject: identity.Subject})
		}
		if ref := v.TrustedRootSecretRef; ref != nil {
			if o.TrustedRoot, out.err = s.trustedRoot(ctx, obj.Namespace, ref.Name); out.err != nil {
				return out
			}
		}
		out.verifier, out.err = cosign.New(o)
	case providerNotation:
		if v.SecretRef == nil {
			out.err = errors.New("spec.verify.secretRef is required: it names the Secret with 'trustpolicy.json' and the certificates")
			return out
		}
		o := notation.Options{TrustPolicy: files[trustPolicyKey], Certificates: files, Remote: remote, Limits: s.options.Signatures}
		if proxy != nil {
			o.Revocation = &http.Transport{Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}
		}
		out.verifier, out.err = notation.New(o)
	default:
		out.err = fmt.Errorf("spec.verify.provider '%s' is not one of %s and %s", v.Provider, providerCosign, providerNotation)
	}
	if out.err != nil && v.SecretRef != nil {
		out.err = fmt.Errorf("%w (secret '%s/%s')", out.err, obj.Namespace, v.SecretRef.Name)
	}
	return out
}

func (s *Source) trustedRoot(ctx context.Context, namespace, name string) ([]byte, error) {
	data, err := s.secret(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	root, ok := data[trustedRootKey]
	if !ok {
		return nil, secret.Wrap(namespace, name, &secret.KeyError{Key: trustedRootKey, Err: secret.ErrMissing})
	}
	return root, nil
}

// Trust implements frame.Signed.
func (u *upstream) Trust() string {
	switch {
	case u.check == nil:
		return ""
	case u.check.err != nil:
		return "none"
	}
	return fmt.Sprintf("%s %s, generation %d", u.check.provider, u.check.verifier.Trust(), u.check.generation)
}

// Prove implements frame.Prover (ocirepository 40-49).
func (u *upstream) Prove(ctx context.Context, revision string) error {
	digest := revision[strings.LastIndexByte(revision, '@')+1:]
	outcome, err := oci.Outcome(0), u.check.err
	if err == nil {
		outcome, err = u.check.verifier.Verify(ctx, u.repo.Digest(digest))
	}
	switch {
	case err != nil:
		err = fmt.Errorf("failed to verify the signature using provider '%s': %w", u.check.provider, err)
		u.run.Set(sourcev1.SourceVerifiedCondition, metav1.ConditionFalse, sourcev1.VerificationErrorReason, "%v", err)
		return loop.Fail(sourcev1.VerificationErrorReason, err)
	case outcome != oci.Verified:
		u.run.Unset(sourcev1.SourceVerifiedCondition) // ocirepository 47
		return nil
	}
	u.run.Set(sourcev1.SourceVerifiedCondition, metav1.ConditionTrue, meta.SucceededReason, "verified signature of revision %s", revision)
	return nil
}
