package auth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
)

// hub is GitHub's API as far as apps know it, with one installation of one app.
type hub struct {
	URL string
	key *rsa.PrivateKey
	// owners are the paths of the owners that have installed the app.
	owners map[string]int
	// instead answers everything, when set.
	instead http.HandlerFunc
	now     time.Time

	mu       sync.Mutex // guards requests
	requests []string
}

// appKey is the same for all, for making one takes longer than most tests.
var appKey = sync.OnceValue(newKey)

func newKey() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) }

func pemOf(key *rsa.PrivateKey) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
}

func newHub(t testing.TB, config *tls.Config) *hub {
	t.Helper()
	h := &hub{key: appKey(), owners: map[string]int{}}
	server := httptest.NewUnstartedServer(h)
	if config != nil {
		server.TLS = config
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	h.URL = server.URL
	return h
}

// data is the Secret of the app, without an installation.
func (h *hub) data(more map[string]string) map[string][]byte {
	out := map[string][]byte{
		auth.GitHubAppIDKey: []byte("1234"), auth.GitHubAppBaseURLKey: []byte(h.URL + "/api/v3"),
		auth.GitHubAppPrivateKeyKey: pemOf(h.key),
	}
	for k, v := range more {
		if out[k] = []byte(v); v == "" {
			delete(out, k)
		}
	}
	return out
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.requests = append(h.requests, r.Method+" "+r.URL.EscapedPath())
	h.mu.Unlock()
	if h.instead != nil {
		h.instead(w, r)
		return
	}
	if err := h.checkToken(r); err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	path := strings.TrimPrefix(r.URL.EscapedPath(), "/api/v3")
	if id := h.owners[path]; id != 0 {
		_ = json.NewEncoder(w).Encode(map[string]any{"id": id, "app_id": 1234})
		return
	}
	if r.Method == http.MethodPost && path == "/app/installations/42/access_tokens" {
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"token": "ghs_installation", "expires_at": h.now.Add(time.Hour), "permissions": map[string]string{"contents": "read"}})
		return
	}
	http.Error(w, `{"message":"Not Found"}`, http.StatusNotFound)
}

// checkToken holds the token of the app to gitrepository 22.
func (h *hub) checkToken(r *http.Request) error {
	raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return errors.New("no bearer token")
	}
	var claims jwt.RegisteredClaims
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithTimeFunc(func() time.Time { return h.now }))
	if _, err := parser.ParseWithClaims(raw, &claims, func(*jwt.Token) (any, error) { return h.key.Public(), nil }); err != nil {
		return err
	}
	if claims.Issuer != "1234" || !claims.IssuedAt.Equal(h.now.Add(-30*time.Second)) || !claims.ExpiresAt.Equal(claims.IssuedAt.Add(2*time.Minute)) {
		return fmt.Errorf("claims are %+v", claims)
	}
	return nil
}

// gitrepository 22: who the app is for, and how its installation is found.
func TestGitHubApp(t *testing.T) {
	for name, test := range map[string]struct {
		owners   map[string]int
		data     map[string]string
		requests []string
	}{
		"installation": {
			data:     map[string]string{auth.GitHubAppInstallationIDKey: " 42\n"},
			requests: []string{"POST /api/v3/app/installations/42/access_tokens"},
		},
		"organization": {
			owners: map[string]int{"/orgs/acme/installation": 42, "/users/acme/installation": 7},
			data:   map[string]string{auth.GitHubAppInstallationOwnerKey: "acme"},
			requests: []string{
				"GET /api/v3/orgs/acme/installation", "POST /api/v3/app/installations/42/access_tokens",
			},
		},
		"user": {
			owners: map[string]int{"/users/dev/installation": 42},
			data:   map[string]string{auth.GitHubAppInstallationOwnerKey: "dev"},
			requests: []string{
				"GET /api/v3/orgs/dev/installation", "GET /api/v3/users/dev/installation", "POST /api/v3/app/installations/42/access_tokens",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, h := newLab(t), newHub(t, nil)
			h.now, h.owners = l.clock.Now(), test.owners
			for range 2 {
				got, err := l.GitHubApp(t.Context(), request(as("ignored")), h.data(test.data), nil)
				if err != nil {
					t.Fatal(err)
				}
				expect(t, "login", &auth.Login{Username: "x-access-token", Password: "ghs_installation", Expires: h.now.Add(time.Hour)}, got)
			}
			expect(t, "requests", test.requests, h.requests)
		})
	}
}

// gitrepository 22: the authorities of the Secret apply to the API.
func TestGitHubAppTLS(t *testing.T) {
	authority := must(testkit.NewCA())
	l, h := newLab(t), newHub(t, must(authority.ServerTLS()))
	h.now = l.clock.Now()
	data := h.data(map[string]string{auth.GitHubAppInstallationIDKey: "42"})
	if _, err := l.GitHubApp(t.Context(), request(), data, nil); err == nil {
		t.Error("an unknown authority is trusted")
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority.PEM)
	if _, err := l.GitHubApp(t.Context(), request(), data, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}); err != nil {
		t.Error(err)
	}
}

// A login is kept for the whole Secret: another key of the same app does not get it.
func TestGitHubAppCache(t *testing.T) {
	l, h := newLab(t), newHub(t, nil)
	h.now = l.clock.Now()
	data := h.data(map[string]string{auth.GitHubAppInstallationIDKey: "42"})
	if _, err := l.GitHubApp(t.Context(), request(), data, nil); err != nil {
		t.Fatal(err)
	}
	stolen := maps.Clone(data)
	stolen[auth.GitHubAppPrivateKeyKey] = pemOf(newKey())
	if _, err := l.GitHubApp(t.Context(), request(), stolen, nil); err == nil {
		t.Error("a key that GitHub does not know got the login of another one")
	}
}

// _common 44, gitrepository 21: what a Secret must hold. No value of it is told.
func TestGitHubAppData(t *testing.T) {
	for name, test := range map[string]struct {
		data map[string]string
		want string
	}{
		"no app":              {map[string]string{auth.GitHubAppIDKey: ""}, "key 'githubAppID' is required"},
		"no key":              {map[string]string{auth.GitHubAppPrivateKeyKey: ""}, "key 'githubAppPrivateKey' is required"},
		"no installation":     {nil, "key 'githubAppInstallationOwner' or 'githubAppInstallationID' is required"},
		"two installations":   {map[string]string{auth.GitHubAppInstallationOwnerKey: "a", auth.GitHubAppInstallationIDKey: "1"}, "remove one of them"},
		"not a number":        {map[string]string{auth.GitHubAppInstallationIDKey: "1/../canary"}, "key 'githubAppInstallationID' is not a number"},
		"not a key":           {map[string]string{auth.GitHubAppInstallationIDKey: "1", auth.GitHubAppPrivateKeyKey: "canary"}, "key 'githubAppPrivateKey' is not an RSA key in PEM"},
		"not a URL":           {map[string]string{auth.GitHubAppInstallationIDKey: "1", auth.GitHubAppBaseURLKey: "https://u:canary@/%zz"}, "key 'githubAppBaseURL' is not a URL"},
		"not a URL for calls": {map[string]string{auth.GitHubAppInstallationIDKey: "1", auth.GitHubAppBaseURLKey: "ssh://canary"}, "key 'githubAppBaseURL' is not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			l, h := newLab(t), newHub(t, nil)
			_, err := l.GitHubApp(t.Context(), request(), h.data(test.data), nil)
			if !errors.Is(err, auth.ErrAppData) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("error = %v, want %v and %q in it", err, auth.ErrAppData, test.want)
			}
			expect(t, "requests", nil, h.requests)
		})
	}
}

// Whatever the API answers: an error that says what was asked for, on one line, without the app's token.
func TestGitHubAppRefusals(t *testing.T) {
	answer := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	elsewhere := newHub(t, nil)
	elsewhere.instead = answer(http.StatusOK, `{"token":"canary"}`)
	for name, test := range map[string]struct {
		data    map[string]string
		instead http.HandlerFunc
		want    string
		is      error
	}{
		"not installed": {data: map[string]string{auth.GitHubAppInstallationOwnerKey: "acme"}, want: "neither an organization nor a user of this name has installed the app"},
		"owner that is a path": {
			data: map[string]string{auth.GitHubAppInstallationOwnerKey: "../app/installations/42/access_tokens?"}, want: "neither an organization",
		},
		"revoked": {instead: answer(401, "{\"message\":\n \"Bad credentials\"}"), want: `answered 401 Unauthorized: {"message": "Bad credentials"}`},
		"token quoted": {
			instead: func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.Header.Get("Authorization"), 400) }, want: "answered 400 Bad Request: Bearer ***",
		},
		"not JSON":         {instead: answer(201, "<html>canary"), want: "not the expected JSON"},
		"no token":         {instead: answer(201, `{}`), want: "the answer has no token"},
		"owner without id": {data: map[string]string{auth.GitHubAppInstallationOwnerKey: "acme"}, instead: answer(200, `{}`), want: "the answer has no id"},
		"redirect": {instead: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, want: "answered 307"},
		"endless": {instead: answer(201, strings.Repeat(" ", 2<<20)+`{"token":"canary"}`), want: "has more than 1048576 bytes", is: auth.ErrLimit},
	} {
		t.Run(name, func(t *testing.T) {
			l, h := newLab(t), newHub(t, nil)
			h.now, h.instead = l.clock.Now(), test.instead
			if test.data == nil {
				test.data = map[string]string{auth.GitHubAppInstallationIDKey: "42"}
			}
			_, err := l.GitHubApp(t.Context(), request(), h.data(test.data), nil)
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error()
			if !strings.HasPrefix(text, "obtain a token of the GitHub App '1234': ") || !strings.Contains(text, test.want) {
				t.Errorf("error = %s\nwant %q in it", text, test.want)
			}
			if strings.Contains(text, "canary") || strings.Contains(text, "eyJ") || strings.Contains(text, "\n") {
				t.Errorf("error tells too much: %q", text)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error = %v, want %v", err, test.is)
			}
			expect(t, "requests to where the redirect leads", 0, len(elsewhere.requests))
		})
	}
}

// A proxy is used for the API, and its password stays out of the error.
func TestGitHubAppProxy(t *testing.T) {
	l, h := newLab(t), newHub(t, nil)
	h.now = l.clock.Now()
	var seen []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.URL.Host+" "+r.Header.Get("Proxy-Authorization"))
		http.Error(w, "not today", http.StatusBadGateway)
	}))
	t.Cleanup(proxy.Close)
	r := request(func(r *auth.Request) {
		r.Proxy = must(url.Parse(strings.Replace(proxy.URL, "http://", "http://u:canary@", 1)))
	})
	data := h.data(map[string]string{auth.GitHubAppInstallationIDKey: "42", auth.GitHubAppBaseURLKey: "http://api.example"})
	_, err := l.GitHubApp(t.Context(), r, data, nil)
	if err == nil || !strings.Contains(err.Error(), "not today") || strings.Contains(err.Error(), "canary") {
		t.Errorf("error = %v", err)
	}
	expect(t, "requests to the proxy", []string{"POST api.example Basic dTpjYW5hcnk="}, seen)
}

// The API may answer anything.
func FuzzGitHubAnswer(f *testing.F) {
	for _, seed := range []string{`{"token":"x","expires_at":"2026-01-02T03:04:05Z"}`, `{"token":1}`, `[]`, ``, `{"expires_at":"x"}`, `null`} {
		f.Add([]byte(seed))
	}
	h := newHub(f, nil)
	data := h.data(map[string]string{auth.GitHubAppInstallationIDKey: "42"})
	f.Fuzz(func(t *testing.T, body []byte) {
		h.instead = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
		got, err := must(auth.New(auth.Options{})).GitHubApp(t.Context(), request(), data, nil)
		if err == nil && got.Password == "" {
			t.Error("a login without a password")
		}
	})
}

// Whatever stands in a spec as the address of a registry: the host that is asked for is one.
func FuzzRepository(f *testing.F) {
	for _, seed := range []string{"registry.example/app", "oci://h:5000/a", "https://u@h", "h:port", "[::1]:5000/a", "%zz", "a b", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, repository string) {
		cloud := &authtest.Cloud{Provider: "aws"}
		a := must(auth.New(auth.Options{Clouds: []auth.Cloud{cloud}}))
		if _, err := a.Registry(t.Context(), "aws", request(), repository); err != nil {
			return
		}
		host := strings.TrimPrefix(cloud.Calls()[0], "process registry ")
		if host == "" || strings.ContainsAny(host, "/@?# ") || host != strings.ToLower(host) {
			t.Errorf("host of %q is %q", repository, host)
		}
	})
}
