package provider_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/notify/provider/providertest"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/auth/authtest"
)

// serviceAccount makes the JSON key of a service account, and the public key that goes with it.
func serviceAccount(t *testing.T, change func(map[string]string)) (string, *rsa.PublicKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{
		"type": "service_account", "project_id": "my-project", "private_key_id": providertest.Canary,
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": "flux@my-project.iam.gserviceaccount.com", "token_uri": "https://stranger.example/token",
	}
	if change != nil {
		change(content)
	}
	out, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), &key.PublicKey
}

// provider 26; wire 13
func TestGooglePubSub(t *testing.T) {
	key, public := serviceAccount(t, nil)
	providertest.Suite{
		Type:   "googlepubsub",
		Public: true,
		Config: func(string) provider.Config {
			return provider.Config{Address: "my-project", Channel: "flux-events", Token: key, Headers: map[string]string{"env": "prod"}}
		},
		Answer: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"messageIds": ["19917247034"]}`)
		},
		Tidy: func(t *testing.T, call *providertest.Call) {
			verifyGoogleToken(t, call.Header["Authorization"], public, "https://pubsub.googleapis.com/")
			call.Header["Authorization"] = []string{"Bearer (verified)"}
			for _, each := range call.JSON.(map[string]any)["messages"].([]any) {
				message := each.(map[string]any)
				message["data"] = asJSON[any](t, unbase64(t, message["data"].(string)))
			}
		},
	}.Run(t)
}

// verifyGoogleToken does what Google's services do with a token that a service account has signed itself.
func verifyGoogleToken(t *testing.T, authorization []string, public *rsa.PublicKey, audience string) {
	t.Helper()
	if len(authorization) != 1 {
		t.Fatalf("Authorization = %q", authorization)
	}
	raw, ok := strings.CutPrefix(authorization[0], "Bearer ")
	if !ok {
		t.Fatal("no bearer token")
	}
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(raw, &claims, func(*jwt.Token) (any, error) { return public, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithLeeway(time.Minute),
		jwt.WithIssuer("flux@my-project.iam.gserviceaccount.com"), jwt.WithSubject("flux@my-project.iam.gserviceaccount.com"))
	if err != nil {
		t.Error(err)
	}
}

// provider 26: the key says where Google is, and no server but Pub/Sub is asked.
func TestGooglePubSubUniverse(t *testing.T) {
	key, public := serviceAccount(t, func(m map[string]string) { m["universe_domain"] = "s3nsapis.fr" })
	var asked []string
	client := provider.NewClient(way(func(r *http.Request) (*http.Response, error) {
		asked = append(asked, r.URL.String())
		verifyGoogleToken(t, r.Header.Values("Authorization"), public, "https://pubsub.s3nsapis.fr/")
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	}), "flux")
	config := provider.Config{Address: "domain.com:my-project", Channel: "a%b", Token: key, HTTP: client}
	if err := made(t, "googlepubsub", config).Notify(t.Context(), providertest.Applied()); err != nil {
		t.Fatal(err)
	}
	want := []string{"https://pubsub.s3nsapis.fr/v1/projects/domain.com:my-project/topics/a%25b:publish"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
}

// clouds returns an Authenticator of a cloud that gives "secret-1", and of service accounts if they are allowed.
func clouds(t *testing.T, cloud *authtest.Cloud, objectLevel bool) *auth.Authenticator {
	t.Helper()
	accounts := authtest.NewAccounts(t)
	accounts.Put("prod", "sender", "uid", nil)
	a, err := auth.New(auth.Options{Clouds: []auth.Cloud{cloud}, ServiceAccounts: accounts.Client, ObjectLevel: objectLevel})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// identity sends an event with the identity of a cloud and returns the Authorization that the service has seen.
func identity(t *testing.T, kind string, c provider.Config) (string, error) {
	t.Helper()
	var seen string
	c.Provider = provider.Owner{Namespace: "prod", Name: "p"}
	c.HTTP = provider.NewClient(way(func(r *http.Request) (*http.Response, error) {
		seen = r.Header.Get("Authorization")
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	}), "flux")
	return seen, made(t, kind, c).Notify(t.Context(), providertest.Applied())
}

// provider 8, 42: the identity is that of the account, which needs the feature gate, or of the controller; a key comes first.
func TestGooglePubSubIdentity(t *testing.T) {
	key, _ := serviceAccount(t, nil)
	for _, c := range []struct {
		name           string
		account, token string
		objectLevel    bool
		calls          []string
		wrong          string
	}{
		{"controller", "", "", false, []string{"process token https://www.googleapis.com/auth/pubsub"}, ""},
		{"account", "sender", "", true, []string{"prod/sender token https://www.googleapis.com/auth/pubsub"}, ""},
		{"account without the gate", "sender", "", false, nil, "ObjectLevelWorkloadIdentity"},
		{"missing account", "other", "", true, nil, "'prod/other' does not exist"},
		{"key", "", key, true, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cloud := &authtest.Cloud{Provider: auth.GCP}
			seen, err := identity(t, "googlepubsub", provider.Config{
				Address: "my-project", Channel: "topic", ServiceAccountName: c.account, Token: c.token, Auth: clouds(t, cloud, c.objectLevel),
			})
			if c.wrong == "" && err != nil || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
				t.Errorf("error = %v, want %q", err, c.wrong)
			}
			if diff := cmp.Diff(c.calls, cloud.Calls()); diff != "" {
				t.Error(diff)
			}
			if len(c.calls) > 0 && seen != "Bearer secret-1" {
				t.Errorf("Authorization = %q", seen)
			}
		})
	}
}

// provider 26: a key that names files, programs or servers is none.
func TestGooglePubSubRefuses(t *testing.T) {
	good := provider.Config{Address: "my-project", Channel: "topic"}
	with := func(change func(*provider.Config)) provider.Config {
		c := good
		change(&c)
		return c
	}
	refuses(t, "googlepubsub", with(func(c *provider.Config) { c.Address = "" }), "spec.address", "project")
	refuses(t, "googlepubsub", with(func(c *provider.Config) { c.Address = "a/../" + providertest.Canary }), "spec.address", "project")
	refuses(t, "googlepubsub", with(func(c *provider.Config) { c.Channel = "" }), "spec.channel", "topic")
	refuses(t, "googlepubsub", with(func(c *provider.Config) { c.Channel = "projects/p/topics/t" }), "spec.channel", "topic")
	refuses(t, "googlepubsub", with(func(c *provider.Config) { c.Token = "not JSON " + providertest.Canary }), "token", "JSON key")
	refuses(t, "googlepubsub", with(func(c *provider.Config) {
		c.Token = `{"type": "external_account", "credential_source": {"file": "/` + providertest.Canary + `"}}`
	}), "token", "service_account")
	for _, change := range []func(map[string]string){
		func(m map[string]string) { m["private_key"] = providertest.Canary },
		func(m map[string]string) { m["universe_domain"] = "stranger.example/" + providertest.Canary },
		func(m map[string]string) { m["type"] = providertest.Canary },
	} {
		key, _ := serviceAccount(t, change)
		refuses(t, "googlepubsub", with(func(c *provider.Config) { c.Token = key }), "token", "JSON key")
	}
	for _, headers := range []map[string]string{
		{"key": strings.Repeat("x", 1025) + providertest.Canary}, {strings.Repeat("k", 257): ""}, {"": "x"}, crowded().Metadata,
	} {
		refuses(t, "googlepubsub", with(func(c *provider.Config) { c.Headers = headers }), "headers", "attributes")
	}
}
