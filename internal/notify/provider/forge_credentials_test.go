package provider_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// appKey is the private key of the app of these tests, in PEM.
var appKey = sync.OnceValue(func() []byte {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
})

// enterprise is a server of GitHub Enterprise with a certificate of its own, and an app that is installed there.
type enterprise struct {
	config provider.Config
	// refuses is what the server answers to who asks for a token; 0: it gives one.
	refuses int
	calls   []string
}

func newEnterprise(t *testing.T, kind string) *enterprise {
	t.Helper()
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	h := &enterprise{}
	server := httptest.NewUnstartedServer(h)
	if server.TLS, err = ca.ServerTLS(); err != nil {
		t.Fatal(err)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	var transports provider.Transports
	t.Cleanup(transports.Close)
	transport, config, err := transports.Get(&secret.TLSMaterial{CA: ca.PEM}, nil)
	if err != nil {
		t.Fatal(err)
	}
	authenticator, err := auth.New(auth.Options{CacheSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	h.config = provider.Config{
		Type: kind, Address: server.URL + "/org/app", CommitStatus: "id", Auth: authenticator, TLS: config,
		Provider: provider.Owner{Namespace: "prod", Name: "p", UID: "u1"}, HTTP: provider.NewClient(transport, "flux"),
		Secret: map[string][]byte{
			auth.GitHubAppIDKey: []byte("12"), auth.GitHubAppInstallationIDKey: []byte("34"), auth.GitHubAppPrivateKeyKey: appKey(),
			auth.GitHubAppBaseURLKey: []byte(server.URL + "/api/v3"),
		},
	}
	return h
}

func (h *enterprise) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	authorization := r.Header.Get("Authorization")
	if strings.HasSuffix(r.URL.Path, "/access_tokens") {
		authorization = "the app's own"
	}
	h.calls = append(h.calls, r.Method+" "+r.URL.Path+" "+authorization)
	switch {
	case !strings.HasSuffix(r.URL.Path, "/access_tokens"):
		gitAnswering(200, "[]")(w, r)
	case h.refuses != 0:
		http.Error(w, "the-answer-of-the-service", h.refuses)
	default:
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{"token": "ghs_installation", "expires_at": time.Now().Add(time.Hour)})
	}
}

// provider 15, 45: the token of an app is obtained once for two notifications, from a server with a CA of its own.
func TestGitHubApp(t *testing.T) {
	h := newEnterprise(t, "github")
	for range 2 {
		if err := tellGitHost(t, h.config, providertest.Applied()); err != nil {
			t.Fatal(err)
		}
	}
	sha := strings.TrimPrefix(providertest.Applied().Metadata["revision"], "main@sha1:")
	list := "GET /api/v3/repos/org/app/commits/" + sha + "/statuses Bearer ghs_installation"
	post := "POST /api/v3/repos/org/app/statuses/" + sha + " Bearer ghs_installation"
	if diff := cmp.Diff([]string{"POST /api/v3/app/installations/34/access_tokens the app's own", list, post, list, post}, h.calls); diff != "" {
		t.Error(diff)
	}
}

// provider 15: the token of the Secret goes before its app.
func TestGitHubTokenBeforeApp(t *testing.T) {
	h := newEnterprise(t, "githubdispatch")
	h.config.Token = "ghp_token"
	if err := tellGitHost(t, h.config, providertest.Applied()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"POST /api/v3/repos/org/app/dispatches Bearer ghp_token"}, h.calls); diff != "" {
		t.Error(diff)
	}
}

// provider 15: an app that cannot be used is told without what the server has answered, and nothing is sent.
func TestGitHubAppFails(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(h *enterprise)
		want   string
	}{
		{"refused", func(h *enterprise) { h.refuses = 404 }, "of the GitHub App of spec.secretRef: request failed with status code 404"},
		{"refused, and that is all", func(h *enterprise) { h.refuses = 401 }, "status code 401$"},
		{"no key", func(h *enterprise) { delete(h.config.Secret, auth.GitHubAppPrivateKeyKey) }, "key 'githubAppPrivateKey' is required"},
		{"no clouds", func(h *enterprise) { h.config.Auth = nil }, "obtains no credentials"},
		{"another CA", func(h *enterprise) { h.config.TLS = nil }, "certificate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newEnterprise(t, "githubpullrequestcomment")
			test.change(h)
			err := tellGitHost(t, h.config, onRequest(providertest.Applied()))
			if err == nil || !strings.Contains(err.Error()+"$", test.want) || strings.Contains(err.Error(), "the-answer") {
				t.Errorf("error = %v, want %q", err, test.want)
			}
			for _, call := range h.calls {
				if !strings.Contains(call, "access_tokens") {
					t.Errorf("sent %s", call)
				}
			}
		})
	}
}

// provider 8, 42: without a token, the identity of the ServiceAccount is used; with one, it is not asked for.
func TestAzureIdentity(t *testing.T) {
	accounts := authtest.NewAccounts(t)
	accounts.Put("prod", "notifier", "uid", nil)
	cloud := &authtest.Cloud{Provider: auth.Azure}
	newAuth := func(objectLevel bool) *auth.Authenticator {
		a, err := auth.New(auth.Options{Clouds: []auth.Cloud{cloud}, ServiceAccounts: accounts.Client, ObjectLevel: objectLevel, CacheSize: 10})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, test := range []struct {
		name    string
		change  func(c *provider.Config)
		want    string // header Authorization
		fails   string // in the error
		request string // to the cloud
	}{
		{"account", func(c *provider.Config) { c.ServiceAccountName = "notifier" }, "Bearer secret-1", "", "prod/notifier git"},
		{"process", func(*provider.Config) {}, "Bearer secret-2", "", "process git"},
		{"token", func(c *provider.Config) { c.Token, c.ServiceAccountName = "t", "notifier" }, "Basic OnQ=", "", ""},
		{"feature gate", func(c *provider.Config) { c.Auth, c.ServiceAccountName = newAuth(false), "notifier" }, "", "ObjectLevelWorkloadIdentity", ""},
		{"no such account", func(c *provider.Config) { c.ServiceAccountName = "nobody" }, "", "'prod/nobody' does not exist", ""},
		{"no clouds", func(c *provider.Config) { c.Auth = nil }, "", "there is no token, and no identity for this address", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(cloud.Calls())
			var authorization string
			c, calls := gitHost(t, "azuredevops", func(w http.ResponseWriter, r *http.Request) {
				authorization = r.Header.Get("Authorization")
				gitAnswering(200, `{"value":[]}`)(w, r)
			})
			c.Token, c.Auth = "", newAuth(true)
			test.change(&c)
			err := tellGitHost(t, c, providertest.Applied())
			if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
				t.Errorf("error = %v, want %q", err, test.fails)
			}
			if authorization != test.want || len(calls()) > 0 != (test.fails == "") {
				t.Errorf("Authorization is %q, want %q; calls are %q", authorization, test.want, calls())
			}
			asked := strings.Join(cloud.Calls()[before:], "\n")
			if !strings.HasPrefix(asked, test.request) || (asked == "") != (test.request == "") {
				t.Errorf("the cloud was asked %q, want %q", asked, test.request)
			}
		})
	}
}
