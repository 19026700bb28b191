package signtest

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/notaryproject/notation-core-go/signature"
	// These bring the kinds of envelopes.
	_ "github.com/notaryproject/notation-core-go/signature/cose"
	_ "github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/notation-go/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	// JWS and COSE are the media types of notation's signatures.
	JWS  = "application/jose+json"
	COSE = "application/cose"
)

// Notary is a certificate authority whose certificates sign for notation.
type Notary struct {
	// PEM is the root.
	PEM  []byte
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewNotary makes an authority with a new key.
func NewNotary(t testing.TB) *Notary {
	t.Helper()
	key := newECDSA(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root", Organization: []string{"test"}, Country: []string{"DE"}, Province: []string{"BE"}},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	root := issue(t, template, template, key.Public(), key)
	return &Notary{PEM: toPEM(root), root: root, key: key}
}

// NotationSigner is who signs with notation.
type NotationSigner struct {
	// CommonName goes with C=DE, ST=BE, O=test; "signer" if empty.
	CommonName string
	// Envelope is JWS or COSE; JWS if empty.
	Envelope string
	// Expired makes the certificate one of yesterday.
	Expired bool
	// OCSP are the servers to ask whether the certificate is revoked.
	OCSP []string
	// Plugin is the program that the signature wants to be verified by.
	Plugin string
}

// SignNotation attaches a signature.
func (n *Notary) SignNotation(t testing.TB, ref name.Digest, who NotationSigner) {
	t.Helper()
	if who.Envelope == "" {
		who.Envelope = JWS
	}
	Attach(t, ref, registry.ArtifactTypeNotation, who.Envelope, n.Signature(t, ref, who))
}

// Signature is the envelope of a signature.
func (n *Notary) Signature(t testing.TB, ref name.Digest, who NotationSigner) []byte {
	t.Helper()
	if who.CommonName == "" {
		who.CommonName = "signer"
	}
	if who.Envelope == "" {
		who.Envelope = JWS
	}
	valid := time.Now().Add(time.Hour)
	if who.Expired {
		valid = time.Now().Add(-time.Hour)
	}
	key := newECDSA(t)
	leaf := issue(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: who.CommonName, Organization: []string{"test"}, Country: []string{"DE"}, Province: []string{"BE"}},
		NotBefore: valid.Add(-2 * time.Hour), NotAfter: valid, OCSPServer: who.OCSP,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}, n.root, key.Public(), n.key)
	s, err := signature.NewLocalSigner([]*x509.Certificate{leaf, n.root}, key)
	must(t, err)
	target, err := remote.Head(ref)
	must(t, err)
	content, err := json.Marshal(map[string]any{"targetArtifact": ocispec.Descriptor{
		MediaType: string(target.MediaType), Digest: digest.Digest(target.Digest.String()), Size: target.Size,
	}})
	must(t, err)
	envelope, err := signature.NewEnvelope(who.Envelope)
	must(t, err)
	request := &signature.SignRequest{
		Payload: signature.Payload{ContentType: "application/vnd.cncf.notary.payload.v1+json", Content: content},
		Signer:  s, SigningTime: leaf.NotBefore.Add(time.Hour), SigningScheme: signature.SigningSchemeX509,
	}
	if who.Plugin != "" {
		request.ExtendedSignedAttributes = []signature.Attribute{{Key: "io.cncf.notary.verificationPlugin", Critical: true, Value: who.Plugin}}
	}
	signed, err := envelope.Sign(request)
	must(t, err)
	return signed
}
