package helmrepo

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/secret"
	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

// helmrepository 9, 41
func TestNormalizeURL(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                      "",
		"http://example.com":                    "http://example.com/",
		"http://example.com/":                   "http://example.com/",
		"https://example.com/charts///":         "https://example.com/charts/",
		"https://example.com/a%2Fb/c%20d":       "https://example.com/a%2Fb/c%20d/",
		"https://example.com/charts?token=x&y":  "https://example.com/charts/?token=x&y",
		"https://example.com/charts/?token=x/":  "https://example.com/charts/?token=x/",
		"oci://example.com/charts/":             "oci://example.com/charts",
		"oci://example.com/charts//":            "oci://example.com/charts",
		"https://user:pass@example.com/charts/": "https://user:pass@example.com/charts/",
	} {
		if is, err := NormalizeURL(raw); err != nil || is != want {
			t.Errorf("%s: %s (%v), want %s", raw, is, err, want)
		}
	}
	for raw, want := range map[string]string{
		"http://a b/%zz":           `parse "http://a b/%zz": invalid character " " in host name`,
		"https://me:s3cr3t@a b/":   `parse "https://a b/": invalid character " " in host name`,
		"https://example.com/%zz/": `parse "https://example.com/%zz/": invalid URL escape "%zz"`,
	} {
		if _, err := NormalizeURL(raw); !errors.Is(err, ErrURL) || err.Error() != want {
			t.Errorf("%s: error %v, want %s", raw, err, want)
		}
	}
}

func parsed(t testing.TB, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// helmrepository 10, 42
func TestIndexURL(t *testing.T) {
	for repository, want := range map[string]string{
		"http://example.com/":              "http://example.com/index.yaml",
		"http://example.com":               "http://example.com/index.yaml",
		"http://example.com/a%2Fb/?q=1&r=": "http://example.com/a%2Fb/index.yaml?q=1&r=",
	} {
		if is, err := indexURL(parsed(t, repository)); err != nil || is.String() != want {
			t.Errorf("%s: %v (%v), want %s", repository, is, err, want)
		}
	}
}

// helmchart 14; catalogue 009
func TestChartURL(t *testing.T) {
	for _, test := range []struct{ repository, ref, want string }{
		{"http://example.com/charts/", "a.tgz", "http://example.com/charts/a.tgz"},
		{"http://example.com/charts", "sub/a.tgz", "http://example.com/charts/sub/a.tgz"},
		{"http://example.com/charts/", "/a.tgz", "http://example.com/a.tgz"},
		{"http://example.com/charts/", "../a.tgz", "http://example.com/a.tgz"},
		{"http://example.com/charts/?token=x", "a.tgz", "http://example.com/charts/a.tgz?token=x"},
		{"http://example.com/charts/?token=x", "a.tgz?y=z", "http://example.com/charts/a.tgz?y=z"},
		{"http://example.com/charts/?token=x", "https://other.com/a.tgz", "https://other.com/a.tgz"},
		{"https://example.com/charts/?token=x", "//other.com/a.tgz", "https://other.com/a.tgz"},
		{"http://example.com/a%2Fb/", "c%20d.tgz", "http://example.com/a%2Fb/c%20d.tgz"},
	} {
		if is, err := chartURL(parsed(t, test.repository), test.ref); err != nil || is.String() != test.want {
			t.Errorf("%s %s: %v (%v), want %s", test.repository, test.ref, is, err, test.want)
		}
	}
	for _, ref := range []string{"", "file:///etc/passwd", "FILE:///etc/passwd", "oci://example.com/a", "gopher://x/", "http:///a.tgz", "http:a.tgz", "%zz", "data:,x", "a\nb"} {
		if is, err := chartURL(parsed(t, "http://example.com/charts/"), ref); !errors.Is(err, ErrURL) {
			t.Errorf("%q: %v (%v), want ErrURL", ref, is, err)
		}
	}
}

// spy is a server that keeps what it was asked.
type spy struct {
	*httptest.Server
	seen []string
}

func newSpy(t testing.TB, h http.HandlerFunc) *spy {
	t.Helper()
	s := &spy{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		s.seen = append(s.seen, strings.TrimSpace(r.URL.RequestURI()+" "+strings.Trim(user+":"+password, ":")))
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *spy) take() []string {
	out := s.seen
	s.seen = nil
	return out
}

func newTestClient(t testing.TB, o ClientOptions) *Client {
	t.Helper()
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func write(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }
}

func expect(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// helmrepository 26, 40; catalogue 052: who gets the credentials.
func TestCredentialsAreBound(t *testing.T) {
	other := newSpy(t, write("chart"))
	var redirect string
	repo := newSpy(t, func(w http.ResponseWriter, r *http.Request) {
		if redirect != "" && !strings.HasSuffix(r.URL.Path, "/after") {
			http.Redirect(w, r, redirect, http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "chart")
	})
	fetch := func(c *Client, ref string) {
		t.Helper()
		if _, err := c.Chart(t.Context(), &Version{URL: ref}, io.Discard); err != nil {
			t.Error(err)
		}
	}
	basic := &secret.Basic{Username: "me", Password: "s3cr3t"}
	c := newTestClient(t, ClientOptions{URL: repo.URL + "/charts/", Basic: basic})
	if answer, err := c.Index(t.Context(), Tag{}); err != nil {
		t.Error(err)
	} else if err := answer.Body.Close(); err != nil {
		t.Error(err)
	}
	fetch(c, "a.tgz")
	fetch(c, repo.URL+"/elsewhere/a.tgz")
	expect(t, "the repository", []string{"/charts/index.yaml me:s3cr3t", "/charts/a.tgz me:s3cr3t", "/elsewhere/a.tgz me:s3cr3t"}, repo.take())
	fetch(c, other.URL+"/a.tgz")
	fetch(c, strings.Replace(other.URL, "http://", "http://you:pass@", 1)+"/a.tgz")
	expect(t, "another port", []string{"/a.tgz", "/a.tgz you:pass"}, other.take())

	redirect = other.URL + "/b.tgz"
	fetch(c, "a.tgz")
	expect(t, "the repository", []string{"/charts/a.tgz me:s3cr3t"}, repo.take())
	expect(t, "where a redirect leads", []string{"/b.tgz"}, other.take())
	redirect = strings.Replace(other.URL, "http://", "http://you:pass@", 1) + "/b.tgz"
	fetch(c, "a.tgz")
	expect(t, "where a redirect with a user leads", []string{"/b.tgz"}, other.take())
	redirect = "/after"
	repo.take()
	fetch(c, "a.tgz")
	expect(t, "a redirect inside of the repository", []string{"/charts/a.tgz me:s3cr3t", "/after me:s3cr3t"}, repo.take())

	redirect = ""
	passing := newTestClient(t, ClientOptions{URL: repo.URL + "/charts/", Basic: basic, PassCredentials: true})
	fetch(passing, other.URL+"/a.tgz")
	expect(t, "another host with passCredentials", []string{"/a.tgz me:s3cr3t"}, other.take())
	redirect = other.URL + "/b.tgz"
	fetch(passing, "a.tgz")
	expect(t, "where a redirect leads with passCredentials", []string{"/b.tgz"}, other.take())

	redirect = ""
	repo.take()
	fetch(newTestClient(t, ClientOptions{URL: strings.Replace(repo.URL, "http://", "http://in:url@", 1) + "/charts/"}), "a.tgz")
	expect(t, "credentials of the URL", []string{"/charts/a.tgz in:url"}, repo.take())
}

// A redirect may neither leave HTTP, nor come back from TLS, nor go on for ever.
func TestRedirects(t *testing.T) {
	plain := newSpy(t, write("chart"))
	var to string
	redirecting := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) })
	server := httptest.NewServer(redirecting)
	defer server.Close()
	secure := httptest.NewTLSServer(redirecting)
	defer secure.Close()
	ca := secure.Certificate().Raw
	for _, test := range []struct{ from, to, want string }{
		{server.URL, "file:///etc/passwd", "refusing a redirect from http to file"},
		{server.URL, server.URL, "stopped after 10 redirects"},
		{secure.URL, plain.URL, "refusing a redirect from https to http"},
	} {
		to = test.to
		c := newTestClient(t, ClientOptions{URL: test.from, TLS: &secret.TLSMaterial{CA: pemOf(ca)}})
		if _, err := c.Chart(t.Context(), &Version{URL: "a.tgz"}, io.Discard); err == nil || !strings.HasSuffix(err.Error(), test.want) {
			t.Errorf("error %v, want %s", err, test.want)
		}
	}
	if len(plain.seen) > 0 {
		t.Errorf("the plain server was asked %q", plain.seen)
	}
}

// helmrepository 38, 43-45; catalogue 052: the client certificate is for the repository.
func TestClientCertificate(t *testing.T) {
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	serve := func() (*httptest.Server, *int) {
		certificates := new(int)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			*certificates = len(r.TLS.PeerCertificates)
			_, _ = io.WriteString(w, "chart")
		}))
		pair := issue(t, ca)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s, certificates
	}
	repo, repoSaw := serve()
	other, otherSaw := serve()
	cert, key, err := ca.Issue("client")
	if err != nil {
		t.Fatal(err)
	}
	material := &secret.TLSMaterial{CA: ca.PEM, Cert: cert, Key: key}
	for pass, want := range map[bool]int{false: 0, true: 1} {
		c := newTestClient(t, ClientOptions{URL: repo.URL, TLS: material, PassCredentials: pass})
		for _, ref := range []string{"a.tgz", other.URL + "/a.tgz"} {
			if _, err := c.Chart(t.Context(), &Version{URL: ref}, io.Discard); err != nil {
				t.Fatal(err)
			}
		}
		if *repoSaw != 1 || *otherSaw != want {
			t.Errorf("passCredentials %v: the repository saw %d certificates, another host %d, want 1 and %d", pass, *repoSaw, *otherSaw, want)
		}
	}
	if _, err := newTestClient(t, ClientOptions{URL: repo.URL}).Index(t.Context(), Tag{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority is accepted: %v", err)
	}
}

// catalogue 074: a server may say that nothing has changed, if that is what it was asked.
func TestConditionalIndex(t *testing.T) {
	const etag, date = `"one"`, "Thu, 01 Jan 2026 00:00:00 GMT"
	always := false
	s := newSpy(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		w.Header().Set("Last-Modified", date)
		if always || r.Header.Get("If-None-Match") == etag && r.Header.Get("If-Modified-Since") == date {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "index")
	})
	c := newTestClient(t, ClientOptions{URL: s.URL})
	answer, err := c.Index(t.Context(), Tag{})
	if err != nil || answer.Unchanged || answer.Tag != (Tag{etag, date}) {
		t.Fatalf("answer %+v, error %v", answer, err)
	}
	body, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil || string(body) != "index" {
		t.Errorf("body %q, error %v", body, err)
	}
	if again, err := c.Index(t.Context(), answer.Tag); err != nil || !again.Unchanged || again.Body != nil || again.Tag != answer.Tag {
		t.Errorf("answer %+v, error %v", again, err)
	}
	always = true
	if _, err := c.Index(t.Context(), Tag{}); err == nil || !strings.HasSuffix(err.Error(), "/index.yaml : 304 Not Modified") {
		t.Errorf("nothing has changed since nothing: error %v", err)
	}
}

// helmrepository 11, 12, 37; helmchart 17, 72; catalogue 009, 074: limits hold for what is announced, sent and unpacked.
func TestSizeLimits(t *testing.T) {
	limits := DefaultLimits()
	limits.IndexBytes, limits.ChartBytes = 100, 100
	for name, handler := range map[string]http.HandlerFunc{
		"announced": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(1<<40))
			w.WriteHeader(http.StatusOK)
		},
		"sent": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("a", 1<<10)); err != nil {
					return
				}
			}
		},
		"unpacked": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, strings.Repeat("a", 1<<20))
			_ = z.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpy(t, handler)
			c := newTestClient(t, ClientOptions{URL: s.URL, Limits: limits})
			answer, err := c.Index(t.Context(), Tag{})
			if err == nil {
				_, err = io.Copy(io.Discard, answer.Body)
				err = errors.Join(err, answer.Body.Close())
			}
			if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "the index is larger than 100 bytes: raise --helm-index-max-size") {
				t.Errorf("index: error %v", err)
			}
			n, err := c.Chart(t.Context(), &Version{URL: "a.tgz"}, io.Discard)
			if !errors.Is(err, ErrTooLarge) || n > 100 || !strings.Contains(err.Error(), "the chart is larger than 100 bytes: raise --helm-chart-max-size") {
				t.Errorf("chart: %d bytes, error %v", n, err)
			}
		})
	}
}

// What ends early is an error, never a smaller file; so is another chart than the one the index tells.
func TestChart(t *testing.T) {
	const body = "what a chart is"
	sum := sha256.Sum256([]byte(body))
	half := false
	s := newSpy(t, func(w http.ResponseWriter, r *http.Request) {
		if enc := r.Header.Get("Accept-Encoding"); enc != "identity" {
			t.Errorf("Accept-Encoding: %q", enc)
		}
		if half {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = io.WriteString(w, body[:3])
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, body)
	})
	c := newTestClient(t, ClientOptions{URL: s.URL})
	v := &Version{Chart: "demo", Version: "1.0.0", URL: "demo.tgz"}
	for _, digest := range []string{"", hex.EncodeToString(sum[:]), "sha256:" + strings.ToUpper(hex.EncodeToString(sum[:])), "md5:0123", "nonsense"} {
		v.Digest = digest
		var out bytes.Buffer
		if n, err := c.Chart(t.Context(), v, &out); err != nil || out.String() != body || n != int64(len(body)) {
			t.Errorf("digest %q: %d bytes %q, error %v", digest, n, out.String(), err)
		}
	}
	v.Digest = strings.Repeat("0", 64)
	want := fmt.Sprintf("chart 'demo' of version '1.0.0' at %s/demo.tgz has not the digest %s of the index", s.URL, v.Digest)
	if _, err := c.Chart(t.Context(), v, io.Discard); !errors.Is(err, ErrDigest) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	half, v.Digest = true, ""
	if _, err := c.Chart(t.Context(), v, io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("half a chart: error %v", err)
	}
}

// helmrepository 12; an overloaded server says when to come back.
func TestStatus(t *testing.T) {
	s := newSpy(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "77")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	_, err := newTestClient(t, ClientOptions{URL: s.URL + "/?token=s3cr3t-of-the-query"}).Index(t.Context(), Tag{})
	if want := "failed to fetch " + s.URL + "/index.yaml?token=*** : 429 Too Many Requests"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if d := throttle.Delay(err); d != 77*time.Second {
		t.Errorf("delay %s, want 77s", d)
	}
}

// No error tells the password, also where it is part of an address.
func TestErrorsAreRedacted(t *testing.T) {
	const canary = "c4nary-Passw0rd"
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c := newTestClient(t, ClientOptions{URL: strings.Replace(s.URL, "http://", "http://me:"+canary+"@", 1) + "/?token=" + canary})
	_, err := c.Index(t.Context(), Tag{})
	if err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("error %v", err)
	}
	if _, err := c.Chart(t.Context(), &Version{URL: "a.tgz?password=" + canary}, io.Discard); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("error %v", err)
	}
	if _, err := NewClient(ClientOptions{URL: "http://me:" + canary + "@a b/"}); !errors.Is(err, ErrURL) || strings.Contains(err.Error(), canary) {
		t.Errorf("error %v", err)
	}
}

// FuzzChartURL: whatever an index says, nothing but HTTP is asked, and a relative address stays with the repository.
func FuzzChartURL(f *testing.F) {
	for _, ref := range []string{"a.tgz", "../a.tgz", "//b/c", "http://b/c", "file:///etc/passwd", "http:c", "?x", "#y", "\\\\b\\c", "http://[::1]:80/", "%2e%2e/a"} {
		f.Add(ref)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		repository := parsed(t, "https://example.com/charts/?token=x")
		u, err := chartURL(repository, ref)
		if err != nil {
			return
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			t.Errorf("%q leads to %s", ref, u)
		}
		to, err := url.Parse(ref)
		if err == nil && to.Scheme == "" && to.Host == "" && origin(u) != origin(repository) {
			t.Errorf("%q leaves the repository for %s", ref, u)
		}
		if strings.Contains(u.RawQuery, "token=x") && origin(u) != origin(repository) {
			t.Errorf("the query goes along to %s", u)
		}
	})
}

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

func issue(t testing.TB, ca *testkit.CA) tls.Certificate {
	t.Helper()
	cert, key, err := ca.Issue("server")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
