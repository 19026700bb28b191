package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	gcsapi "google.golang.org/api/storage/v1"
)

const (
	// GCSScope is what tokens for Google Cloud Storage are for.
	GCSScope = gcsapi.DevstorageReadOnlyScope
	gcsHost  = "storage.googleapis.com"
)

// GCSOptions describe a bucket of Google Cloud Storage.
type GCSOptions struct {
	// Endpoint is a host below googleapis.com, e.g. of Private Service Connect. Anything else stands for the public one:
	// tokens of the process must not go where the author of a spec likes.
	Endpoint string
	Bucket   string
	// Key is the key of a service account, in JSON; empty: Token.
	Key []byte
	// Token signs in without a key.
	Token TokenFunc
	// Transport makes the requests.
	Transport http.RoundTripper
	Limits    Limits
}

type gcs struct {
	service *gcsapi.Service
	bucket  string
	host    string
	guard   *guard
}

// GCS returns a bucket of Google Cloud Storage. No request is made.
func GCS(ctx context.Context, o GCSOptions) (Bucket, error) {
	g := &guard{next: o.Transport, limits: o.Limits.OrDefault()}
	signer := &googleSigner{base: g, get: func(ctx context.Context) (*oauth2.Token, error) {
		value, expires, err := o.Token(ctx, GCSScope)
		if err != nil {
			return nil, err
		}
		return &oauth2.Token{AccessToken: value, Expiry: expires}, nil
	}}
	if len(o.Key) > 0 {
		get, err := googleKey(o.Key, g)
		if err != nil {
			return nil, &storageError{property: ErrCredentials, err: fmt.Errorf("no key of a service account: %w", err)}
		}
		signer.get = get
	}
	client := g.client()
	client.Transport = signer
	host := googleHost(o.Endpoint)
	service, err := gcsapi.NewService(ctx, option.WithHTTPClient(client), option.WithEndpoint("https://"+host+"/storage/v1/"))
	if err != nil {
		return nil, &storageError{property: ErrEndpoint, err: err}
	}
	return &gcs{service: service, bucket: o.Bucket, host: host + ":443", guard: g}, nil
}

// googleKey returns tokens for the key of a service account.
func googleKey(key []byte, g *guard) (func(context.Context) (*oauth2.Token, error), error) {
	// Other types of credentials name files, programs and addresses that the process would read, run and ask.
	config, err := google.JWTConfigFromJSON(key, GCSScope)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (*oauth2.Token, error) {
		client := g.client()
		client.Transport = during{ctx, g}
		return config.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, client)).Token()
	}, nil
}

// during ends requests with a context where a library makes them without.
type during struct {
	ctx  context.Context
	base http.RoundTripper
}

func (d during) RoundTrip(r *http.Request) (*http.Response, error) {
	return d.base.RoundTrip(r.WithContext(d.ctx))
}

// googleSigner adds a token to requests. Unlike that of the oauth2 library it asks for one no longer than the request may
// take.
type googleSigner struct {
	base http.RoundTripper
	get  func(context.Context) (*oauth2.Token, error)

	mu    sync.Mutex // guards token
	token *oauth2.Token
}

// RoundTrip implements http.RoundTripper.
func (s *googleSigner) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := s.current(r.Context())
	if err != nil {
		return nil, &storageError{property: ErrDenied, err: fmt.Errorf("signing in: %w", err)}
	}
	r = r.Clone(r.Context())
	token.SetAuthHeader(r)
	return s.base.RoundTrip(r)
}

func (s *googleSigner) current(ctx context.Context) (*oauth2.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token.Valid() {
		return s.token, nil
	}
	token, err := s.get(ctx)
	if err != nil {
		return nil, err
	}
	s.token = token
	return token, nil
}

func googleHost(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		endpoint = u.Host
	}
	if host := strings.ToLower(endpoint); strings.HasSuffix(host, ".googleapis.com") && !strings.ContainsAny(host, "/@?#:\\") {
		return host
	}
	return gcsHost
}

// List implements Bucket.
func (b *gcs) List(ctx context.Context, prefix string, fn func(Object) error) error {
	ctx, end := begin(ctx, false)
	defer end()
	token := ""
	for {
		list := b.service.Objects.List(b.bucket).Context(ctx).Prefix(prefix).Projection("noAcl").
			Fields("nextPageToken", "items(name,etag,size,generation)")
		if token != "" {
			list = list.PageToken(token)
		}
		page, err := list.Do()
		if err != nil {
			if status(err) == http.StatusNotFound {
				return b.failed(ctx, ErrNoBucket, err)
			}
			return b.failed(ctx, nil, err)
		}
		for _, item := range page.Items {
			if item == nil {
				return &storageError{property: ErrMalformed, err: errors.New("the listing has an entry that is null")}
			}
			if err := fn(gcsObject(item)); err != nil {
				return err
			}
		}
		if token = page.NextPageToken; token == "" {
			return nil
		}
	}
}

func gcsObject(o *gcsapi.Object) Object {
	return Object{Key: o.Name, ETag: o.Etag, Size: int64(min(o.Size, 1<<62)), Generation: o.Generation}
}

// Get implements Bucket. The generation is what the content is read by (bucket 25, 47).
func (b *gcs) Get(ctx context.Context, o Object, w io.Writer) (Object, error) {
	ctx, end := begin(ctx, true)
	defer end()
	if o.Generation == 0 {
		is, err := b.service.Objects.Get(b.bucket, o.Key).Context(ctx).Projection("noAcl").Fields("name", "etag", "size", "generation").Do()
		if err != nil {
			return o, b.failedGet(ctx, err)
		}
		o = Object{Key: o.Key, ETag: is.Etag, Size: gcsObject(is).Size, Generation: is.Generation}
	}
	answer, err := b.service.Objects.Get(b.bucket, o.Key).Context(ctx).IfGenerationMatch(o.Generation).Download()
	if err != nil {
		return o, b.failedGet(ctx, err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(w, answer.Body); err != nil {
		return o, b.failed(ctx, nil, err)
	}
	return o, nil
}

func (b *gcs) failedGet(ctx context.Context, err error) error {
	switch status(err) {
	case http.StatusNotFound:
		return b.failed(ctx, ErrNoObject, err)
	case http.StatusPreconditionFailed:
		return b.failed(ctx, ErrChanged, err)
	}
	return b.failed(ctx, nil, err)
}

func (b *gcs) failed(ctx context.Context, property, err error) error {
	err = cause(ctx, err)
	if code := status(err); code == http.StatusUnauthorized || code == http.StatusForbidden {
		property = ErrDenied
	}
	return &storageError{property: property, err: err}
}

// status returns the code of the answer that err is about, zero when there was none.
func status(err error) int {
	var answer *googleapi.Error
	if errors.As(err, &answer) {
		return answer.Code
	}
	return 0
}

// Host implements Bucket.
func (b *gcs) Host() string { return b.host }

// Close implements Bucket.
func (b *gcs) Close() { b.guard.close() }
