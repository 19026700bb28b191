package storage

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

// maxRepeats is how often the same page may be asked for: the libraries ask again after an error.
const maxRepeats = 8

// guard is the last stop of the requests of a bucket. It bounds answers and listings, and hears when a server wants to be
// left alone.
type guard struct {
	next   http.RoundTripper
	limits Limits
}

// client returns an HTTP client through the guard. Redirects are not followed: credentials stay with the server that they
// were given for.
func (g *guard) client() *http.Client {
	return &http.Client{Transport: g, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// close ends idle connections.
func (g *guard) close() {
	if c, ok := g.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// call is a listing or a download. The libraries try again what they should not; a call that is stopped makes an end.
type call struct {
	stop     context.CancelCauseFunc
	download bool

	mu sync.Mutex // guards what follows
	// pages counts the requests by what tells pages apart.
	pages map[[sha256.Size]byte]int
	count int64
}

type callKey struct{}

// begin starts a call. The caller ends it with the function returned.
func begin(ctx context.Context, download bool) (context.Context, func()) {
	ctx, stop := context.WithCancelCause(ctx)
	c := &call{stop: stop, download: download, pages: map[[sha256.Size]byte]int{}}
	return context.WithValue(ctx, callKey{}, c), func() { stop(nil) }
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	c, ok := r.Context().Value(callKey{}).(*call)
	if !ok {
		// A request for credentials.
		_, discard := context.WithCancelCause(r.Context())
		c = &call{stop: discard}
	}
	if err := c.page(r.URL.Query(), g.limits.Pages); err != nil {
		c.stop(err)
		return nil, err
	}
	answer, err := g.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	refusal := fmt.Errorf("%s %s://%s%s: unexpected status %s", r.Method, r.URL.Scheme, r.URL.Host, r.URL.EscapedPath(), answer.Status)
	if err := throttle.Wrap(refusal, answer.StatusCode, answer.Header, time.Now()); throttle.Delay(err) > 0 {
		_ = answer.Body.Close()
		c.stop(err)
		return nil, err
	}
	if !c.download || answer.StatusCode/100 != 2 {
		answer.Body = &boundedBody{ReadCloser: answer.Body, call: c, left: g.limits.PageBytes, limit: g.limits.PageBytes}
	}
	return answer, nil
}

// page counts the requests of a listing. A server that answers with the token of an earlier page would be asked for ever
// (reliability 075).
func (c *call) page(query url.Values, limit int64) error {
	if c.download || c.pages == nil {
		return nil
	}
	token := query.Get("continuation-token") + query.Get("marker") + query.Get("pageToken")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count++; c.count > limit {
		return limitError("the listing", limit, "pages")
	}
	key := sha256.Sum256([]byte(token))
	if c.pages[key]++; c.pages[key] > maxRepeats {
		return fmt.Errorf("%w: the listing leads to the same page again and again", ErrMalformed)
	}
	return nil
}

// cause returns what stopped a call, or else the error itself.
func cause(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}

// boundedBody fails once more was read than allowed.
type boundedBody struct {
	io.ReadCloser
	call        *call
	left, limit int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, b.exceeded()
	}
	// One byte more than allowed tells too much from just enough.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 && (err == nil || errors.Is(err, io.EOF)) {
		return n, b.exceeded()
	}
	return n, err
}

func (b *boundedBody) exceeded() error {
	err := limitError("an answer", b.limit, "bytes")
	b.call.stop(err)
	return err
}

// hostOf returns host:port of a URL.
func hostOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return u.Host
	}
	port := "443"
	if u.Scheme == "http" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
