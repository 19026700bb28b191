package gcp_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
	"github.com/seed-79636ae9/flux/toolkit/auth/gcp"
)

const (
	provider = "projects/12345/locations/global/workloadIdentityPools/pool/providers/cluster"
	email    = "team@project.iam.gserviceaccount.com"
	platform = "https://www.googleapis.com/auth/cloud-platform"
	gke      = "identitynamespace:project.svc.id.goog:https://container.googleapis.com/v1/projects/project/locations/europe-west1/clusters/one"
)

func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// google are the services of Google Cloud that tokens come from, with the payloads of their documentation.
type google struct {
	URL string
	// values are what the metadata server knows of the cluster.
	values map[string]string
	// instead answers the path, when set.
	instead map[string]http.HandlerFunc

	mu   sync.Mutex // guards seen
	seen []string
}

func (g *google) saw(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seen = append(g.seen, fmt.Sprintf(format, args...))
}

func (g *google) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if instead := g.instead[r.URL.Path]; instead != nil {
		instead(w, r)
		return
	}
	value, isValue := g.values[strings.TrimPrefix(r.URL.Path, "/computeMetadata/v1/")]
	switch {
	case strings.HasPrefix(r.URL.Path, "/computeMetadata/") && r.Header.Get("Metadata-Flavor") != "Google":
		http.Error(w, "Missing Metadata-Flavor:Google header", http.StatusForbidden)
	case isValue:
		_, _ = io.WriteString(w, value)
	case r.URL.Path == "/computeMetadata/v1/instance/service-accounts/default/token":
		g.saw("metadata %s", r.URL.Query().Get("scopes"))
		_, _ = io.WriteString(w, `{"access_token":"canary-machine","expires_in":1800,"token_type":"Bearer"}`)
	case r.URL.Path == "/v1/token":
		_ = r.ParseForm()
		g.saw("exchange %s %s for %s", r.Form.Get("subject_token"), r.Form.Get("audience"), r.Form.Get("scope"))
		if r.Form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange" || r.Form.Get("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt" {
			http.Error(w, `{"error":"invalid_request"}`, http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, `{"access_token":"canary-federated","expires_in":3600,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer"}`)
	case strings.HasSuffix(r.URL.Path, ":generateAccessToken"):
		var body struct {
			Scope    []string
			Lifetime string
		}
		_ = json.NewDecoder(r.Body).Decode(&body)
		g.saw("%s by %s for %s %s", r.URL.Path, r.Header.Get("Authorization"), strings.Join(body.Scope, " "), body.Lifetime)
		_, _ = io.WriteString(w, `{"accessToken":"canary-impersonated","expireTime":"2026-01-02T04:00:00Z"}`)
	case r.URL.Path == "/oauth":
		var claims struct {
			jwt.RegisteredClaims
			Scope string `json:"scope"`
		}
		_ = r.ParseForm()
		_, _, _ = jwt.NewParser().ParseUnverified(r.Form.Get("assertion"), &claims)
		g.saw("file %s %s", claims.Issuer, claims.Scope)
		_, _ = io.WriteString(w, `{"access_token":"canary-file","expires_in":1200,"token_type":"Bearer"}`)
	default:
		http.NotFound(w, r)
	}
}

// lab is an Authenticator that knows this Google, in an environment without anything of it.
func lab(t *testing.T, annotations map[string]string) (*auth.Authenticator, *google, *authtest.Accounts) {
	t.Helper()
	for _, name := range []string{"GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	g := &google{values: map[string]string{
		"project/project-id": "project", "instance/attributes/cluster-location": "europe-west1\n", "instance/attributes/cluster-name": "one",
	}}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	g.URL = server.URL
	accounts := authtest.NewAccounts(t)
	accounts.Put("apps", "team", "1", annotations)
	cloud := gcp.New(gcp.Options{STS: g.URL, IAMCredentials: g.URL, Container: g.URL, Metadata: g.URL, Clock: clocktesting.NewFakePassiveClock(now())})
	a, err := auth.New(auth.Options{Clouds: []auth.Cloud{cloud}, ServiceAccounts: accounts.Client, ObjectLevel: true})
	if err != nil {
		t.Fatal(err)
	}
	return a, g, accounts
}

func request(account string) auth.Request {
	return auth.Request{Kind: "Bucket", Namespace: "apps", Name: "x", Operation: "reconcile", ServiceAccountName: account}
}

func expect[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// ocirepository 22: the process is who its machine or Pod is.
func TestMachine(t *testing.T) {
	a, g, _ := lab(t, nil)
	got, err := a.Registry(t.Context(), "gcp", request(""), "europe-docker.pkg.dev/project/app")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "login", &auth.Login{Username: "oauth2accesstoken", Password: "canary-machine", Expires: now().Add(30 * time.Minute)}, got)
	token, err := a.Token(t.Context(), "gcp", request(""), "scope-b", "scope-a")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "token", &auth.Token{Value: "canary-machine", Expires: now().Add(30 * time.Minute)}, token)
	expect(t, "requests", []string{"metadata " + platform, "metadata scope-a,scope-b"}, g.seen)
}

// The metadata server may be named by the environment, as for Google's own libraries.
func TestMetadataHost(t *testing.T) {
	_, g, _ := lab(t, nil)
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(g.URL, "http://"))
	a, err := auth.New(auth.Options{Clouds: []auth.Cloud{gcp.New(gcp.Options{})}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Token(t.Context(), "gcp", request("")); err != nil {
		t.Fatal(err)
	}
	expect(t, "requests", []string{"metadata " + platform}, g.seen)
}

// The file of the application default credentials comes first, by its variable or at its usual place.
func TestCredentialsFile(t *testing.T) {
	for _, place := range []string{"variable", "home"} {
		t.Run(place, func(t *testing.T) {
			a, g, _ := lab(t, nil)
			file := filepath.Join(os.Getenv("HOME"), ".config", "gcloud", "application_default_credentials.json")
			if place == "variable" {
				file = filepath.Join(t.TempDir(), "key.json")
				t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
			}
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			content, err := json.Marshal(map[string]string{
				"type": "service_account", "client_email": email, "private_key": privateKey(t), "token_uri": g.URL + "/oauth",
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := a.Token(t.Context(), "gcp", request(""), "storage")
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "token", "canary-file", got.Value)
			expect(t, "requests", []string{"file " + email + " storage"}, g.seen)
		})
	}
}

func privateKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

func TestBadCredentialsFile(t *testing.T) {
	for name, test := range map[string]struct {
		content string
		want    error
		text    string
	}{
		"not JSON":  {content: "canary", text: "is not JSON"},
		"no type":   {content: "{}", text: "use the application default credentials"},
		"too large": {content: strings.Repeat(" ", 1<<20+1), want: auth.ErrLimit},
		"missing":   {want: os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			a, _, _ := lab(t, nil)
			file := filepath.Join(t.TempDir(), "key.json")
			if test.content != "" {
				if err := os.WriteFile(file, []byte(test.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
			_, err := a.Token(t.Context(), "gcp", request(""))
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) || strings.Contains(err.Error(), "canary") {
				t.Errorf("error = %v, want %v and %q in it", err, test.want, test.text)
			}
		})
	}
}

// wire 2: what an account is exchanged for, on GKE and elsewhere, as itself and as a service account of Google.
func TestAccount(t *testing.T) {
	subject := func(audience string) string { return authtest.TokenOf("apps", "team", audience) }
	const impersonated = "/v1/projects/-/serviceAccounts/" + email + ":generateAccessToken by Bearer canary-federated for " + platform + " 3600s"
	for name, test := range map[string]struct {
		annotations map[string]string
		want        auth.Login
		seen        []string
	}{
		"GKE": {
			want: auth.Login{Username: "oauth2accesstoken", Password: "canary-federated", Expires: now().Add(time.Hour)},
			seen: []string{"exchange " + subject("project.svc.id.goog") + " " + gke + " for " + platform},
		},
		"GKE, as a service account": {
			annotations: map[string]string{"iam.gke.io/gcp-service-account": email},
			want:        auth.Login{Username: "oauth2accesstoken", Password: "canary-impersonated", Expires: time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)},
			seen:        []string{"exchange " + subject("project.svc.id.goog") + " " + gke + " for " + platform, impersonated},
		},
		"elsewhere": {
			annotations: map[string]string{"gcp.auth.fluxcd.io/workload-identity-provider": provider},
			want:        auth.Login{Username: "oauth2accesstoken", Password: "canary-federated", Expires: now().Add(time.Hour)},
			seen:        []string{"exchange " + subject("https://iam.googleapis.com/"+provider) + " //iam.googleapis.com/" + provider + " for " + platform},
		},
		"elsewhere, as a service account": {
			annotations: map[string]string{"gcp.auth.fluxcd.io/workload-identity-provider": provider, "iam.gke.io/gcp-service-account": email},
			want:        auth.Login{Username: "oauth2accesstoken", Password: "canary-impersonated", Expires: time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)},
			seen:        []string{"exchange " + subject("https://iam.googleapis.com/"+provider) + " //iam.googleapis.com/" + provider + " for " + platform, impersonated},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, g, _ := lab(t, test.annotations)
			// The identity of the process must not even be looked for.
			t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "none")
			got, err := a.Registry(t.Context(), "gcp", request("team"), "gcr.io/project/app")
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "login", &test.want, got)
			expect(t, "requests", test.seen, g.seen)
		})
	}
}

// The scopes are those of the token that is handed out, whoever it is for.
func TestScopes(t *testing.T) {
	a, g, accounts := lab(t, nil)
	if _, err := a.Token(t.Context(), "gcp", request("team"), "storage"); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(g.seen[0], " for storage") {
		t.Errorf("request = %s", g.seen[0])
	}
	accounts.Put("apps", "team", "1", map[string]string{"iam.gke.io/gcp-service-account": email})
	if _, err := a.Token(t.Context(), "gcp", request("team"), "storage"); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(g.seen[1], " for "+platform) || !strings.HasSuffix(g.seen[2], " for storage 3600s") {
		t.Errorf("requests = %q", g.seen[1:])
	}
}

func TestAnnotations(t *testing.T) {
	for name, annotations := range map[string]map[string]string{
		"not an account of Google": {"iam.gke.io/gcp-service-account": "team@evil.example"},
		"a path":                   {"iam.gke.io/gcp-service-account": "../x@p.iam.gserviceaccount.com"},
		"not a provider":           {"gcp.auth.fluxcd.io/workload-identity-provider": "pool"},
		"more than a provider":     {"gcp.auth.fluxcd.io/workload-identity-provider": provider + "/x"},
	} {
		t.Run(name, func(t *testing.T) {
			a, g, accounts := lab(t, annotations)
			if _, err := a.Token(t.Context(), "gcp", request("team")); !errors.Is(err, auth.ErrServiceAccount) {
				t.Errorf("error = %v, want %v", err, auth.ErrServiceAccount)
			}
			expect(t, "requests", nil, g.seen)
			expect(t, "tokens", nil, accounts.Issued())
		})
	}
}

func TestHosts(t *testing.T) {
	a, g, _ := lab(t, nil)
	for host, ours := range map[string]bool{
		"europe-west1-docker.pkg.dev": true, "gcr.io": true, "eu.gcr.io": true,
		"pkg.dev": false, "npm.pkg.dev": false, "gcr.io.evil.example": false, "evilgcr.io": false, "a.b.gcr.io": false, "gcr.io:5000": false, "ghcr.io": false,
	} {
		_, err := a.Registry(t.Context(), "gcp", request(""), host+"/project/app")
		if ours != (err == nil) || !ours && !errors.Is(err, auth.ErrUnsupported) {
			t.Errorf("%s: error = %v, want one: %t", host, err, !ours)
		}
	}
	expect(t, "number of requests", 3, len(g.seen))
	if _, err := a.Git(t.Context(), "gcp", request(""), &url.URL{Scheme: "https", Host: "source.developers.google.com"}); !errors.Is(err, auth.ErrUnsupported) {
		t.Errorf("Git: error = %v, want %v", err, auth.ErrUnsupported)
	}
}

// Whatever Google answers: an error that says what was asked for, without the token that was shown.
func TestErrors(t *testing.T) {
	quote := func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		http.Error(w, `{"error": "no, `+r.Form.Get("subject_token")+r.Header.Get("Authorization")+`"}`, http.StatusForbidden)
	}
	say := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
	}
	const impersonate = "/v1/projects/-/serviceAccounts/" + email + ":generateAccessToken"
	for name, test := range map[string]struct {
		path    string
		instead http.HandlerFunc
		want    string
	}{
		"exchange refused":       {"/v1/token", quote, `exchange the token of the service account: ADDR answered 403 Forbidden: {"error": "no, ***"}`},
		"exchange without token": {"/v1/token", say(`{"expires_in":1}`), "exchange the token of the service account: the answer has no token or no lifetime"},
		"exchange without end":   {"/v1/token", say(`{"access_token":"canary"}`), "exchange the token of the service account: the answer has no token or no lifetime"},
		"exchange in HTML":       {"/v1/token", say("<html>canary"), "exchange the token of the service account: ADDR sent an answer that is not the expected JSON"},
		"impersonation refused":  {impersonate, quote, "act as '" + email + `': ADDR answered 403 Forbidden: {"error": "no, Bearer ***"}`},
		"impersonation for ever": {impersonate, say(`{"accessToken":"canary"}`), "act as '" + email + "': the answer has no token or no end of its life"},
		"a cluster without name": {"/computeMetadata/v1/instance/attributes/cluster-name", say("../x y"), "find the cluster of GKE: the metadata server gives no usable 'instance/attributes/cluster-name'"},
		"no machine of GKE":      {"/computeMetadata/v1/instance/attributes/cluster-name", http.NotFound, "find the cluster of GKE; elsewhere, set the annotation 'gcp.auth.fluxcd.io/workload-identity-provider' of the service account: ADDR answered 404 Not Found: 404 page not found"},
	} {
		t.Run(name, func(t *testing.T) {
			a, g, _ := lab(t, map[string]string{"iam.gke.io/gcp-service-account": email})
			g.instead = map[string]http.HandlerFunc{test.path: test.instead}
			_, err := a.Token(t.Context(), "gcp", request("team"))
			want := "obtain a credential from provider 'gcp' as service account 'apps/team': " + strings.ReplaceAll(test.want, "ADDR", strings.TrimPrefix(g.URL, "http://"))
			expect(t, "error", want, fmt.Sprint(err))
		})
	}
}

// The metadata server and the exchange may answer anything.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{`{"access_token":"x","expires_in":1}`, `{"access_token":"x","expires_in":9223372036854775807}`, `{"expires_in":-1}`, `[]`, ``, `null`} {
		f.Add([]byte(seed), []byte("name"))
	}
	f.Fuzz(func(t *testing.T, token, name []byte) {
		a, g, accounts := lab(t, nil)
		g.instead = map[string]http.HandlerFunc{
			"/v1/token": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(token) },
			"/computeMetadata/v1/instance/attributes/cluster-name": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(name) },
		}
		got, err := a.Token(t.Context(), "gcp", request("team"))
		if err == nil && (got.Value == "" || !got.Expires.After(now()) || got.Expires.After(now().Add(25*time.Hour))) {
			t.Errorf("token = %+v from %q", got, token)
		}
		for _, issued := range accounts.Issued() {
			if issued != "apps/team project.svc.id.goog" {
				t.Errorf("a token was issued for %q", issued)
			}
		}
	})
}
