package git_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// authority is one that issues what a real one would not.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))
	return &authority{must(x509.ParseCertificate(der)), key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns a certificate for 127.0.0.1 that is valid now, but for what is changed.
func (a *authority) issue(change func(*x509.Certificate)) tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if change != nil {
		change(template)
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestTLSFailures: each has a name, and none ends in plain text (reliability 071).
func TestTLSFailures(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	huge := ca.issue(nil)
	for range 900 {
		huge.Certificate = append(huge.Certificate, ca.cert.Raw)
	}
	for name, test := range map[string]struct {
		config *tls.Config
		want   string
	}{
		"expired":       {&tls.Config{Certificates: []tls.Certificate{ca.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}}, "certificate has expired"},
		"not yet valid": {&tls.Config{Certificates: []tls.Certificate{ca.issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })}}, "is not yet valid"},
		"wrong host":    {&tls.Config{Certificates: []tls.Certificate{ca.issue(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} })}}, "certificate is valid for 127.0.0.2, not 127.0.0.1"},
		"self-signed":   {&tls.Config{Certificates: []tls.Certificate{other.issue(nil)}}, "certificate signed by unknown authority"},
		"old protocol":  {&tls.Config{Certificates: []tls.Certificate{ca.issue(nil)}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, "protocol version"},
		"huge chain":    {&tls.Config{Certificates: []tls.Certificate{huge}}, "exceeds maximum"},
		"closed":        {nil, "the server ended the TLS handshake"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener := must(net.Listen("tcp", "127.0.0.1:0"))
			plain := make(chan bool, 8)
			server := &http.Server{ErrorLog: quiet(), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { plain <- true })}
			if test.config == nil {
				go func() {
					for {
						conn, err := listener.Accept()
						if err != nil {
							return
						}
						_, _ = conn.Read(make([]byte, 1))
						_ = conn.Close()
					}
				}()
			} else {
				go func() { _ = server.Serve(tls.NewListener(listener, test.config)) }()
			}
			defer listener.Close()
			defer server.Close()
			client := must(git.New(git.Options{
				URL:  "https://" + listener.Addr().String() + "/app.git",
				Auth: git.Auth{TLS: &secret.TLSMaterial{CA: ca.pem}, Basic: &secret.Basic{Username: "user", Password: "c4nary"}},
			}))
			defer client.Close()
			_, err := client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if len(plain) != 0 {
				t.Error("a request arrived")
			}
		})
	}
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// TestProxyFailures: the error tells that it is the proxy, and not its password (reliability 078).
func TestProxyFailures(t *testing.T) {
	ca := newAuthority(t)
	target := httptest.NewUnstartedServer(http.NotFoundHandler())
	target.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(nil)}}
	target.StartTLS()
	defer target.Close()
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	defer refusing.Close()
	dead := must(net.Listen("tcp", "127.0.0.1:0"))
	check(t, dead.Close())
	for name, test := range map[string]struct{ proxy, want string }{
		"dead":     {"http://" + dead.Addr().String(), "proxyconnect tcp: dial tcp " + dead.Addr().String()},
		"refusing": {refusing.URL, "Proxy Authentication Required"},
	} {
		u := must(url.Parse(test.proxy))
		u.User = url.UserPassword("proxy", "c4nary")
		client := must(git.New(git.Options{URL: target.URL + "/app.git", Proxy: u, Auth: git.Auth{TLS: &secret.TLSMaterial{CA: ca.pem}}}))
		_, err := client.Resolve(t.Context(), git.Reference{Branch: "main"})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "c4nary") {
			t.Errorf("%s: %v, want %q and no password", name, err, test.want)
		}
		client.Close()
	}
}

// TestSHA256: a repository of the other object format is named as such.
func TestSHA256(t *testing.T) {
	server := gitServer(t)
	repo := must(server.Repo("app"))
	runGit(t, server.Root, "LC_ALL=C", nil, "init", "--quiet", "--bare", "--object-format=sha256", "--initial-branch=main", "other.git")
	repo.Dir = server.Root + "/other.git"
	tree := strings.TrimSpace(testkitGit(t, repo, "hash-object", "-t", "tree", "-w", "/dev/null"))
	commit := strings.TrimSpace(testkitGit(t, repo, "commit-tree", "-m", "1", tree))
	testkitGit(t, repo, "update-ref", "refs/heads/main", commit)
	client := must(git.New(git.Options{URL: server.URL + "/other.git"}))
	defer client.Close()
	_, err := client.Resolve(t.Context(), git.Reference{Branch: "main"})
	if !errors.Is(err, git.ErrUnsupported) || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("resolve: %v, want ErrUnsupported that names SHA-256", err)
	}
	_, err = client.Fetch(t.Context(), git.Reference{Commit: commit}, t.TempDir())
	if !errors.Is(err, git.ErrReferenceNotFound) || !strings.Contains(err.Error(), "not a full SHA-1 hash") {
		t.Errorf("fetch by a SHA-256 name: %v", err)
	}
}
