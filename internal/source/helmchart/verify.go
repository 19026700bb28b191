package helmchart

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/internal/source/helmchart/build"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/cosign"
	"github.com/seed-79636ae9/flux/toolkit/oci/notation"
)

// trustPolicy is the key of a Secret with the policy of notation (ocirepository 46).
const trustPolicy = "trustpolicy.json"

// verifiedUpstream is a chart in a registry whose signature is checked before it is pulled (helmchart 52).
type verifiedUpstream struct {
	*repositoryUpstream
	registry *registry
	verifier oci.Verifier
	provider string
	timeout  time.Duration
}

// verified adds the check that the spec asks for.
func (s *Source) verified(ctx context.Context, obj *sourcev1.HelmChart, u *repositoryUpstream, r *registry) (frame.Upstream[*sourcev1.HelmChart], error) {
	verifier, err := s.verifier(ctx, obj, r)
	if err != nil {
		return nil, unverified(u.run, fmt.Errorf("failed to set up the %s verification: %w", obj.Spec.Verify.Provider, err))
	}
	provider := obj.Spec.Verify.Provider
	if provider == providerCosign && obj.Spec.Verify.SecretRef == nil {
		provider = providerCosign + " keyless"
	}
	return &verifiedUpstream{repositoryUpstream: u, registry: r, verifier: verifier, provider: provider, timeout: signatureTimeout}, nil
}

// signatureTimeout bounds the check of a signature; the limits of signatures count besides.
const signatureTimeout = time.Minute

func (s *Source) verifier(ctx context.Context, obj *sourcev1.HelmChart, r *registry) (oci.Verifier, error) {
	verify := obj.Spec.Verify
	var data map[string][]byte
	if ref := verify.SecretRef; ref != nil {
		var err error
		if data, err = s.secret(ctx, types.NamespacedName{Namespace: obj.Namespace, Name: ref.Name}); err != nil {
			return nil, err
		}
	}
	remote := r.remote(ctx)
	switch verify.Provider {
	case providerCosign:
		o := cosign.Options{Keys: data, Keyless: verify.SecretRef == nil, Remote: remote, PublicRoot: s.options.PublicRoot, Limits: s.options.Signatures}
		for _, i := range verify.MatchOIDCIdentity {
			o.Identities = append(o.Identities, cosign.Identity{Issuer: i.Issuer, Subject: i.Subject})
		}
		return cosign.New(o)
	case providerNotation:
		if verify.SecretRef == nil {
			return nil, errors.New("spec.verify.secretRef is required: it holds trust policy and certificates")
		}
		return notation.New(notation.Options{TrustPolicy: data[trustPolicy], Certificates: data, Remote: remote, Limits: s.options.Signatures})
	}
	return nil, fmt.Errorf("unsupported verification provider '%s': want cosign or notation", verify.Provider)
}

func (s *Source) secret(ctx context.Context, key types.NamespacedName) (map[string][]byte, error) {
	var found corev1.Secret
	if err := s.options.Reader.Get(ctx, key, &found); err != nil {
		return nil, fmt.Errorf("failed to get secret '%s': %w", key, err)
	}
	return found.Data, nil
}

// remote are the options of requests; whoever makes them brings a context of his own.
func (r *registry) remote(ctx context.Context) []remote.Option {
	return r.client.RemoteOptions(context.WithoutCancel(ctx))
}

// Trust implements frame.Signed: content is checked anew when keys or policy change.
func (u *verifiedUpstream) Trust() string { return u.provider + " " + u.verifier.Trust() }

// Prove implements frame.Prover: by the digest that is pulled afterwards.
func (u *verifiedUpstream) Prove(ctx context.Context, revision string) error {
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	repo, err := u.registry.client.Repository(u.found.URL)
	if err != nil {
		return unverified(u.run, err)
	}
	outcome, err := u.verifier.Verify(ctx, repo.Digest(u.found.Digest))
	if err != nil {
		return unverified(u.run, fmt.Errorf("failed to verify the signature using provider '%s': %w", u.provider, err))
	}
	if outcome != oci.Verified {
		u.run.Unset(sourcev1.SourceVerifiedCondition) // ocirepository 47
		return nil
	}
	u.run.Set(sourcev1.SourceVerifiedCondition, metav1.ConditionTrue, meta.SucceededReason, "verified signature of version %s", revision)
	return nil
}

// unverified fails a chart whose signature was not found good (helmchart 45, 54).
func unverified(run *loop.Run, err error) error {
	e := &build.Error{Reason: sourcev1.ChartVerificationErrorReason, Err: err}
	run.Set(sourcev1.SourceVerifiedCondition, metav1.ConditionFalse, sourcev1.VerificationErrorReason, "%v", err)
	return loop.Fail(e.Reason, e).On(e.Condition())
}

// unverifiable fails a chart whose source has no signatures (helmchart 56).
func unverifiable(run *loop.Run, message string) error { return unverified(run, errors.New(message)) }
