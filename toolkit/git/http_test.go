package git_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

func TestTLS(t *testing.T) {
	authority, other := must(testkit.NewCA()), must(testkit.NewCA())
	server := must(testkit.NewGitServer(t.TempDir(), must(authority.ServerTLS())))
	t.Cleanup(server.Close)
	app(t, server)
	url := server.URL + "/app.git"
	unknown := `unable to clone '` + url + `': Get "` + url + `/info/refs?service=git-upload-pack": tls: failed to verify certificate: x509: certificate signed by unknown authority`
	tests := []struct {
		name string
		data map[string][]byte
		want string
	}{
		{"gitrepository 18: ca.crt", map[string][]byte{"ca.crt": authority.PEM}, ""},
		{"gitrepository 18: caFile", map[string][]byte{"caFile": authority.PEM}, ""},
		{"gitrepository 18: ca.crt wins over caFile", map[string][]byte{"ca.crt": other.PEM, "caFile": authority.PEM}, unknown},
		{"tls-unknown-ca", nil, unknown},
		{"tls-wrong-ca", map[string][]byte{"ca.crt": other.PEM}, unknown},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			client := must(git.New(git.Options{URL: url, Auth: must(git.AuthFromSecret(url, test.data))}))
			defer client.Close()
			checkout, err := client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir())
			if err != nil {
				// Go appends a guess when the authorities have equal names.
				if test.want == "" || !strings.HasPrefix(err.Error(), test.want) {
					t.Errorf("fetch: %v\nwant:  %s", err, test.want)
				}
				return
			}
			defer checkout.Close()
			if test.want != "" {
				t.Errorf("fetch succeeded, want: %s", test.want)
			}
		})
	}
}

// gitrepository 18: a server that asks for a client certificate gets the one of the Secret, and refuses who has none or another's.
func TestClientCertificate(t *testing.T) {
	authority, other := must(testkit.NewCA()), must(testkit.NewCA())
	config := must(authority.ServerTLS())
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	config.ClientCAs.AppendCertsFromPEM(authority.PEM)
	server := must(testkit.NewGitServer(t.TempDir(), config))
	t.Cleanup(server.Close)
	app(t, server)
	url := server.URL + "/app.git"
	for name, test := range map[string]struct {
		issuer *testkit.CA
		fails  bool
	}{"ours": {authority, false}, "none": {nil, true}, "another authority's": {other, true}} {
		t.Run(name, func(t *testing.T) {
			data := map[string][]byte{"ca.crt": authority.PEM}
			if test.issuer != nil {
				cert, key, err := test.issuer.Issue("client")
				if err != nil {
					t.Fatal(err)
				}
				data["tls.crt"], data["tls.key"] = cert, key
			}
			client := must(git.New(git.Options{URL: url, Auth: must(git.AuthFromSecret(url, data))}))
			defer client.Close()
			checkout, err := client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir())
			if (err != nil) != test.fails {
				t.Fatalf("fetch: %v, want a failure: %t", err, test.fails)
			}
			if err == nil {
				checkout.Close()
			}
		})
	}
}

func TestAuth(t *testing.T) {
	server := gitServer(t)
	app(t, server)
	withUser := strings.Replace(server.URL, "http://", "http://user:pass@", 1)
	tests := []struct {
		name    string
		url     string
		data    map[string]string
		wantErr string
	}{
		{"gitrepository 15: basic", server.URL, map[string]string{"username": "user", "password": "pass"}, ""},
		{"gitrepository 15: bearer", server.URL, map[string]string{"bearerToken": "tok123"}, ""},
		{"gitrepository 15: bearer wins over basic", server.URL, map[string]string{"bearerToken": "tok123", "username": "user", "password": "wrong"}, ""},
		{"gitrepository 16: credentials of the URL", withUser, nil, ""},
		{"gitrepository 16: the secret wins over the URL", withUser, map[string]string{"username": "user", "password": "wrong"}, "authentication required: Unauthorized"},
		{"gitrepository 15: bearer with credentials in the URL", withUser, map[string]string{"bearerToken": "tok123"}, "invalid 'http' auth option: a bearer token cannot be combined with a user name and password"},
		{"gitrepository 15: password without username", server.URL, map[string]string{"password": "pass"}, "invalid 'http' auth option: key 'username': key is required beside 'password'"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			data := map[string][]byte{}
			for k, v := range test.data {
				data[k] = []byte(v)
			}
			err := func() error {
				auth, err := git.AuthFromSecret(test.url+"/auth/app.git", data)
				if err != nil {
					return err
				}
				client, err := git.New(git.Options{URL: test.url + "/auth/app.git", Auth: auth})
				if err != nil {
					return err
				}
				defer client.Close()
				_, err = client.Resolve(t.Context(), git.Reference{Branch: "main"})
				return err
			}()
			switch {
			case test.wantErr == "" && err != nil:
				t.Error(err)
			case test.wantErr != "" && (err == nil || !strings.HasSuffix(err.Error(), test.wantErr)):
				t.Errorf("got %v, want %s", err, test.wantErr)
			case err != nil && strings.Contains(err.Error(), "pass@"):
				t.Errorf("%v shows the password", err)
			}
		})
	}
}

// TestFetchIsShallow counts on the server side what a fetch asks for and how
// many connections it takes (gitrepository 27, 37).
func TestFetchIsShallow(t *testing.T) {
	var requests []string
	var connections int
	root := t.TempDir()
	repo := must(testkit.NewGitRepo(root + "/app.git"))
	for _, message := range []string{"1", "2", "3"} {
		must(repo.Commit(testkit.GitCommit{Branch: "main", Message: message, Files: map[string]*testkit.GitFile{"f": {Content: message}}}))
	}
	backend := must(testkit.GitHandler(root))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := must(io.ReadAll(r.Body))
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		requests = append(requests, r.Method+" "+r.URL.RequestURI()+" "+string(body))
		backend.ServeHTTP(w, r)
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections++
		}
	}
	server.Start()
	defer server.Close()

	client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
	defer client.Close()
	must(client.Resolve(t.Context(), git.Reference{Branch: "main"}))
	checkout := must(client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir()))
	defer checkout.Close()
	if len(requests) != 3 || !strings.HasPrefix(requests[1], "GET /app.git/info/refs?service=git-upload-pack") {
		t.Fatalf("requests %q", requests)
	}
	if !strings.Contains(requests[2], "want "+checkout.Commit.Hash) || !strings.Contains(requests[2], "deepen 1\n") || strings.Count(requests[2], "want ") != 1 {
		t.Errorf("pack request %q, want one hash at depth 1", requests[2])
	}
	if connections != 1 {
		t.Errorf("%d connections, want 1", connections)
	}
}

// TestCredentialsAreBound: credentials belong to a scheme, host and port, and
// redirects strip them.
func TestCredentialsAreBound(t *testing.T) {
	home := gitServer(t)
	app(t, home)
	var leaked []string
	foreign := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaked = append(leaked, r.Header.Get("Authorization"))
		http.Redirect(w, r, home.URL+strings.TrimPrefix(r.URL.Path, "/away")+"?"+r.URL.RawQuery, http.StatusFound)
	}))
	defer foreign.Close()
	entry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, foreign.URL+"/away"+r.URL.Path+"?"+r.URL.RawQuery, http.StatusFound)
	}))
	defer entry.Close()

	auth := git.Auth{Basic: &secret.Basic{Username: "user", Password: "pass"}}
	client := must(git.New(git.Options{URL: entry.URL + "/app.git", Auth: auth}))
	defer client.Close()
	checkout := must(client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir()))
	check(t, checkout.Close())
	if diff := cmp.Diff([]string{""}, leaked); diff != "" {
		t.Errorf("Authorization on the foreign server (-want +got):\n%s", diff)
	}

	private := must(git.New(git.Options{URL: entry.URL + "/auth/app.git", Auth: auth}))
	defer private.Close()
	if _, err := private.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir()); !errors.Is(err, git.ErrAuthentication) {
		t.Errorf("fetch through a foreign server: %v, want ErrAuthentication", err)
	}
}

func TestRedirectsThatAreRefused(t *testing.T) {
	tests := []struct {
		name string
		to   string
		want string
	}{
		{"elsewhere", "/login", "which is not the list of references"},
		{"another scheme", "file:///etc/passwd", "refusing a redirect from http to file"},
		{"circle", "/app.git/info/refs", "stopped after 10 redirects"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/login" {
					return
				}
				http.Redirect(w, r, test.to, http.StatusFound)
			}))
			defer server.Close()
			client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
			defer client.Close()
			_, err := client.Resolve(t.Context(), git.Reference{Branch: "main"})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("resolve: %v, want %q", err, test.want)
			}
		})
	}
}

// TestProxy: the proxy of the options beats that of the environment, which
// does not serve loopback anyway (gitrepository 25).
func TestProxy(t *testing.T) {
	server := gitServer(t)
	app(t, server)
	var seen []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Proxy-Authorization"))
		r.RequestURI = ""
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	}))
	defer proxy.Close()
	u := must(url.Parse(proxy.URL))
	u.User = url.UserPassword("proxy", "user")
	client := must(git.New(git.Options{URL: server.URL + "/app.git", Proxy: u}))
	defer client.Close()
	checkout := must(client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir()))
	check(t, checkout.Close())
	if diff := cmp.Diff([]string{"Basic cHJveHk6dXNlcg==", "Basic cHJveHk6dXNlcg=="}, seen); diff != "" {
		t.Errorf("requests at the proxy (-want +got):\n%s", diff)
	}
}

// TestDeadline: the context covers every wait for the server (gitrepository 34).
func TestDeadline(t *testing.T) {
	root := t.TempDir()
	repo := must(testkit.NewGitRepo(root + "/app.git"))
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "1"}))
	handler := must(testkit.GitHandler(root))
	for _, stalled := range []string{"GET", "POST"} {
		t.Run(stalled, func(t *testing.T) {
			reached := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != stalled {
					handler.ServeHTTP(w, r)
					return
				}
				// Only a request whose body was read notices that its client left.
				_, _ = io.Copy(io.Discard, r.Body)
				close(reached)
				<-r.Context().Done()
			}))
			defer server.Close()
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-reached
				cancel(context.DeadlineExceeded)
			}()
			client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
			defer client.Close()
			_, err := client.Fetch(ctx, git.Reference{Branch: "main"}, t.TempDir())
			if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("fetch: %v, want the context's error", err)
			}
		})
	}
}
