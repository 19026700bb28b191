package secret

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func data(pairs ...string) map[string][]byte {
	m := map[string][]byte{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = []byte(pairs[i+1])
	}
	return m
}

// failsWith checks an error's text and that it shows no value.
func failsWith(t *testing.T, err error, want string, in map[string][]byte) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("unexpected error: %v", err)
		}
		return
	}
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
		return
	}
	var key *KeyError
	if !errors.As(err, &key) {
		t.Errorf("%v is no KeyError", err)
	}
	for k, v := range in {
		if len(v) > 3 && strings.Contains(err.Error(), string(v)) {
			t.Errorf("%v shows the value of %s", err, k)
		}
	}
}

func TestBasicAuth(t *testing.T) {
	tests := []struct {
		name string
		data map[string][]byte
		want *Basic
		err  string
	}{
		{"_common 44: both", data("username", "me", "password", "hunter22"), &Basic{"me", "hunter22"}, ""},
		{"_common 44: empty values count", data("username", "", "password", ""), &Basic{}, ""},
		{"neither", data("token", "x"), nil, ""},
		{"_common 44: user alone", data("username", "me"), nil, "key 'password': key is required beside 'username'"},
		{"_common 44: password alone", data("password", "hunter22"), nil, "key 'username': key is required beside 'password'"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := BasicAuth(test.data)
			failsWith(t, err, test.err, test.data)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	if got := Bearer(data("bearerToken", "abc")); got != "abc" {
		t.Errorf("_common 44: bearer %q", got)
	}
	if got := Bearer(nil); got != "" {
		t.Errorf("bearer of nothing: %q", got)
	}
	if got, err := Token(data("token", "abc")); got != "abc" || err != nil {
		t.Errorf("_common 44: token %q, %v", got, err)
	}
	_, err := Token(data("token", ""))
	failsWith(t, err, "key 'token': key is required", nil)
	if !errors.Is(err, ErrMissing) {
		t.Errorf("%v is not ErrMissing", err)
	}
}

func certificate(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}))
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t, "one")
	other, otherKey := certificate(t, "two")
	tests := []struct {
		name string
		data map[string][]byte
		want *TLSMaterial
		err  string
	}{
		{"nothing", data("username", "me"), nil, ""},
		{"_common 43: authority", data("ca.crt", cert), &TLSMaterial{CA: []byte(cert)}, ""},
		{"_common 43: pair", data("tls.crt", cert, "tls.key", key), &TLSMaterial{Cert: []byte(cert), Key: []byte(key)}, ""},
		{"_common 43: legacy keys", data("caFile", other, "certFile", cert, "keyFile", key), &TLSMaterial{Cert: []byte(cert), Key: []byte(key), CA: []byte(other)}, ""},
		{
			"_common 43: new keys win",
			data("ca.crt", cert, "caFile", other, "tls.crt", cert, "certFile", other, "tls.key", key, "keyFile", otherKey),
			&TLSMaterial{Cert: []byte(cert), Key: []byte(key), CA: []byte(cert)}, "",
		},
		{"_common 43: certificate alone", data("tls.crt", cert), nil, "key 'tls.key': key is required beside 'tls.crt'"},
		{"_common 43: key alone", data("keyFile", key), nil, "key 'tls.crt': key is required beside 'keyFile'"},
		{"pair of strangers", data("tls.crt", cert, "tls.key", otherKey), nil, "key 'tls.crt': no certificate that belongs to 'tls.key': tls: private key does not match public key"},
		{"authority that is none", data("caFile", "hello"), nil, "key 'caFile': no PEM certificate found"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := TLS(test.data)
			failsWith(t, err, test.err, test.data)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestTLSConfig(t *testing.T) {
	cert, key := certificate(t, "one")
	m := &TLSMaterial{Cert: []byte(cert), Key: []byte(key), CA: []byte(cert)}
	alone, err := m.Config()
	if err != nil {
		t.Fatal(err)
	}
	own := x509.NewCertPool()
	own.AppendCertsFromPEM([]byte(cert))
	if !alone.RootCAs.Equal(own) || len(alone.Certificates) != 1 {
		t.Errorf("roots or certificates differ: %v", alone)
	}
	added, err := m.ConfigWithSystemRoots()
	if err != nil {
		t.Fatal(err)
	}
	system, err := x509.SystemCertPool()
	if err != nil {
		t.Fatal(err)
	}
	system.AppendCertsFromPEM([]byte(cert))
	if !added.RootCAs.Equal(system) {
		t.Error("the system's authorities are missing")
	}
	if none, err := (&TLSMaterial{}).Config(); err != nil || none.RootCAs != nil {
		t.Errorf("without authorities: %v, %v", none, err)
	}
}

func TestSSH(t *testing.T) {
	got, err := SSH(data("identity", "key!", "known_hosts", "hosts", "password", "pass", "identity.pub", "pub!"))
	if diff := cmp.Diff(&SSHKey{Identity: []byte("key!"), Password: []byte("pass"), KnownHosts: []byte("hosts")}, got); diff != "" || err != nil {
		t.Errorf("_common 44: %v (-want +got):\n%s", err, diff)
	}
	_, err = SSH(data("known_hosts", "hosts"))
	failsWith(t, err, "key 'identity': key is required", nil)
	_, err = SSH(data("identity", "secret"))
	failsWith(t, err, "key 'known_hosts': key is required", data("identity", "secret"))
}

func TestProxy(t *testing.T) {
	tests := []struct {
		name string
		data map[string][]byte
		want string
		err  string
	}{
		{"_common 45: http", data("address", "http://proxy:3128"), "http://proxy:3128", ""},
		{"_common 45: https", data("address", "https://proxy"), "https://proxy", ""},
		{"_common 45: socks5", data("address", "socks5://proxy:1080", "username", "me", "password", "p@ss"), "socks5://me:p%40ss@proxy:1080", ""},
		{"user alone", data("address", "http://proxy", "username", "me"), "http://me@proxy", ""},
		{"_common 45: password alone is ignored", data("address", "http://proxy", "password", "pass"), "http://proxy", ""},
		{"_common 45: address is required", data("username", "me"), "", "key 'address': key is required"},
		{"_common 45: other scheme", data("address", "ftp://user:hunter22@proxy"), "", "key 'address': scheme 'ftp' is not one of http, https and socks5"},
		{"_common 45: too long", data("address", "http://"+strings.Repeat("p", 2048)), "", "key 'address': longer than 2048 characters"},
		{"no host", data("address", "proxy:3128"), "", "key 'address': not a URL of the form scheme://host:port"},
		{"no URL", data("address", "http://user:hunter22@pro\x7fxy"), "", "key 'address': not a URL of the form scheme://host:port"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Proxy(test.data)
			failsWith(t, err, test.err, test.data)
			if err == nil && got.String() != test.want {
				t.Errorf("proxy %s, want %s", got, test.want)
			}
		})
	}
}

func TestWrap(t *testing.T) {
	_, err := SSH(nil)
	if got := Wrap("ns", "auth", err); got.Error() != "invalid secret 'ns/auth': key 'identity': key is required" || !errors.Is(got, ErrMissing) {
		t.Errorf("wrapped: %v", got)
	}
	if Wrap("ns", "auth", nil) != nil {
		t.Error("nil does not stay nil")
	}
}

// reliability 057: credentials in addresses and in their queries do not show.
func TestRedact(t *testing.T) {
	tests := []struct {
		text   string
		values []string
		want   string
	}{
		{"unable to clone 'https://u:p@host/app.git': no", nil, "unable to clone 'https://host/app.git': no"},
		{`Get "https://u:p%40x@host:8443/a?service=x": EOF`, nil, `Get "https://host:8443/a?service=x": EOF`},
		{"http://u:p@a/ and http://q:r@b", nil, "http://a/ and http://b"},
		{"https://host/a?sig=abc&x=1&X-Amz-Signature=def#access_token=ghi", nil, "https://host/a?sig=***&x=1&X-Amz-Signature=***#access_token=***"},
		{"https://token@host", nil, "https://host"},
		{"ssh://git@host/app.git", nil, "ssh://git@host/app.git"},
		{"ssh://git:pass@host/app.git", nil, "ssh://git@host/app.git"},
		{"https://u:p/q@host/x", nil, "https://host/x"},
		{"https://u:a@b@host/x", nil, "https://host/x"},
		{"the server said hunter22!", []string{"hunter22"}, "the server said ***!"},
		{"?q=a%2Fb%3Dcd", []string{"a/b=cd"}, "?q=***"},
		{"abcdefgh abcdef ab", []string{"abcdef", "abcdefgh", "ab"}, "*** *** ab"},
		{"refused: Basic dTpodW50ZXIyMg== hunter22", Login("u", "hunter22"), "refused: Basic *** ***"},
		{"a value of no length", []string{""}, "a value of no length"},
		{"no url :// here", nil, "no url :// here"},
		{"", nil, ""},
	}
	for _, test := range tests {
		if got := Redact(test.text, test.values...); got != test.want {
			t.Errorf("Redact(%q, %q) = %q, want %q", test.text, test.values, got, test.want)
		}
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("user", "hunter22", "host/path")
	f.Fuzz(func(t *testing.T, user, password, rest string) {
		if len(password) < MinRedacted || strings.Contains(redacted, password) {
			return
		}
		text := "unable to clone 'https://" + user + ":" + password + "@" + rest + "': refused"
		// A password that is part of the sentence itself cannot be told from it.
		if strings.Contains("unable to clone 'https://: refused***ssh://", password) || strings.Contains(user+rest, password) {
			return
		}
		if got := Redact(text, password); strings.Contains(got, password) {
			t.Errorf("%q shows %q", got, password)
		}
	})
}
