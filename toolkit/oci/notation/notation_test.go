package notation_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/notaryproject/notation-go/registry"

	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/notation"
	"github.com/seed-79636ae9/flux/toolkit/oci/signtest"
)

// statement is one statement of a policy.
func statement(level string, change ...func(map[string]any)) map[string]any {
	s := map[string]any{
		"name": "policy-" + level, "registryScopes": []string{"registry.example.com/app"},
		"signatureVerification": map[string]any{"level": level},
		"trustStores":           []string{"ca:any"}, "trustedIdentities": []string{"*"},
	}
	if level == "skip" {
		delete(s, "trustStores")
		delete(s, "trustedIdentities")
	}
	for _, c := range change {
		c(s)
	}
	return s
}

func identity(dn string) func(map[string]any) {
	return func(s map[string]any) { s["trustedIdentities"] = []string{"x509.subject: " + dn} }
}

func policy(t testing.TB, statements ...map[string]any) []byte {
	t.Helper()
	content, err := json.Marshal(map[string]any{"version": "1.0", "trustPolicies": statements})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func newVerifier(t testing.TB, o notation.Options) *notation.Verifier {
	t.Helper()
	o.Remote = []remote.Option{remote.WithRetryBackoff(remote.Backoff{Steps: 1})}
	v, err := notation.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func roots(n *signtest.Notary) map[string][]byte { return map[string][]byte{"root.crt": n.PEM} }

// ocirepository 46, 47, 64, 65: what each level says about each signer, with both
// kinds of envelopes and registries.
func TestLevels(t *testing.T) {
	trusted, foreign := signtest.NewNotary(t), signtest.NewNotary(t)
	const good, other = "C=DE, ST=BE, O=test, CN=signer", "C=DE, ST=BE, O=test, CN=somebody else"
	for _, test := range []struct {
		name      string
		statement map[string]any
		by        *signtest.Notary
		who       signtest.NotationSigner
		outcome   oci.Outcome
		want      string // of the error
	}{
		{"strict", statement("strict"), trusted, signtest.NotationSigner{}, oci.Verified, ""},
		{"strict, right identity", statement("strict", identity(good)), trusted, signtest.NotationSigner{}, oci.Verified, ""},
		{"strict, wrong identity", statement("strict", identity(other)), trusted, signtest.NotationSigner{}, 0, "does not match the X.509 trusted identities"},
		{"strict, wrong root", statement("strict"), foreign, signtest.NotationSigner{}, 0, "does not contain any trusted certificate"},
		{"strict, expired", statement("strict"), trusted, signtest.NotationSigner{Expired: true}, 0, "it was expired at"},
		{"permissive", statement("permissive"), trusted, signtest.NotationSigner{}, oci.Verified, ""},
		{"permissive, wrong identity", statement("permissive", identity(other)), trusted, signtest.NotationSigner{}, 0, "does not match the X.509 trusted identities"},
		{"permissive, wrong root", statement("permissive"), foreign, signtest.NotationSigner{}, 0, "does not contain any trusted certificate"},
		{"permissive, expired", statement("permissive"), trusted, signtest.NotationSigner{Expired: true}, oci.Verified, ""},
		{"strict, a plugin", statement("strict"), trusted, signtest.NotationSigner{Plugin: "sh"}, 0, "plugin unsupported"},
		{"audit, a plugin", statement("audit"), trusted, signtest.NotationSigner{Plugin: "sh"}, 0, "plugin unsupported"},
		{"audit", statement("audit"), trusted, signtest.NotationSigner{}, oci.Verified, ""},
		{"audit, wrong identity", statement("audit", identity(other)), trusted, signtest.NotationSigner{}, oci.Ignored, ""},
		{"audit, wrong root", statement("audit"), foreign, signtest.NotationSigner{}, oci.Ignored, ""},
		{"audit, expired", statement("audit"), trusted, signtest.NotationSigner{Expired: true}, oci.Verified, ""},
	} {
		for _, envelope := range []string{signtest.JWS, signtest.COSE} {
			for _, referrers := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %s, referrers=%t", test.name, envelope, referrers), func(t *testing.T) {
					ref := signtest.Push(t, signtest.NewRegistry(t, referrers)+"/app")
					test.who.Envelope = envelope
					test.by.SignNotation(t, ref, test.who)
					v := newVerifier(t, notation.Options{TrustPolicy: policy(t, test.statement, statement("skip")), Certificates: roots(trusted)})
					outcome, err := v.Verify(t.Context(), ref)
					if outcome != test.outcome || (err == nil) != (test.want == "") {
						t.Fatalf("outcome %v, error %v; want %v, %q", outcome, err, test.outcome, test.want)
					}
					if err != nil && (!strings.Contains(err.Error(), test.want) || !errors.Is(err, oci.ErrNotVerified)) {
						t.Errorf("error %v; want %q and the property of an unverified manifest", err, test.want)
					}
				})
			}
		}
	}
}

// reliability 067: no signature, none for this manifest, none that can be read.
func TestNoSignature(t *testing.T) {
	notary := signtest.NewNotary(t)
	host := signtest.NewRegistry(t, true)
	another := signtest.Push(t, host+"/app")
	for _, level := range []string{"strict", "audit"} {
		v := newVerifier(t, notation.Options{TrustPolicy: policy(t, statement(level)), Certificates: roots(notary)})
		for _, test := range []struct {
			name, want string
			attach     func(ref name.Digest)
		}{
			{"unsigned", "no matching signatures were found for '", func(name.Digest) {}},
			{"for another manifest", "content descriptor mismatch", func(ref name.Digest) {
				signtest.Attach(t, ref, registry.ArtifactTypeNotation, signtest.JWS, notary.Signature(t, another, signtest.NotationSigner{}))
			}},
			{"malformed", "1 refused", func(ref name.Digest) {
				signtest.Attach(t, ref, registry.ArtifactTypeNotation, signtest.JWS, []byte("{"))
			}},
			{"of an unknown kind", "1 refused", func(ref name.Digest) {
				signtest.Attach(t, ref, registry.ArtifactTypeNotation, "text/plain", notary.Signature(t, ref, signtest.NotationSigner{}))
			}},
			{"of cosign", "no matching signatures were found for '", func(ref name.Digest) { signtest.SignBundle(t, ref, signtest.NewKey(t, "ecdsa")) }},
		} {
			t.Run(level+", "+test.name, func(t *testing.T) {
				ref := signtest.Push(t, host+"/app")
				test.attach(ref)
				outcome, err := v.Verify(t.Context(), ref)
				if outcome != 0 || err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, oci.ErrNotVerified) {
					t.Errorf("outcome %v, error %v; want %q", outcome, err, test.want)
				}
			})
		}
	}
}

// One trusted signature is enough, and counts for more than one merely noted.
func TestSeveralSignatures(t *testing.T) {
	trusted, foreign := signtest.NewNotary(t), signtest.NewNotary(t)
	host := signtest.NewRegistry(t, true)
	for _, level := range []string{"strict", "audit"} {
		ref := signtest.Push(t, host+"/app")
		foreign.SignNotation(t, ref, signtest.NotationSigner{})
		trusted.SignNotation(t, ref, signtest.NotationSigner{})
		foreign.SignNotation(t, ref, signtest.NotationSigner{Envelope: signtest.COSE})
		outcome, err := newVerifier(t, notation.Options{TrustPolicy: policy(t, statement(level)), Certificates: roots(trusted)}).Verify(t.Context(), ref)
		if outcome != oci.Verified || err != nil {
			t.Errorf("%s: outcome %v, error %v", level, outcome, err)
		}
	}
}

// ocirepository 46: every root serves every trust store.
func TestTrustStores(t *testing.T) {
	one, two := signtest.NewNotary(t), signtest.NewNotary(t)
	certificates := map[string][]byte{"one.pem": one.PEM, "two.crt": append(slices.Clone(signtest.NewNotary(t).PEM), two.PEM...), "notes.txt": []byte("x")}
	stores := func(s map[string]any) { s["trustStores"] = []string{"ca:first", "signingAuthority:second"} }
	v := newVerifier(t, notation.Options{TrustPolicy: policy(t, statement("strict", stores)), Certificates: certificates})
	host := signtest.NewRegistry(t, true)
	for i, notary := range []*signtest.Notary{one, two} {
		ref := signtest.Push(t, host+"/app")
		notary.SignNotation(t, ref, signtest.NotationSigner{})
		if outcome, err := v.Verify(t.Context(), ref); outcome != oci.Verified || err != nil {
			t.Errorf("notary %d: outcome %v, error %v", i, outcome, err)
		}
	}
}

// ocirepository 46, 64: what cannot be trusted is told at once, and names the file.
func TestInvalidTrust(t *testing.T) {
	notary := signtest.NewNotary(t)
	certificates, strict := roots(notary), policy(t, statement("strict"))
	for _, test := range []struct {
		name, want   string
		policy       []byte
		certificates map[string][]byte
	}{
		{"no policy", "trustpolicy.json is missing or empty", nil, certificates},
		{"an empty policy", "trustpolicy.json is missing or empty", []byte(" \n"), certificates},
		{"no JSON", "reading trustpolicy.json", []byte("{"), certificates},
		{"no statements", "no statement with a level other than skip", []byte("{}"), certificates},
		{"only skip", "no statement with a level other than skip", policy(t, statement("skip")), certificates},
		{"two statements", "2 statements with a level other than skip", policy(t, statement("strict"), statement("audit")), certificates},
		{"no version", "reading trustpolicy.json", []byte(strings.Replace(string(strict), "1.0", "", 1)), certificates},
		{"an unknown level", "invalid signature verification level", policy(t, statement("lax")), certificates},
		{"no identities", "missing trust stores or trusted identities", policy(t, statement("strict", func(s map[string]any) { delete(s, "trustedIdentities") })), certificates},
		{"no certificates", "no certificates found", strict, map[string][]byte{"trustpolicy.json": strict}},
		{"a broken certificate beside a good one", "reading certificate 'z.pem'", strict, merged(certificates, map[string][]byte{"z.pem": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")})},
		{"a file without a certificate", "reading certificate 'z.crt'", strict, merged(certificates, map[string][]byte{"z.crt": nil})},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := notation.New(notation.Options{TrustPolicy: test.policy, Certificates: test.certificates})
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, oci.ErrInvalidTrust) {
				t.Errorf("error %v; want %q and the property of invalid trust", err, test.want)
			}
		})
	}
}

func merged(a, b map[string][]byte) map[string][]byte {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// reliability 066: equal trust has an equal name, and any change another one.
func TestTrust(t *testing.T) {
	one, two := signtest.NewNotary(t), signtest.NewNotary(t)
	trust := func(p []byte, c map[string][]byte) string {
		return newVerifier(t, notation.Options{TrustPolicy: p, Certificates: c}).Trust()
	}
	strict := policy(t, statement("strict"))
	same := trust(strict, roots(one))
	elsewhere := policy(t, statement("strict", func(s map[string]any) { s["registryScopes"] = []string{"*"} }), statement("skip"))
	if again := trust(elsewhere, map[string][]byte{"other.pem": one.PEM}); again != same {
		t.Errorf("names of files, scopes and dropped statements change the trust")
	}
	for what, other := range map[string]string{
		"another root":  trust(strict, roots(two)),
		"one more root": trust(strict, merged(roots(one), map[string][]byte{"two.crt": two.PEM})),
		"another level": trust(policy(t, statement("audit")), roots(one)),
		"an identity":   trust(policy(t, statement("strict", identity("C=DE, ST=BE, O=test, CN=signer"))), roots(one)),
	} {
		if other == same {
			t.Errorf("%s leaves the trust as it was", what)
		}
	}
}

// reliability 021: floods and large signatures.
func TestLimits(t *testing.T) {
	trusted, foreign := signtest.NewNotary(t), signtest.NewNotary(t)
	host := signtest.NewRegistry(t, true)
	for _, test := range []struct {
		name, want string
		limits     oci.SignatureLimits
		by         *signtest.Notary
		n          int
	}{
		{"many", "of 5 signatures only the first 3 were tried", oci.SignatureLimits{Signatures: 3}, foreign, 5},
		{"large", "has more than the 100 bytes allowed", oci.SignatureLimits{BundleBytes: 100}, trusted, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			ref := signtest.Push(t, host+"/app")
			for range test.n {
				test.by.SignNotation(t, ref, signtest.NotationSigner{})
			}
			v := newVerifier(t, notation.Options{TrustPolicy: policy(t, statement("strict")), Certificates: roots(trusted), Limits: test.limits})
			_, err := v.Verify(t.Context(), ref)
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, oci.ErrLimit) {
				t.Errorf("error %v; want %q and the property of a limit", err, test.want)
			}
		})
	}
}

// reliability 067: a registry that fails proves nothing, also under audit.
func TestRegistryFails(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	ref, err := name.NewDigest(strings.TrimPrefix(server.URL, "http://") + "/app@sha256:" + strings.Repeat("0", 64))
	if err != nil {
		t.Fatal(err)
	}
	notary := signtest.NewNotary(t)
	for _, level := range []string{"strict", "audit"} {
		v := newVerifier(t, notation.Options{TrustPolicy: policy(t, statement(level)), Certificates: roots(notary)})
		outcome, err := v.Verify(t.Context(), ref)
		var answer *transport.Error
		if outcome != 0 || !errors.As(err, &answer) || answer.StatusCode != http.StatusInternalServerError {
			t.Errorf("%s: outcome %v, error %v; want that of the registry", level, outcome, err)
		}
	}
}

// Whether a certificate is revoked is asked only of those with a root that is
// trusted, only where the policy wants it, and never elsewhere by a redirect.
func TestRevocation(t *testing.T) {
	var asked, lured atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { lured.Add(1) }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	trusted, foreign := signtest.NewNotary(t), signtest.NewNotary(t)
	unasked := func(s map[string]any) {
		s["signatureVerification"] = map[string]any{"level": "strict", "override": map[string]string{"revocation": "skip"}}
	}
	host := signtest.NewRegistry(t, true)
	for _, test := range []struct {
		name      string
		statement map[string]any
		by        *signtest.Notary
		asked     bool
		outcome   oci.Outcome
	}{
		{"strict", statement("strict"), trusted, true, 0},
		{"permissive", statement("permissive"), trusted, true, oci.Verified},
		{"skipped", statement("strict", unasked), trusted, false, oci.Verified},
		{"audit of a stranger", statement("audit"), foreign, false, oci.Ignored},
		{"strict about a stranger", statement("strict"), foreign, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked.Store(0)
			ref := signtest.Push(t, host+"/app")
			test.by.SignNotation(t, ref, signtest.NotationSigner{OCSP: []string{server.URL}})
			v := newVerifier(t, notation.Options{TrustPolicy: policy(t, test.statement), Certificates: roots(trusted)})
			outcome, err := v.Verify(t.Context(), ref)
			if outcome != test.outcome || (err == nil) != (test.outcome != 0) {
				t.Errorf("outcome %v, error %v; want %v", outcome, err, test.outcome)
			}
			if got := asked.Load() > 0; got != test.asked || lured.Load() > 0 {
				t.Errorf("asked %d times, lured %d times; want asked: %t", asked.Load(), lured.Load(), test.asked)
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	notary := signtest.NewNotary(b)
	ref := signtest.Push(b, signtest.NewRegistry(b, true)+"/app")
	notary.SignNotation(b, ref, signtest.NotationSigner{})
	v := newVerifier(b, notation.Options{TrustPolicy: policy(b, statement("strict")), Certificates: roots(notary)})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), ref); err != nil {
			b.Fatal(err)
		}
	}
}
