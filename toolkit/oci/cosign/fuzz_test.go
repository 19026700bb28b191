package cosign

import (
	"testing"

	"github.com/seed-79636ae9/flux/toolkit/oci/signtest"
)

// FuzzBundle feeds bundles to both ways of deciding, which trust nobody that
// signed a seed.
func FuzzBundle(f *testing.F) {
	ref := signtest.Push(f, signtest.NewRegistry(f, true)+"/app")
	service, key := signtest.NewSigstore(f), signtest.NewKey(f, "ecdsa")
	judges := strangers(f)
	for _, seed := range [][]byte{
		nil, []byte("{"), []byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`),
		signtest.KeyBundle(f, ref, key),
		service.Bundle(f, ref, signtest.Signer{Subject: "dev@example.com", Issuer: "https://issuer.example.com"}),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, j := range judges {
			if checkBundle(j, content, ref.DigestStr()) == nil {
				t.Error("a stranger is trusted")
			}
		}
	})
}

// FuzzLegacy feeds the parts of the older signatures to both ways
// of deciding.
func FuzzLegacy(f *testing.F) {
	ref := signtest.Push(f, signtest.NewRegistry(f, true)+"/app")
	service := signtest.NewSigstore(f)
	content := signtest.Payload(f, ref)
	judges := strangers(f)
	whole := service.LegacyAnnotations(f, content, signtest.Signer{Subject: "dev@example.com", Issuer: "https://issuer.example.com"})
	f.Add(content, whole[signatureAnnotation], whole[certificateAnnotation], whole[chainAnnotation], whole[logAnnotation], "")
	f.Add(content, "MEUC", "", "", "{}", `{"SignedRFC3161Timestamp":"AAAA"}`)
	f.Add([]byte("{}"), "", "x", "x", `{"Payload":{"body":"e30="}}`, "x")
	f.Fuzz(func(t *testing.T, content []byte, signature, certificate, chain, log, timestamp string) {
		annotations := map[string]string{
			signatureAnnotation: signature, certificateAnnotation: certificate, chainAnnotation: chain,
			logAnnotation: log, timestampAnnotation: timestamp,
		}
		for _, j := range judges {
			if checkLegacy(j, content, annotations, ref.DigestStr()) == nil {
				t.Error("a stranger is trusted")
			}
		}
	})
}

// strangers trust a key and a service that signed nothing.
func strangers(f *testing.F) []judge {
	f.Helper()
	var judges []judge
	for _, o := range []Options{
		{Keys: map[string][]byte{"a.pub": signtest.NewKey(f, "ecdsa").PEM}},
		{Keyless: true, TrustedRoot: signtest.NewSigstore(f).TrustedRoot(f)},
	} {
		v, err := New(o)
		if err != nil {
			f.Fatal(err)
		}
		j, err := v.trust.judge(f.Context())
		if err != nil {
			f.Fatal(err)
		}
		judges = append(judges, j)
	}
	return judges
}
