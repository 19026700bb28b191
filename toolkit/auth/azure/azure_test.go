package azure_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
	"github.com/seed-79636ae9/flux/toolkit/auth/azure"
)

const (
	tenant    = "11111111-1111-1111-1111-111111111111"
	client    = "22222222-2222-2222-2222-222222222222"
	assertion = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// entra is Entra ID and a registry, with the payloads of their documentation.
type entra struct {
	URL string
	// token and exchange answer instead, when set.
	token, exchange http.HandlerFunc
	// kubeconfig is what the resource manager hands out.
	kubeconfig string

	mu   sync.Mutex // guards seen
	seen []string
}

func (e *entra) saw(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, fmt.Sprintf(format, args...))
}

func (e *entra) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// A failure to parse shows in what is seen.
	_ = r.ParseForm()
	switch {
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		_, _ = fmt.Fprintf(w, `{"token_endpoint":"%[1]s/%[2]s/oauth2/v2.0/token","authorization_endpoint":"%[1]s/%[2]s/oauth2/v2.0/authorize","issuer":"%[1]s/%[2]s/v2.0"}`, e.URL, tenant)
	case strings.HasSuffix(r.URL.Path, "/oauth2/v2.0/token"):
		e.saw("%s %s %s %s", r.URL.Path, r.Form.Get("client_id"), r.Form.Get("scope"), r.Form.Get("client_assertion")+r.Form.Get("client_secret"))
		if a := r.Form.Get("client_assertion_type"); a != "" && a != assertion {
			http.Error(w, "not an assertion", http.StatusBadRequest)
			return
		}
		if e.token != nil {
			e.token(w, r)
			return
		}
		_, _ = fmt.Fprint(w, `{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"canary-entra"}`)
	case r.URL.Path == "/oauth2/exchange":
		e.saw("exchange %s %s %s", r.Form.Get("grant_type"), r.Form.Get("service"), r.Form.Get("access_token"))
		if e.exchange != nil {
			e.exchange(w, r)
			return
		}
		_, _ = fmt.Fprintf(w, `{"refresh_token":"%s"}`, registryToken())
	case strings.HasSuffix(r.URL.Path, "/listClusterUserCredential"):
		e.cluster(w, r)
	default:
		http.NotFound(w, r)
	}
}

// registryToken says that it ends at 1767326645.
func registryToken() string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(`{"exp":1767326645}`)) + "." + encode([]byte("signature"))
}

func expect[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// lab is Azure with this Entra ID, in an environment without anything of Azure. The SDK wants TLS: the call's client trusts the server.
func lab(t *testing.T) (*azure.Cloud, *entra, func(annotations map[string]string) *auth.Call) {
	t.Helper()
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "AZURE_") || strings.HasPrefix(name, "IDENTITY_") || strings.HasPrefix(name, "MSI_") {
			// Setenv is what puts it back.
			t.Setenv(name, value)
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	e := &entra{}
	server := httptest.NewTLSServer(e)
	t.Cleanup(server.Close)
	e.URL = server.URL
	cloud := azure.New(azure.Options{Authority: server.URL, Exchange: server.URL, Manager: server.URL, TrustedHosts: []string{"git.test:1"}})
	call := func(annotations map[string]string) *auth.Call {
		c := &auth.Call{HTTP: server.Client()}
		if annotations != nil {
			c.Account = &auth.Account{Namespace: "apps", Name: "team", Annotations: annotations}
			c.Account.Token = func(_ context.Context, audience string) (string, error) {
				return authtest.TokenOf("apps", "team", audience), nil
			}
		}
		return c
	}
	return cloud, e, call
}

func annotations() map[string]string {
	return map[string]string{"azure.workload.identity/tenant-id": tenant, "azure.workload.identity/client-id": client}
}

// bucket 12: the ways in which a process is given an identity.
func TestOwnToken(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		seen string
	}{
		"environment": {
			map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_CLIENT_SECRET": "canary-client"}, "canary-client",
		},
		"workload identity": {
			map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_FEDERATED_TOKEN_FILE": "FILE"}, "content-of-the-file",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cloud, e, call := lab(t)
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte("content-of-the-file"), 0o600); err != nil {
				t.Fatal(err)
			}
			for k, v := range test.env {
				t.Setenv(k, strings.Replace(v, "FILE", file, 1))
			}
			before := time.Now()
			got, err := cloud.Token(t.Context(), call(nil), []string{"https://storage.azure.com/.default"})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "token", "canary-entra", got.Value)
			if life := got.Expires.Sub(before); life < 59*time.Minute || life > 61*time.Minute {
				t.Errorf("it lives %s, want an hour", life)
			}
			want := "/" + tenant + "/oauth2/v2.0/token " + client + " https://storage.azure.com/.default openid offline_access profile " + test.seen
			expect(t, "requests", []string{want}, e.seen)
		})
	}
}

// Without anything else it is the managed identity of the machine.
func TestManagedIdentity(t *testing.T) {
	cloud, _, call := lab(t)
	var seen string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("X-Identity-Header") + " " + r.URL.Query().Get("resource") + " " + r.URL.Query().Get("client_id")
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token":"canary-managed","expires_on":"%d","resource":"r","token_type":"Bearer"}`, time.Now().Add(time.Hour).Unix())
	}))
	t.Cleanup(server.Close)
	t.Setenv("IDENTITY_ENDPOINT", server.URL)
	t.Setenv("IDENTITY_HEADER", "header")
	t.Setenv("AZURE_CLIENT_ID", client)
	got, err := cloud.Token(t.Context(), call(nil), []string{"https://storage.azure.com/.default"})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "token", "canary-managed", got.Value)
	expect(t, "request", "header https://storage.azure.com "+client, seen)
}

// gitrepository 23, ocirepository 22; wire 2: what an account is exchanged for.
func TestAccount(t *testing.T) {
	cloud, e, call := lab(t)
	asked := func(scope string) string {
		return "/" + tenant + "/oauth2/v2.0/token " + client + " " + scope + " openid offline_access profile " + authtest.TokenOf("apps", "team", "api://AzureADTokenExchange")
	}
	u := &url.URL{Scheme: "https", Host: "dev.azure.com", Path: "/o/p/_git/r"}
	login, err := cloud.Git(t.Context(), call(annotations()), u)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "bearer", "canary-entra", login.Bearer)
	if login.Expires.IsZero() || login.Username != "" || login.Password != "" {
		t.Errorf("login = %+v", login)
	}
	registry, err := cloud.Registry(t.Context(), call(annotations()), "team.azurecr.io")
	if err != nil {
		t.Fatal(err)
	}
	want := auth.Login{Username: "00000000-0000-0000-0000-000000000000", Password: registryToken(), Expires: time.Unix(1767326645, 0)}
	expect(t, "login of the registry", want, registry)
	expect(t, "requests", []string{
		asked("499b84ac-1321-427f-aa17-267ca6975798/.default"), asked("https://containerregistry.azure.net/.default"),
		"exchange access_token team.azurecr.io canary-entra",
	}, e.seen)
}

// wire 2: both annotations are needed.
func TestAnnotations(t *testing.T) {
	for name, edit := range map[string]func(map[string]string){
		"none":               func(a map[string]string) { clear(a) },
		"no tenant":          func(a map[string]string) { delete(a, "azure.workload.identity/tenant-id") },
		"no client":          func(a map[string]string) { delete(a, "azure.workload.identity/client-id") },
		"a tenant with path": func(a map[string]string) { a["azure.workload.identity/tenant-id"] = "../x" },
	} {
		t.Run(name, func(t *testing.T) {
			cloud, e, call := lab(t)
			a := annotations()
			edit(a)
			if _, err := cloud.Token(t.Context(), call(a), []string{"s/.default"}); !errors.Is(err, auth.ErrServiceAccount) {
				t.Errorf("error = %v, want %v", err, auth.ErrServiceAccount)
			}
			expect(t, "requests", nil, e.seen)
		})
	}
}

// A token that tells no end lives as long as the one it was given for.
func TestOpaqueRegistryToken(t *testing.T) {
	cloud, e, call := lab(t)
	e.exchange = func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"refresh_token":"opaque"}`) }
	before := time.Now()
	got, err := cloud.Registry(t.Context(), call(annotations()), "team.azurecr.io")
	if err != nil {
		t.Fatal(err)
	}
	if life := got.Expires.Sub(before); got.Password != "opaque" || life < 59*time.Minute || life > 61*time.Minute {
		t.Errorf("login = %+v, lives %s", got, life)
	}
}

// An object chooses the address; a token of Azure goes to Azure.
func TestHosts(t *testing.T) {
	cloud, _, _ := lab(t)
	for host, ours := range map[string]bool{
		"team.azurecr.io": true, "team.azurecr.cn": true, "team.azurecr.us": true, "team.azurecr.de": true, "team.eastus.azurecr.io": true,
		"azurecr.io": false, ".azurecr.io": false, "team.azurecr.io.evil.example": false, "team.azurecr.com": false, "team.azurecr.io:5000": false,
		"evilazurecr.io": false, "ghcr.io": false,
	} {
		if err := cloud.CheckRegistry(host); ours != (err == nil) || !ours && !errors.Is(err, auth.ErrUnsupported) {
			t.Errorf("registry %s: error = %v, want one: %t", host, err, !ours)
		}
	}
	for raw, ours := range map[string]bool{
		"https://dev.azure.com/o/p/_git/r": true, "https://o.visualstudio.com/p/_git/r": true, "http://git.test:1/r": true,
		"http://dev.azure.com/o/p/_git/r": false, "https://dev.azure.com.evil.example/r": false, "https://evilvisualstudio.com/r": false,
		"https://dev.azure.com:8443/r": false, "ssh://dev.azure.com/r": false, "https://git.test/r": false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := cloud.CheckGit(u); ours != (err == nil) || !ours && !errors.Is(err, auth.ErrUnsupported) {
			t.Errorf("repository %s: error = %v, want one: %t", raw, err, !ours)
		}
	}
}

// What Entra ID says is told on one line, without its ids, which would make every try look new.
func TestErrors(t *testing.T) {
	cloud, e, call := lab(t)
	e.token = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = fmt.Fprint(w, `{"error":"invalid_client","error_description":"AADSTS700213: No matching federated identity record found. Trace ID: 1 Correlation ID: 2 Timestamp: 3","error_codes":[700213]}`)
	}
	_, err := cloud.Token(t.Context(), call(annotations()), []string{"s/.default"})
	expect(t, "error", "get a token for 's/.default': Entra ID answered 401: AADSTS700213: No matching federated identity record found.", fmt.Sprint(err))

	e.token = nil
	for name, test := range map[string]struct {
		exchange http.HandlerFunc
		want     string
	}{
		"refused":  {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no pull", http.StatusForbidden) }, "answered 403 Forbidden: no pull"},
		"no token": {func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{}`) }, "the answer has no token"},
		"no JSON":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `<html>`) }, "not the expected JSON"},
	} {
		e.exchange = test.exchange
		_, err := cloud.Registry(t.Context(), call(annotations()), "team.azurecr.io")
		if err == nil || !strings.HasPrefix(err.Error(), "exchange the token at the registry 'team.azurecr.io': ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error = %v, want %q in it", name, err, test.want)
		}
	}
}

// The registry may answer anything.
func FuzzExchange(f *testing.F) {
	for _, seed := range []string{`{"refresh_token":"x"}`, `{"refresh_token":"e30.e30.e30"}`, `{"refresh_token":"e30.eyJleHAiOjFlOTl9.e30"}`, `{"refresh_token":1}`, `[]`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		cloud, e, call := lab(t)
		e.exchange = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
		got, err := cloud.Registry(t.Context(), call(annotations()), "team.azurecr.io")
		if err == nil && got.Password == "" {
			t.Errorf("a login without a password from %q", body)
		}
	})
}
