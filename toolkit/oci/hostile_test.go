package oci_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

func newTLSServer(t *testing.T, ca *testkit.CA) *httptest.Server {
	t.Helper()
	certPEM, keyPEM, err := ca.Issue("server")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(newServer(t))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func otherCA(t *testing.T) []byte {
	t.Helper()
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	return ca.PEM
}

// replace answers requests whose path ends so with the text.
func replace(method, suffix, contentType, text string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.HasSuffix(r.URL.Path, suffix) {
			return false
		}
		w.Header().Set("Content-Type", contentType)
		fmt.Fprint(w, text)
		return true
	}
}

// reliability 020, 073: what does not have the digest, or the size, that was
// asked for is no content.
func TestWrongBytes(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	digest := s.push(t, repo, "latest", "content")
	c := client(t, oci.Options{})
	m, err := c.Manifest(t.Context(), repo, digest)
	if err != nil {
		t.Fatal(err)
	}
	layer := m.Layers[0]

	s.on(replace(http.MethodGet, "/manifests/"+digest, "application/vnd.oci.image.manifest.v1+json", `{"layers":[]}`))
	if got, err := c.Manifest(t.Context(), repo, digest); err == nil {
		t.Errorf("a manifest with another digest is accepted: %+v", got)
	}
	for name, text := range map[string]string{"other bytes": "CONTENT", "too few": "cont", "too many": "content and more", "none": ""} {
		s.on(replace(http.MethodGet, "/blobs/"+layer.Digest, "application/octet-stream", text))
		if got, err := read(t, c, repo, layer); err == nil {
			t.Errorf("%s: accepted %q", name, got)
		}
	}
	s.on(nil)
	for _, size := range []int64{6, 8, 0, -1} {
		lie := layer
		lie.Size = size
		if _, err := read(t, c, repo, lie); !errors.Is(err, oci.ErrMalformed) {
			t.Errorf("a size of %d: error %v, want ErrMalformed", size, err)
		}
	}
	s.on(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/blobs/") {
			return false
		}
		w.Header().Set("Content-Length", "7")
		_, _ = io.WriteString(w, "con")
		panic(http.ErrAbortHandler)
	})
	if got, err := read(t, c, repo, layer); err == nil {
		t.Errorf("half a layer is accepted: %q", got)
	}
}

// reliability 020: everything a registry sends has a limit, which the error names.
func TestLimits(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	digest := s.push(t, repo, "latest", "content")
	limits := oci.Limits{Tags: 3, TagBytes: 1000, ManifestBytes: 2000, AnnotationBytes: 100, Layers: 1, LayerBytes: 10}
	c := client(t, oci.Options{Limits: limits})
	tags := func() error { _, err := c.Tags(t.Context(), repo); return err }
	manifest := func() error { _, err := c.Manifest(t.Context(), repo, digest); return err }
	for _, test := range []struct {
		name string
		hook func(http.ResponseWriter, *http.Request) bool
		call func() error
	}{
		{"tags", replace(http.MethodGet, "/tags/list", "application/json", `{"tags":["a","b","c","d"]}`), tags},
		{"bytes of tags", replace(http.MethodGet, "/tags/list", "application/json", `{"tags":["`+strings.Repeat("a", 2000)+`"]}`), tags},
		{"pages of tags", func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/tags/list") {
				return false
			}
			w.Header().Set("Link", "<"+r.URL.Path+"?more>; rel=next")
			fmt.Fprint(w, `{"tags":["a"]}`)
			return true
		}, tags},
		{"bytes of a manifest", replace(http.MethodGet, "/manifests/"+digest, "application/json", strings.Repeat(" ", 3000)), manifest},
		{"bytes of a layer", nil, func() error {
			_, err := c.Layer(t.Context(), repo, oci.Layer{Digest: digest, Size: 11})
			return err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.on(test.hook)
			if err := test.call(); !errors.Is(err, oci.ErrLimit) {
				t.Errorf("error %v, want ErrLimit", err)
			}
		})
	}
	for what, build := range map[string]func() (v1.Image, error){
		"layers": func() (v1.Image, error) {
			return testkit.BuildImage(oci.ConfigType, nil, []testkit.Layer{{MediaType: "a/b", Raw: "1"}, {MediaType: "a/b", Raw: "2"}})
		},
		"bytes of annotations": func() (v1.Image, error) {
			return testkit.BuildImage(oci.ConfigType, map[string]string{"key": strings.Repeat("a", 200)}, nil)
		},
	} {
		t.Run(what, func(t *testing.T) {
			s.on(nil)
			img, err := build()
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Write(repo.Tag("two"), img); err != nil {
				t.Fatal(err)
			}
			two, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Manifest(t.Context(), repo, two.String()); !errors.Is(err, oci.ErrLimit) {
				t.Errorf("error %v, want ErrLimit", err)
			}
		})
	}
}

// The text of an error is short, whatever a registry answers, and shows no
// password that it sends back.
func TestErrorText(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	s.on(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprint(w, "canary-password ", strings.Repeat("a", 20_000))
		return true
	})
	_, err := client(t, oci.Options{Keychain: oci.Login(repo.Registry, "user", "canary-password")}).Tags(t.Context(), repo)
	if err == nil || len(err.Error()) > 1100 || strings.Contains(err.Error(), "canary-password") {
		t.Errorf("error %v", err)
	}
}

// ocirepository 17: an index stands for its manifest for linux/amd64.
func TestIndex(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	image := func(raw string) v1.Image {
		img, err := testkit.BuildImage(oci.ConfigType, map[string]string{"of": raw}, []testkit.Layer{{MediaType: "a/b", Raw: raw}})
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	write := func(adds ...mutate.IndexAddendum) string {
		t.Helper()
		index := mutate.AppendManifests(empty.Index, adds...)
		if err := remote.WriteIndex(repo.Tag("index"), index); err != nil {
			t.Fatal(err)
		}
		digest, err := index.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return digest.String()
	}
	platform := func(os, arch string) v1.Descriptor {
		return v1.Descriptor{Platform: &v1.Platform{OS: os, Architecture: arch}}
	}
	c := client(t, oci.Options{})
	arm := mutate.IndexAddendum{Add: image("arm"), Descriptor: platform("linux", "arm64")}
	m, err := c.Manifest(t.Context(), repo, write(arm, mutate.IndexAddendum{Add: image("amd"), Descriptor: platform("linux", "amd64")}))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "annotations", map[string]string{"of": "amd"}, m.Annotations)
	if m, err = c.Manifest(t.Context(), repo, write(mutate.IndexAddendum{Add: image("any")})); err != nil {
		t.Fatal(err)
	}
	expect(t, "annotations", map[string]string{"of": "any"}, m.Annotations)
	if _, err := c.Manifest(t.Context(), repo, write(arm)); !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("error %v", err)
	}
}

// reliability 020: addresses that a manifest names are never asked.
func TestForeignLayer(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the foreign address was asked: %s %s", r.Method, r.URL)
	}))
	defer elsewhere.Close()
	const layer = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
	raw := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[{"mediaType":"a/b","digest":%[1]q,"size":7,"urls":[%q]}]}`, layer, elsewhere.URL+"/secret")
	digest, _, err := v1.SHA256(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	s.on(replace(http.MethodGet, "/manifests/"+digest.String(), "application/vnd.oci.image.manifest.v1+json", raw))
	c := client(t, oci.Options{})
	m, err := c.Manifest(t.Context(), repo, digest.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(t, c, repo, m.Layers[0]); !errors.Is(err, oci.ErrNotFound) || !strings.Contains(err.Error(), "foreign") {
		t.Errorf("error %v", err)
	}
}

// reliability 052, 058: redirects and challenges do not carry credentials away.
func TestCredentialsStay(t *testing.T) {
	var seen []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = append(seen, r.URL.Path+" "+r.Header.Get("Authorization")+string(body))
		if r.URL.Path == "/blob" {
			fmt.Fprint(w, "content")
		}
	}))
	defer elsewhere.Close()
	s := newServer(t)
	repo := s.repo(t, "app")
	digest := s.push(t, repo, "latest", "content")

	t.Run("a layer that is stored elsewhere", func(t *testing.T) {
		inner := tokens(s.URL, "user", "password")
		s.on(func(w http.ResponseWriter, r *http.Request) bool {
			if inner(w, r) {
				return true
			}
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			http.Redirect(w, r, elsewhere.URL+"/blob", http.StatusTemporaryRedirect)
			return true
		})
		c := client(t, oci.Options{Keychain: oci.Login(repo.Registry, "user", "password")})
		m, err := c.Manifest(t.Context(), repo, digest)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := read(t, c, repo, m.Layers[0]); err != nil {
			t.Fatal(err)
		}
		expect(t, "requests elsewhere", []string{"/blob "}, seen)
	})
	t.Run("a token service that redirects", func(t *testing.T) {
		seen = nil
		for _, identity := range []string{"", `"identitytoken":"canary-refresh-token"`} {
			s.on(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/token" {
					http.Redirect(w, r, elsewhere.URL+"/steal", http.StatusTemporaryRedirect)
					return true
				}
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="registry"`, s.URL))
				w.WriteHeader(http.StatusUnauthorized)
				return true
			})
			if identity == "" {
				identity = `"username":"user","password":"canary-password"`
			}
			keychain, err := oci.Keychain([]byte(`{"auths":{"` + s.host() + `":{` + identity + `}}}`))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client(t, oci.Options{Keychain: keychain}).Tags(t.Context(), repo); err == nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("error %v", err)
			}
		}
		for _, request := range seen {
			if strings.Contains(request, "canary") || strings.Contains(request, "Basic") {
				t.Errorf("credentials went elsewhere: %s", request)
			}
		}
	})
	t.Run("redirects without end", func(t *testing.T) {
		s.on(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
			return true
		})
		if _, err := client(t, oci.Options{}).Tags(t.Context(), repo); !errors.Is(err, oci.ErrRedirect) {
			t.Errorf("error %v, want ErrRedirect", err)
		}
	})
}

// A client certificate is shown to the registry, not to where it sends the
// client.
func TestClientCertificateStays(t *testing.T) {
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := ca.Issue("client")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]int{}
	serve := func(name string, h http.HandlerFunc) *httptest.Server {
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			shown[name] = len(r.TLS.PeerCertificates)
			h(w, r)
		}))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	elsewhere := serve("elsewhere", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"tags":["a"]}`) })
	registry := serve("registry", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}
	})
	c := client(t, oci.Options{TLS: &secret.TLSMaterial{CA: ca.PEM, Cert: certPEM, Key: keyPEM}})
	repo, err := c.Repository("oci://" + registry.Listener.Addr().String() + "/app")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tags(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	expect(t, "certificates shown", map[string]int{"registry": 1, "elsewhere": 0}, shown)
}

// reliability 073: a token service that fails is an error.
func TestTokenService(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	for name, answer := range map[string]func(http.ResponseWriter){
		"500":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"no JSON":  func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") },
		"no token": func(w http.ResponseWriter) { fmt.Fprint(w, "{}") },
		"endless":  func(w http.ResponseWriter) { fmt.Fprint(w, `{"token":"`+strings.Repeat("a", 4<<20)) },
	} {
		t.Run(name, func(t *testing.T) {
			s.on(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/token" {
					answer(w)
					return true
				}
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token"`, s.URL))
				w.WriteHeader(http.StatusUnauthorized)
				return true
			})
			if _, err := client(t, oci.Options{}).Tags(t.Context(), repo); err == nil {
				t.Error("no error")
			}
		})
	}
}

// ocirepository 20, 69
func TestKeychain(t *testing.T) {
	config := func(auths map[string]string) []byte {
		entries := map[string]any{}
		for address, user := range auths {
			entries[address] = map[string]string{"username": user, "password": "password"}
		}
		raw, err := json.Marshal(map[string]any{"auths": entries})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	keychain, err := oci.Keychain(
		config(map[string]string{"ghcr.io": "first", "https://index.docker.io/v1/": "docker", "ghcr.io/org/team": "team", "*.azurecr.io": "azure", "localhost:5000": "port"}),
		config(map[string]string{"ghcr.io": "second", "quay.io": "quay", "exact.azurecr.io": "exact"}),
	)
	if err != nil {
		t.Fatal(err)
	}
	for repository, want := range map[string]string{
		"ghcr.io/org/app":        "first",
		"ghcr.io/org/team/app":   "team",
		"ghcr.io/org/teams":      "first",
		"docker.io/org/app":      "docker",
		"nginx":                  "docker",
		"quay.io/app":            "quay",
		"some.azurecr.io/app":    "azure",
		"exact.azurecr.io/app":   "exact",
		"a.b.azurecr.io/app":     "",
		"azurecr.io/app":         "",
		"localhost:5000/app":     "port",
		"localhost:5001/app":     "",
		"ghcr.io.example.com/x":  "",
		"example.com/ghcr.io/xx": "",
	} {
		repo, err := name.NewRepository(repository)
		if err != nil {
			t.Fatal(err)
		}
		auth, err := keychain.Resolve(repo)
		if err != nil {
			t.Fatal(err)
		}
		login, err := auth.Authorization()
		if err != nil {
			t.Fatal(err)
		}
		if login.Username != want {
			t.Errorf("%s: user %q, want %q", repository, login.Username, want)
		}
	}
	for _, raw := range []string{"", "canary", `{"auths":{"ghcr.io":{"auth":"canary"}}}`, `{"auths":{"ghcr.io":"canary"}}`, `{"auths":[]}`, `{"auths":{"":{}}}`} {
		if _, err := oci.Keychain([]byte(raw)); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: error %v", raw, err)
		}
	}
}

// Whatever a Secret holds, there is a keychain or an error that quotes nothing.
func FuzzKeychain(f *testing.F) {
	f.Add([]byte(`{"auths":{"ghcr.io":{"auth":"dXNlcjpwYXNzd29yZA=="}}}`), "ghcr.io/org/app")
	f.Add([]byte(`{"auths":{"https://*.io:443/v1/":{"username":"a","password":"b"}},"credHelpers":{"ghcr.io":"x"}}`), "quay.io/x")
	f.Add([]byte(`{"auths":{"[::1]":{"identitytoken":"a"}}}`), "localhost/x")
	f.Fuzz(func(t *testing.T, raw []byte, repository string) {
		keychain, err := oci.Keychain(raw)
		if err != nil {
			return
		}
		repo, err := name.NewRepository(repository)
		if err != nil {
			return
		}
		auth, err := keychain.Resolve(repo)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := auth.Authorization(); err != nil {
			t.Fatal(err)
		}
	})
}
