package helmrepo

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/secret"
	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

const (
	// Some servers answer by it; it names no version, so that an upgrade does not change what they answer.
	userAgent           = "flux"
	maxRedirects        = 10
	tlsHandshakeTimeout = 10 * time.Second
)

// ErrUnauthorized is the property of an error about a server that wants credentials, or other ones.
var ErrUnauthorized = errors.New("not authorized")

// ErrDigest is the property of an error about a chart whose digest is not the one the index tells.
var ErrDigest = errors.New("digest mismatch")

// ClientOptions describe a repository over HTTP.
type ClientOptions struct {
	// URL of the repository; it may hold credentials, which Basic replaces.
	URL string
	// Basic is the login; nil: none.
	Basic *secret.Basic
	// TLS is used besides what the system trusts; nil: only that (helmrepository 24, 43).
	TLS *secret.TLSMaterial
	// PassCredentials sends the login and the client certificate also to other servers that the index names
	// (helmrepository 26, 40).
	PassCredentials bool
	// Limits; the zero value: DefaultLimits.
	Limits Limits
}

// Client fetches the index and the charts of one repository. Credentials go to its scheme, host and port alone, unless
// they are to be passed on, and never to where a redirect leads. It may be used by several goroutines.
type Client struct {
	repository *url.URL // without credentials
	options    ClientOptions
	ours       *http.Transport
	foreign    *http.Transport // without the client certificate
}

// NewClient returns a client. Nothing is sent before the first call. Errors have the property ErrURL, or are about the TLS
// material.
func NewClient(o ClientOptions) (*Client, error) {
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	u, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if err := isWeb(u); err != nil {
		return nil, err
	}
	if o.Basic == nil && u.User != nil {
		password, _ := u.User.Password()
		o.Basic = &secret.Basic{Username: u.User.Username(), Password: password}
	}
	u.User, u.Fragment = nil, ""
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.TLS != nil {
		if config, err = o.TLS.ConfigWithSystemRoots(); err != nil {
			return nil, err
		}
	}
	c := &Client{repository: u, options: o, ours: transport(config)}
	c.foreign = c.ours
	if len(config.Certificates) > 0 {
		bare := config.Clone()
		bare.Certificates = nil
		c.foreign = transport(bare)
	}
	return c, nil
}

func transport(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     config,
		TLSHandshakeTimeout: tlsHandshakeTimeout,
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     30 * time.Second,
	}
}

// Close lets go of idle connections.
func (c *Client) Close() {
	c.ours.CloseIdleConnections()
	c.foreign.CloseIdleConnections()
}

// Host returns host and port of the repository.
func (c *Client) Host() string { return c.repository.Host }

// Tag is how a server recognises an answer it gave before; the zero value is none.
type Tag struct{ ETag, LastModified string }

// Answer is the index as the server sends it.
type Answer struct {
	// Unchanged: the index is still the one of the tag; there is no Body.
	Unchanged bool
	// Body is bounded by Limits.IndexBytes; it has to be closed.
	Body io.ReadCloser
	// Tag is to be sent with the next request for the index.
	Tag Tag
}

// Index asks for the index, unless it is still the one with the tag. The context has to live until the body is read
// (helmrepository 10, 12).
func (c *Client) Index(ctx context.Context, known Tag) (*Answer, error) {
	target, err := indexURL(c.repository)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, told{err, ErrURL}
	}
	if known.ETag != "" {
		r.Header.Set("If-None-Match", known.ETag)
	}
	if known.LastModified != "" {
		r.Header.Set("If-Modified-Since", known.LastModified)
	}
	answer, err := c.do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode == http.StatusNotModified && known != (Tag{}) {
		return &Answer{Unchanged: true, Tag: known}, answer.Body.Close()
	}
	body, err := bounded(answer, "index", c.options.Limits.IndexBytes, "--helm-index-max-size")
	if err != nil {
		return nil, err
	}
	return &Answer{Body: body, Tag: Tag{answer.Header.Get("ETag"), answer.Header.Get("Last-Modified")}}, nil
}

// Chart writes the archive of a version to w, and returns its size. It fails with ErrDigest at the end if the archive is
// not the one the index tells, with ErrTooLarge beyond Limits.ChartBytes, and with ErrURL where there is nothing to fetch.
func (c *Client) Chart(ctx context.Context, v *Version, w io.Writer) (int64, error) {
	target, err := chartURL(c.repository, v.URL)
	if err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return 0, told{err, ErrURL}
	}
	// An archive is compressed already, and a server that says so in a header would have it unpacked.
	r.Header.Set("Accept-Encoding", "identity")
	answer, err := c.do(r)
	if err != nil {
		return 0, err
	}
	body, err := bounded(answer, "chart", c.options.Limits.ChartBytes, "--helm-chart-max-size")
	if err != nil {
		return 0, err
	}
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, hash), body)
	if err = errors.Join(err, body.Close()); err != nil {
		return n, c.redact(fmt.Errorf("download %s: %w", secret.RedactURL(target.String()), err))
	}
	if want, known := chartDigest(v.Digest); known && want != hex.EncodeToString(hash.Sum(nil)) {
		return n, tell(ErrDigest, "chart '%s' of version '%s' at %s has not the digest %s of the index",
			v.Chart, v.Version, secret.RedactURL(target.String()), want)
	}
	return n, nil
}

// chartDigest returns the SHA-256 an index tells, if that is what it tells.
func chartDigest(s string) (string, bool) {
	s = strings.ToLower(strings.TrimPrefix(s, "sha256:"))
	raw, err := hex.DecodeString(s)
	return s, err == nil && len(raw) == sha256.Size
}

// do sends a request with the credentials that are for it.
func (c *Client) do(r *http.Request) (*http.Response, error) {
	r.Header.Set("User-Agent", userAgent)
	bound := &boundCredentials{client: c, allowed: map[string]bool{origin(c.repository): true}}
	if c.options.PassCredentials {
		bound.allowed[origin(r.URL)] = true
	}
	answer, err := (&http.Client{Transport: bound, CheckRedirect: checkRedirect}).Do(r)
	if err != nil {
		return nil, c.redact(err)
	}
	conditional := r.Header.Get("If-None-Match")+r.Header.Get("If-Modified-Since") != ""
	if answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusNotModified && conditional {
		return answer, nil
	}
	_ = answer.Body.Close()
	err = fmt.Errorf("failed to fetch %s : %s", secret.RedactURL(r.URL.String()), secret.Redact(answer.Status))
	if answer.StatusCode == http.StatusUnauthorized {
		err = told{err, ErrUnauthorized}
	}
	return nil, throttle.Wrap(err, answer.StatusCode, answer.Header, time.Now())
}

// redact cuts the login out of an error, and keeps what it wraps.
func (c *Client) redact(err error) error {
	var values []string
	if c.options.Basic != nil {
		values = append(values, c.options.Basic.Password)
	}
	text := secret.Redact(err.Error(), values...)
	if text == err.Error() {
		return err
	}
	return told{errors.New(text), err}
}

// boundCredentials adds the credentials to the requests they are for, wherever redirects lead.
type boundCredentials struct {
	client  *Client
	allowed map[string]bool // origins
}

func (b *boundCredentials) RoundTrip(r *http.Request) (*http.Response, error) {
	if !b.allowed[origin(r.URL)] {
		return b.client.foreign.RoundTrip(r)
	}
	if basic := b.client.options.Basic; basic != nil && r.Header.Get("Authorization") == "" {
		r = r.Clone(r.Context())
		r.SetBasicAuth(basic.Username, basic.Password)
	}
	return b.client.ours.RoundTrip(r)
}

func checkRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= maxRedirects:
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	case r.URL.Scheme != "https" && (r.URL.Scheme != "http" || via[0].URL.Scheme == "https"):
		return fmt.Errorf("refusing a redirect from %s to %s", via[0].URL.Scheme, r.URL.Scheme)
	}
	// A location with a user would send that user's credentials.
	r.URL.User = nil
	return nil
}

// bounded returns the body of an answer, which is an error beyond the limit, also after decompression.
func bounded(answer *http.Response, what string, limit int64, flag string) (io.ReadCloser, error) {
	if answer.ContentLength > limit {
		return nil, errors.Join(tooLarge(what, limit, flag), answer.Body.Close())
	}
	return &boundedBody{ReadCloser: answer.Body, left: limit, err: tooLarge(what, limit, flag)}, nil
}

type boundedBody struct {
	io.ReadCloser

	left int64
	err  error
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, b.err
	}
	return n, err
}
