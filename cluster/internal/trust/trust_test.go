package trust

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
)

var (
	now   = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	names = []string{"kubernetes.default.svc", "10.96.0.1"}
)

func ensure(t *testing.T, dir string, now time.Time) *Bundle {
	t.Helper()
	b, err := Ensure(dir, names, now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func serving(t *testing.T, dir string) *x509.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, ServerCertFile), filepath.Join(dir, ServerKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestServerCertificate(t *testing.T) {
	dir := t.TempDir()
	b := ensure(t, dir, now)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b.CA) {
		t.Fatal("the authority is no certificate")
	}
	cert := serving(t, dir)
	for _, name := range []string{"127.0.0.1", "::1", "localhost", "kubernetes.default.svc", "10.96.0.1"} {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now.Add(300 * 24 * time.Hour)}); err != nil {
			t.Errorf("as %s: %v", name, err)
		}
	}
	if _, err := cert.Verify(x509.VerifyOptions{DNSName: "example.com", Roots: roots, CurrentTime: now}); err == nil {
		t.Error("the server may call itself example.com")
	}

	// Two years later, when it has run out, the same authority has signed another.
	later := now.Add(2 * 365 * 24 * time.Hour)
	if again := ensure(t, dir, later); string(again.CA) != string(b.CA) {
		t.Error("the authority has changed, so that kubeconfigs in use are of no use")
	}
	if _, err := serving(t, dir).Verify(x509.VerifyOptions{DNSName: "localhost", Roots: roots, CurrentTime: later}); err != nil {
		t.Errorf("two years later: %v", err)
	}
}

func TestSecretsStay(t *testing.T) {
	dir := t.TempDir()
	first := ensure(t, dir, now)
	key, err := os.ReadFile(filepath.Join(dir, ServiceAccountFile))
	if err != nil {
		t.Fatal(err)
	}
	second := ensure(t, dir, now.Add(time.Hour))
	if diff := cmp.Diff(first.Tokens, second.Tokens); diff != "" {
		t.Error("tokens have changed:", diff)
	}
	if again, err := os.ReadFile(filepath.Join(dir, ServiceAccountFile)); err != nil || string(again) != string(key) {
		t.Errorf("the key of service accounts has changed, %v", err)
	}
	seen := map[string]bool{}
	for _, user := range []string{Admin, Viewer, Controllers, Simulator} {
		token := first.Tokens[user]
		if len(token) != 64 || seen[token] {
			t.Errorf("the token of %s has %d characters, or is another's", user, len(token))
		}
		seen[token] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s may be read by others: %s", entry.Name(), info.Mode())
		}
	}
}

func TestTokensFile(t *testing.T) {
	dir := t.TempDir()
	b := ensure(t, dir, now)
	content, err := os.ReadFile(filepath.Join(dir, TokensFile))
	if err != nil {
		t.Fatal(err)
	}
	want := b.Tokens[Admin] + ",admin,admin,system:masters\n" +
		b.Tokens[Controllers] + ",system:kube-controller-manager,system:kube-controller-manager,system:masters\n" +
		b.Tokens[Simulator] + ",flux-cluster:simulator,flux-cluster:simulator\n" +
		b.Tokens[Viewer] + ",viewer,viewer\n"
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Error(diff)
	}
}

func TestDamagedSecrets(t *testing.T) {
	for _, file := range []string{CAFile, caKeyFile, ServerKeyFile, ServiceAccountFile} {
		dir := t.TempDir()
		ensure(t, dir, now)
		if err := os.WriteFile(filepath.Join(dir, file), []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Ensure(dir, names, now); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("with junk in %s: %v, want an error that names it", file, err)
		}
	}
}

func TestWriteKubeconfig(t *testing.T) {
	dir := t.TempDir()
	b := ensure(t, dir, now)
	path := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.WriteKubeconfig(path, "https://127.0.0.1:1", Admin, Viewer); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s, %v; want 0600 also where a file was", info.Mode(), err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if config.CurrentContext != ClusterName {
		t.Errorf("the current context is %s", config.CurrentContext)
	}
	for context, user := range map[string]string{ClusterName: Admin, ClusterName + "-viewer": Viewer} {
		rest, err := clientcmd.NewNonInteractiveClientConfig(*config, context, nil, nil).ClientConfig()
		if err != nil {
			t.Fatal(err)
		}
		if rest.BearerToken != b.Tokens[user] || rest.Host != "https://127.0.0.1:1" || string(rest.CAData) != string(b.CA) {
			t.Errorf("context %s does not lead %s to the server", context, user)
		}
	}
	if block, _ := pem.Decode(b.CA); block == nil {
		t.Error("the authority is not in PEM")
	}
}
