// Package rest speaks HTTP and JSON with the servers that issue credentials: no redirects, no answers without bounds.
package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/guard"
)

const (
	dialTimeout = 10 * time.Second
	// idleTimeout is short: a credential is good for an hour, and its server is not asked before.
	idleTimeout = 10 * time.Second
	maxReason   = 512
)

// ErrLimit is the property of an answer with more bytes than the limit.
var ErrLimit = errors.New("limit exceeded")

// StatusError is an answer that is not one of success.
type StatusError struct {
	Host string
	Code int
	// Reason is what the server said, shortened to one line.
	Reason string
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s answered %d %s", e.Host, e.Code, http.StatusText(e.Code))
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	return text
}

// StatusCode is Code, for those who may tell it but not the Reason.
func (e *StatusError) StatusCode() int { return e.Code }

// Client returns a client for requests that carry credentials. It follows no redirect, which would take them along, and gives up on
// answers of more than limit bytes. A nil proxy means that of the environment, a nil configuration that of the system.
func Client(proxy *url.URL, config *tls.Config, limit int64) *http.Client {
	return client(&net.Dialer{Timeout: dialTimeout}, proxyFor(proxy), config, limit)
}

// StrangersClient is Client for addresses that users have written: it does not connect to metadata servers.
func StrangersClient(proxy *url.URL, config *tls.Config, limit int64) *http.Client {
	return client(&net.Dialer{Timeout: dialTimeout, Control: guard.Control}, proxyFor(proxy), config, limit)
}

func client(dialer *net.Dialer, proxy func(*http.Request) (*url.URL, error), config *tls.Config, limit int64) *http.Client {
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &http.Client{
		Transport: &bounded{limit: limit, next: &http.Transport{
			Proxy:                 proxy,
			DialContext:           dialer.DialContext,
			TLSClientConfig:       config,
			TLSHandshakeTimeout:   dialTimeout,
			ResponseHeaderTimeout: 30 * time.Second,
			ForceAttemptHTTP2:     true,
			IdleConnTimeout:       idleTimeout,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// proxyFor spares the metadata servers: they are this machine's, and a proxy would be asked for the identity of its own.
func proxyFor(proxy *url.URL) func(*http.Request) (*url.URL, error) {
	find := http.ProxyFromEnvironment
	if proxy != nil {
		find = http.ProxyURL(proxy)
	}
	return func(r *http.Request) (*url.URL, error) {
		if isMetadata(r.URL.Hostname()) {
			return nil, nil
		}
		return find(r)
	}
}

func isMetadata(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host == "metadata.google.internal"
	}
	return guard.IsMetadata(ip)
}

// bounded limits the bytes of each answer, unpacked.
type bounded struct {
	limit int64
	next  http.RoundTripper
}

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = &boundedBody{ReadCloser: answer.Body, host: r.URL.Host, limit: b.limit, left: b.limit}
	return answer, nil
}

type boundedBody struct {
	io.ReadCloser
	host        string
	limit, left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: the answer of %s has more than %d bytes", ErrLimit, b.host, b.limit)
	}
	return n, err
}

// Get returns a request without a body.
func Get(ctx context.Context, target string) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
}

// PostJSON returns a request with body as JSON; nil: without a body.
func PostJSON(ctx context.Context, target string, body any) (*http.Request, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, content)
	if err == nil && body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, err
}

// PostForm returns a request with the values of a form.
func PostForm(ctx context.Context, target string, form url.Values) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err == nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r, err
}

// JSON sends the request and reads the answer into out. Any status but 2xx is a *StatusError.
func JSON(client *http.Client, r *http.Request, out any) error {
	body, err := Bytes(client, r)
	if err != nil {
		return err
	}
	return Decode(r.URL.Host, body, out)
}

// Decode reads the answer of a host.
func Decode(host string, body []byte, out any) error {
	// What cannot be read may hold half of a credential: it is not quoted.
	if json.Unmarshal(body, out) != nil {
		return fmt.Errorf("%s sent an answer that is not the expected JSON", host)
	}
	return nil
}

// Bytes sends the request and returns the body of the answer. Any status but 2xx is a *StatusError.
func Bytes(client *http.Client, r *http.Request) ([]byte, error) {
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json")
	}
	r.Header.Set("User-Agent", "flux")
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		reason, _ := io.ReadAll(io.LimitReader(answer.Body, maxReason))
		return nil, &StatusError{Host: r.URL.Host, Code: answer.StatusCode, Reason: oneLine(reason)}
	}
	return io.ReadAll(answer.Body)
}

func oneLine(b []byte) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(b), "")), " ")
}
