package cosign_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/seed-79636ae9/flux/toolkit/oci/cosign"
	"github.com/seed-79636ae9/flux/toolkit/oci/signtest"
)

// ocirepository 42, 43, 45, 66: certificates of a root of one's own.
func TestKeyless(t *testing.T) {
	service, foreign := signtest.NewSigstore(t), signtest.NewSigstore(t)
	who := signtest.Signer{Subject: "dev@example.com", Issuer: "https://issuer.example.com", LoggedAfter: time.Minute}
	with := func(change func(*signtest.Signer)) signtest.Signer { w := who; change(&w); return w }
	identities := func(pairs ...string) (list []cosign.Identity) {
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, cosign.Identity{Issuer: pairs[i], Subject: pairs[i+1]})
		}
		return list
	}
	tests := []struct {
		name       string
		service    *signtest.Sigstore
		who        signtest.Signer
		identities []cosign.Identity
		want       string // "" for success
	}{
		{"anyone of the root", service, who, nil, ""},
		{"a matching identity", service, who, identities(`^https://issuer\.example\.com$`, "^dev@"), ""},
		{"part of the values", service, who, identities("issuer", "example"), ""},
		{"the second identity", service, who, identities("^other$", "^dev@", "^https://issuer", "@example.com$"), ""},
		{"another issuer", service, who, identities("^https://other$", ".*"), "no matching CertificateIdentity found"},
		{"another subject", service, who, identities(".*", "^ops@"), "no matching CertificateIdentity found"},
		{"parts of two identities", service, who, identities(".*", "^ops@", "^https://other$", ".*"), "no matching CertificateIdentity found"},
		{"another root", foreign, who, nil, "not enough verified log entries from transparency log"},
		{"another authority with the same logs", service.Impostor(t), who, nil, "leaf certificate verification failed"},
		{"logged after the certificate expired", service, with(func(w *signtest.Signer) { w.LoggedAfter = 11 * time.Minute }), nil, "integrated time outside certificate validity"},
		{"not in the log", service, with(func(w *signtest.Signer) { w.Unlogged = true }), nil, "transparency log"},
		{"a certificate that was not logged", service, with(func(w *signtest.Signer) { w.NoProof = true }), nil, "signed certificate timestamp"},
	}
	forms := map[string]func(*signtest.Sigstore, testing.TB, name.Digest, signtest.Signer){
		"bundle": (*signtest.Sigstore).SignKeyless, "legacy": (*signtest.Sigstore).SignCosignKeyless,
	}
	host := signtest.NewRegistry(t, true)
	trusted := service.TrustedRoot(t)
	for _, test := range tests {
		for form, sign := range forms {
			t.Run(test.name+", "+form, func(t *testing.T) {
				ref := signtest.Push(t, host+"/app")
				sign(test.service, t, ref, test.who)
				expect(t, newVerifier(t, cosign.Options{Keyless: true, Identities: test.identities, TrustedRoot: trusted}), ref, test.want)
			})
		}
	}

	t.Run("a certificate where a key is wanted", func(t *testing.T) {
		v := newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": signtest.NewKey(t, "ecdsa").PEM}})
		ref := signtest.Push(t, host+"/app")
		service.SignKeyless(t, ref, who)
		expect(t, v, ref, "expected key signature, not certificate")
		ref = signtest.Push(t, host+"/app")
		service.SignCosignKeyless(t, ref, who)
		expect(t, v, ref, "made with none of the keys")
	})
	t.Run("a key where a certificate is wanted", func(t *testing.T) {
		v := newVerifier(t, cosign.Options{Keyless: true, TrustedRoot: trusted})
		ref := signtest.Push(t, host+"/app")
		signtest.SignBundle(t, ref, signtest.NewKey(t, "ecdsa"))
		signtest.SignCosign(t, ref, signtest.NewKey(t, "ecdsa"))
		expect(t, v, ref, "made with a key and not with a certificate")
	})
	t.Run("the public root", func(t *testing.T) {
		v := newVerifier(t, cosign.Options{Keyless: true, PublicRoot: func(context.Context) (root.TrustedMaterial, error) { return service.Material(t), nil }})
		ref := signtest.Push(t, host+"/app")
		service.SignKeyless(t, ref, who)
		expect(t, v, ref, "")
		down := errors.New("the service is down")
		v = newVerifier(t, cosign.Options{Keyless: true, PublicRoot: func(context.Context) (root.TrustedMaterial, error) { return nil, down }})
		if err := expect(t, v, ref, "the service is down"); !errors.Is(err, down) {
			t.Errorf("error %v hides its cause", err)
		}
	})
}

// The older signatures with parts missing, exchanged or broken.
func TestKeylessLegacyParts(t *testing.T) {
	service := signtest.NewSigstore(t)
	who := signtest.Signer{Subject: "dev@example.com", Issuer: "https://issuer.example.com", LoggedAfter: time.Minute}
	host := signtest.NewRegistry(t, true)
	v := newVerifier(t, cosign.Options{Keyless: true, TrustedRoot: service.TrustedRoot(t)})
	const certificate, chain, log, stamp = "dev.sigstore.cosign/certificate", "dev.sigstore.cosign/chain", "dev.sigstore.cosign/bundle", "dev.sigstore.cosign/rfc3161timestamp"
	for _, test := range []struct {
		name, want string
		change     func(annotations, other map[string]string)
	}{
		{"whole", "", func(map[string]string, map[string]string) {}},
		{"without a timestamp", "", func(a, _ map[string]string) { delete(a, stamp) }},
		{"the chain is in the root", "", func(a, _ map[string]string) { delete(a, chain) }},
		{"no certificate", "made with a key", func(a, _ map[string]string) { delete(a, certificate) }},
		{"a broken certificate", "malformed certificate", func(a, _ map[string]string) { a[certificate] = "x" }},
		{"a broken chain", "malformed chain", func(a, _ map[string]string) {
			a[chain] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
		}},
		{"a chain without end", "malformed chain", func(a, _ map[string]string) { a[chain] = strings.Repeat(a[certificate], 100) }},
		{"no log entry", "no entry of a transparency log", func(a, _ map[string]string) { delete(a, log) }},
		{"a broken log entry", "malformed entry", func(a, _ map[string]string) { a[log] = "{}" }},
		{"the log entry of another signature", "transparency log", func(a, b map[string]string) { a[log] = b[log] }},
		{"the certificate of another signature", "transparency log", func(a, b map[string]string) { a[certificate] = b[certificate] }},
		{"a log entry with another time", "transparency log", func(a, _ map[string]string) {
			var entry map[string]any
			if err := json.Unmarshal([]byte(a[log]), &entry); err != nil {
				t.Fatal(err)
			}
			entry["Payload"].(map[string]any)["integratedTime"] = time.Now().Unix() - 5
			changed, err := json.Marshal(entry)
			if err != nil {
				t.Fatal(err)
			}
			a[log] = string(changed)
		}},
		{"a broken timestamp", "malformed timestamp", func(a, _ map[string]string) { a[stamp] = "x" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			ref := signtest.Push(t, host+"/app")
			content := signtest.Payload(t, ref)
			annotations := service.LegacyAnnotations(t, content, who)
			test.change(annotations, service.LegacyAnnotations(t, content, who))
			signtest.AddLegacy(t, ref, content, annotations)
			expect(t, v, ref, test.want)
		})
	}
}
