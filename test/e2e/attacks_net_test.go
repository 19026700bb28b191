package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/hostile"
)

// secret creates a Secret and returns its reference.
func (a *arena) secret(t *testing.T, name string, data map[string][]byte) map[string]any {
	t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: name}, Data: data}
	if err := a.client.Create(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return map[string]any{"name": name}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// gitAt is an attack on a source of this URL.
func gitAt(name, url string, secret map[string]any, fails ...string) attack {
	spec := map[string]any{"url": url, "ref": map[string]any{"branch": "main"}}
	if secret != nil {
		spec["secretRef"] = secret
	}
	return attack{name: name, kind: sourcev1.GitRepositoryKind, spec: spec, fails: fails}
}

// stalls is reliability 069 and 082: servers that accept and say nothing, many sources at one of them.
func (a *arena) stalls(t *testing.T) {
	stalled := func(greeting string) *hostile.Stalled {
		s := must[*hostile.Stalled](t)(hostile.NewStalled(greeting, false))
		t.Cleanup(s.Close)
		return s
	}
	mute, banner, hole := stalled(""), stalled("SSH-2.0-hostile\r\n"), stalled("")
	silent := must[*hostile.SilentSSH](t)(hostile.NewSilentSSH())
	t.Cleanup(silent.Close)
	_, identity, err := testkit.NewSSHKey()
	if err != nil {
		t.Fatal(err)
	}
	key := a.secret(t, "ssh", map[string][]byte{"identity": identity, "known_hosts": silent.KnownHosts})
	attacks := []attack{
		gitAt("no banner", "ssh://git@"+mute.Addr+"/app.git", key, "deadline exceeded"),
		gitAt("no key exchange", "ssh://git@"+banner.Addr+"/app.git", key, "deadline exceeded"),
		gitAt("silence after the login", "ssh://git@"+silent.Addr+"/app.git", key, "deadline exceeded"),
	}
	for i := range 12 {
		attacks = append(attacks, gitAt(fmt.Sprintf("black hole %d", i), "http://"+hole.Addr+"/app.git", nil, "deadline exceeded"))
	}
	for i := range attacks {
		attacks[i].spec["timeout"] = "4s"
	}
	a.run(t, attacks...)
}

// certificates is reliability 071: what TLS is there to refuse, and no other way in.
func (a *arena) certificates(t *testing.T) {
	authority := must[*hostile.Authority](t)(hostile.NewAuthority())
	trusted := a.secret(t, "authority", map[string][]byte{"ca.crt": authority.PEM, "username": []byte(canaryUser), "password": []byte(canaryPassword)})
	var requests atomic.Int64
	var plain atomic.Int64
	at := func(name string, change func(*x509.Certificate), configure func(*tls.Config), fails ...string) attack {
		t.Helper()
		config := must[*tls.Config](t)(authority.Server(change))
		if configure != nil {
			configure(config)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
		s.TLS, s.Config.ErrorLog = config, log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		return gitAt(name, s.URL+"/app.git", trusted, fails...)
	}
	unknown := at("unknown authority", nil, nil, "unknown authority")
	unknown.spec["secretRef"] = map[string]any{"name": "canary"}
	hangUp := must[*hostile.Stalled](t)(hostile.NewStalled("\x16\x03\x03", true))
	t.Cleanup(hangUp.Close)
	cleartext := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { plain.Add(1) }))
	t.Cleanup(cleartext.Close)

	a.run(t,
		unknown,
		at("expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, nil, "expired"),
		at("not yet valid", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(2 * time.Hour) }, nil, "not yet valid"),
		at("another host", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }, nil, "127.0.0.2, not 127.0.0.1"),
		at("for clients", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, nil, "incompatible key usage"),
		at("TLS 1.0", nil, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }, "protocol version"),
		at("huge chain", nil, func(c *tls.Config) {
			c.Certificates[0].Certificate = slices.Repeat(c.Certificates[0].Certificate, 2000)
		}, "handshake message"),
		gitAt("hangs up", "https://"+hangUp.Addr+"/app.git", trusted, "clone"),
		gitAt("no TLS", strings.Replace(cleartext.URL, "http:", "https:", 1)+"/app.git", trusted, "HTTP response to HTTPS client"),
	)
	if n := requests.Load() + plain.Load(); n > 0 {
		t.Errorf("%d requests came through", n)
	}
}

// addresses is reliability 008 and 070: URLs that mean something else to a shell, a protocol or a resolver.
func (a *arena) addresses(t *testing.T) {
	server := must[*testkit.GitSSHServer](t)(testkit.NewGitSSHServer(a.git.Root, testkit.SSHServerOptions{}))
	t.Cleanup(server.Close)
	key := a.secret(t, "login", map[string][]byte{"identity": server.Identity, "known_hosts": server.KnownHosts})
	var smuggled atomic.Int64
	web := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Evil") != "" {
			smuggled.Add(1)
		}
		http.NotFound(w, r)
	}))
	shell := "repo'; touch " + a.scratch + "/pwn; '"
	host := strings.TrimPrefix(server.URL, "ssh://git@")
	a.run(t,
		gitAt("quotes for a shell", server.URL+"/"+shell, key, "clone"),
		gitAt("user that is an option", "ssh://-oProxyCommand=touch@"+host+"/app.git", key, "clone"),
		gitAt("host that is an option", "ssh://-oProxyCommand=touch/app.git", key, "no such host"),
		gitAt("path that is an option", server.URL+"/--upload-pack=touch", key, "clone"),
		gitAt("escaped line break", web+"/a%0d%0aEvil:%20yes%0d%0a/app.git", nil, "not found"),
		attack{name: "line break", kind: sourcev1.GitRepositoryKind, refused: true, fails: []string{"spec.url"}, spec: map[string]any{"url": web + "/a\r\nEvil: yes\r\n/app.git"}},
		gitAt("file", "http:///etc/passwd", nil, "host is missing"),
		attack{name: "another scheme", kind: sourcev1.GitRepositoryKind, refused: true, fails: []string{"spec.url"}, spec: map[string]any{"url": "file:///etc"}},
		gitAt("unicode host", "http://ex\u0430mple.invalid/app.git", nil, "clone"),
		gitAt("name that does not exist", "http://nowhere.invalid/app.git", nil, "nowhere.invalid"),
	)
	if smuggled.Load() > 0 {
		t.Error("a URL has smuggled a header in")
	}
	for _, command := range server.Commands() {
		if !strings.HasPrefix(command, "git-upload-pack '/") || strings.Count(strings.ReplaceAll(command, `'\''`, ""), "'") != 2 {
			t.Errorf("the SSH server was asked for %q, want one quoted argument", command)
		}
	}
}
