package git_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

func sshServer(t testing.TB, o testkit.SSHServerOptions) *testkit.GitSSHServer {
	t.Helper()
	root := t.TempDir()
	repo := must(testkit.NewGitRepo(root + "/org/app.git"))
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "first", Files: map[string]*testkit.GitFile{"f": {Content: "x"}}}))
	must(testkit.NewGitRepo(root + "/org/empty.git"))
	s := must(testkit.NewGitSSHServer(root, o))
	t.Cleanup(s.Close)
	return s
}

func sshAuth(s *testkit.GitSSHServer) git.Auth {
	return git.Auth{SSH: &secret.SSHKey{Identity: s.Identity, KnownHosts: s.KnownHosts}}
}

func TestSSH(t *testing.T) {
	server := sshServer(t, testkit.SSHServerOptions{})
	client := must(git.New(git.Options{URL: server.URL + "/org/app.git", Auth: sshAuth(server)}))
	defer client.Close()
	checkout := must(client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir()))
	defer checkout.Close()
	resolved := must(client.Resolve(t.Context(), git.Reference{Branch: "main"}))
	if resolved != checkout.Revision || checkout.Commit.Subject() != "first" {
		t.Errorf("resolved %s, fetched %s %q", resolved, checkout.Revision, checkout.Commit.Subject())
	}
	if diff := cmp.Diff([]string{"git-upload-pack '/org/app.git'", "git-upload-pack '/org/app.git'"}, server.Commands()); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestSSHErrors(t *testing.T) {
	server, other := sshServer(t, testkit.SSHServerOptions{}), sshServer(t, testkit.SSHServerOptions{})
	tests := []struct {
		name       string
		path       string
		identity   []byte
		knownHosts []byte
		want       string
		property   error
	}{
		{name: "absent repository", path: "/org/absent.git", want: "repository not found: ", property: git.ErrNotFound},
		{name: "gitrepository 35: empty repository", path: "/org/empty.git", want: "git repository is empty", property: git.ErrEmptyRepository},
		{name: "key of another host", knownHosts: []byte(strings.Replace(string(other.KnownHosts), port(other.URL), port(server.URL), 1)), want: "knownhosts: key mismatch", property: git.ErrHostKey},
		{name: "unknown host", knownHosts: other.KnownHosts, want: "knownhosts: key is unknown", property: git.ErrHostKey},
		{name: "key of another client", identity: other.Identity, want: "ssh: unable to authenticate", property: git.ErrAuthentication},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			auth := sshAuth(server)
			if test.path == "" {
				test.path = "/org/app.git"
			}
			if test.identity != nil {
				auth.SSH.Identity = test.identity
			}
			if test.knownHosts != nil {
				auth.SSH.KnownHosts = test.knownHosts
			}
			client := must(git.New(git.Options{URL: server.URL + test.path, Auth: auth}))
			defer client.Close()
			_, err := client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir())
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, test.property) {
				t.Errorf("fetch: %v, want %q and the property %q", err, test.want, test.property)
			}
		})
	}
}

func port(u string) string { return must(url.Parse(u)).Port() }

func TestSSHAuthOptions(t *testing.T) {
	_, identity, err := testkit.NewSSHKey()
	check(t, err)
	encrypted := pem.EncodeToMemory(must(ssh.MarshalPrivateKeyWithPassphrase(must(ssh.ParseRawPrivateKey(identity)), "", []byte("passphrase"))))
	hosts := []byte("host ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBYfbvMnbKFxe5A8bKeNqXWsSCQuhQmf1LrqP1vHC1zQ\n")
	tests := []struct {
		name string
		data map[string][]byte
		want string
	}{
		{"recorded ssh-secret-incomplete", map[string][]byte{"identity": []byte("nope")}, "invalid 'ssh' auth option: 'known_hosts' is required"},
		{"no identity", map[string][]byte{"known_hosts": hosts}, "invalid 'ssh' auth option: 'identity' is required"},
		{"no secret", nil, "invalid 'ssh' auth option: 'identity' is required"},
		{"not a key", map[string][]byte{"identity": []byte("nope"), "known_hosts": hosts}, "invalid 'ssh' auth option: 'identity' is not a private key: ssh: no key found"},
		{"encrypted", map[string][]byte{"identity": encrypted, "known_hosts": hosts}, "invalid 'ssh' auth option: 'identity' is encrypted, its passphrase is required as 'password'"},
		{"wrong password", map[string][]byte{"identity": encrypted, "known_hosts": hosts, "password": []byte("wrong")}, "invalid 'ssh' auth option: 'identity' cannot be decrypted with 'password': x509: decryption password incorrect"},
		{"password", map[string][]byte{"identity": encrypted, "known_hosts": hosts, "password": []byte("passphrase")}, ""},
		{"password for an open key", map[string][]byte{"identity": identity, "known_hosts": hosts, "password": []byte("passphrase")}, ""},
	}
	for _, test := range tests {
		t.Run("gitrepository 14: "+test.name, func(t *testing.T) {
			_, err := git.AuthFromSecret("ssh://git@host/app.git", test.data)
			if test.want == "" {
				check(t, err)
				return
			}
			if err == nil || err.Error() != test.want || !errors.Is(err, git.ErrInvalidAuth) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
	_, err = git.New(git.Options{URL: "ssh://git@host/app.git", Auth: git.Auth{SSH: &secret.SSHKey{Identity: identity, KnownHosts: []byte("host ssh-ed25519 !!\n")}}})
	if err == nil || !strings.Contains(err.Error(), "'known_hosts' cannot be read") || !errors.Is(err, git.ErrInvalidAuth) || strings.Contains(err.Error(), "/") {
		t.Errorf("bad known_hosts: %v", err)
	}
}

// TestSSHHostKeys: a server with keys of several types is accepted when
// known_hosts has any of them, and RSA keys sign with SHA-2 (gitrepository 19).
func TestSSHHostKeys(t *testing.T) {
	rsaKey := must(ssh.NewSignerFromKey(must(rsa.GenerateKey(rand.Reader, 2048))))
	edKey, _, err := testkit.NewSSHKey()
	check(t, err)
	server := sshServer(t, testkit.SSHServerOptions{HostKeys: []ssh.Signer{edKey, rsaKey}})
	for _, line := range strings.SplitAfter(strings.TrimSpace(string(server.KnownHosts)), "\n") {
		auth := sshAuth(server)
		auth.SSH.KnownHosts = []byte(line)
		client := must(git.New(git.Options{URL: server.URL + "/org/app.git", Auth: auth}))
		if _, err := client.Resolve(t.Context(), git.Reference{Branch: "main"}); err != nil {
			t.Errorf("known_hosts %q: %v", line, err)
		}
		client.Close()
	}
	forced := must(git.New(git.Options{URL: server.URL + "/org/app.git", Auth: sshAuth(server), HostKeyAlgos: []string{ssh.KeyAlgoECDSA256}}))
	defer forced.Close()
	if _, err := forced.Resolve(t.Context(), git.Reference{Branch: "main"}); err == nil || !strings.Contains(err.Error(), "no common algorithm for host key") {
		t.Errorf("gitrepository 19: host key algorithms of the options: %v", err)
	}
	kex := must(git.New(git.Options{URL: server.URL + "/org/app.git", Auth: sshAuth(server), KexAlgos: []string{"diffie-hellman-group1-sha1"}}))
	defer kex.Close()
	if _, err := kex.Resolve(t.Context(), git.Reference{Branch: "main"}); err == nil || !strings.Contains(err.Error(), "no common algorithm for key exchange") {
		t.Errorf("gitrepository 19: key exchange algorithms of the options: %v", err)
	}
}

// TestSSHQuoting: whatever the path, the server is asked for one quoted word.
func TestSSHQuoting(t *testing.T) {
	server := sshServer(t, testkit.SSHServerOptions{})
	for path, want := range map[string]string{
		"/repo'; touch pwn; '":           `git-upload-pack '/repo'\''; touch pwn; '\'''`,
		"/-oProxyCommand=touch pwn":      `git-upload-pack '/-oProxyCommand=touch pwn'`,
		"/a!b":                           `git-upload-pack '/a'\!'b'`,
		"/~user/app.git":                 `git-upload-pack '~user/app.git'`,
		"/$(touch pwn)`touch pwn`\n/x y": "git-upload-pack '/$(touch pwn)`touch pwn`\n/x y'",
	} {
		u := must(url.Parse(server.URL))
		u.Path = path
		client := must(git.New(git.Options{URL: u.String(), Auth: sshAuth(server)}))
		_, err := client.Resolve(t.Context(), git.Reference{Branch: "main"})
		if err == nil {
			t.Errorf("%q: no error", path)
		}
		client.Close()
		commands := server.Commands()
		if got := commands[len(commands)-1]; got != want {
			t.Errorf("%q: the server was asked for %q, want %q", path, got, want)
		}
	}
}

// TestSSHStalls: nothing a server does not do outlives the context
// (gitrepository 34).
func TestSSHStalls(t *testing.T) {
	host, identity, err := testkit.NewSSHKey()
	check(t, err)
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(host)
	tests := map[string]func(conn net.Conn) error{
		"no banner": func(net.Conn) error { return nil },
		"no key exchange": func(conn net.Conn) error {
			_, err := io.WriteString(conn, "SSH-2.0-stall\r\n")
			return err
		},
		"no answer to the request": func(conn net.Conn) error {
			_, channels, requests, err := ssh.NewServerConn(conn, config)
			if err != nil {
				return err
			}
			go ssh.DiscardRequests(requests)
			_, inSession, err := (<-channels).Accept()
			if err != nil {
				return err
			}
			<-inSession
			return nil
		},
		"no references": func(conn net.Conn) error {
			_, channels, requests, err := ssh.NewServerConn(conn, config)
			if err != nil {
				return err
			}
			go ssh.DiscardRequests(requests)
			_, inSession, err := (<-channels).Accept()
			if err != nil {
				return err
			}
			return (<-inSession).Reply(true, nil)
		},
	}
	for name, stall := range tests {
		t.Run(name, func(t *testing.T) {
			listener := must(net.Listen("tcp", "127.0.0.1:0"))
			defer listener.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stalled := make(chan error, 1)
			go func() {
				conn, err := listener.Accept()
				if err == nil {
					defer conn.Close()
					err = stall(conn)
				}
				cancel()
				stalled <- err
				<-t.Context().Done()
			}()
			knownHosts := knownhosts.Line([]string{listener.Addr().String()}, host.PublicKey())
			auth := git.Auth{SSH: &secret.SSHKey{Identity: identity, KnownHosts: []byte(knownHosts)}}
			client := must(git.New(git.Options{URL: "ssh://git@" + listener.Addr().String() + "/org/app.git", Auth: auth}))
			defer client.Close()
			if _, err := client.Fetch(ctx, git.Reference{Branch: "main"}, t.TempDir()); !errors.Is(err, context.Canceled) {
				t.Errorf("fetch: %v, want the context's error", err)
			}
			check(t, <-stalled)
		})
	}
}

// TestSSHThroughProxies: gitrepository 25.
func TestSSHThroughProxies(t *testing.T) {
	server := sshServer(t, testkit.SSHServerOptions{})
	var seen []string
	connect := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.Header.Get("Proxy-Authorization"))
		if r.Header.Get("Proxy-Authorization") == "" {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		upstream, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.WriteHeader(http.StatusOK)
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		tunnel(conn, buffered.Reader, upstream)
	}))
	defer connect.Close()
	u := must(url.Parse(connect.URL))
	refused := must(git.New(git.Options{URL: server.URL + "/org/app.git", Auth: sshAuth(server), Proxy: u}))
	defer refused.Close()
	if _, err := refused.Resolve(t.Context(), git.Reference{Branch: "main"}); err == nil || !strings.Contains(err.Error(), "the proxy answered 407") {
		t.Errorf("proxy that refuses: %v", err)
	}
	u.User = url.UserPassword("proxy", "user")
	for name, proxy := range map[string]*url.URL{"http": u, "socks5": must(url.Parse("socks5://" + socks5(t)))} {
		t.Run(name, func(t *testing.T) {
			client := must(git.New(git.Options{URL: server.URL + "/org/app.git", Auth: sshAuth(server), Proxy: proxy}))
			defer client.Close()
			checkout := must(client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir()))
			check(t, checkout.Close())
		})
	}
	if diff := cmp.Diff([]string{"CONNECT ", "CONNECT Basic cHJveHk6dXNlcg=="}, seen); diff != "" {
		t.Errorf("requests at the proxy (-want +got):\n%s", diff)
	}
}

func tunnel(client net.Conn, fromClient io.Reader, upstream net.Conn) {
	go func() {
		_, _ = io.Copy(upstream, fromClient)
		_ = upstream.Close()
	}()
	_, _ = io.Copy(client, upstream)
	_ = client.Close()
}

// socks5 starts a proxy that needs no credentials (RFC 1928).
func socks5(t *testing.T) string {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				hello := make([]byte, 2)
				if _, err := io.ReadFull(conn, hello); err != nil {
					return
				}
				_, _ = io.CopyN(io.Discard, conn, int64(hello[1]))
				_, _ = conn.Write([]byte{5, 0})
				request := make([]byte, 10) // an IPv4 address
				if _, err := io.ReadFull(conn, request); err != nil || request[3] != 1 {
					return
				}
				upstream, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: request[4:8], Port: int(request[8])<<8 | int(request[9])})
				if err != nil {
					return
				}
				_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
				tunnel(conn, conn, upstream)
			}()
		}
	}()
	return listener.Addr().String()
}
