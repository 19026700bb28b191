package oci

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"

	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

const (
	maxRedirects = 10
	// smallAnswer bounds answers that are neither tags, manifests nor layers.
	smallAnswer = 1 << 20
)

// guard is the last stop of a request: it refuses redirects that would carry
// something they must not, bounds answers, and tells of overload.
type guard struct {
	link     *link
	limits   Limits
	insecure bool
	clock    clock.PassiveClock
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	first, err := g.origin(r)
	if err != nil {
		return nil, err
	}
	transport := g.link.transport
	if origin(first.URL) != origin(r.URL) {
		transport = g.link.stranger
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	refusal := fmt.Errorf("%s %s: unexpected status code %d %s", r.Method, r.URL.Redacted(), answer.StatusCode, http.StatusText(answer.StatusCode))
	if err := throttle.Wrap(refusal, answer.StatusCode, answer.Header, g.clock.Now()); throttle.Delay(err) > 0 {
		_ = answer.Body.Close()
		return nil, err
	}
	if what, limit := g.bound(first.URL.Path); limit > 0 {
		answer.Body = &boundedBody{ReadCloser: answer.Body, what: what, left: limit, limit: limit}
	}
	return answer, nil
}

// origin returns the request that redirects led away from, which may be r
// itself, if all of them may be followed.
func (g *guard) origin(r *http.Request) (*http.Request, error) {
	first := r
	for n := 0; first.Response != nil && first.Response.Request != nil; n++ {
		if n == maxRedirects {
			return nil, fmt.Errorf("%w: stopped after %d redirects", ErrRedirect, maxRedirects)
		}
		first = first.Response.Request
	}
	switch {
	case first == r || origin(first.URL) == origin(r.URL):
	case first.URL.Scheme == "https" && r.URL.Scheme != "https" && !g.insecure:
		return nil, fmt.Errorf("%w: from %s to %s, which is not encrypted", ErrRedirect, origin(first.URL), origin(r.URL))
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		// The form of a token request holds a refresh token.
		return nil, fmt.Errorf("%w: the token request for %s must not go to %s", ErrRedirect, origin(first.URL), origin(r.URL))
	}
	return first, nil
}

// origin is what credentials are bound to: scheme, host and port.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// bound returns how many bytes the answer to a request for p may have; zero:
// who asks for it decides, and its size is part of its description.
func (g *guard) bound(p string) (what string, limit int64) {
	dir := path.Base(path.Dir(p))
	switch {
	case dir == "blobs":
		return "", 0
	case dir == "manifests" || dir == "referrers":
		return "the manifest", g.limits.ManifestBytes
	case dir == "tags" && path.Base(p) == "list":
		return "a page of the list of tags", g.limits.TagBytes
	}
	return "the answer", smallAnswer
}

// boundedBody fails once more was read than allowed.
type boundedBody struct {
	io.ReadCloser
	what        string
	left, limit int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, limitError(b.what, b.limit, "bytes")
	}
	// One byte more than allowed tells too much from just enough.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 && (err == nil || errors.Is(err, io.EOF)) {
		return n, limitError(b.what, b.limit, "bytes")
	}
	return n, err
}
