package provider

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/guard"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

const (
	// retries is how often a request is repeated (alert 21).
	retries = 4
	// firstPause and longestPause bound the time between two tries (alert 21).
	firstPause, longestPause = 2 * time.Second, 30 * time.Second
	// maxRedirects is how many redirects a request follows.
	maxRedirects = 3
	// maxAnswer is how much of an answer is read unless a request allows more.
	maxAnswer = 64 << 10
)

// Request is one request to a service.
type Request struct {
	// Method; empty: POST.
	Method string
	// URL is absolute, http or https.
	URL string
	// Header may be nil.
	Header http.Header
	// Body may be nil.
	Body []byte
	// Limit is how many bytes of the answer are wanted; 0: 64 KiB.
	Limit int64
	// Sealed: the body holds a credential, so that no other host may see it. Redirects to one are refused.
	Sealed bool
}

// Answer is what a service has answered with a status of 200 to 299. Nothing of it may reach a message.
type Answer struct {
	Code   int
	Header http.Header
	Body   []byte
	cut    bool
}

// JSON decodes the body. The error repeats nothing of it.
func (a *Answer) JSON(into any) error {
	if a.cut {
		return fmt.Errorf("the answer is larger than %d bytes", len(a.Body))
	}
	if err := json.Unmarshal(a.Body, into); err != nil {
		return errors.New("the answer is not the JSON that was expected")
	}
	return nil
}

// StatusError is an answer other than 200 to 299. What the service has written is not part of it: whoever may read the events of an Alert
// need not be allowed to read what the address answers.
type StatusError struct{ Code int }

// Error implements error; the words are 2.9's (recording notification/provider-answers-400).
func (e *StatusError) Error() string {
	return fmt.Sprintf("request failed with status code %d", e.Code)
}

// Client makes requests for one Provider. It repeats what may succeed later, follows redirects without giving credentials away, reads
// bounded answers, and returns errors without addresses and secrets.
type Client struct {
	// UserAgent of the requests.
	UserAgent string
	// Secrets are values that must not appear in errors.
	Secrets []string
	// Pause waits between tries; nil: time passes. It returns the error of the context when that ends first.
	Pause func(ctx context.Context, d time.Duration) error

	http *http.Client
}

// NewClient returns a client that uses the transport.
func NewClient(transport http.RoundTripper, userAgent string, secrets ...string) *Client {
	return &Client{UserAgent: userAgent, Secrets: secrets, http: &http.Client{Transport: transport, CheckRedirect: checkRedirect}}
}

// PostJSON posts a value as JSON.
func (c *Client) PostJSON(ctx context.Context, address string, body any, header http.Header) (*Answer, error) {
	return c.SendJSON(ctx, http.MethodPost, address, body, header)
}

// SendJSON sends a value as JSON.
func (c *Client) SendJSON(ctx context.Context, method, address string, body any, header http.Header) (*Answer, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding the notification: %w", err)
	}
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/json")
	return c.Do(ctx, Request{Method: method, URL: address, Header: header, Body: data})
}

// Do makes a request and repeats it as alert 21 and provider 52 say, as long as ctx allows. An answer other than 200 to 299 is a
// *StatusError.
func (c *Client) Do(ctx context.Context, r Request) (answer *Answer, err error) {
	err = c.repeat(ctx, func() (err error) {
		answer, err = c.once(ctx, r)
		return err
	})
	return answer, err
}

// repeat calls what may succeed later for as long as it fails with a *retryable and ctx allows. Its errors hold no secrets.
func (c *Client) repeat(ctx context.Context, once func() error) error {
	for try := 0; ; try++ {
		err := once()
		if err == nil {
			return nil
		}
		wait, again := pauseAfter(err, try)
		if !again || !fits(ctx, wait) {
			return c.clean(err)
		}
		if pauseErr := c.pause(ctx, wait); pauseErr != nil {
			return c.clean(err)
		}
	}
}

// fits reports whether there is time left for another try after a pause.
func fits(ctx context.Context, wait time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(deadline) > wait)
}

func (c *Client) pause(ctx context.Context, d time.Duration) error {
	if c.Pause != nil {
		return c.Pause(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryable is an error after which the same request may succeed.
type retryable struct {
	error
	after time.Duration // what Retry-After says; 0: nothing
}

// Unwrap returns the cause.
func (r *retryable) Unwrap() error { return r.error }

func pauseAfter(err error, try int) (time.Duration, bool) {
	r, ok := errors.AsType[*retryable](err)
	if !ok || try >= retries {
		return 0, false
	}
	if r.after > 0 {
		return r.after, true
	}
	return min(firstPause<<try, longestPause), true
}

func (c *Client) once(ctx context.Context, r Request) (*Answer, error) {
	method := r.Method
	if method == "" {
		method = http.MethodPost
	}
	request, err := http.NewRequestWithContext(context.WithValue(ctx, sealedKey{}, r.Sealed), method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, errors.New("the address is not a URL: give one that begins with https:// or http://")
	}
	for name, values := range r.Header {
		request.Header[http.CanonicalHeaderKey(name)] = values
	}
	if request.Header.Get("User-Agent") == "" {
		request.Header.Set("User-Agent", c.UserAgent)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, judgeTransport(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		// What is left of a short answer lets the connection be used again.
		_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
		return nil, judgeStatus(response)
	}
	limit := r.Limit
	if limit <= 0 {
		limit = maxAnswer
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	answer := &Answer{Code: response.StatusCode, Header: response.Header, Body: body}
	if int64(len(body)) > limit {
		answer.Body, answer.cut = body[:limit], true
	}
	return answer, nil
}

// judgeStatus tells which answers are worth another try (provider 52).
func judgeStatus(response *http.Response) error {
	err := &StatusError{Code: response.StatusCode}
	code := response.StatusCode
	if code != http.StatusTooManyRequests && (code < 500 || code == http.StatusNotImplemented) {
		return err
	}
	return &retryable{error: err, after: retryAfter(response.Header.Get("Retry-After"))}
}

// retryAfter reads RFC 9110, section 10.2.3.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 && seconds <= 86400 {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// judgeTransport takes the address out of the error, which may be the secret itself, and tells which errors are worth another try.
func judgeTransport(ctx context.Context, err error) error {
	if inner, ok := errors.AsType[*url.Error](err); ok {
		err = inner.Err
	}
	_, redirected := errors.AsType[*redirectError](err)
	_, guarded := errors.AsType[*guard.Error](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, misnamed := errors.AsType[x509.HostnameError](err)
	if redirected || guarded || untrusted || unknown || misnamed || ctx.Err() != nil {
		return err
	}
	return &retryable{error: err}
}

// clean takes secrets out of an error and keeps what callers ask for.
func (c *Client) clean(err error) error {
	if r, ok := errors.AsType[*retryable](err); ok {
		err = r.error
	}
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status
	}
	return errors.New(secret.Redact(err.Error(), c.Secrets...))
}

// redirectError is a redirect that is not followed.
type redirectError struct {
	code   int
	reason string
}

// Error implements error. The target is left out: it may hold what the service wants to be seen.
func (e *redirectError) Error() string {
	return fmt.Sprintf("the service redirects (%d) %s: set the address to where it leads", e.code, e.reason)
}

// sealedKey is where the context of a request says whether it is sealed; net/http hands nothing else on to checkRedirect.
type sealedKey struct{}

// checkRedirect follows redirects that keep the request as it is. Credentials do not leave the scheme, host and port they are for.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first, code := via[0], next.Response.StatusCode
	elsewhere := next.URL.Scheme != first.URL.Scheme || next.URL.Host != first.URL.Host
	sealed, _ := next.Context().Value(sealedKey{}).(bool)
	keeps := code == http.StatusTemporaryRedirect || code == http.StatusPermanentRedirect || first.Method == http.MethodGet
	switch {
	case !keeps:
		return &redirectError{code, "in a way that turns a notification into a question"}
	case len(via) > maxRedirects:
		return &redirectError{code, fmt.Sprintf("more than %d times", maxRedirects)}
	case first.URL.Scheme == "https" && next.URL.Scheme != "https":
		return &redirectError{code, "to an unencrypted address"}
	case elsewhere && sealed:
		return &redirectError{code, "to another host, which must not see the key in the notification"}
	}
	if elsewhere {
		for name := range next.Header {
			switch name {
			case "Content-Type", "Accept", "User-Agent":
			default:
				next.Header.Del(name)
			}
		}
	}
	return nil
}
