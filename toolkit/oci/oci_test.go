package oci_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	testclock "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/secret"
	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

// ocirepository 6, 8
func TestRepository(t *testing.T) {
	c := client(t, oci.Options{})
	for url, want := range map[string]string{
		"oci://ghcr.io/org/app":         "ghcr.io/org/app",
		"oci://docker.io/org/app":       "index.docker.io/org/app",
		"oci://localhost:5000/app":      "localhost:5000/app",
		"https://ghcr.io/org/app":       "",
		"oci://ghcr.io/org/app:1.0":     "",
		"oci://ghcr.io/org/App":         "",
		"oci://":                        "",
		"oci://user:word@ghcr.io/x/app": "",
	} {
		repo, err := c.Repository(url)
		switch {
		case want == "" && !errors.Is(err, oci.ErrInvalidURL):
			t.Errorf("%s: error %v, want ErrInvalidURL", url, err)
		case want != "" && (err != nil || repo.Name() != want):
			t.Errorf("%s: %v, error %v, want %s", url, repo, err, want)
		}
	}
}

// ocirepository 7, 9-17, 62, 63, 71
func TestResolve(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "org/app")
	digests := map[string]string{}
	for _, tag := range []string{"latest", "1.0.0", "v1.10.0", "1.2.0", "2.0", "2.0.0-rc.1", "1.10.1_build5", "stable", "0.9.0"} {
		digests[tag] = s.push(t, repo, tag, tag)
	}
	some := digests["1.0.0"]
	for _, test := range []struct {
		name string
		ref  oci.Reference
		tag  string // "": an error
		err  error
	}{
		{"nothing means latest", oci.Reference{}, "latest", nil},
		{"tag", oci.Reference{Tag: "stable"}, "stable", nil},
		{"semver before tag", oci.Reference{Tag: "stable", SemVer: ">=1.0.0"}, "v1.10.0", nil},
		{"two parts are no version", oci.Reference{SemVer: ">=2.0.0"}, "", oci.ErrNoMatch},
		{"a range that mentions prereleases", oci.Reference{SemVer: ">=1.0.0-0"}, "2.0.0-rc.1", nil},
		{"the filter comes first, and matches anywhere", oci.Reference{SemVer: ">=0.0.0", SemVerFilter: `1\.2`}, "1.2.0", nil},
		{"the filter leaves nothing", oci.Reference{SemVer: ">=0.0.0", SemVerFilter: "^nothing$"}, "", oci.ErrNoMatch},
		{"helm", oci.Reference{SemVer: "*", Helm: true}, "1.10.1_build5", nil},
		{"a range that is none", oci.Reference{SemVer: ">>1"}, "", oci.ErrInvalidReference},
		{"a filter that is none", oci.Reference{SemVer: "*", SemVerFilter: "("}, "", oci.ErrInvalidReference},
		{"a tag that is none", oci.Reference{Tag: "a/../b"}, "", oci.ErrInvalidReference},
		{"no such tag", oci.Reference{Tag: "absent"}, "", oci.ErrNotFound},
		{"a digest that is none", oci.Reference{Digest: "sha256:12"}, "", oci.ErrInvalidReference},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := client(t, oci.Options{}).Resolve(t.Context(), repo, test.ref)
			if !errors.Is(err, test.err) || (err == nil) != (test.tag != "") {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			if err == nil {
				expect(t, "resolved", oci.Resolved{Tag: test.tag, Digest: digests[test.tag]}, got)
				expect(t, "revision", test.tag+"@"+digests[test.tag], got.Revision())
			}
		})
	}
	t.Run("a digest costs no request", func(t *testing.T) {
		s.requests()
		got, err := client(t, oci.Options{}).Resolve(t.Context(), repo, oci.Reference{Digest: some, SemVer: "*", Tag: "latest"})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "revision", some, got.Revision())
		expect(t, "requests", []string(nil), s.requests())
	})
	t.Run("choosing and looking fail apart", func(t *testing.T) {
		_, choosing := client(t, oci.Options{}).Resolve(t.Context(), s.repo(t, "org/absent"), oci.Reference{SemVer: "*"})
		_, looking := client(t, oci.Options{}).Resolve(t.Context(), s.repo(t, "org/absent"), oci.Reference{})
		if !errors.Is(choosing, oci.ErrSelect) || errors.Is(looking, oci.ErrSelect) || !errors.Is(looking, oci.ErrNotFound) {
			t.Errorf("errors %v and %v", choosing, looking)
		}
	})
}

// ocirepository 14: a registry that does not answer HEAD is asked with GET.
func TestHeadFallback(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	digest := s.push(t, repo, "latest", "content")
	for name, hook := range map[string]func(http.ResponseWriter){
		"refused":   func(w http.ResponseWriter) { w.WriteHeader(http.StatusMethodNotAllowed) },
		"no digest": func(w http.ResponseWriter) { w.Header().Set("Content-Type", "x/y") },
	} {
		t.Run(name, func(t *testing.T) {
			s.on(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					hook(w)
				}
				return r.Method == http.MethodHead
			})
			got, err := client(t, oci.Options{}).Resolve(t.Context(), repo, oci.Reference{})
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "digest", digest, got.Digest)
		})
	}
}

func TestArtifact(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	c := client(t, oci.Options{})
	annotations := map[string]string{oci.SourceAnnotation: "https://git.example.com/app", oci.RevisionAnnotation: "main@sha1:1"}
	digest, err := c.Push(t.Context(), repo.Tag("one"), contentOf("content"), annotations)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.Push(t.Context(), repo.Tag("two"), contentOf("content"), annotations); err != nil || again != digest {
		t.Errorf("the same content is %s and %s, error %v", digest, again, err)
	}
	if err := c.Tag(t.Context(), repo.Tag("one"), "latest", "stable"); err != nil {
		t.Fatal(err)
	}
	tags, err := c.Tags(t.Context(), repo)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "tags", []string{"latest", "one", "stable", "two"}, tags)
	m, err := c.Manifest(t.Context(), repo, digest)
	if err != nil {
		t.Fatal(err)
	}
	layer := oci.Layer{MediaType: oci.ContentLayer, Digest: "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73", Size: 7}
	expect(t, "manifest", &oci.Manifest{Digest: digest, ConfigType: oci.ConfigType, Annotations: annotations, Layers: []oci.Layer{layer}}, m)
	content, err := read(t, c, repo, m.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "content", "content", content)
	if err := c.Tag(t.Context(), repo.Tag("absent"), "other"); !errors.Is(err, oci.ErrNotFound) {
		t.Errorf("tagging what is not there: %v", err)
	}
}

// A list that a registry cuts off after a full page, without naming the next one, is read to its end (imagerepository 43).
func TestFullPages(t *testing.T) {
	all := make([]string, 2500)
	for i := range all {
		all[i] = fmt.Sprintf("t%04d", i)
	}
	answer := func(w http.ResponseWriter, tags []string) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(map[string]any{"name": "app", "tags": tags}); err != nil {
			t.Error(err)
		}
	}
	tests := map[string]struct {
		tags     []string
		page     func(w http.ResponseWriter, r *http.Request, tags []string)
		requests int
	}{
		"cut after a page": {all, func(w http.ResponseWriter, r *http.Request, tags []string) {
			if last := r.URL.Query().Get("last"); last != "" {
				tags = tags[slices.Index(tags, last)+1:]
			}
			answer(w, tags[:min(1000, len(tags))])
		}, 3},
		"a full page is all there is": {all[:1000], func(w http.ResponseWriter, r *http.Request, tags []string) {
			if r.URL.Query().Get("last") != "" {
				tags = nil
			}
			answer(w, tags)
		}, 2},
		"the question is not understood": {all[:1000], func(w http.ResponseWriter, _ *http.Request, tags []string) { answer(w, tags) }, 2},
		"everything in one page":         {all, func(w http.ResponseWriter, _ *http.Request, tags []string) { answer(w, tags) }, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			requests := 0
			s.on(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/tags/list") {
					return false
				}
				requests++
				tt.page(w, r, tt.tags)
				return true
			})
			got, err := client(t, oci.Options{}).Tags(t.Context(), s.repo(t, "app"))
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "tags", tt.tags, got)
			expect(t, "requests", tt.requests, requests)
		})
	}
	t.Run("what is too long for a tag", func(t *testing.T) {
		s := newServer(t)
		s.on(func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/tags/list") {
				return false
			}
			answer(w, []string{"a", strings.Repeat("b", 128), strings.Repeat("c", 129)})
			return true
		})
		got, err := client(t, oci.Options{}).Tags(t.Context(), s.repo(t, "app"))
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "tags", []string{"a", strings.Repeat("b", 128)}, got)
	})
	t.Run("the rest is refused", func(t *testing.T) {
		s := newServer(t)
		s.on(func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case !strings.HasSuffix(r.URL.Path, "/tags/list"):
				return false
			case r.URL.Query().Get("last") != "":
				http.Error(w, "no", http.StatusInternalServerError)
			default:
				answer(w, all[:1000])
			}
			return true
		})
		if got, err := client(t, oci.Options{}).Tags(t.Context(), s.repo(t, "app")); err == nil || len(got) > 0 {
			t.Errorf("a part of the list passed for all of it: %d tags, error %v", len(got), err)
		}
	})
}

// Of an unchanged artifact one request tells, whatever clients ask.
func TestRequests(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "org/app")
	s.push(t, repo, "latest", "content")
	clock := testclock.NewFakePassiveClock(time.Now())
	pool := oci.NewPool(clock)
	resolve := func(o oci.Options) string {
		t.Helper()
		o.Pool = pool
		got, err := client(t, o).Resolve(t.Context(), repo, oci.Reference{})
		if err != nil {
			t.Fatal(err)
		}
		return got.Digest
	}
	login := func(user string) oci.Options {
		return oci.Options{Keychain: oci.Login(repo.Registry, user, "password")}
	}
	const head = "HEAD /v2/org/app/manifests/latest"

	was := resolve(oci.Options{})
	expect(t, "requests of the first one", []string{"GET /v2/", head}, s.requests())
	resolve(oci.Options{})
	expect(t, "requests of one that asks the same", []string(nil), s.requests())
	resolve(login("other"))
	expect(t, "requests of one with other credentials", []string{"GET /v2/", head}, s.requests())
	resolve(oci.Options{UserAgent: "other"})
	expect(t, "requests of one with other options", []string{"GET /v2/", head}, s.requests())

	is := s.push(t, repo, "latest", "new content")
	expect(t, "what is remembered", was, resolve(oci.Options{}))
	expect(t, "what one that wants to see a change sees", is, resolve(oci.Options{Fresh: true}))
	expect(t, "requests of one that wants to see a change", []string{head}, s.requests())
	expect(t, "what is remembered then", is, resolve(oci.Options{}))
	s.requests()

	resolve(oci.Options{Since: clock.Now().Add(-time.Second)})
	expect(t, "requests of one that is older than what is remembered", []string(nil), s.requests())
	resolve(oci.Options{Since: clock.Now().Add(time.Second)})
	expect(t, "requests of one that is younger", []string{head}, s.requests())

	clock.SetTime(clock.Now().Add(time.Minute))
	resolve(oci.Options{})
	expect(t, "requests of one that asks later", []string{head}, s.requests())
}

// A caller whose time is over while others wait for what it is told costs them
// nothing.
func TestAbandonedQuestion(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	want := s.push(t, repo, "latest", "content")
	pool := oci.NewPool(nil)
	// With a session at hand, the question is all there is to be asked.
	if _, err := client(t, oci.Options{Pool: pool}).Tags(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	s.on(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			arrived <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		return false
	})
	ctx, cancel := context.WithCancel(t.Context())
	gone, stayed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := client(t, oci.Options{Pool: pool}).Resolve(ctx, repo, oci.Reference{})
		gone <- err
	}()
	<-arrived
	go func() {
		got, err := client(t, oci.Options{Pool: pool}).Resolve(t.Context(), repo, oci.Reference{})
		if err == nil && got.Digest != want {
			err = fmt.Errorf("digest %s", got.Digest)
		}
		stayed <- err
	}()
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left: %v", err)
	}
	<-arrived
	close(release)
	if err := <-stayed; err != nil {
		t.Errorf("the caller that stayed: %v", err)
	}
}

// Concurrent equal questions cost one request.
func TestCoalescing(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	s.push(t, repo, "latest", "content")
	arrived, release := make(chan struct{}, 10), make(chan struct{})
	s.on(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead {
			arrived <- struct{}{}
			<-release
		}
		return false
	})
	pool := oci.NewPool(nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := client(t, oci.Options{Pool: pool}).Resolve(t.Context(), repo, oci.Reference{}); err != nil {
				t.Error(err)
			}
		})
	}
	<-arrived
	close(release)
	wg.Wait()
	heads := 0
	for _, r := range s.requests() {
		if strings.HasPrefix(r, http.MethodHead) {
			heads++
		}
	}
	expect(t, "looks at the tag", 1, heads)
}

func TestThrottled(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	s.push(t, repo, "latest", "content")
	for _, where := range []string{"/v2/", "/v2/app/manifests/latest", "/v2/app/tags/list"} {
		t.Run(where, func(t *testing.T) {
			s.on(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != where {
					return false
				}
				w.Header().Set("Retry-After", "77")
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			})
			ref := oci.Reference{}
			if strings.HasSuffix(where, "list") {
				ref.SemVer = "*"
			}
			s.requests()
			_, err := client(t, oci.Options{}).Resolve(t.Context(), repo, ref)
			if throttle.Delay(err) != 77*time.Second {
				t.Errorf("delay %s of error %v", throttle.Delay(err), err)
			}
			if n := len(s.requests()); n > 2 {
				t.Errorf("%d requests to a registry that wants to be left alone", n)
			}
		})
	}
}

// A registry that begins to want credentials, or a token that has expired, costs
// one more try.
func TestSessionsAreRenewed(t *testing.T) {
	s := newServer(t)
	repo := s.repo(t, "app")
	s.push(t, repo, "latest", "content")
	pool := oci.NewPool(testclock.NewFakePassiveClock(time.Now()))
	resolve := func(o oci.Options) error {
		o.Pool, o.Fresh = pool, true
		_, err := client(t, o).Resolve(t.Context(), repo, oci.Reference{})
		return err
	}
	login := oci.Options{Keychain: oci.Login(repo.Registry, "user", "password")}
	if err := resolve(login); err != nil {
		t.Fatal(err)
	}
	s.on(tokens(s.URL, "user", "password"))
	if err := resolve(login); err != nil {
		t.Error(err)
	}
	err := resolve(oci.Options{Keychain: oci.Login(repo.Registry, "user", "wrong-password")})
	if !errors.Is(err, oci.ErrUnauthorized) || strings.Contains(err.Error(), "wrong-password") {
		t.Errorf("wrong password: %v", err)
	}
	if err := resolve(oci.Options{}); !errors.Is(err, oci.ErrUnauthorized) {
		t.Errorf("anonymous: %v", err)
	}
}

// tokens is a registry that wants a token, and the service that gives it.
func tokens(url, user, password string) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			if u, p, _ := r.BasicAuth(); u != user || p != password {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			fmt.Fprint(w, `{"token":"a-token"}`)
			return true
		}
		if r.Header.Get("Authorization") == "Bearer a-token" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="registry"`, url))
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
}

// ocirepository 24, 25, 59, 60
func TestTLS(t *testing.T) {
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s := newTLSServer(t, ca)
	for _, test := range []struct {
		name string
		o    oci.Options
		ok   bool
	}{
		{"unknown authority", oci.Options{}, false},
		{"its authority", oci.Options{TLS: &secret.TLSMaterial{CA: ca.PEM}}, true},
		{"insecure", oci.Options{Insecure: true}, true},
		{"insecure does not undo the authority", oci.Options{Insecure: true, TLS: &secret.TLSMaterial{CA: otherCA(t)}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := client(t, test.o)
			repo, err := c.Repository("oci://" + s.Listener.Addr().String() + "/app")
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Tags(t.Context(), repo)
			if reached := errors.Is(err, oci.ErrNotFound); reached != test.ok {
				t.Errorf("error %v, want the registry to be reached: %t", err, test.ok)
			}
		})
	}
}
