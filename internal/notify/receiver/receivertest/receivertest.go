// Package receivertest is the conformance suite of the types of Receivers: what every one of them must do whoever its sender is. A type's
// test fills in a Suite and runs it against a Receiver that is served over HTTP.
package receivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
)

// Token is the token of the Secret. It must be in no log line.
const Token = "t0k3n-c4n4ry"

// Canary is in the bodies and headers of wrong calls. It must be in no log line.
const Canary = "c4n4ry-of-the-caller"

// Served is a Receiver with one resource, the GitRepository "app" beside it.
type Served interface {
	// URL of the webhook.
	URL() string
	// Asked is the value of the annotation that asks the GitRepository to reconcile; empty: it was not asked.
	Asked() string
	// Logs is all that was logged so far.
	Logs() string
}

// Start serves a Receiver. The body of a call may take ReadTimeout to arrive.
type Start func(t *testing.T, spec notificationv1.ReceiverSpec, secret map[string][]byte) Served

// ReadTimeout is how long callers of a suite may take: less than others, so that nobody waits for the slow ones.
const ReadTimeout = 500 * time.Millisecond

// maxBody is the largest body in bytes that a call may have (receiver 9).
const maxBody = 3 << 20

// Wrong is a call that proves nothing.
type Wrong struct {
	Name string
	// Change spoils a genuine call.
	Change func(h http.Header, body []byte)
}

// Suite describes a type to the conformance suite.
type Suite struct {
	// Type under test, by its name.
	Type string
	// Spec fills in what the type needs of the spec besides the Secret; nil: nothing.
	Spec func(spec *notificationv1.ReceiverSpec)
	// Secret holds what the type needs besides the token.
	Secret map[string][]byte
	// Body that the sender sends.
	Body string
	// Prove adds the headers that prove where a call comes from; nil: nothing does.
	Prove func(h http.Header, body []byte)
	// Signs: the proof covers the body.
	Signs bool
	// Wrong are calls with another proof.
	Wrong []Wrong
	// Refused are bodies by name that no sender sends.
	Refused map[string]string
	// Parses: the type reads the body, so that what is no JSON is refused.
	Parses bool
	// NeedsContentType: a content type other than JSON is refused.
	NeedsContentType bool
	// EventHeader names the event; empty: the type knows no events.
	EventHeader string
}

// call is one request to a Receiver.
type call struct {
	method string
	header http.Header
	body   io.Reader
}

// Run runs the suite.
func (s Suite) Run(t *testing.T, start Start) {
	t.Run("calls", func(t *testing.T) { s.calls(t, s.start(t, start, nil)) })
	t.Run("limits", func(t *testing.T) { s.limits(t, s.start(t, start, nil)) })
	t.Run("filters", func(t *testing.T) {
		s.filters(t, s.start(t, start, func(spec *notificationv1.ReceiverSpec) { spec.ResourceFilter = "req != null" }))
	})
	t.Run("events", func(t *testing.T) { s.events(t, start) })
}

func (s Suite) start(t *testing.T, start Start, change func(*notificationv1.ReceiverSpec)) Served {
	t.Helper()
	spec := notificationv1.ReceiverSpec{Type: s.Type}
	spec.Resources = []notificationv1.ReceiverResource{{ObjectSelector: notificationv1.ObjectSelector{Kind: "GitRepository", Name: "app"}}}
	if s.Spec != nil {
		s.Spec(&spec)
	}
	if change != nil {
		change(&spec)
	}
	secret := map[string][]byte{"token": []byte(Token)}
	for key, value := range s.Secret {
		secret[key] = value
	}
	served := start(t, spec, secret)
	t.Cleanup(func() {
		path, _ := url.Parse(served.URL())
		for _, hidden := range []string{Token, Canary, path.Path} {
			if strings.Contains(served.Logs(), hidden) {
				t.Errorf("%q is in the log:\n%s", hidden, served.Logs())
			}
		}
	})
	return served
}

// genuine is a call of the sender with a body.
func (s Suite) genuine(body string) call {
	c := call{method: http.MethodPost, header: http.Header{"Content-Type": {"application/json"}}, body: strings.NewReader(body)}
	if s.Prove != nil {
		s.Prove(c.header, []byte(body))
	}
	return c
}

// expect makes a call and checks the status, that the answer has no body, and whether the resource was asked.
func expect(t *testing.T, served Served, c call, code int) {
	t.Helper()
	before := served.Asked()
	got, body, err := c.do(t.Context(), served.URL())
	if err != nil {
		t.Fatal(err)
	}
	if got != code || body != "" {
		t.Errorf("status %d with body %q, want %d without; log:\n%s", got, body, code, served.Logs())
	}
	if asked := served.Asked() != before; asked != (code == http.StatusOK) {
		t.Errorf("status %d: the resource was asked: %t", got, asked)
	}
}

func (c call) do(ctx context.Context, address string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, c.method, address, c.body)
	if err != nil {
		return 0, "", err
	}
	r.Header = c.header
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

// calls are genuine, forged and spoilt ones.
func (s Suite) calls(t *testing.T, served Served) {
	t.Run("good", func(t *testing.T) { expect(t, served, s.genuine(s.Body), http.StatusOK) })
	// Senders repeat a delivery when somebody presses the button, and a reconciliation more does no harm.
	t.Run("replayed", func(t *testing.T) { expect(t, served, s.genuine(s.Body), http.StatusOK) })
	t.Run("other method", func(t *testing.T) {
		c := s.genuine(s.Body)
		c.method = http.MethodPut
		expect(t, served, c, http.StatusOK)
	})
	t.Run("query", func(t *testing.T) {
		before := served.Asked()
		if got, _, err := s.genuine(s.Body).do(t.Context(), served.URL()+"?a=b"); err != nil || got != http.StatusNotFound || served.Asked() != before {
			t.Errorf("status %d, error %v", got, err)
		}
	})
	for name, body := range s.Refused {
		t.Run("refused/"+name, func(t *testing.T) { expect(t, served, s.genuine(body), http.StatusBadRequest) })
	}
	if s.Parses {
		for name, body := range map[string]string{
			"empty": "", "no JSON": Canary, "null": "null", "list": "[]", "number": "1", "cut": s.Body[:len(s.Body)-1],
			"deep": `{"x":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + "}",
			"many": `{"x":[` + strings.Repeat("0,", 1<<20) + "0]}",
		} {
			t.Run("body/"+name, func(t *testing.T) { expect(t, served, s.genuine(body), http.StatusBadRequest) })
		}
	}
	if s.NeedsContentType {
		for _, media := range []string{"", "text/plain", "application/json; charset"} {
			t.Run("content type "+media, func(t *testing.T) {
				c := s.genuine(s.Body)
				c.header.Set("Content-Type", media)
				expect(t, served, c, http.StatusBadRequest)
			})
		}
	}
	if s.Prove == nil {
		return
	}
	t.Run("no proof", func(t *testing.T) {
		c := s.genuine(s.Body)
		c.header = http.Header{"Content-Type": {"application/json"}}
		expect(t, served, c, http.StatusBadRequest)
	})
	for _, w := range s.Wrong {
		t.Run("wrong/"+w.Name, func(t *testing.T) {
			c := s.genuine(s.Body)
			w.Change(c.header, []byte(s.Body))
			expect(t, served, c, http.StatusBadRequest)
		})
	}
	if s.Signs {
		t.Run("other body", func(t *testing.T) {
			c := s.genuine(s.Body)
			c.body = strings.NewReader(strings.Replace(s.Body, "{", "{ ", 1))
			expect(t, served, c, http.StatusBadRequest)
		})
	}
}

// limits are calls that are too large or too slow (receiver 9, 29).
func (s Suite) limits(t *testing.T, served Served) {
	large := bytes.Repeat([]byte(" "), maxBody+1)
	copy(large, s.Body)
	t.Run("large", func(t *testing.T) { expect(t, served, s.genuine(string(large)), http.StatusRequestEntityTooLarge) })
	t.Run("large, of unknown length", func(t *testing.T) {
		c := s.genuine(string(large))
		c.body = io.MultiReader(c.body)
		before := served.Asked()
		got, _, err := c.do(t.Context(), served.URL())
		// The server hangs up while the client still writes: the client may see either.
		if err == nil && got != http.StatusRequestEntityTooLarge || served.Asked() != before {
			t.Errorf("status %d, error %v", got, err)
		}
	})
	t.Run("as large as may be", func(t *testing.T) {
		expect(t, served, s.genuine(string(large[:maxBody])), http.StatusOK)
	})
	t.Run("large header", func(t *testing.T) {
		c := s.genuine(s.Body)
		c.header.Set("X-Large", strings.Repeat("x", 300<<10))
		before := served.Asked()
		got, _, err := c.do(t.Context(), served.URL())
		if err == nil && got != http.StatusRequestHeaderFieldsTooLarge || served.Asked() != before {
			t.Errorf("status %d, error %v", got, err)
		}
	})
	t.Run("slow", func(t *testing.T) {
		before := served.Asked()
		status, err := s.slow(served.URL(), 2*ReadTimeout+10*time.Second)
		if err != nil || status == http.StatusOK || served.Asked() != before {
			t.Errorf("status %d, error %v", status, err)
		}
	})
}

// slow sends a genuine call but for the end of its body, and waits until the server has enough.
func (s Suite) slow(address string, patience time.Duration) (status int, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return 0, err
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	c := s.genuine(s.Body)
	c.header.Set("Host", u.Host)
	c.header.Set("Content-Length", fmt.Sprint(len(s.Body)+1))
	var head bytes.Buffer
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\n", u.Path)
	if err := c.header.Write(&head); err != nil {
		return 0, err
	}
	fmt.Fprintf(&head, "\r\n%s", s.Body)
	if _, err := conn.Write(head.Bytes()); err != nil {
		return 0, err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return 0, fmt.Errorf("the server does not hang up: %w", err)
	}
	if len(answer) > 0 {
		_, err = fmt.Sscanf(string(answer), "HTTP/1.1 %d", &status)
	}
	return status, err
}

// filters are calls whose body is read for a filter (receiver 11, 14, 31, 36).
func (s Suite) filters(t *testing.T, served Served) {
	t.Run("good", func(t *testing.T) { expect(t, served, s.genuine(s.Body), http.StatusOK) })
	if s.Parses {
		return
	}
	for name, body := range map[string]string{
		"empty": "", "no JSON": Canary, "deep": strings.Repeat("[", 10000) + strings.Repeat("]", 10000), "many": "[" + strings.Repeat("0,", 1<<20) + "0]",
	} {
		t.Run(name, func(t *testing.T) { expect(t, served, s.genuine(body), http.StatusInternalServerError) })
	}
	if s.NeedsContentType {
		return
	}
	t.Run("not JSON by its content type", func(t *testing.T) {
		c := s.genuine(Canary)
		c.header.Set("Content-Type", "text/plain")
		expect(t, served, c, http.StatusOK)
	})
}

// events are calls whose event is, or is not, among those that count (receiver 13, 30).
func (s Suite) events(t *testing.T, start Start) {
	served := s.start(t, start, func(spec *notificationv1.ReceiverSpec) { spec.Events = []string{"one", "Push Hook"} })
	with := func(event string) call {
		c := s.genuine(s.Body)
		if s.EventHeader != "" && event != "" {
			c.header.Set(s.EventHeader, event)
		}
		return c
	}
	others := http.StatusBadRequest
	if s.EventHeader == "" {
		others = http.StatusOK
	}
	for event, code := range map[string]int{"one": http.StatusOK, "ONE": http.StatusOK, "push hook": http.StatusOK, "two": others, "": others} {
		t.Run("'"+event+"'", func(t *testing.T) { expect(t, served, with(event), code) })
	}
}
