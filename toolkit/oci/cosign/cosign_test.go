package cosign_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/cosign"
	"github.com/seed-79636ae9/flux/toolkit/oci/signtest"
)

// quick spares the tests the waits between attempts.
func quick() []remote.Option {
	return []remote.Option{remote.WithRetryBackoff(remote.Backoff{Steps: 1})}
}

func newVerifier(t testing.TB, o cosign.Options) *cosign.Verifier {
	t.Helper()
	if o.Remote == nil {
		o.Remote = quick()
	}
	v, err := cosign.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// expect verifies, and wants success, or an error with a text in it.
func expect(t *testing.T, v *cosign.Verifier, ref name.Digest, want string) error {
	t.Helper()
	outcome, err := v.Verify(t.Context(), ref)
	switch {
	case want == "" && (err != nil || outcome != oci.Verified):
		t.Errorf("outcome %v, error %v; want a verified signature", outcome, err)
	case want != "" && (err == nil || outcome != 0):
		t.Errorf("outcome %v, error %v; want an error with %q", outcome, err, want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("error %q; want %q in it", err, want)
	}
	return err
}

// eachRegistry runs a test with a registry that lists referrers, and with one
// where the list is kept under a tag.
func eachRegistry(t *testing.T, test func(t *testing.T, host string)) {
	for _, referrers := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers=%t", referrers), func(t *testing.T) { test(t, signtest.NewRegistry(t, referrers)) })
	}
}

// ocirepository 41, 45: a signature by any of the keys is enough, in either form,
// with keys of all kinds.
func TestKeys(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string) {
		for _, kind := range []string{"ecdsa", "ecdsa-p384", "rsa", "ed25519"} {
			key, other := signtest.NewKey(t, kind), signtest.NewKey(t, "ecdsa")
			trusting := newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": other.PEM, "b.pub": key.PEM, "b.key": []byte("private")}})
			stranger := newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": other.PEM}})
			for form, sign := range map[string]func(testing.TB, name.Digest, signtest.Key){"bundle": signtest.SignBundle, "legacy": signtest.SignCosign} {
				t.Run(kind+" "+form, func(t *testing.T) {
					ref := signtest.Push(t, host+"/app")
					sign(t, ref, key)
					expect(t, trusting, ref, "")
					err := expect(t, stranger, ref, "no matching signatures were found for '"+ref.Name()+"': 1 refused: made with none of the keys a.pub: ")
					if !errors.Is(err, oci.ErrNotVerified) {
						t.Errorf("error %v has not the property of an unverified manifest", err)
					}
				})
			}
		}
	})
}

// ocirepository 48 and its recording: the words for a manifest without signatures.
func TestUnsigned(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string) {
		ref := signtest.Push(t, host+"/app")
		_, err := newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": signtest.NewKey(t, "ecdsa").PEM}}).Verify(t.Context(), ref)
		if want := "no matching signatures were found for '" + ref.Name() + "'"; err == nil || err.Error() != want {
			t.Errorf("error %v; want %s", err, want)
		}
		if !errors.Is(err, oci.ErrNotVerified) {
			t.Errorf("error %v has not the property of an unverified manifest", err)
		}
	})
}

// One of several signatures is enough, also beside bad ones and across forms.
func TestSeveralSignatures(t *testing.T) {
	eachRegistry(t, func(t *testing.T, host string) {
		key, other := signtest.NewKey(t, "ecdsa"), signtest.NewKey(t, "ecdsa")
		v := newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": key.PEM}})

		ref := signtest.Push(t, host+"/app")
		signtest.SignBundle(t, ref, other)
		signtest.Attach(t, ref, signtest.BundleType, signtest.BundleType, []byte("{"))
		signtest.SignCosign(t, ref, other)
		expect(t, v, ref, "3 refused")
		signtest.SignCosign(t, ref, key)
		expect(t, v, ref, "")

		ref = signtest.Push(t, host+"/app")
		signtest.SignCosign(t, ref, other)
		signtest.SignBundle(t, ref, other)
		signtest.SignBundle(t, ref, key)
		expect(t, v, ref, "")
	})
}

// reliability 067: signatures that are not about this manifest, or not signatures.
func TestForeignAndMalformed(t *testing.T) {
	host := signtest.NewRegistry(t, true)
	key := signtest.NewKey(t, "ecdsa")
	v := newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": key.PEM}})
	another := signtest.Push(t, host+"/app")
	signtest.SignCosign(t, another, key)
	for _, test := range []struct {
		name, want string
		attach     func(ref name.Digest)
	}{
		{"a bundle for another digest", "digest does not match any digest in statement", func(ref name.Digest) {
			signtest.Attach(t, ref, signtest.BundleType, signtest.BundleType, signtest.KeyBundle(t, another, key))
		}},
		{"the older signature of another digest", "the signature is for '" + another.DigestStr() + "'", func(ref name.Digest) {
			from, err := remote.Image(another.Context().Tag(legacyTag(another)))
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Write(ref.Context().Tag(legacyTag(ref)), from); err != nil {
				t.Fatal(err)
			}
		}},
		{"no bundle", "malformed bundle", func(ref name.Digest) {
			signtest.Attach(t, ref, signtest.BundleType, signtest.BundleType, []byte("not JSON"))
		}},
		{"an empty bundle", "malformed bundle", func(ref name.Digest) {
			signtest.Attach(t, ref, signtest.BundleType, signtest.BundleType, []byte(`{"mediaType":"`+signtest.BundleType+`"}`))
		}},
		{"no payload", "malformed payload", func(ref name.Digest) {
			signtest.AddLegacy(t, ref, []byte("not JSON"), map[string]string{"dev.cosignproject.cosign/signature": "MEUC"})
		}},
		{"a payload of another type", "its type is 'x'", func(ref name.Digest) {
			signtest.AddLegacy(t, ref, []byte(`{"critical":{"type":"x"}}`), map[string]string{"dev.cosignproject.cosign/signature": "MEUC"})
		}},
		{"no signature", "malformed signature", func(ref name.Digest) { signtest.AddLegacy(t, ref, signtest.Payload(t, ref), nil) }},
		{"a signature that is not base64", "malformed signature", func(ref name.Digest) {
			signtest.AddLegacy(t, ref, signtest.Payload(t, ref), map[string]string{"dev.cosignproject.cosign/signature": "?"})
		}},
		{"an attestation of the older kind", "no matching signatures were found", func(ref name.Digest) {
			signtest.Attach(t, ref, "application/vnd.dsse.envelope.v1+json", "application/vnd.dsse.envelope.v1+json", signtest.Statement(t, ref))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ref := signtest.Push(t, host+"/app")
			test.attach(ref)
			if err := expect(t, v, ref, test.want); !errors.Is(err, oci.ErrNotVerified) {
				t.Errorf("error %v has not the property of an unverified manifest", err)
			}
		})
	}
}

func legacyTag(ref name.Digest) string {
	return strings.Replace(ref.DigestStr(), ":", "-", 1) + ".sig"
}

// ocirepository 41, 42, 43, 53: what cannot be trusted is told at once, and names
// the file or field.
func TestInvalidTrust(t *testing.T) {
	key := signtest.NewKey(t, "ecdsa").PEM
	public := func(context.Context) (root.TrustedMaterial, error) { return nil, errors.ErrUnsupported }
	for _, test := range []struct {
		name, want string
		options    cosign.Options
	}{
		{"nothing", "no public keys found", cosign.Options{}},
		{"an empty Secret", "no public keys found", cosign.Options{Keys: map[string][]byte{}, PublicRoot: public}},
		{"no *.pub", "no public keys found", cosign.Options{Keys: map[string][]byte{"cosign.key": key}}},
		{"a broken key beside a good one", "reading public key 'b.pub'", cosign.Options{Keys: map[string][]byte{"a.pub": key, "b.pub": []byte("x")}}},
		{"keys and keyless", "both keys and keyless", cosign.Options{Keys: map[string][]byte{"a.pub": key}, Keyless: true, PublicRoot: public}},
		{"no root", "need a trusted root", cosign.Options{Keyless: true}},
		{"an empty root", "reading the trusted root", cosign.Options{Keyless: true, TrustedRoot: []byte{}, PublicRoot: public}},
		{"a root without authorities", "no certificate authority", cosign.Options{Keyless: true, TrustedRoot: []byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`)}},
		{"a broken issuer", "reading identity 0, with issuer '('", cosign.Options{Keyless: true, PublicRoot: public, Identities: []cosign.Identity{{Issuer: "(", Subject: "."}}}},
		{"a missing subject", "reading identity 0", cosign.Options{Keyless: true, PublicRoot: public, Identities: []cosign.Identity{{Issuer: "."}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := cosign.New(test.options)
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, oci.ErrInvalidTrust) {
				t.Errorf("error %v; want %q and the property of invalid trust", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), string(key)) {
				t.Error("the error shows a key")
			}
		})
	}
}

// reliability 066: equal trust has an equal name, and any change another one.
func TestTrust(t *testing.T) {
	a, b := signtest.NewKey(t, "ecdsa").PEM, signtest.NewKey(t, "ecdsa").PEM
	own := signtest.NewSigstore(t).TrustedRoot(t)
	public := func(context.Context) (root.TrustedMaterial, error) { return nil, errors.ErrUnsupported }
	trust := func(o cosign.Options) string { return newVerifier(t, o).Trust() }
	identity := []cosign.Identity{{Issuer: "i", Subject: "s"}}

	if one, two := trust(cosign.Options{Keys: map[string][]byte{"a.pub": a, "b.pub": b}}), trust(cosign.Options{Keys: map[string][]byte{"b.pub": a, "a.pub": b, "x": nil}}); one != two {
		t.Errorf("the names of files change the trust: %s, %s", one, two)
	}
	seen := map[string]string{}
	for what, o := range map[string]cosign.Options{
		"a":             {Keys: map[string][]byte{"a.pub": a}},
		"b":             {Keys: map[string][]byte{"a.pub": b}},
		"a and b":       {Keys: map[string][]byte{"a.pub": a, "b.pub": b}},
		"keyless":       {Keyless: true, PublicRoot: public},
		"an identity":   {Keyless: true, PublicRoot: public, Identities: identity},
		"own root":      {Keyless: true, TrustedRoot: own},
		"own root, too": {Keyless: true, TrustedRoot: own, Identities: identity},
	} {
		id := trust(o)
		if other, known := seen[id]; known {
			t.Errorf("%s and %s are the same trust", what, other)
		}
		seen[id] = what
	}
}

// reliability 021: floods of signatures, and signatures without end, end the check.
func TestLimits(t *testing.T) {
	key, other := signtest.NewKey(t, "ecdsa"), signtest.NewKey(t, "ecdsa")
	host := signtest.NewRegistry(t, true)
	check := func(name string, limits oci.SignatureLimits, want string, attach func(ref name.Digest)) {
		t.Run(name, func(t *testing.T) {
			ref := signtest.Push(t, host+"/app")
			attach(ref)
			v := newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": key.PEM}, Limits: limits})
			if err := expect(t, v, ref, want); !errors.Is(err, oci.ErrLimit) {
				t.Errorf("error %v has not the property of a limit", err)
			}
		})
	}
	check("many bundles", oci.SignatureLimits{Signatures: 3}, "of 5 bundles only the first 3 were tried", func(ref name.Digest) {
		for range 5 {
			signtest.SignBundle(t, ref, other)
		}
	})
	check("many older signatures", oci.SignatureLimits{Signatures: 3}, "of 5 signatures only the first 3 were tried", func(ref name.Digest) {
		for range 5 {
			signtest.SignCosign(t, ref, other)
		}
	})
	check("a large bundle", oci.SignatureLimits{BundleBytes: 100}, "has more than the 100 bytes allowed", func(ref name.Digest) { signtest.SignBundle(t, ref, key) })
	check("a large payload", oci.SignatureLimits{PayloadBytes: 10}, "has more than the 10 bytes allowed", func(ref name.Digest) { signtest.SignCosign(t, ref, key) })
	check("a large manifest", oci.SignatureLimits{ManifestBytes: 10}, "has more than the 10 bytes allowed", func(ref name.Digest) { signtest.SignCosign(t, ref, key) })

	t.Run("a large bundle beside a good signature", func(t *testing.T) {
		ref := signtest.Push(t, host+"/app")
		signtest.Attach(t, ref, signtest.BundleType, signtest.BundleType, make([]byte, 4096))
		signtest.SignBundle(t, ref, key)
		expect(t, newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": key.PEM}, Limits: oci.SignatureLimits{BundleBytes: 2048}}), ref, "")
	})
}

// proxy stands before a registry and may answer in its place.
func proxy(t *testing.T, host string, answer func(w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answer(w, r) {
			behind.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// through is the name of a manifest as seen through another host.
func through(t *testing.T, ref name.Digest, host string) name.Digest {
	t.Helper()
	d, err := name.NewDigest(host + "/" + ref.Context().RepositoryStr() + "@" + ref.DigestStr())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// reliability 067: a registry that fails proves nothing, and is named as what fails.
func TestRegistryFails(t *testing.T) {
	key := signtest.NewKey(t, "ecdsa")
	keys := cosign.Options{Keys: map[string][]byte{"a.pub": key.PEM}}
	host := signtest.NewRegistry(t, true)
	bundled, legacy := signtest.Push(t, host+"/app"), signtest.Push(t, host+"/app")
	signtest.SignBundle(t, bundled, key)
	signtest.SignCosign(t, legacy, key)
	fail := func(part string, status int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, part) {
				return false
			}
			w.WriteHeader(status)
			return true
		}
	}
	for _, test := range []struct {
		name   string
		ref    name.Digest
		answer func(http.ResponseWriter, *http.Request) bool
		status int    // of the error
		want   string // without status; "" is success
	}{
		{"500 for referrers", bundled, fail("/referrers/", 500), 500, ""},
		{"403 for referrers", bundled, fail("/referrers/", 403), 403, ""},
		{"500 for referrers, and an older signature", legacy, fail("/referrers/", 500), 0, ""},
		{"500 for the tag", legacy, fail(".sig", 500), 500, ""},
		{"401 for the tag", legacy, fail(".sig", 401), 401, ""},
		{"500 for blobs", bundled, fail("/blobs/", 500), 500, ""},
		{"500 for the payload", legacy, fail("/blobs/", 500), 500, ""},
		{"404 for the bundle", bundled, fail("/blobs/", 404), 0, "1 refused: reading blob"},
		{"404 for the payload", legacy, fail("/blobs/", 404), 0, "1 refused: reading blob"},
		{"another blob", legacy, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			_, _ = w.Write([]byte("{}"))
			return true
		}, 0, "error verifying sha256 checksum"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ref := through(t, test.ref, proxy(t, host, test.answer))
			outcome, err := newVerifier(t, keys).Verify(t.Context(), ref)
			var answer *transport.Error
			switch {
			case test.status != 0:
				if !errors.As(err, &answer) || answer.StatusCode != test.status || errors.Is(err, oci.ErrNotVerified) {
					t.Errorf("error %v; want status %d", err, test.status)
				}
			case test.want != "":
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v; want %q", err, test.want)
				}
			case err != nil || outcome != oci.Verified:
				t.Errorf("outcome %v, error %v; want a verified signature", outcome, err)
			}
			if err != nil && outcome != 0 {
				t.Errorf("outcome %v beside an error", outcome)
			}
		})
	}

	t.Run("a redirect with credentials", func(t *testing.T) {
		ref := through(t, bundled, proxy(t, host, func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			http.Redirect(w, r, "http://user:hunter2@127.0.0.1:1/x?X-Amz-Signature=hunter2", http.StatusTemporaryRedirect)
			return true
		}))
		if _, err := newVerifier(t, keys).Verify(t.Context(), ref); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v; want one without credentials", err)
		}
	})
	t.Run("TLS", func(t *testing.T) {
		server := httptest.NewTLSServer(http.NotFoundHandler())
		defer server.Close()
		ref := through(t, bundled, "localhost:"+strings.TrimPrefix(server.URL, "https://127.0.0.1:"))
		if _, err := newVerifier(t, keys).Verify(t.Context(), ref); err == nil || errors.Is(err, oci.ErrNotVerified) {
			t.Errorf("error %v; want one of the connection", err)
		}
	})
}

// reliability 021: a registry that hangs, or sends without end, ends with the time.
func TestTimeAndEndlessAnswers(t *testing.T) {
	key := signtest.NewKey(t, "ecdsa")
	host := signtest.NewRegistry(t, true)
	ref := signtest.Push(t, host+"/app")
	signtest.SignBundle(t, ref, key)
	keys := map[string][]byte{"a.pub": key.PEM}

	hanging := through(t, ref, proxy(t, host, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			<-r.Context().Done()
			return true
		}
		return false
	}))
	v := newVerifier(t, cosign.Options{Keys: keys, Limits: oci.SignatureLimits{Time: 200 * time.Millisecond}})
	if err := expect(t, v, hanging, "took longer than 200ms"); !errors.Is(err, oci.ErrLimit) {
		t.Errorf("error %v has not the property of a limit", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := newVerifier(t, cosign.Options{Keys: keys}).Verify(ctx, hanging); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v; want that of the context", err)
	}

	endless := through(t, ref, proxy(t, host, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		for block := make([]byte, 64<<10); r.Context().Err() == nil; {
			if _, err := w.Write(block); err != nil {
				break
			}
		}
		return true
	}))
	if err := expect(t, newVerifier(t, cosign.Options{Keys: keys, Limits: oci.SignatureLimits{BundleBytes: 1 << 20}}), endless, "has more than the 1048576 bytes allowed"); !errors.Is(err, oci.ErrLimit) {
		t.Errorf("error %v has not the property of a limit", err)
	}
}

// What a stranger wrote reaches the message short and on one line.
func TestMessagesOfStrangers(t *testing.T) {
	host := signtest.NewRegistry(t, true)
	ref := signtest.Push(t, host+"/app")
	evil := "line\nline\x1b[31m" + strings.Repeat("long ", 200)
	content, err := json.Marshal(map[string]any{"critical": map[string]any{"type": evil}})
	if err != nil {
		t.Fatal(err)
	}
	signtest.AddLegacy(t, ref, content, map[string]string{"dev.cosignproject.cosign/signature": "MEUC"})
	err = expect(t, newVerifier(t, cosign.Options{Keys: map[string][]byte{"a.pub": signtest.NewKey(t, "ecdsa").PEM}}), ref, "malformed payload")
	if err != nil && (strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 600) {
		t.Errorf("message of %d bytes: %q", len(err.Error()), err)
	}
}
