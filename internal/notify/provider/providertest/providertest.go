// Package providertest is the conformance suite of the types of Providers: what every one of them must do whatever its service is.
//
// A type's test fills in a Suite and runs it. Payloads are compared with testdata/<type>/<case>.json in the folder of the test, which
// `go test -update` writes; whoever updates reviews them against the documentation of the service.
package providertest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

var update = flag.Bool("update", false, "write the payloads that are compared")

// Canary is in every secret value of a suite; it must be in no error.
const Canary = "c4n4ry-s3cr3t"

// Case is an event, and what is told of it.
type Case struct {
	// Name of the case, and of its golden file.
	Name  string
	Event event.Payload
}

// Suite describes a type to the conformance suite.
type Suite struct {
	// Type under test, by its name.
	Type string
	// Config returns the configuration for a service at base, "http://127.0.0.1:1234". Its secret values contain Canary.
	Config func(base string) provider.Config
	// Public: the type talks to a well-known host whatever the address; its requests are led to the service.
	Public bool
	// Answer is how a healthy service answers; nil: 200 with an empty JSON object.
	Answer http.HandlerFunc
	// Cases are events besides the common ones.
	Cases []Case
	// Silent are the names of cases of which nothing is told.
	Silent []string
	// Event is the event that the failure cases send; nil: Failed.
	Event *event.Payload
	// Tidy makes a request comparable before it is compared with its golden file: it decodes what is encoded, checks what differs each
	// time, such as a signature, and replaces it. nil: requests are compared as they are.
	Tidy func(t *testing.T, call *Call)
}

// Applied is the common event of good news.
func Applied() event.Payload {
	return event.Payload{
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "kustomize.toolkit.fluxcd.io/v1", Kind: "Kustomization", Namespace: "prod", Name: "app",
			UID: "6f2e9d0c-1111-4222-8333-444455556666", ResourceVersion: "42",
		},
		Severity: event.Info, Timestamp: metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
		Message: "Deployment/prod/web configured\nService/prod/web created", Reason: "ReconciliationSucceeded",
		Metadata:            map[string]string{"revision": "main@sha1:d74070d84f79b5d3474c344203643735b563dfeb"},
		ReportingController: "kustomize-controller", ReportingInstance: "node-1",
	}
}

// Failed is the common event of bad news. It holds what naive encoders break on.
func Failed() event.Payload {
	e := Applied()
	e.Severity, e.Reason = event.Error, "BuildFailed"
	e.Message = "accumulating resources: \"a <b> & 'c'\" *d* _e_ `f` [g](h) {i} #j ~k | 1.5! \\ — ü 🚀"
	e.Metadata = map[string]string{
		"revision": "main@sha1:d74070d84f79b5d3474c344203643735b563dfeb", "summary": "prod: all hands", "env": "prod",
	}
	return e
}

// Progressing is the common event of work that has begun.
func Progressing() event.Payload {
	e := Applied()
	e.Reason, e.Message, e.Metadata = "Progressing", "Health check passed in 1s", nil
	return e
}

// Common are the cases every suite runs.
func Common() []Case {
	return []Case{{"applied", Applied()}, {"failed", Failed()}, {"progressing", Progressing()}}
}

// Call is one request as golden files show it.
type Call struct {
	Method string              `json:"method"`
	URL    string              `json:"url"`
	Header map[string][]string `json:"header,omitempty"`
	JSON   any                 `json:"json,omitempty"`
	Form   url.Values          `json:"form,omitempty"`
	Body   string              `json:"body,omitempty"`
}

// service is a service on loopback that records what it is told.
type service struct {
	*httptest.Server
	mu    sync.Mutex
	calls []Call
	raw   []string
}

func (s *service) record(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	call := Call{Method: r.Method, URL: r.URL.String(), Header: map[string][]string{}}
	if original := r.Header.Get(originalHeader); original != "" {
		call.URL = original
	}
	for name, values := range r.Header {
		switch name {
		case "User-Agent", "Accept-Encoding", "Content-Length", originalHeader:
		default:
			call.Header[name] = values
		}
	}
	switch {
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		call.Form, _ = url.ParseQuery(string(body))
	case json.Unmarshal(body, &call.JSON) != nil:
		call.JSON, call.Body = nil, string(body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	s.raw = append(s.raw, string(body))
}

func (s *service) take() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// serve starts a service.
func serve(t *testing.T, start func(*httptest.Server), answer http.HandlerFunc) *service {
	t.Helper()
	s := &service{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.record(r)
		answer(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(s.Server)
	t.Cleanup(s.Close)
	return s
}

func plain(s *httptest.Server) { s.Start() }

func (s *Suite) answer() http.HandlerFunc {
	if s.Answer != nil {
		return s.Answer
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	}
}

func (s *Suite) event() event.Payload {
	if s.Event != nil {
		return *s.Event
	}
	return Failed()
}

// originalHeader tells the service where a request was meant to go.
const originalHeader = "X-Original-Url"

// lead sends every request to a service on loopback.
type lead struct {
	to    *url.URL
	under http.RoundTripper
}

func (l lead) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(originalHeader, r.URL.String())
	// A proxy goes by the header Host.
	r.URL.Scheme, r.URL.Host, r.Host = l.to.Scheme, l.to.Host, l.to.Host
	return l.under.RoundTrip(r)
}

// notifier makes the Notifier of the type for a service at base.
func (s *Suite) notifier(t *testing.T, base string, material *secret.TLSMaterial, proxy *url.URL) provider.Notifier {
	t.Helper()
	kind, ok := provider.Find(s.Type)
	if !ok {
		t.Fatalf("there is no type '%s'", s.Type)
	}
	var transports provider.Transports
	transport, config, err := transports.Get(material, proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transports.Close)
	c := s.Config(base)
	var way http.RoundTripper = transport
	if s.Public {
		to, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		way = lead{to, transport}
	}
	c.Type, c.TLS, c.Proxy = s.Type, config, proxy
	c.HTTP = provider.NewClient(way, "flux/test", secretsOf(&c)...)
	c.HTTP.Pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	if c.Provider == (provider.Owner{}) {
		c.Provider = provider.Owner{Namespace: "prod", Name: "p", UID: "11112222-3333-4444-8555-666677778888"}
	}
	if c.Alert == (provider.Owner{}) {
		c.Alert = provider.Owner{Namespace: "prod", Name: "a", UID: "99998888-7777-4666-8555-444433332222"}
	}
	if kind.PostsCommitStatus() && c.CommitStatus == "" {
		c.CommitStatus = "kustomization/app/11112222"
	}
	n, err := kind.New(c)
	if err != nil {
		t.Fatalf("making the notifier: %v", err)
	}
	return n
}

func secretsOf(c *provider.Config) []string {
	out := []string{c.Token, c.Password, c.Address}
	for _, v := range c.Secret {
		out = append(out, string(v))
	}
	for _, v := range c.Headers {
		out = append(out, v)
	}
	return out
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// unleaked fails the test when an error holds a secret, or what a service has answered.
func unleaked(t *testing.T, err error) {
	t.Helper()
	for _, word := range []string{Canary, echo, base64.StdEncoding.EncodeToString([]byte(Canary))} {
		if err != nil && strings.Contains(err.Error(), word) {
			t.Errorf("the error holds %q: %v", word, err)
		}
	}
}

// echo is what the service answers and nobody may read.
const echo = "the-answer-of-the-service"

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	t.Run("payloads", s.payloads)
	t.Run("statuses", s.statuses)
	t.Run("retries", s.retries)
	t.Run("redirects", s.redirects)
	t.Run("a service that hangs", s.hangs)
	t.Run("an endless answer", s.endless)
	t.Run("nobody listens", s.nobody)
	t.Run("TLS", s.tls)
	t.Run("proxy", s.proxy)
}

// payloads compares what the service is told with the golden files.
func (s *Suite) payloads(t *testing.T) {
	for _, c := range append(Common(), s.Cases...) {
		t.Run(c.Name, func(t *testing.T) {
			service := serve(t, plain, s.answer())
			if err := s.notifier(t, service.URL, nil, nil).Notify(within(t, 30*time.Second), c.Event); err != nil {
				t.Fatal(err)
			}
			calls := service.take()
			if silent := slices.Contains(s.Silent, c.Name); silent != (len(calls) == 0) {
				t.Fatalf("%d requests; the case is silent: %t", len(calls), silent)
			}
			s.golden(t, c.Name, service.URL, calls)
		})
	}
}

func (s *Suite) golden(t *testing.T, name, base string, calls []Call) {
	t.Helper()
	if len(calls) == 0 {
		return
	}
	for i := range calls {
		if s.Tidy != nil {
			s.Tidy(t, &calls[i])
		}
	}
	got, err := json.MarshalIndent(calls, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(base, "http://")
	got = bytes.ReplaceAll(append(got, '\n'), []byte(host), []byte("service.example"))
	file := filepath.Join("testdata", s.Type, name+".json")
	if *update {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, got, 0o644)); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run the test with -update and review what it writes", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// statuses: what the service refuses is an error that repeats nothing it has said (provider 32).
func (s *Suite) statuses(t *testing.T) {
	for _, code := range []int{400, 401, 403, 404, 500, 501, 503} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			service := serve(t, plain, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, echo+Canary, code) })
			err := s.notifier(t, service.URL, nil, nil).Notify(within(t, 30*time.Second), s.event())
			if err == nil {
				t.Fatal("no error")
			}
			unleaked(t, err)
			if !strings.Contains(err.Error(), fmt.Sprint(code)) {
				t.Errorf("the error does not tell the status: %v", err)
			}
		})
	}
}

// retries: a service that was away for a moment is told all the same, one that refuses is not asked again (provider 52).
func (s *Suite) retries(t *testing.T) {
	for _, c := range []struct {
		code  int
		again bool
	}{{429, true}, {502, true}, {501, false}, {400, false}} {
		t.Run(fmt.Sprint(c.code), func(t *testing.T) {
			tries := 0
			service := serve(t, plain, func(w http.ResponseWriter, r *http.Request) {
				if tries++; tries == 1 {
					w.WriteHeader(c.code)
					return
				}
				s.answer()(w, r)
			})
			err := s.notifier(t, service.URL, nil, nil).Notify(within(t, 30*time.Second), s.event())
			if c.again != (err == nil) {
				t.Errorf("error = %v, %d tries", err, tries)
			}
		})
	}
}

// redirects: credentials stay with the host they are for, and a notification does not turn into a question.
func (s *Suite) redirects(t *testing.T) {
	for _, code := range []int{302, 307} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			elsewhere := serve(t, plain, s.answer())
			service := serve(t, plain, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL+r.URL.Path, code)
			})
			err := s.notifier(t, service.URL, nil, nil).Notify(within(t, 30*time.Second), s.event())
			unleaked(t, err)
			for _, call := range elsewhere.take() {
				text := fmt.Sprint(call.Header)
				for _, value := range call.Header["Authorization"] {
					text += value
				}
				if strings.Contains(text, Canary) || len(call.Header["Authorization"]) > 0 {
					t.Errorf("another host was given credentials: %v", call.Header)
				}
			}
		})
	}
}

// hangs: the deadline of the caller holds.
func (s *Suite) hangs(t *testing.T) {
	release := make(chan struct{})
	service := serve(t, plain, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	t.Cleanup(func() { close(release) })
	err := s.notifier(t, service.URL, nil, nil).Notify(within(t, 200*time.Millisecond), s.event())
	if err == nil {
		t.Error("no error")
	}
	unleaked(t, err)
}

// endless: an answer without end is cut.
func (s *Suite) endless(t *testing.T) {
	service := serve(t, plain, func(w http.ResponseWriter, r *http.Request) {
		block := bytes.Repeat([]byte("x"), 64<<10)
		for r.Context().Err() == nil {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	ctx := within(t, 30*time.Second)
	err := s.notifier(t, service.URL, nil, nil).Notify(ctx, s.event())
	if ctx.Err() != nil {
		t.Error("the answer was read until the deadline")
	}
	unleaked(t, err)
}

// nobody: an address where nobody listens is an error without the address.
func (s *Suite) nobody(t *testing.T) {
	service := serve(t, plain, s.answer())
	base := service.URL
	service.Close()
	err := s.notifier(t, base, nil, nil).Notify(within(t, 30*time.Second), s.event())
	if err == nil {
		t.Error("no error")
	}
	unleaked(t, err)
}

// tls: the CA of the Provider is trusted and no other, and its certificate is shown (provider 7, 37).
func (s *Suite) tls(t *testing.T) {
	ca, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	other, err := testkit.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	config, err := ca.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := ca.Issue("flux")
	if err != nil {
		t.Fatal(err)
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	config.ClientCAs.AppendCertsFromPEM(ca.PEM)
	service := serve(t, func(h *httptest.Server) {
		h.TLS = config
		h.StartTLS()
	}, s.answer())
	for _, c := range []struct {
		name     string
		material *secret.TLSMaterial
		good     bool
	}{
		{"mutual", &secret.TLSMaterial{CA: ca.PEM, Cert: certificate, Key: key}, true},
		{"no certificate", &secret.TLSMaterial{CA: ca.PEM}, false},
		{"another CA", &secret.TLSMaterial{CA: other.PEM, Cert: certificate, Key: key}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := s.notifier(t, service.URL, c.material, nil).Notify(within(t, 30*time.Second), s.event())
			if c.good != (err == nil) {
				t.Errorf("error = %v", err)
			}
			unleaked(t, err)
		})
	}
}

// proxy: a proxy is gone through.
func (s *Suite) proxy(t *testing.T) {
	service := serve(t, plain, s.answer())
	through := 0
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through++
		out := r.Clone(r.Context())
		out.RequestURI = ""
		answer, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	}))
	defer proxy.Close()
	to, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.notifier(t, service.URL, nil, to).Notify(within(t, 30*time.Second), s.event()); err != nil {
		t.Error(err)
	}
	if through == 0 {
		t.Error("the proxy was not asked")
	}
}
