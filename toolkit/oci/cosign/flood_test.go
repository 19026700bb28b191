package cosign_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/cosign"
	"github.com/seed-79636ae9/flux/toolkit/oci/signtest"
)

// reliability 021: of ten thousand signatures only some are tried, with the
// default limits and few requests.
func TestFlood(t *testing.T) {
	key, stranger := signtest.NewKey(t, "ecdsa"), signtest.NewKey(t, "ecdsa")
	host := signtest.NewRegistry(t, true)
	ref := signtest.Push(t, host+"/app")
	signtest.SignBundle(t, ref, stranger)
	signtest.SignCosign(t, ref, stranger)
	index, err := remote.Referrers(ref)
	if err != nil {
		t.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for one := list.Manifests[0]; len(list.Manifests) < 10_000; {
		list.Manifests = append(list.Manifests, one)
	}
	var requests atomic.Int64
	flooded := through(t, ref, proxy(t, host, func(w http.ResponseWriter, r *http.Request) bool {
		requests.Add(1)
		if !strings.Contains(r.URL.Path, "/referrers/") {
			return false
		}
		w.Header().Set("Content-Type", string(types.OCIImageIndex))
		return json.NewEncoder(w).Encode(list) == nil
	}))
	v := newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": key.PEM}})
	err = expect(t, v, flooded, "of 10000 bundles only the first 256 were tried")
	if !errors.Is(err, oci.ErrLimit) || !errors.Is(err, oci.ErrNotVerified) {
		t.Errorf("error %v has not the properties of an unverified manifest and a limit", err)
	}
	if n := requests.Load(); n > 600 {
		t.Errorf("%d requests", n)
	}
}

// reliability 021: a payload of a gibibyte is not read, whether its descriptor
// admits the size or not.
func TestLargePayload(t *testing.T) {
	key := signtest.NewKey(t, "ecdsa")
	host := signtest.NewRegistry(t, true)
	const gibibyte = 1 << 30
	for name, admitted := range map[string]int64{"admitted": gibibyte, "hidden": 5} {
		t.Run(name, func(t *testing.T) {
			ref := signtest.Push(t, host+"/app")
			signtest.SignCosign(t, ref, key)
			m, err := remote.Image(ref.Context().Tag(legacyTag(ref)))
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := m.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			manifest.Layers[0].Size = admitted
			content, err := json.Marshal(manifest)
			if err != nil {
				t.Fatal(err)
			}
			digest, _, err := v1.SHA256(strings.NewReader(string(content)))
			if err != nil {
				t.Fatal(err)
			}
			var sent atomic.Int64
			large := through(t, ref, proxy(t, host, func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case strings.HasSuffix(r.URL.Path, ".sig"), strings.HasSuffix(r.URL.Path, digest.String()):
					w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
					w.Header().Set("Docker-Content-Digest", digest.String())
					_, err := w.Write(content)
					return err == nil
				case strings.Contains(r.URL.Path, "/blobs/"):
					n, _ := io.CopyN(w, zeros{}, gibibyte)
					sent.Add(n)
					return true
				}
				return false
			}))
			err = expect(t, newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": key.PEM}}), large, "has more than the 1048576 bytes allowed")
			if !errors.Is(err, oci.ErrLimit) {
				t.Errorf("error %v has not the property of a limit", err)
			}
			if n := sent.Load(); n > 64<<20 {
				t.Errorf("%d bytes were sent", n)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// BenchmarkVerify is one check with a key: a list, a manifest, a blob, and the
// lookups they need.
func BenchmarkVerify(b *testing.B) {
	host := signtest.NewRegistry(b, true)
	key := signtest.NewKey(b, "ecdsa")
	service := signtest.NewSigstore(b)
	keys := newVerifier(b, cosign.Options{Keys: map[string][]byte{"a.pub": key.PEM}})
	keyless := newVerifier(b, cosign.Options{Keyless: true, TrustedRoot: service.TrustedRoot(b)})
	for name, bench := range map[string]struct {
		v    *cosign.Verifier
		sign func(name.Digest)
	}{
		"bundle": {keys, func(ref name.Digest) { signtest.SignBundle(b, ref, key) }},
		"legacy": {keys, func(ref name.Digest) { signtest.SignCosign(b, ref, key) }},
		"keyless": {keyless, func(ref name.Digest) {
			service.SignKeyless(b, ref, signtest.Signer{Subject: "dev@example.com", Issuer: "https://issuer.example.com"})
		}},
	} {
		b.Run(name, func(b *testing.B) {
			ref := signtest.Push(b, host+"/app")
			bench.sign(ref)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bench.v.Verify(b.Context(), ref); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
