package sopstest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/sops"
)

// Services plays the key services of the clouds and of Vault, as their documentation describes them.
type Services struct {
	*httptest.Server
	t testing.TB
	// Seen are "METHOD path credentials" of all requests.
	Seen []string
}

// NewServices starts them, with TLS.
func NewServices(t testing.TB) *Services {
	t.Helper()
	s := &Services{t: t}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

// NewPlainServices starts them without TLS.
func NewPlainServices(t testing.TB) *Services {
	t.Helper()
	s := &Services{t: t}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// Host is where it listens.
func (s *Services) Host() string { return s.Listener.Addr().String() }

// Endpoints lead all clouds here.
func (s *Services) Endpoints() sops.Endpoints {
	return sops.Endpoints{AWS: s.URL, STS: s.URL, GCP: s.URL, AzureHosts: []string{s.Host()}}
}

// unseal takes apart what the encryptor of these tests has put together.
func (s *Services) unseal(encoded string, encoding *base64.Encoding) []byte {
	raw, err := encoding.DecodeString(encoded)
	if err != nil || !strings.HasPrefix(string(raw), sealed) {
		s.t.Errorf("asked to decrypt %q", encoded)
	}
	return []byte(strings.TrimPrefix(string(raw), sealed))
}

// ServeHTTP implements http.Handler.
func (s *Services) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	credentials := r.Header.Get("Authorization") + r.Header.Get("X-Vault-Token")
	// Of a signature, the id of the key and the scope tell enough.
	credentials, _, _ = strings.Cut(credentials, ", SignedHeaders")
	s.Seen = append(s.Seen, r.Method+" "+r.URL.Path+" "+credentials+" "+r.Header.Get("X-Amz-Target"))
	answer := func(body any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(body); err != nil {
			s.t.Error(err)
		}
	}
	var body struct {
		CiphertextBlob, Ciphertext, Value, Alg, Role, JWT string
		EncryptionContext                                 map[string]string
	}
	if kind := r.Header.Get("Content-Type"); kind == "application/json" || strings.HasPrefix(kind, "application/x-amz-json") {
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			s.t.Errorf("%s: %v", r.URL, err)
		}
	}
	switch {
	case r.Header.Get("X-Amz-Target") == "TrentService.Decrypt":
		answer(map[string]any{"Plaintext": s.unseal(body.CiphertextBlob, base64.StdEncoding), "KeyId": "key"})
	case strings.HasSuffix(r.URL.Path, ":decrypt"):
		answer(map[string]any{"plaintext": s.unseal(body.Ciphertext, base64.StdEncoding)})
	case strings.HasPrefix(r.URL.Path, "/keys/"):
		if body.Alg != "RSA-OAEP-256" || r.URL.Query().Get("api-version") == "" {
			s.t.Errorf("%s with the algorithm %q", r.URL, body.Alg)
		}
		answer(map[string]any{"value": base64.RawURLEncoding.EncodeToString(s.unseal(body.Value, base64.RawURLEncoding))})
	case strings.HasPrefix(r.URL.Path, "/v1/auth/"):
		s.Seen[len(s.Seen)-1] += body.Role + " " + body.JWT
		answer(map[string]any{"auth": map[string]any{"client_token": "session-token"}})
	case strings.HasPrefix(r.URL.Path, "/v1/"):
		answer(map[string]any{"data": map[string]any{"plaintext": s.unseal(strings.TrimPrefix(body.Ciphertext, "vault:v1:"), base64.StdEncoding)}})
	case r.URL.Path == "/token":
		answer(map[string]any{"access_token": "static-gcp-token", "expires_in": 3600, "token_type": "Bearer"})
	case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token"):
		answer(map[string]any{"access_token": "static-azure-token", "expires_in": 3600, "token_type": "Bearer"})
	case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
		base := s.URL + "/tenant/oauth2/v2.0"
		answer(map[string]any{"token_endpoint": base + "/token", "authorization_endpoint": base + "/authorize", "issuer": s.URL + "/tenant/v2.0"})
	case r.URL.Path == "/":
		// STS speaks XML.
		_, err := fmt.Fprintf(w, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey>`+
			`<SessionToken>role-session</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
		if err != nil {
			s.t.Error(err)
		}
	default:
		s.t.Errorf("unexpected request %s %s", r.Method, r.URL)
		http.NotFound(w, r)
	}
}

// Certificate is one with its private key in PEM, indented to fit into YAML.
func Certificate(t testing.TB) string {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: certificate}, {Type: "PRIVATE KEY", Bytes: key}} {
		for line := range strings.Lines(string(pem.EncodeToMemory(block))) {
			out.WriteString("  " + line)
		}
	}
	return out.String()
}

// GCPKey is the key of a service account of Google.
func GCPKey(t testing.TB, tokenURL string) string {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "sops@p.iam.gserviceaccount.com", "token_uri": tokenURL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
