package notation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/notaryproject/notation-core-go/revocation"
	"github.com/notaryproject/notation-core-go/revocation/crl"
	"github.com/notaryproject/notation-core-go/revocation/purpose"
	"github.com/notaryproject/notation-core-go/revocation/result"
	notationgo "github.com/notaryproject/notation-go"
	"github.com/notaryproject/notation-go/verifier"
	"github.com/notaryproject/notation-go/verifier/trustpolicy"
	"github.com/notaryproject/notation-go/verifier/truststore"
	"github.com/sigstore/sigstore/pkg/cryptoutils"

	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/oci/internal/attached"
)

// revocationTime bounds each question about a revoked certificate.
const revocationTime = 5 * time.Second

// readPolicy reads a trust policy, drops what says that nothing be checked, and
// lets the rest apply to every registry (contract: ocirepository 46, 64).
func readPolicy(content []byte) (*trustpolicy.Document, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, invalid("trustpolicy.json is missing or empty")
	}
	var policy trustpolicy.Document
	if err := json.Unmarshal(content, &policy); err != nil {
		return nil, invalid("reading trustpolicy.json: %w", err)
	}
	policy.TrustPolicies = slices.DeleteFunc(policy.TrustPolicies, func(p trustpolicy.TrustPolicy) bool {
		return p.SignatureVerification.VerificationLevel == trustpolicy.LevelSkip.Name
	})
	switch n := len(policy.TrustPolicies); {
	case n == 0:
		return nil, invalid("trustpolicy.json has no statement with a level other than skip: leave out verify where nothing shall be checked")
	case n > 1:
		return nil, invalid("trustpolicy.json has %d statements with a level other than skip: each would apply to every registry, so keep one", n)
	}
	policy.TrustPolicies[0].RegistryScopes = []string{"*"}
	if err := policy.Validate(); err != nil {
		return nil, invalid("reading trustpolicy.json: %w", err)
	}
	return &policy, nil
}

// readRoots reads the certificates of all *.crt and *.pem files.
func readRoots(files map[string][]byte) ([]*x509.Certificate, error) {
	var roots []*x509.Certificate
	for _, file := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(file, ".crt") && !strings.HasSuffix(file, ".pem") {
			continue
		}
		parsed, err := cryptoutils.UnmarshalCertificatesFromPEM(files[file])
		if err != nil {
			return nil, invalid("reading certificate '%s': %w", file, err)
		}
		if len(parsed) == 0 {
			return nil, invalid("reading certificate '%s': it holds none", file)
		}
		roots = append(roots, parsed...)
	}
	if len(roots) == 0 {
		return nil, invalid("no certificates found: the Secret needs a file that is named *.crt or *.pem")
	}
	return roots, nil
}

func invalid(format string, args ...any) error {
	return attached.Failed(oci.ErrInvalidTrust, format, args...)
}

func newVerifier(policy *trustpolicy.Document, roots rootStore, transport http.RoundTripper) (notationgo.Verifier, error) {
	client := &http.Client{Transport: transport, Timeout: revocationTime, CheckRedirect: sameHost}
	signing, err := newRevocation(client, purpose.CodeSigning, roots)
	if err != nil {
		return nil, err
	}
	stamping, err := newRevocation(client, purpose.Timestamping, roots)
	if err != nil {
		return nil, err
	}
	// Without a manager of plugins none is run.
	v, err := verifier.NewWithOptions(policy, roots, nil, verifier.VerifierOptions{
		RevocationCodeSigningValidator:  signing,
		RevocationTimestampingValidator: stamping,
	})
	if err != nil {
		return nil, invalid("using trustpolicy.json: %w", err)
	}
	return v, nil
}

// sameHost keeps the server of a certificate authority from sending questions
// elsewhere, such as to what only this process can reach.
func sameHost(next *http.Request, via []*http.Request) error {
	if next.URL.Host != via[0].URL.Host || len(via) > 3 {
		return fmt.Errorf("redirect from %s to %s refused", via[0].URL.Host, next.URL.Host)
	}
	return nil
}

// rootStore is every trust store that a policy may name.
type rootStore []*x509.Certificate

// GetCertificates returns all roots (contract: ocirepository 46).
func (s rootStore) GetCertificates(context.Context, truststore.Type, string) ([]*x509.Certificate, error) {
	return s, nil
}

// revocationOf asks about revoked certificates, but only of chains with a root
// of ours: where a policy merely takes note of strangers, their certificates
// must not choose whom this process calls.
type revocationOf struct {
	revocation.Validator
	roots rootStore
}

func newRevocation(client *http.Client, purpose purpose.Purpose, roots rootStore) (revocation.Validator, error) {
	lists, err := crl.NewHTTPFetcher(client)
	if err != nil {
		return nil, fmt.Errorf("preparing the check of revoked certificates: %w", err)
	}
	v, err := revocation.NewWithOptions(revocation.Options{OCSPHTTPClient: client, CRLFetcher: lists, CertChainPurpose: purpose})
	if err != nil {
		return nil, fmt.Errorf("preparing the check of revoked certificates: %w", err)
	}
	return revocationOf{v, roots}, nil
}

func (r revocationOf) ValidateContext(ctx context.Context, o revocation.ValidateContextOptions) ([]*result.CertRevocationResult, error) {
	for _, c := range o.CertChain {
		if slices.ContainsFunc(r.roots, c.Equal) {
			return r.Validator.ValidateContext(ctx, o)
		}
	}
	return nil, errors.New("the chain of certificates has no trusted root")
}

// fingerprint digests what is trusted; what is equal has equal fingerprints.
func fingerprint(policy *trustpolicy.Document, roots []*x509.Certificate) string {
	var digests []string
	for _, root := range roots {
		sum := sha256.Sum256(root.Raw)
		digests = append(digests, hex.EncodeToString(sum[:]))
	}
	slices.Sort(digests)
	// A policy that was read from JSON has a JSON form.
	text, _ := json.Marshal([]any{policy, slices.Compact(digests)})
	sum := sha256.Sum256(text)
	return "notation:" + hex.EncodeToString(sum[:])
}
