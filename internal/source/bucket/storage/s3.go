package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// s3Tries is how often a request is made before its failure fails the run, which is then repeated with growing distance.
const s3Tries = 3

// S3Options describe a bucket of S3 or of a server that speaks its protocol.
type S3Options struct {
	// Endpoint is host or host:port.
	Endpoint string
	Bucket   string
	// Region; empty: the server is asked.
	Region string
	// Insecure talks plain HTTP.
	Insecure bool
	// Keys sign the requests; nil: requests are anonymous.
	Keys *S3Keys
	// Transport makes the requests. It must not decompress: what is stored compressed is wanted so.
	Transport http.RoundTripper
	Limits    Limits
}

// S3Keys are keys to sign with.
type S3Keys struct{ AccessKey, SecretKey, SessionToken string }

func (k *S3Keys) secrets() []string {
	if k == nil {
		return nil
	}
	return []string{k.SecretKey, k.SessionToken}
}

type s3 struct {
	core    minio.Core
	bucket  string
	guard   *guard
	secrets []string
}

// S3 returns a bucket of S3. No request is made.
func S3(o S3Options) (Bucket, error) {
	g := &guard{next: o.Transport, limits: o.Limits.OrDefault()}
	var keys *credentials.Credentials
	if o.Keys != nil {
		keys = credentials.NewStaticV4(o.Keys.AccessKey, o.Keys.SecretKey, o.Keys.SessionToken)
	}
	client, err := minio.New(o.Endpoint, &minio.Options{
		Creds: keys, Secure: !o.Insecure, Region: o.Region, Transport: g, MaxRetries: s3Tries,
	})
	if err != nil {
		return nil, &storageError{property: ErrEndpoint, err: fmt.Errorf("endpoint '%s': %w", o.Endpoint, err)}
	}
	return &s3{core: minio.Core{Client: client}, bucket: o.Bucket, guard: g, secrets: o.Keys.secrets()}, nil
}

// List implements Bucket.
func (b *s3) List(ctx context.Context, prefix string, fn func(Object) error) error {
	ctx, end := begin(ctx, false)
	defer end()
	noOwner := false
	for info := range b.core.ListObjectsIter(ctx, b.bucket, minio.ListObjectsOptions{
		Prefix: prefix, Recursive: true, FetchOwner: &noOwner,
		// bucket 26
		UseV1: s3utils.IsGoogleEndpoint(*b.core.EndpointURL()),
	}) {
		if info.Err != nil {
			return b.failed(ctx, info.Err)
		}
		if err := fn(Object{Key: info.Key, ETag: info.ETag, Size: info.Size}); err != nil {
			return err
		}
	}
	// The library ends a listing silently when its time is over.
	return b.failed(ctx, ctx.Err())
}

// Get implements Bucket. One conditional request reads the object as it was listed (bucket 25).
func (b *s3) Get(ctx context.Context, o Object, w io.Writer) (Object, error) {
	ctx, end := begin(ctx, true)
	defer end()
	options := minio.GetObjectOptions{}
	if o.ETag != "" {
		if err := options.SetMatchETag(o.ETag); err != nil {
			return o, b.failed(ctx, err)
		}
	}
	body, info, _, err := b.core.GetObject(ctx, b.bucket, o.Key, options)
	if err != nil {
		return o, b.failed(ctx, err)
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return o, b.failed(ctx, err)
	}
	if o.ETag == "" {
		o.ETag = info.ETag
	}
	return o, nil
}

func (b *s3) failed(ctx context.Context, err error) error {
	if err = cause(ctx, err); err == nil {
		return nil
	}
	failure := &storageError{err: err, secrets: b.secrets}
	var answer minio.ErrorResponse
	if !errors.As(err, &answer) {
		return failure
	}
	if answer.Message == "" {
		failure.err = fmt.Errorf("%s %d", answer.Code, answer.StatusCode)
	}
	switch {
	case answer.Code == minio.NoSuchBucket:
		failure.property = ErrNoBucket
	case answer.Code == minio.NoSuchKey:
		failure.property = ErrNoObject
	case answer.Code == minio.PreconditionFailed || answer.StatusCode == http.StatusPreconditionFailed:
		failure.property = ErrChanged
	case answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden:
		failure.property = ErrDenied
	}
	return failure
}

// Host implements Bucket.
func (b *s3) Host() string { return hostOf(b.core.EndpointURL()) }

// Close implements Bucket.
func (b *s3) Close() { b.guard.close() }

// LDAPOptions describe a security token service that knows its users from LDAP.
type LDAPOptions struct {
	// Endpoint is the URL of the service.
	Endpoint string
	// Username and Password; both empty: none.
	Username, Password string
	// Transport makes the request: with the TLS settings of this service, not those of the bucket.
	Transport http.RoundTripper
	Limits    Limits
}

// LDAPKeys asks a security token service for keys (bucket 7, 56).
func LDAPKeys(ctx context.Context, o LDAPOptions) (*S3Keys, error) {
	g := &guard{next: o.Transport, limits: o.Limits.OrDefault()}
	defer g.close()
	ctx, end := begin(ctx, false)
	defer end()
	identity := &credentials.LDAPIdentity{STSEndpoint: o.Endpoint, LDAPUsername: o.Username, LDAPPassword: o.Password}
	value, err := identity.RetrieveWithCredContext(&credentials.CredContext{Client: g.client(), Context: ctx})
	if err = cause(ctx, err); err != nil {
		return nil, &storageError{err: err, secrets: []string{o.Password}}
	}
	return &S3Keys{AccessKey: value.AccessKeyID, SecretKey: value.SecretAccessKey, SessionToken: value.SessionToken}, nil
}
