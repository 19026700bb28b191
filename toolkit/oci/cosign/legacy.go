package cosign

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/payload"

	"github.com/seed-79636ae9/flux/toolkit/oci/internal/attached"
)

// The older signatures are the layers of one image; what belongs to a signature
// stands in the annotations of its layer.
const (
	legacyType            = "application/vnd.dev.cosign.simplesigning.v1+json"
	signatureAnnotation   = "dev.cosignproject.cosign/signature"
	certificateAnnotation = "dev.sigstore.cosign/certificate"
	chainAnnotation       = "dev.sigstore.cosign/chain"
	logAnnotation         = "dev.sigstore.cosign/bundle"
	timestampAnnotation   = "dev.sigstore.cosign/rfc3161timestamp"
)

// chainLength bounds the intermediate certificates of a signature.
const chainLength = 8

// legacy tries the signatures under the tag sha256-<hex>.sig.
func legacy(ctx context.Context, s *attached.Search, j judge) bool {
	tag := s.Ref.Context().Tag(strings.Replace(s.Ref.DigestStr(), ":", "-", 1) + ".sig")
	return s.Layered(ctx, "signatures", tag, legacyType, func(d v1.Descriptor, content []byte) error {
		return checkLegacy(j, content, d.Annotations, s.Ref.DigestStr())
	})
}

// checkLegacy decides about a payload and what belongs to its signature.
func checkLegacy(j judge, content []byte, annotations map[string]string, manifest string) error {
	s, err := readLegacy(content, annotations, manifest)
	if err != nil {
		return err
	}
	return j.legacy(s)
}

// legacySignature is a signature of a payload that is about the manifest.
type legacySignature struct {
	payload     []byte
	signature   []byte
	annotations map[string]string
}

func readLegacy(content []byte, annotations map[string]string, manifest string) (*legacySignature, error) {
	signature, err := base64.StdEncoding.DecodeString(annotations[signatureAnnotation])
	if err != nil || len(signature) == 0 {
		return nil, fmt.Errorf("malformed signature: annotation %s is not base64", signatureAnnotation)
	}
	var claim payload.SimpleContainerImage
	if err := json.Unmarshal(content, &claim); err != nil {
		return nil, fmt.Errorf("malformed payload: %w", err)
	}
	if claim.Critical.Type != payload.CosignSignatureType {
		return nil, fmt.Errorf("malformed payload: its type is '%s' and not '%s'", claim.Critical.Type, payload.CosignSignatureType)
	}
	if claim.Critical.Image.DockerManifestDigest != manifest {
		return nil, fmt.Errorf("the signature is for '%s'", claim.Critical.Image.DockerManifestDigest)
	}
	return &legacySignature{payload: content, signature: signature, annotations: annotations}, nil
}

// entity returns the signature with its certificate, log entry and time, in the
// form of a bundle.
func (s *legacySignature) entity() (verify.SignedEntity, error) {
	e := &legacyEntity{}
	digest := sha256.Sum256(s.payload)
	e.message = bundle.NewMessageSignature(digest[:], protocommon.HashAlgorithm_SHA2_256.String(), s.signature)
	certificate, chain := s.annotations[certificateAnnotation], s.annotations[chainAnnotation]
	if certificate == "" {
		return nil, errors.New("made with a key and not with a certificate")
	}
	leaf, err := cryptoutils.UnmarshalCertificatesFromPEMLimited([]byte(certificate), 1)
	if err != nil || len(leaf) != 1 {
		return nil, fmt.Errorf("malformed certificate: annotation %s is not one certificate in PEM", certificateAnnotation)
	}
	e.certificate = &legacyCertificate{plainCertificate: bundle.NewCertificate(leaf[0])}
	if chain != "" {
		all, err := cryptoutils.UnmarshalCertificatesFromPEMLimited([]byte(chain), chainLength)
		if err != nil {
			return nil, fmt.Errorf("malformed chain of certificates: %w", err)
		}
		for _, c := range all {
			if c.IsCA {
				e.certificate.intermediates = append(e.certificate.intermediates, c)
			}
		}
	}
	if e.entry, err = logEntry(s.annotations[logAnnotation]); err != nil {
		return nil, err
	}
	e.timestamp, err = timestamp(s.annotations[timestampAnnotation])
	return e, err
}

// logEntry reads the entry of the transparency log that comes with a signature.
func logEntry(annotation string) (*tlog.Entry, error) {
	if annotation == "" {
		return nil, errors.New("the signature carries no entry of a transparency log")
	}
	var entry struct {
		SignedEntryTimestamp []byte
		Payload              struct {
			Body           []byte `json:"body"`
			IntegratedTime int64  `json:"integratedTime"`
			LogIndex       int64  `json:"logIndex"`
			LogID          string `json:"logID"`
		}
	}
	if err := json.Unmarshal([]byte(annotation), &entry); err != nil {
		return nil, fmt.Errorf("malformed entry of a transparency log: %w", err)
	}
	log, err := hex.DecodeString(entry.Payload.LogID)
	if err != nil {
		return nil, fmt.Errorf("malformed entry of a transparency log: %w", err)
	}
	var body struct{ Kind, APIVersion string }
	if err := json.Unmarshal(entry.Payload.Body, &body); err != nil {
		return nil, fmt.Errorf("malformed entry of a transparency log: %w", err)
	}
	parsed, err := tlog.ParseTransparencyLogEntry(&protorekor.TransparencyLogEntry{
		LogIndex:          entry.Payload.LogIndex,
		LogId:             &protocommon.LogId{KeyId: log},
		KindVersion:       &protorekor.KindVersion{Kind: body.Kind, Version: body.APIVersion},
		IntegratedTime:    entry.Payload.IntegratedTime,
		InclusionPromise:  &protorekor.InclusionPromise{SignedEntryTimestamp: entry.SignedEntryTimestamp},
		CanonicalizedBody: entry.Payload.Body,
	})
	if err != nil {
		return nil, fmt.Errorf("malformed entry of a transparency log: %w", err)
	}
	return parsed, nil
}

// timestamp reads the word of a timestamp authority; there need not be one.
func timestamp(annotation string) ([]byte, error) {
	if annotation == "" {
		return nil, nil
	}
	var t struct{ SignedRFC3161Timestamp []byte }
	if err := json.Unmarshal([]byte(annotation), &t); err != nil {
		return nil, fmt.Errorf("malformed timestamp: %w", err)
	}
	return t.SignedRFC3161Timestamp, nil
}

// legacyEntity is a verify.SignedEntity.
type legacyEntity struct {
	verify.BaseSignedEntity
	message     *bundle.MessageSignature
	certificate *legacyCertificate
	entry       *tlog.Entry
	timestamp   []byte
}

func (e *legacyEntity) HasInclusionPromise() bool { return e.entry.HasInclusionPromise() }

func (e *legacyEntity) SignatureContent() (verify.SignatureContent, error) { return e.message, nil }

func (e *legacyEntity) VerificationContent() (verify.VerificationContent, error) {
	return e.certificate, nil
}

func (e *legacyEntity) TlogEntries() ([]*tlog.Entry, error) { return []*tlog.Entry{e.entry}, nil }

func (e *legacyEntity) Timestamps() ([][]byte, error) {
	if len(e.timestamp) == 0 {
		return nil, nil
	}
	return [][]byte{e.timestamp}, nil
}

// Version makes the library accept SHA-256 with large keys, which the signers of
// that time used.
func (e *legacyEntity) Version() (string, error) { return "v0.1", nil }

type plainCertificate = bundle.Certificate

// legacyCertificate brings its intermediates along.
type legacyCertificate struct {
	*plainCertificate
	intermediates []*x509.Certificate
}

func (c *legacyCertificate) Intermediates() []*x509.Certificate { return c.intermediates }
