// Package bucket is the source kind Bucket.
package bucket

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Keys of the Secrets of a Bucket (bucket 5, 10).
const (
	accessKey         = "accesskey"
	secretKey         = "secretkey"
	serviceAccountKey = "serviceaccount"
)

// Options are the flags of the kind.
type Options struct {
	// Digest is the algorithm of new revisions; empty: sha256.
	Digest artifact.Algo
	// Region of buckets of AWS that name none (bucket 6).
	Region string
	// Limits bound what servers send.
	Limits storage.Limits
	// Auth obtains the credentials of identities.
	Auth *auth.Authenticator
	// TempDir is where runs make their directories; empty: the system's.
	TempDir string
	// Hosts keeps hanging servers apart; nil: it does not.
	Hosts *frame.Hosts
	// wrap goes around what makes requests; tests stand in for clouds with it.
	wrap func(http.RoundTripper) http.RoundTripper
}

// Source connects Buckets to their servers.
type Source struct {
	reader  client.Reader
	options Options
}

// Controller returns the kind for the loop. Secrets are read live through the reader.
func Controller(name string, reader client.Reader, store *artifact.Store, o Options) *loop.Controller[*sourcev1.Bucket] {
	o.Digest = cmp.Or(o.Digest, artifact.SHA256)
	o.Limits = o.Limits.OrDefault()
	return &loop.Controller[*sourcev1.Bucket]{
		Name: name,
		Kind: sourcev1.BucketKind,
		New:  func() *sourcev1.Bucket { return &sourcev1.Bucket{} },
		Reconciler: &frame.Reconciler[*sourcev1.Bucket]{
			Kind: sourcev1.BucketKind, Alias: "latest.tar.gz", Store: store, TempDir: o.TempDir, Hosts: o.Hosts,
			Source: &Source{reader: reader, options: o}, Words: words(),
		},
		Conditions: frame.Conditions(nil, nil),
		FailReason: sourcev1.BucketOperationFailedReason,
		Policy:     frame.Policy(),
	}
}

func words() frame.Words[*sourcev1.Bucket] {
	stored := func(obj *sourcev1.Bucket) string {
		return fmt.Sprintf("stored artifact: revision '%s'", obj.Status.Artifact.Revision)
	}
	return frame.Words[*sourcev1.Bucket]{
		Outdated: func(_ *sourcev1.Bucket, revision string) string {
			return fmt.Sprintf("new upstream revision '%s'", revision)
		},
		// bucket 30
		Stored: func(obj *sourcev1.Bucket) (reason, message string) { return "", stored(obj) },
		News:   stored,
	}
}

// Forget implements frame.Forgetter (bucket 62).
func (s *Source) Forget(key types.NamespacedName) {
	s.options.Auth.Forget(sourcev1.BucketKind, key.Namespace, key.Name)
}

// Connect implements frame.Kind.
func (s *Source) Connect(ctx context.Context, obj *sourcev1.Bucket, _ *loop.Run) (frame.Upstream[*sourcev1.Bucket], error) {
	if err := checkSTS(obj); err != nil {
		return nil, err
	}
	c := &connector{Source: s, obj: obj}
	if err := c.readProxy(ctx); err != nil {
		return nil, authenticationFailed(err)
	}
	bucket, err := c.connect(ctx)
	switch {
	case err == nil:
	case errors.Is(err, auth.ErrFeatureGate):
		// bucket 3
		return nil, loop.Stall(meta.FeatureGateDisabledReason, err).On(sourcev1.FetchFailedCondition)
	case errors.Is(err, storage.ErrEndpoint):
		return nil, loop.Fail(sourcev1.BucketOperationFailedReason, fmt.Errorf("failed to connect to bucket '%s': %w", obj.Spec.BucketName, err)).
			On(sourcev1.FetchFailedCondition)
	default:
		return nil, authenticationFailed(err)
	}
	u := &upstream{
		bucket: bucket, name: obj.Spec.BucketName, prefix: obj.Spec.Prefix, ignore: obj.Spec.Ignore, limits: s.options.Limits,
		stored: s.options.Digest, fresh: s.options.Digest, identity: c.noIdentity,
	}
	if a := obj.Status.Artifact; a != nil {
		// bucket 21
		if name, _, ok := strings.Cut(a.Revision, ":"); ok && artifact.Algo(name).New() != nil {
			u.stored = artifact.Algo(name)
		}
	}
	return u, nil
}

// checkSTS refuses settings of a security token service that go with another provider (bucket 7, 64). The API server
// refuses most of them, but not on objects that are older than its rules.
func checkSTS(obj *sourcev1.Bucket) error {
	sts := obj.Spec.STS
	if sts == nil {
		return nil
	}
	stall := func(reason, format string, args ...any) error {
		return loop.Stall(reason, fmt.Errorf(format, args...)).On(sourcev1.FetchFailedCondition)
	}
	provider := cmp.Or(obj.Spec.Provider, auth.Generic)
	wanted, known := map[string]string{auth.AWS: sourcev1.STSProviderAWS, auth.Generic: sourcev1.STSProviderLDAP}[provider]
	switch {
	case !known:
		return stall(sourcev1.InvalidSTSConfigurationReason, "spec.sts is not supported with provider '%s': remove it", provider)
	case sts.Provider != wanted:
		return stall(sourcev1.InvalidSTSConfigurationReason, "spec.sts.provider '%s' is not supported with provider '%s': use '%s'", sts.Provider, provider, wanted)
	case sts.Provider == sourcev1.STSProviderAWS && sts.SecretRef != nil:
		return stall(sourcev1.InvalidSTSConfigurationReason, "spec.sts.secretRef is not used by the STS provider 'aws': remove it")
	case sts.Provider == sourcev1.STSProviderAWS && sts.CertSecretRef != nil:
		return stall(sourcev1.InvalidSTSConfigurationReason, "spec.sts.certSecretRef is not used by the STS provider 'aws': remove it")
	}
	if u, err := url.Parse(sts.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return stall(sourcev1.URLInvalidReason, "spec.sts.endpoint '%s' is not a URL of the form https://host", secret.RedactURL(sts.Endpoint))
	}
	return nil
}

// connector makes the connection of one run.
type connector struct {
	*Source
	obj   *sourcev1.Bucket
	proxy *url.URL
	// noIdentity is why the identity of the controller is not used, where requests go on without.
	noIdentity error
}

func (c *connector) connect(ctx context.Context) (storage.Bucket, error) {
	switch c.obj.Spec.Provider {
	case auth.GCP:
		return c.gcs(ctx)
	case auth.Azure:
		return c.azure(ctx)
	}
	return c.s3(ctx)
}

func (c *connector) s3(ctx context.Context) (storage.Bucket, error) {
	spec := &c.obj.Spec
	o := storage.S3Options{
		Endpoint: spec.Endpoint, Bucket: spec.BucketName, Region: spec.Region, Insecure: spec.Insecure, Limits: c.options.Limits,
	}
	if spec.Provider == auth.AWS {
		o.Region = cmp.Or(o.Region, c.options.Region)
	}
	var err error
	if o.Keys, err = c.keys(ctx); err != nil {
		return nil, err
	}
	var config *tls.Config
	// bucket 8, 58
	if !spec.Insecure {
		if config, err = c.tls(ctx, spec.CertSecretRef); err != nil {
			return nil, err
		}
	}
	o.Transport = c.transport(config, true)
	return storage.S3(o)
}

// keys returns what requests to S3 are signed with, nil for anonymous ones (bucket 5, 6, 54).
func (c *connector) keys(ctx context.Context) (*storage.S3Keys, error) {
	spec := &c.obj.Spec
	switch {
	case spec.SecretRef != nil:
		data, err := c.secret(ctx, spec.SecretRef)
		if err != nil {
			return nil, err
		}
		for _, key := range []string{accessKey, secretKey} {
			if len(data[key]) == 0 {
				return nil, c.invalid(spec.SecretRef, &secret.KeyError{Key: key, Err: secret.ErrMissing})
			}
		}
		return &storage.S3Keys{AccessKey: string(data[accessKey]), SecretKey: string(data[secretKey])}, nil
	case spec.Provider == auth.AWS:
		return c.awsKeys(ctx)
	case spec.STS != nil:
		return c.ldapKeys(ctx)
	}
	return nil, nil
}

// awsKeys are those of the controller's identity or of the service account's (bucket 6, 55).
func (c *connector) awsKeys(ctx context.Context) (*storage.S3Keys, error) {
	spec := &c.obj.Spec
	request := c.request()
	request.Region = spec.Region
	if spec.STS != nil {
		request.STSEndpoint = spec.STS.Endpoint
	}
	keys, err := c.options.Auth.Keys(ctx, request)
	if err != nil {
		return nil, err
	}
	return &storage.S3Keys{AccessKey: keys.AccessKey, SecretKey: keys.SecretKey, SessionToken: keys.SessionToken}, nil
}

// ldapKeys are those that a security token service gives to a user of LDAP (bucket 56).
func (c *connector) ldapKeys(ctx context.Context) (*storage.S3Keys, error) {
	sts := c.obj.Spec.STS
	o := storage.LDAPOptions{Endpoint: sts.Endpoint, Limits: c.options.Limits}
	if sts.SecretRef != nil {
		data, err := c.secret(ctx, sts.SecretRef)
		if err != nil {
			return nil, err
		}
		for _, key := range []string{secret.UsernameKey, secret.PasswordKey} {
			if len(data[key]) == 0 {
				return nil, c.invalid(sts.SecretRef, &secret.KeyError{Key: key, Err: secret.ErrMissing})
			}
		}
		o.Username, o.Password = string(data[secret.UsernameKey]), string(data[secret.PasswordKey])
	}
	config, err := c.tls(ctx, sts.CertSecretRef)
	if err != nil {
		return nil, err
	}
	o.Transport = c.transport(config, false)
	keys, err := storage.LDAPKeys(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("failed to get credentials from spec.sts.endpoint: %w", err)
	}
	return keys, nil
}

// gcs connects with the key of a service account of Google or with an identity (bucket 10, 53).
func (c *connector) gcs(ctx context.Context) (storage.Bucket, error) {
	spec := &c.obj.Spec
	o := storage.GCSOptions{Endpoint: spec.Endpoint, Bucket: spec.BucketName, Transport: c.transport(nil, false), Limits: c.options.Limits}
	if spec.SecretRef == nil {
		token, err := c.token(ctx, auth.GCP, storage.GCSScope)
		if err != nil {
			return nil, err
		}
		o.Token = token
		return storage.GCS(ctx, o)
	}
	data, err := c.secret(ctx, spec.SecretRef)
	if err != nil {
		return nil, err
	}
	if o.Key = data[serviceAccountKey]; len(o.Key) == 0 {
		return nil, c.invalid(spec.SecretRef, &secret.KeyError{Key: serviceAccountKey, Err: secret.ErrMissing})
	}
	bucket, err := storage.GCS(ctx, o)
	if err != nil {
		return nil, c.invalid(spec.SecretRef, &secret.KeyError{Key: serviceAccountKey, Err: err})
	}
	return bucket, nil
}

// errForeignHost tells why an identity is not shown.
var errForeignHost = errors.New("the identity of the controller is shown to hosts of Azure only, and spec.endpoint is none: use spec.secretRef or spec.serviceAccountName")

// azure connects with what the Secret holds, with an identity, or as nobody (bucket 11, 12, 50, 51).
func (c *connector) azure(ctx context.Context) (storage.Bucket, error) {
	spec := &c.obj.Spec
	o := storage.AzureOptions{Endpoint: spec.Endpoint, Bucket: spec.BucketName, Transport: c.transport(nil, false), Limits: c.options.Limits}
	if spec.SecretRef != nil {
		data, err := c.secret(ctx, spec.SecretRef)
		if err != nil {
			return nil, err
		}
		o.Secret = data
	}
	if o.NeedsToken() {
		switch token, err := c.token(ctx, auth.Azure, storage.AzureScope); {
		case err != nil && (spec.ServiceAccountName != "" || errors.Is(err, auth.ErrFeatureGate) || ctx.Err() != nil):
			return nil, err
		case err != nil:
			c.noIdentity = err
		case spec.ServiceAccountName == "" && !storage.AzureHost(spec.Endpoint):
			c.noIdentity = errForeignHost
		default:
			o.Token = token
		}
	}
	bucket, err := storage.Azure(o)
	if err != nil && spec.SecretRef != nil && errors.Is(err, storage.ErrCredentials) {
		return nil, c.invalid(spec.SecretRef, err)
	}
	return bucket, err
}

// tokenReserve is how long before its end a token is no longer used.
const tokenReserve = time.Minute

// token obtains a first token, so that what is wrong with the identity shows before any request to the bucket.
func (c *connector) token(ctx context.Context, provider, scope string) (storage.TokenFunc, error) {
	first, err := c.options.Auth.Token(ctx, provider, c.request(), scope)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, scopes ...string) (string, time.Time, error) {
		if len(scopes) == 1 && scopes[0] == scope && time.Until(first.Expires) > tokenReserve {
			return first.Value, first.Expires, nil
		}
		next, err := c.options.Auth.Token(ctx, provider, c.request(), scopes...)
		if err != nil {
			return "", time.Time{}, err
		}
		return next.Value, next.Expires, nil
	}, nil
}

func (c *connector) request() auth.Request {
	return auth.Request{
		Kind: sourcev1.BucketKind, Namespace: c.obj.Namespace, Name: c.obj.Name, Operation: "reconcile",
		ServiceAccountName: c.obj.Spec.ServiceAccountName, Proxy: c.proxy,
	}
}

// readProxy reads the proxy that everything goes through (bucket 14, 57).
func (c *connector) readProxy(ctx context.Context) error {
	ref := c.obj.Spec.ProxySecretRef
	if ref == nil {
		return nil
	}
	data, err := c.secret(ctx, ref)
	if err != nil {
		return fmt.Errorf("failed to configure proxy options: %w", err)
	}
	if c.proxy, err = secret.Proxy(data); err != nil {
		return fmt.Errorf("failed to configure proxy options: %w", c.invalid(ref, err))
	}
	return nil
}

// tls reads TLS material, nil without a reference.
func (c *connector) tls(ctx context.Context, ref *meta.LocalObjectReference) (*tls.Config, error) {
	if ref == nil {
		return nil, nil
	}
	data, err := c.secret(ctx, ref)
	if err != nil {
		return nil, err
	}
	material, err := secret.TLS(data)
	if err == nil && material == nil {
		err = &secret.KeyError{Key: secret.CACertKey, Err: secret.ErrMissing}
	}
	if err != nil {
		return nil, c.invalid(ref, err)
	}
	config, err := material.ConfigWithSystemRoots()
	if err != nil {
		return nil, c.invalid(ref, err)
	}
	return config, nil
}

// secret returns the data of a Secret of the object's namespace; never nil.
func (c *connector) secret(ctx context.Context, ref *meta.LocalObjectReference) (map[string][]byte, error) {
	key := types.NamespacedName{Namespace: c.obj.Namespace, Name: ref.Name}
	var found corev1.Secret
	if err := c.reader.Get(ctx, key, &found); err != nil {
		return nil, fmt.Errorf("failed to get secret '%s': %w", key, err)
	}
	if found.Data == nil {
		return map[string][]byte{}, nil
	}
	return found.Data, nil
}

func (c *connector) invalid(ref *meta.LocalObjectReference, err error) error {
	return secret.Wrap(c.obj.Namespace, ref.Name, err)
}

// transport makes the requests of a run. As stored says whether what is stored compressed is wanted so.
func (c *connector) transport(config *tls.Config, asStored bool) http.RoundTripper {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: asStored,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 1 << 20,
		MaxIdleConns: parallel, MaxIdleConnsPerHost: parallel, MaxConnsPerHost: parallel,
	}
	if c.proxy != nil {
		t.Proxy = http.ProxyURL(c.proxy)
	}
	if c.options.wrap != nil {
		return c.options.wrap(t)
	}
	return t
}

func authenticationFailed(err error) error {
	return loop.Fail(sourcev1.AuthenticationFailedReason, err).On(sourcev1.FetchFailedCondition)
}
