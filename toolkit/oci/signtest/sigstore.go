package signtest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/tls"
	"github.com/google/certificate-transparency-go/x509util"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/rekor/pkg/types"
	"github.com/sigstore/rekor/pkg/types/hashedrekord"
	hashedrekordv1 "github.com/sigstore/rekor/pkg/types/hashedrekord/v0.0.1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
)

// Sigstore is a Sigstore service of its own: a certificate authority with its
// transparency log, a log of signatures, and a timestamp authority.
type Sigstore struct {
	services     *ca.VirtualSigstore
	root, issuer *x509.Certificate
	issuerKey    *ecdsa.PrivateKey
	log          *ecdsa.PrivateKey
}

// NewSigstore makes a service with new keys.
func NewSigstore(t testing.TB) *Sigstore {
	t.Helper()
	services, err := ca.NewVirtualSigstore()
	must(t, err)
	rootCert, rootKey, err := ca.GenerateRootCa()
	must(t, err)
	issuer, issuerKey, err := ca.GenerateFulcioIntermediate(rootCert, rootKey)
	must(t, err)
	return &Sigstore{services: services, root: rootCert, issuer: issuer, issuerKey: issuerKey, log: newECDSA(t)}
}

// Impostor is a service with the same logs, but a certificate authority that
// the trusted root does not have.
func (s *Sigstore) Impostor(t testing.TB) *Sigstore {
	t.Helper()
	other := *NewSigstore(t)
	other.services, other.log = s.services, s.log
	return &other
}

// Material is the trusted root.
func (s *Sigstore) Material(t testing.TB) root.TrustedMaterial {
	t.Helper()
	material, err := root.NewTrustedRootFromJSON(s.TrustedRoot(t))
	must(t, err)
	return material
}

// TrustedRoot is the content of a trusted_root.json.
func (s *Sigstore) TrustedRoot(t testing.TB) []byte {
	t.Helper()
	authority := &root.FulcioCertificateAuthority{
		Root: s.root, Intermediates: []*x509.Certificate{s.issuer},
		ValidityPeriodStart: s.root.NotBefore, ValidityPeriodEnd: s.root.NotAfter,
	}
	logs := map[string]*root.TransparencyLog{}
	for id, l := range s.services.RekorLogs() {
		l.ID = hexDigest(t, id)
		logs[id] = l
	}
	logID := keyID(t, s.log.Public())
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, []root.CertificateAuthority{authority},
		map[string]*root.TransparencyLog{hex.EncodeToString(logID[:]): {
			BaseURL: "https://ct.localhost", ID: logID[:], HashFunc: crypto.SHA256, SignatureHashFunc: crypto.SHA256,
			PublicKey: s.log.Public(), ValidityPeriodStart: s.root.NotBefore, ValidityPeriodEnd: s.root.NotAfter,
		}}, s.services.TimestampingAuthorities(), logs)
	must(t, err)
	content, err := trusted.MarshalJSON()
	must(t, err)
	return content
}

// Signer is who signs, and when.
type Signer struct {
	Subject, Issuer string
	// LoggedAfter is the time between the certificate and the entry in the log;
	// certificates are good for ten minutes.
	LoggedAfter time.Duration
	// Unlogged leaves out the entry in the transparency log.
	Unlogged bool
	// NoProof leaves out the proof that the certificate was logged.
	NoProof bool
}

// SignKeyless attaches a bundle with a certificate.
func (s *Sigstore) SignKeyless(t testing.TB, ref name.Digest, who Signer) {
	t.Helper()
	Attach(t, ref, BundleType, BundleType, s.Bundle(t, ref, who))
}

// Bundle is a bundle with a certificate.
func (s *Sigstore) Bundle(t testing.TB, ref name.Digest, who Signer) []byte {
	t.Helper()
	key := newECDSA(t)
	leaf := s.certificate(t, key.Public(), who)
	statement := Statement(t, ref)
	signed := sign(t, key, dsse.PAE(statementType, statement))
	stamp, err := s.services.TimestampResponse(signed)
	must(t, err)
	material := &protobundle.VerificationMaterial{
		Content: &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: leaf.Raw}},
		TimestampVerificationData: &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp}},
		},
	}
	if !who.Unlogged {
		entry, err := s.services.GenerateTlogEntry(leaf, &dsse.Envelope{
			PayloadType: statementType, Payload: base64.StdEncoding.EncodeToString(statement),
			Signatures: []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(signed)}},
		}, signed, leaf.NotBefore.Add(who.LoggedAfter).Unix(), true)
		must(t, err)
		logged := entry.TransparencyLogEntry()
		logged.KindVersion = &protorekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
		material.TlogEntries = append(material.TlogEntries, logged)
	}
	return marshal(t, &protobundle.Bundle{MediaType: BundleType, VerificationMaterial: material, Content: envelope(statement, signed)})
}

// SignCosignKeyless adds a signature with a certificate to those under the tag
// sha256-<hex>.sig.
func (s *Sigstore) SignCosignKeyless(t testing.TB, ref name.Digest, who Signer) {
	t.Helper()
	content := Payload(t, ref)
	AddLegacy(t, ref, content, s.LegacyAnnotations(t, content, who))
}

// LegacyAnnotations are what stands beside a payload that was signed with a
// certificate.
func (s *Sigstore) LegacyAnnotations(t testing.TB, content []byte, who Signer) map[string]string {
	t.Helper()
	key := newECDSA(t)
	leaf := s.certificate(t, key.Public(), who)
	signed := sign(t, key, content)
	annotations := map[string]string{
		signatureAnnotation:               base64.StdEncoding.EncodeToString(signed),
		"dev.sigstore.cosign/certificate": string(toPEM(leaf)),
		"dev.sigstore.cosign/chain":       string(toPEM(s.issuer)) + string(toPEM(s.root)),
	}
	stamp, err := s.services.TimestampResponse(signed)
	must(t, err)
	stamped, err := json.Marshal(map[string][]byte{"SignedRFC3161Timestamp": stamp})
	must(t, err)
	annotations["dev.sigstore.cosign/rfc3161timestamp"] = string(stamped)
	if !who.Unlogged {
		annotations["dev.sigstore.cosign/bundle"] = s.logged(t, content, signed, leaf, leaf.NotBefore.Add(who.LoggedAfter))
	}
	return annotations
}

// logged is the annotation that holds an entry of the transparency log.
func (s *Sigstore) logged(t testing.TB, content, signed []byte, leaf *x509.Certificate, at time.Time) string {
	t.Helper()
	digest := sha256.Sum256(content)
	proposed, err := types.NewProposedEntry(context.Background(), hashedrekord.KIND, hashedrekordv1.APIVERSION, types.ArtifactProperties{
		ArtifactHash: hex.EncodeToString(digest[:]), SignatureBytes: signed, PublicKeyBytes: [][]byte{toPEM(leaf)}, PKIFormat: "x509",
	})
	must(t, err)
	entry, err := types.CreateVersionedEntry(proposed)
	must(t, err)
	body, err := types.CanonicalizeEntry(context.Background(), entry)
	must(t, err)
	logID, err := s.services.RekorLogID()
	must(t, err)
	claim := tlog.RekorPayload{Body: base64.StdEncoding.EncodeToString(body), IntegratedTime: at.Unix(), LogIndex: 7, LogID: logID}
	promise, err := s.services.RekorSignPayload(claim)
	must(t, err)
	annotation, err := json.Marshal(map[string]any{"SignedEntryTimestamp": promise, "Payload": claim})
	must(t, err)
	return string(annotation)
}

// certificate issues a certificate and logs it.
func (s *Sigstore) certificate(t testing.TB, public crypto.PublicKey, who Signer) *x509.Certificate {
	t.Helper()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), EmailAddresses: []string{who.Subject},
		NotBefore: now, NotAfter: now.Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(who.Issuer)}},
	}
	cert := issue(t, template, s.issuer, public, s.issuerKey)
	if who.NoProof {
		return cert
	}
	proof := s.proof(t, cert.RawTBSCertificate, now)
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: proof})
	return issue(t, template, s.issuer, public, s.issuerKey)
}

// proof is the extension that says that a certificate was logged.
func (s *Sigstore) proof(t testing.TB, unlogged []byte, at time.Time) []byte {
	t.Helper()
	sct := ct.SignedCertificateTimestamp{SCTVersion: ct.V1, LogID: ct.LogID{KeyID: keyID(t, s.log.Public())}, Timestamp: uint64(at.UnixMilli())}
	input, err := ct.SerializeSCTSignatureInput(sct, ct.LogEntry{Leaf: ct.MerkleTreeLeaf{
		Version: ct.V1, LeafType: ct.TimestampedEntryLeafType,
		TimestampedEntry: &ct.TimestampedEntry{
			Timestamp: sct.Timestamp, EntryType: ct.PrecertLogEntryType,
			PrecertEntry: &ct.PreCert{IssuerKeyHash: sha256.Sum256(s.issuer.RawSubjectPublicKeyInfo), TBSCertificate: unlogged},
		},
	}})
	must(t, err)
	sct.Signature = ct.DigitallySigned{
		Algorithm: tls.SignatureAndHashAlgorithm{Hash: tls.SHA256, Signature: tls.ECDSA}, Signature: sign(t, s.log, input),
	}
	list, err := x509util.MarshalSCTsIntoSCTList([]*ct.SignedCertificateTimestamp{&sct})
	must(t, err)
	content, err := tls.Marshal(*list)
	must(t, err)
	extension, err := asn1.Marshal(content)
	must(t, err)
	return extension
}

func issue(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, private crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, private)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return cert
}

func toPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func keyID(t testing.TB, public crypto.PublicKey) [sha256.Size]byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	must(t, err)
	return sha256.Sum256(der)
}

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}
