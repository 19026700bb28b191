package oci

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/oci/signtest"
)

func verifyWith(provider, secret string) func(*sourcev1.OCIRepositorySpec) {
	return func(s *sourcev1.OCIRepositorySpec) {
		s.Verify = &sourcev1.OCIRepositoryVerification{Provider: provider}
		if secret != "" {
			s.Verify.SecretRef = &meta.LocalObjectReference{Name: secret}
		}
	}
}

// looksForSignatures tells whether a run asked the registry for signatures.
func (l *lab) looksForSignatures() bool {
	return slices.ContainsFunc(l.seen(), func(r string) bool { return strings.Contains(r, "/referrers/") || strings.HasSuffix(r, ".sig") })
}

// ocirepository 39-41, 48, 49, 67; reliability 066
func TestVerifyWithKeys(t *testing.T) {
	l := newLab(t)
	one, two := signtest.NewKey(t, "ecdsa"), signtest.NewKey(t, "ed25519")
	l.add(
		secretOf("one", map[string][]byte{"cosign.pub": one.PEM}),
		secretOf("two", map[string][]byte{"cosign.pub": two.PEM}),
		secretOf("broken", map[string][]byte{"cosign.pub": []byte("no key")}),
	)
	first := l.push("latest", files("one"))
	l.create(func(obj *sourcev1.OCIRepository) { verifyWith("cosign", "one")(&obj.Spec) })
	unsigned := "False VerificationError: failed to verify the signature using provider 'cosign': no matching signatures were found for 'HOST/app@" + first.DigestStr() + "'"
	expect(t, "Ready", unsigned, l.run())
	expect(t, "SourceVerified", unsigned, l.condition(sourcev1.SourceVerifiedCondition))
	expect(t, "FetchFailed", "-", l.condition(sourcev1.FetchFailedCondition))
	if l.get().Status.Artifact != nil {
		t.Fatal("an unsigned artifact was stored")
	}

	signtest.SignCosign(t, first, one)
	a := l.good()
	verified := "True Succeeded: verified signature of revision latest@" + first.DigestStr()
	expect(t, "SourceVerified", verified, l.condition(sourcev1.SourceVerifiedCondition))
	l.seen()
	l.good()
	if l.looksForSignatures() {
		t.Error("the signature is checked anew without a reason")
	}

	// The key in the Secret is another one: what was good is so no longer, though the revision is the same.
	secret := secretOf("one", map[string][]byte{"cosign.pub": two.PEM})
	secret.Namespace = key().Namespace
	if err := l.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if ready := l.run(); !strings.HasPrefix(ready, "False VerificationError: ") {
		t.Errorf("with a key that has not signed: Ready = %s", ready)
	}
	expect(t, "artifact", a, l.get().Status.Artifact)
	signtest.SignBundle(t, first, two)
	l.good()
	expect(t, "SourceVerified", verified, l.condition(sourcev1.SourceVerifiedCondition))

	// A new generation is checked anew.
	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.Insecure = true })
	l.seen()
	l.good()
	if !l.looksForSignatures() {
		t.Error("a new generation is not checked")
	}

	// A revision that nobody signed is not served.
	l.push("latest", files("two"))
	if ready := l.run(); !strings.HasPrefix(ready, "False VerificationError: ") {
		t.Errorf("an unsigned revision: Ready = %s", ready)
	}
	expect(t, "artifact", a.Revision, l.get().Status.Artifact.Revision)
	if outdated := l.condition(sourcev1.ArtifactOutdatedCondition); !strings.HasPrefix(outdated, "True NewRevision: ") {
		t.Errorf("ArtifactOutdated = %s", outdated)
	}

	for name, message := range map[string]string{"broken": "cosign.pub", "absent": `secrets "absent" not found`} {
		l.edit(verifyWith("cosign", name))
		if ready := l.run(); !strings.HasPrefix(ready, "False VerificationError: ") || !strings.Contains(ready, message) {
			t.Errorf("secret %s: Ready = %s", name, ready)
		}
	}

	l.edit(func(s *sourcev1.OCIRepositorySpec) { s.Verify = nil })
	l.good()
	expect(t, "SourceVerified without verification", "-", l.condition(sourcev1.SourceVerifiedCondition))
}

// ocirepository 42, 43, 45, 48, 66
func TestVerifyKeyless(t *testing.T) {
	l := newLab(t)
	sigstore := signtest.NewSigstore(t)
	l.add(
		secretOf("root", map[string][]byte{"trusted_root.json": sigstore.TrustedRoot(t)}),
		secretOf("empty", map[string][]byte{"other": []byte("x")}),
	)
	digest := l.push("latest", files("one"))
	signer := signtest.Signer{Subject: "ci@example.com", Issuer: "https://issuer.example.com"}
	sigstore.SignKeyless(t, digest, signer)
	identity := func(subject string) []sourcev1.OIDCIdentityMatch {
		return []sourcev1.OIDCIdentityMatch{{Issuer: "nobody", Subject: "nobody"}, {Issuer: `^https://issuer\.example\.com$`, Subject: subject}}
	}
	keyless := func(root, subject string) func(*sourcev1.OCIRepositorySpec) {
		return func(s *sourcev1.OCIRepositorySpec) {
			verifyWith("cosign", "")(s)
			s.Verify.TrustedRootSecretRef = &meta.LocalObjectReference{Name: root}
			if subject != "" {
				s.Verify.MatchOIDCIdentity = identity(subject)
			}
		}
	}
	l.create(func(obj *sourcev1.OCIRepository) { keyless("root", "^ci@")(&obj.Spec) })
	l.good()
	expect(t, "SourceVerified", "True Succeeded: verified signature of revision latest@"+digest.DigestStr(), l.condition(sourcev1.SourceVerifiedCondition))

	l.edit(keyless("root", "^other@"))
	if ready := l.run(); !strings.HasPrefix(ready, "False VerificationError: failed to verify the signature using provider 'cosign keyless': ") {
		t.Errorf("another identity: Ready = %s", ready)
	}
	l.edit(keyless("root", ""))
	l.good()
	l.edit(keyless("empty", "^ci@"))
	if ready := l.run(); !strings.Contains(ready, "invalid secret 'apps/empty': key 'trusted_root.json': key is required") {
		t.Errorf("no root: Ready = %s", ready)
	}
}

// ocirepository 46, 47, 64, 65
func TestVerifyNotation(t *testing.T) {
	l := newLab(t)
	notary := signtest.NewNotary(t)
	policy := func(level, subject string) map[string][]byte {
		return map[string][]byte{"ca.crt": notary.PEM, "trustpolicy.json": fmt.Appendf(nil, `{"version":"1.0","trustPolicies":[{"name":"test",
			"registryScopes":["registry.example.com/app"],"signatureVerification":{"level":%q},"trustStores":["ca:test"],"trustedIdentities":[%q]}]}`, level, subject)}
	}
	l.add(
		secretOf("strict", policy("strict", "x509.subject: C=DE, ST=BE, O=test, CN=signer")),
		secretOf("other", policy("strict", "x509.subject: C=DE, ST=BE, O=test, CN=other")),
		secretOf("audit", policy("audit", "x509.subject: C=DE, ST=BE, O=test, CN=other")),
		secretOf("empty", map[string][]byte{"ca.crt": notary.PEM}),
	)
	digest := l.push("latest", files("one"))
	notary.SignNotation(t, digest, signtest.NotationSigner{})
	l.create(func(obj *sourcev1.OCIRepository) { verifyWith("notation", "strict")(&obj.Spec) })
	l.good()
	expect(t, "SourceVerified", "True Succeeded: verified signature of revision latest@"+digest.DigestStr(), l.condition(sourcev1.SourceVerifiedCondition))

	for _, name := range []string{"other", "empty", ""} {
		l.edit(verifyWith("notation", name))
		if ready := l.run(); !strings.HasPrefix(ready, "False VerificationError: failed to verify the signature using provider 'notation': ") {
			t.Errorf("secret %q: Ready = %s", name, ready)
		}
	}
	l.edit(verifyWith("notation", "audit"))
	l.good()
	expect(t, "SourceVerified where the policy only takes note", "-", l.condition(sourcev1.SourceVerifiedCondition))
}

// ocirepository 28, 58: a check uses the credentials and the scheme of the registry, and has its own time.
func TestVerifyBehindLogin(t *testing.T) {
	l := newLab(t)
	k := signtest.NewKey(t, "ecdsa")
	digest := l.push("latest", files("one"))
	signtest.SignCosign(t, digest, k)
	l.protect("user")
	l.add(
		secretOf("keys", map[string][]byte{"cosign.pub": k.PEM}),
		secretOf("login", map[string][]byte{".dockerconfigjson": login(l.host(), "user", "password")}),
	)
	l.create(func(obj *sourcev1.OCIRepository) {
		verifyWith("cosign", "keys")(&obj.Spec)
		obj.Spec.Insecure = true
		obj.Spec.SecretRef = &meta.LocalObjectReference{Name: "login"}
	})
	l.good()
}
