// Package signtest signs manifests the way cosign and notation do, with keys and
// authorities made on the spot, for tests of what checks signatures.
package signtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/payload"
	"google.golang.org/protobuf/encoding/protojson"
)

const (
	// BundleType is the media type of bundles, and their artifact type.
	BundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	// LegacyType is the media type of the payloads of the older signatures.
	LegacyType = "application/vnd.dev.cosign.simplesigning.v1+json"

	signatureAnnotation = "dev.cosignproject.cosign/signature"
	statementType       = "application/vnd.in-toto+json"
)

// NewRegistry starts a registry in memory, with or without the API that lists
// what refers to a manifest, and returns its host. It ends with the test.
func NewRegistry(t testing.TB, referrers bool) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(referrers)))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// Push uploads an image without a meaning and returns its name.
func Push(t testing.TB, repository string) name.Digest {
	t.Helper()
	img, err := random.Image(64, 1)
	must(t, err)
	repo, err := name.NewRepository(repository)
	must(t, err)
	digest, err := img.Digest()
	must(t, err)
	ref := repo.Digest(digest.String())
	must(t, remote.Write(ref, img))
	return ref
}

// Key is a pair of keys.
type Key struct {
	Private crypto.Signer
	// PEM is the public key, like the content of a cosign.pub.
	PEM []byte
}

// NewKey makes keys of the kind ecdsa, ecdsa-p384, rsa or ed25519.
func NewKey(t testing.TB, kind string) Key {
	t.Helper()
	var private crypto.Signer
	var err error
	switch kind {
	case "ecdsa":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		t.Fatalf("no keys of the kind %q", kind)
	}
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	must(t, err)
	return Key{Private: private, PEM: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}

// SignCosign adds a signature by a key to those under the tag sha256-<hex>.sig.
func SignCosign(t testing.TB, ref name.Digest, key Key) {
	t.Helper()
	content := Payload(t, ref)
	AddLegacy(t, ref, content, map[string]string{signatureAnnotation: base64.StdEncoding.EncodeToString(sign(t, key.Private, content))})
}

// Payload is what the older signatures sign.
func Payload(t testing.TB, ref name.Digest) []byte {
	t.Helper()
	content, err := json.Marshal(payload.Cosign{Image: ref})
	must(t, err)
	return content
}

// AddLegacy adds a payload with its annotations to those under the tag
// sha256-<hex>.sig.
func AddLegacy(t testing.TB, ref name.Digest, content []byte, annotations map[string]string) {
	t.Helper()
	tag := ref.Context().Tag(strings.Replace(ref.DigestStr(), ":", "-", 1) + ".sig")
	img, err := remote.Image(tag)
	if err != nil {
		img = mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	}
	img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(content, LegacyType), Annotations: annotations})
	must(t, err)
	must(t, remote.Write(tag, img))
}

// SignBundle attaches a bundle with a signature by a key.
func SignBundle(t testing.TB, ref name.Digest, key Key) {
	t.Helper()
	Attach(t, ref, BundleType, BundleType, KeyBundle(t, ref, key))
}

// KeyBundle is a bundle with a signature by a key.
func KeyBundle(t testing.TB, ref name.Digest, key Key) []byte {
	t.Helper()
	return marshal(t, &protobundle.Bundle{
		MediaType: BundleType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: "a hint"}},
		},
		Content: envelope(Statement(t, ref), sign(t, key.Private, dsse.PAE(statementType, Statement(t, ref)))),
	})
}

// Statement is what a bundle signs.
func Statement(t testing.TB, ref name.Digest) []byte {
	t.Helper()
	content, err := json.Marshal(map[string]any{
		"_type":         "https://in-toto.io/Statement/v1",
		"subject":       []any{map[string]any{"digest": map[string]string{"sha256": strings.TrimPrefix(ref.DigestStr(), "sha256:")}}},
		"predicateType": "https://sigstore.dev/cosign/sign/v1",
		"predicate":     map[string]any{},
	})
	must(t, err)
	return content
}

func envelope(statement, signature []byte) *protobundle.Bundle_DsseEnvelope {
	return &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
		Payload: statement, PayloadType: statementType, Signatures: []*protodsse.Signature{{Sig: signature}},
	}}
}

func marshal(t testing.TB, b *protobundle.Bundle) []byte {
	t.Helper()
	content, err := protojson.Marshal(b)
	must(t, err)
	return content
}

// Attach uploads a manifest of one layer that refers to ref.
func Attach(t testing.TB, ref name.Digest, artifactType, layerType string, content []byte) {
	t.Helper()
	subject, err := remote.Head(ref)
	must(t, err)
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.MediaType(artifactType))
	img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(content, types.MediaType(layerType))})
	must(t, err)
	img = mutate.Subject(img, v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}).(v1.Image)
	digest, err := img.Digest()
	must(t, err)
	must(t, remote.Write(ref.Context().Digest(digest.String()), img))
}

func sign(t testing.TB, private crypto.Signer, content []byte) []byte {
	t.Helper()
	signer, err := signature.LoadSigner(private, crypto.SHA256)
	must(t, err)
	signed, err := signer.SignMessage(bytes.NewReader(content))
	must(t, err)
	return signed
}

func hexDigest(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(text)
	must(t, err)
	return raw
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
