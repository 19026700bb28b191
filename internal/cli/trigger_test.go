package cli

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/seed-79636ae9/flux/internal/notify/receiver"
)

// webhookServer answers calls with the codes it was given, and then with 200.
type webhookServer struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int
	calls   []webhookSeen
}

// webhookSeen is what matters of a call.
type webhookSeen struct {
	Method, URI, Body, ContentType, Signature, Authorization, Agent string
}

func newWebhookServer(t *testing.T, answers ...int) *webhookServer {
	t.Helper()
	s := &webhookServer{answers: answers}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// ServeHTTP implements http.Handler.
func (s *webhookServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		body = []byte(err.Error())
	}
	s.calls = append(s.calls, webhookSeen{
		Method: req.Method, URI: req.RequestURI, Body: string(body), ContentType: req.Header.Get("Content-Type"),
		Signature: req.Header.Get("X-Signature"), Authorization: req.Header.Get("Authorization"), Agent: req.Header.Get("User-Agent"),
	})
	if len(s.answers) == 0 {
		return
	}
	code := s.answers[0]
	s.answers = s.answers[1:]
	if code == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(code)
}

// trigger runs `flux trigger receiver` and returns what it told.
func trigger(t *testing.T, env map[string]string, args ...string) (code int, stderr string) {
	t.Helper()
	c, _, errors := testConfig()
	c.Getenv = func(name string) string { return env[name] }
	c.Clock = clock.RealClock{}
	code = run(t.Context(), c, append([]string{"trigger", "receiver"}, args...))
	return code, errors.String()
}

// hookPath is the path of a webhook (wire.md 12).
func hookPath(token, name, namespace string) string {
	sum := sha256.Sum256([]byte(token + name + namespace))
	return "/hook/" + hex.EncodeToString(sum[:])
}

// TestTriggerCalls covers cli 70 and wire 12, 16: what each type sends, and where to.
func TestTriggerCalls(t *testing.T) {
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") != "Bearer job" || req.URL.Query().Get("run") != "7" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, `{"value": "for `+req.URL.Query().Get("audience")+`"}`)
	}))
	t.Cleanup(issuer.Close)
	job := map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": issuer.URL + "?run=7", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job"}
	mac := hmac.New(sha256.New, []byte("secret"))
	mac.Write([]byte(`{"a": 1}`))
	for name, tc := range map[string]struct {
		env  map[string]string
		args []string
		path string
		want webhookSeen
	}{
		"generic": {
			args: []string{"hook", "--token=secret"},
			want: webhookSeen{URI: hookPath("secret", "hook", "flux-system"), Body: "{}"},
		},
		"generic-hmac signs the payload": {
			args: []string{"hook", "-n=apps", "--type=generic-hmac", "--token=secret", `--payload={"a": 1}`},
			want: webhookSeen{URI: hookPath("secret", "hook", "apps"), Body: `{"a": 1}`, Signature: "sha256=" + hex.EncodeToString(mac.Sum(nil))},
		},
		"below a path": {
			args: []string{"hook", "--token=secret"}, path: "/webhooks/",
			want: webhookSeen{URI: "/webhooks" + hookPath("secret", "hook", "flux-system"), Body: "{}"},
		},
		"generic-oidc with a token": {
			env:  map[string]string{oidcTokenVariable: "other"},
			args: []string{"hook", "--type=generic-oidc", "--oidc-token=given"},
			want: webhookSeen{URI: hookPath("", "hook", "flux-system"), Body: "{}", Authorization: "Bearer given"},
		},
		"generic-oidc with a variable": {
			env:  map[string]string{oidcTokenVariable: "other"},
			args: []string{"hook", "--type=generic-oidc"},
			want: webhookSeen{URI: hookPath("", "hook", "flux-system"), Body: "{}", Authorization: "Bearer other"},
		},
		"generic-oidc in a job of GitHub": {
			env:  job,
			args: []string{"hook", "--type=generic-oidc", "--oidc-provider=github"},
			want: webhookSeen{URI: hookPath("", "hook", "flux-system"), Body: "{}", Authorization: "Bearer for notification-controller"},
		},
		"generic-oidc in a job of Forgejo": {
			env:  job,
			args: []string{"hook", "--type=generic-oidc", "--oidc-provider=forgejo", "--oidc-audience=a b&c"},
			want: webhookSeen{URI: hookPath("", "hook", "flux-system"), Body: "{}", Authorization: "Bearer for a b&c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := newWebhookServer(t)
			code, stderr := trigger(t, tc.env, append(tc.args, "--url="+server.URL+tc.path)...)
			if code != 0 || !strings.HasSuffix(stderr, "✔ Receiver hook triggered\n") {
				t.Fatalf("exit code %d: %s", code, stderr)
			}
			tc.want.Method, tc.want.ContentType, tc.want.Agent = http.MethodPost, "application/json", "flux/v2.9.0"
			if diff := cmp.Diff([]webhookSeen{tc.want}, server.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTriggerIsTrusted covers cli 70 and receiver 19: a Receiver takes what was signed here, and nothing signed with another token.
func TestTriggerIsTrusted(t *testing.T) {
	hmacType, known := receiver.Find("generic-hmac")
	if !known {
		t.Fatal("there is no type generic-hmac")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err == nil {
			_, err = hmacType.Verify(req.Context(), &receiver.Call{Header: req.Header, Body: body, Secret: map[string][]byte{"token": []byte("secret")}})
		}
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	for token, want := range map[string]int{"secret": 0, "other": 1} {
		if code, stderr := trigger(t, nil, "hook", "--type=generic-hmac", `--payload={"a": "ü"}`, "--token="+token, "--url="+server.URL); code != want {
			t.Errorf("token %q: exit code %d, want %d: %s", token, code, want, stderr)
		}
	}
}

// TestTriggerRefuses covers cli 70: flags that do not go together are refused before anything is sent.
func TestTriggerRefuses(t *testing.T) {
	server := newWebhookServer(t)
	for args, want := range map[string]string{
		"":                          "Receiver name is required",
		"hook --token=t":            "--url is required",
		"hook --token=t --url=flux": "--url is not an address of the form https://host",
		"hook --token=t --url=ftp://flux.example.com":        "--url is not an address of the form https://host",
		"hook --token=t --url=https://user@flux.example.com": "--url is not an address of the form https://host",
		"hook --token=t --url=https://flux.example.com?a=b":  "--url is not an address of the form https://host",
		"hook --url=$URL":                                                           "--token is required with --type=generic",
		"hook --url=$URL --type=generic-hmac":                                       "--token is required with --type=generic-hmac",
		"hook --url=$URL --type=github --token=t":                                   "--type 'github' is not supported, must be one of: generic, generic-hmac, generic-oidc",
		"hook --url=$URL --token=t --payload={":                                     "--payload is not JSON",
		"hook --url=$URL --token=t --retries=-1":                                    "--retries and --retry-delay cannot be negative",
		"hook --url=$URL --token=t --oidc-token=t":                                  "--oidc-provider, --oidc-token and --oidc-audience are for --type=generic-oidc",
		"hook --url=$URL --type=generic-oidc":                                       "needs --oidc-provider, --oidc-token or the variable FLUX_TRIGGER_RECEIVER_OIDC_TOKEN",
		"hook --url=$URL --type=generic-oidc --token=t":                             "--token is not for --type=generic-oidc",
		"hook --url=$URL --type=generic-oidc --oidc-token=t --oidc-provider=github": "--oidc-provider and --oidc-token exclude each other",
		"hook --url=$URL --type=generic-oidc --oidc-token=t --oidc-audience=flux":   "--oidc-audience needs --oidc-provider",
		"hook --url=$URL --type=generic-oidc --oidc-provider=jenkins":               "--oidc-provider 'jenkins' is not supported, must be one of: github, forgejo",
		"hook --url=$URL --type=generic-oidc --oidc-provider=github":                "they are in jobs with 'permissions: id-token: write'",
		"hook --url=$URL --type=generic-oidc --oidc-provider=forgejo":               "they are in jobs with 'enable-openid-connect: true'",
	} {
		t.Run(args, func(t *testing.T) {
			code, stderr := trigger(t, nil, strings.Fields(strings.ReplaceAll(args, "$URL", server.URL))...)
			if code != 1 || !strings.Contains(stderr, want) {
				t.Errorf("exit code %d, %q, want 1 and %q", code, stderr, want)
			}
		})
	}
	if len(server.calls) > 0 {
		t.Errorf("calls were made: %v", server.calls)
	}
}

// TestTriggerIssuer proves that what an issuer answers is bounded by what can be used of it, and never printed.
func TestTriggerIssuer(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		code   int
		want   string
	}{
		"refused":      {answer: "secret", code: 403, want: "ask github for a token: answered 403 Forbidden"},
		"redirected":   {answer: "secret", code: 302, want: "ask github for a token: answered 302 Found"},
		"not JSON":     {answer: "secret", code: 200, want: "the answer holds no token"},
		"without one":  {answer: `{"other": "secret"}`, code: 200, want: "the answer holds no token"},
		"out of bound": {answer: `{"value": "` + strings.Repeat("secret", maxTokenAnswer/6) + `"}`, code: 200, want: "the answer holds no token"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newWebhookServer(t)
			issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.code)
				_, _ = io.WriteString(w, tc.answer)
			}))
			t.Cleanup(issuer.Close)
			env := map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": issuer.URL, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret"}
			code, stderr := trigger(t, env, "hook", "--type=generic-oidc", "--oidc-provider=github", "--url="+server.URL)
			if code != 1 || !strings.Contains(stderr, tc.want) || strings.Contains(stderr, "secret") {
				t.Errorf("exit code %d, %.200q, want 1 and %q", code, stderr, tc.want)
			}
			if len(server.calls) > 0 {
				t.Errorf("calls were made: %v", server.calls)
			}
		})
	}
}

// TestTriggerAnswers covers cli 70: what is tried again, and that errors hold neither the path nor the token.
func TestTriggerAnswers(t *testing.T) {
	const again = 3
	for name, tc := range map[string]struct {
		answer int
		calls  int
		want   string
	}{
		"connection lost":       {0, again, "EOF"},
		"not found":             {404, again, "answered 404 Not Found: name, namespace and token must be those of a Receiver"},
		"request timeout":       {408, again, "answered 408 Request Timeout"},
		"too many requests":     {429, again, "answered 429 Too Many Requests"},
		"internal server error": {500, again, "answered 500 Internal Server Error"},
		"bad gateway":           {502, again, "answered 502 Bad Gateway"},
		"unavailable":           {503, again, "answered 503 Service Unavailable"},
		"gateway timeout":       {504, again, "answered 504 Gateway Timeout"},
		"bad request":           {400, 1, "answered 400 Bad Request: --type and the token must be those of the Receiver"},
		"too large":             {413, 1, "answered 413 Request Entity Too Large"},
		"not implemented":       {501, 1, "answered 501 Not Implemented"},
		"redirect":              {308, 1, "answered 308 Permanent Redirect: give --url as the address that it redirects to"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newWebhookServer(t, tc.answer, tc.answer, tc.answer, tc.answer)
			code, stderr := trigger(t, nil, "hook", "--token=confidential", "--url="+server.URL, "--retries=2", "--retry-delay=1ms")
			if code != 1 || !strings.Contains(stderr, tc.want) || !strings.Contains(stderr, "flux get receivers hook -n flux-system") {
				t.Errorf("exit code %d, %q, want 1 and %q", code, stderr, tc.want)
			}
			if strings.Contains(stderr, "confidential") || strings.Contains(stderr, "/hook/") {
				t.Errorf("a secret is told: %q", stderr)
			}
			if len(server.calls) != tc.calls {
				t.Errorf("%d calls, want %d", len(server.calls), tc.calls)
			}
		})
	}
}

// TestTriggerRetries covers cli 70: a call is repeated after the delay, and goes well when the webhook is there.
func TestTriggerRetries(t *testing.T) {
	server := newWebhookServer(t, 404, 503)
	c, _, stderr := testConfig()
	fake := clocktesting.NewFakeClock(now())
	c.Clock = fake
	done := make(chan int)
	go func() {
		done <- run(t.Context(), c, []string{"trigger", "receiver", "hook", "--token=t", "--url=" + server.URL})
	}()
	for range 2 {
		for !fake.HasWaiters() {
			select {
			case code := <-done:
				t.Fatalf("exit code %d: %s", code, stderr)
			case <-time.After(time.Millisecond):
			}
		}
		fake.Step(10 * time.Second)
	}
	if code := <-done; code != 0 {
		t.Fatalf("exit code %d", code)
	}
	want := `► calling the webhook of Receiver hook in flux-system namespace
◎ call the webhook of Receiver hook: answered 404 Not Found: name, namespace and token must be those of a Receiver, trying again in 10s (1 of 10)
◎ call the webhook of Receiver hook: answered 503 Service Unavailable, trying again in 10s (2 of 10)
✔ Receiver hook triggered
`
	if diff := cmp.Diff(want, stderr.String()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// TestTriggerUntrusted proves that a server with a certificate that nobody vouches for is not called again and again.
func TestTriggerUntrusted(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	code, stderr := trigger(t, nil, "hook", "--token=t", "--url="+server.URL)
	if code != 1 || !strings.Contains(stderr, "certificate") || strings.Contains(stderr, "again") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

// TestTriggerEndsWithContext covers cli 4: the end of the command ends the wait for the next call.
func TestTriggerEndsWithContext(t *testing.T) {
	server := newWebhookServer(t, 503)
	c, _, stderr := testConfig()
	fake := clocktesting.NewFakeClock(now())
	c.Clock = fake
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		done <- run(ctx, c, []string{"trigger", "receiver", "hook", "--token=t", "--url=" + server.URL})
	}()
	for !fake.HasWaiters() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if code := <-done; code != 1 || !strings.Contains(stderr.String(), "✗ call the webhook of Receiver hook: answered 503 Service Unavailable") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

func TestWithoutAddress(t *testing.T) {
	plain := errors.New("plain")
	if got := withoutAddress(plain); got != plain {
		t.Errorf("withoutAddress(%v) = %v", plain, got)
	}
	_, err := http.NewRequest(http.MethodPost, "http://[secret", http.NoBody)
	if got := withoutAddress(err); got == nil || strings.Contains(got.Error(), "secret") {
		t.Errorf("withoutAddress(%v) = %v", err, got)
	}
}
