// Package auth obtains short-lived credentials from clouds and Git hosts, and caches them.
//
// Who is asked for is either the process itself, by the means its cloud gives to a workload, or a ServiceAccount, whose token the
// cloud exchanges. The clouds are in the packages below this one; what they need of an SDK stays there.
package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/utils/clock"
)

// The values of spec.provider.
const (
	Generic = "generic"
	AWS     = "aws"
	Azure   = "azure"
	GCP     = "gcp"
)

// Defaults of Options.
const (
	DefaultCacheSize     = 100
	DefaultCacheDuration = time.Hour
	// MaxCacheDuration bounds CacheDuration (contract: _common 50).
	MaxCacheDuration = time.Hour
)

// Request says for which object and on whose behalf a credential is obtained.
type Request struct {
	// Kind, Namespace and Name are the object: labels of the cache's metrics.
	Kind, Namespace, Name string
	// Operation is what the credential is for, "reconcile" for example: a label too (contract: wire 10).
	Operation string
	// ServiceAccountName is the account of the object's spec, in the object's namespace; empty: the default account, or the
	// controller's own identity.
	ServiceAccountName string
	// NoDefault leaves the default account out: without a ServiceAccountName, the controller's own identity is meant.
	NoDefault bool
	// Proxy is used for all calls but those to the metadata servers of the clouds; nil: as the environment says.
	Proxy *url.URL
	// Region and STSEndpoint are AWS's; empty: as the environment says.
	Region, STSEndpoint string
}

// Login is a user name and a password, of a registry or a Git server.
type Login struct {
	Username, Password string
	Expires            time.Time // zero: unknown
}

// GitLogin is what a Git server wants over HTTP: a user name and a password, or a bearer token.
type GitLogin struct {
	Username, Password string
	Bearer             string
	Expires            time.Time // zero: unknown
}

// Token is a bearer token.
type Token struct {
	Value   string
	Expires time.Time // zero: unknown
}

// Keys sign requests to AWS.
type Keys struct {
	AccessKey, SecretKey, SessionToken string
	Expires                            time.Time // zero: they do not expire
}

// Options make an Authenticator.
type Options struct {
	// Clouds are asked under their names.
	Clouds []Cloud
	// ServiceAccounts reads accounts and has their tokens issued. It is needed with ObjectLevel only.
	ServiceAccounts corev1client.ServiceAccountsGetter
	// ObjectLevel allows objects to act as ServiceAccounts (the feature gate ObjectLevelWorkloadIdentity).
	ObjectLevel bool
	// DefaultServiceAccount is the account of objects that name none, in their own namespace. It has no effect without ObjectLevel
	// (contract: _common 49).
	DefaultServiceAccount string
	// CacheSize is how many credentials are kept; 0: none.
	CacheSize int
	// CacheDuration is how long a credential is kept at most; 0 and more than MaxCacheDuration mean that.
	CacheDuration time.Duration
	// Registry takes the metrics; nil: none.
	Registry prometheus.Registerer
	// Limits bound what answers may cost; the zero value: DefaultLimits.
	Limits Limits
	// Clock is the time; nil: the real one.
	Clock clock.PassiveClock
}

// Limits bound a request for a credential.
type Limits struct {
	// AnswerBytes is the size of one answer of a server.
	AnswerBytes int64
	// Timeout is the time all calls of a request may take together.
	Timeout time.Duration
}

// DefaultLimits are generous: an answer has a few kilobytes and takes less than a second.
func DefaultLimits() Limits { return Limits{AnswerBytes: 1 << 20, Timeout: time.Minute} }

// Authenticator obtains credentials. It is safe for concurrent use. All methods of a nil Authenticator fail with ErrUnsupported.
type Authenticator struct {
	clouds         map[string]Cloud
	accounts       corev1client.ServiceAccountsGetter
	objectLevel    bool
	defaultAccount string
	limits         Limits
	clock          clock.PassiveClock
	cache          *cache
	metrics        *metrics
	flights        singleflight.Group
}

// New returns an Authenticator. It fails when the metrics are registered already, and when ObjectLevel lacks ServiceAccounts.
func New(o Options) (*Authenticator, error) {
	if o.ObjectLevel && o.ServiceAccounts == nil {
		return nil, errors.New("objects cannot act as service accounts: no client for them")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	m, err := newMetrics(o.Registry)
	if err != nil {
		return nil, fmt.Errorf("register the metrics of the token cache: %w", err)
	}
	a := &Authenticator{
		clouds: map[string]Cloud{}, accounts: o.ServiceAccounts, objectLevel: o.ObjectLevel, limits: o.Limits, clock: o.Clock,
		cache: newCache(o.CacheSize, o.CacheDuration, o.Clock, m), metrics: m,
	}
	if o.ObjectLevel {
		a.defaultAccount = o.DefaultServiceAccount
	}
	for _, c := range o.Clouds {
		a.clouds[c.Name()] = c
	}
	return a, nil
}

// Registry returns the login for the container registry of repository, "host[:port]/path" with or without a scheme. A registry that is
// not the provider's has the property ErrUnsupported, so that credentials stay with who gave them.
func (a *Authenticator) Registry(ctx context.Context, provider string, r Request, repository string) (*Login, error) {
	cloud, err := offer[RegistryCloud](a, provider, "container registries")
	if err != nil {
		return nil, err
	}
	host, err := registryHost(repository)
	if err == nil {
		err = cloud.CheckRegistry(host)
	}
	if err != nil {
		return nil, fmt.Errorf("log in to the registry of '%s' as provider '%s': %w", repository, provider, err)
	}
	return obtain(ctx, a, provider, r, []string{"registry", host}, func(ctx context.Context, c *Call) (Login, error) {
		return cloud.Registry(ctx, c, host)
	})
}

// Git returns the login for a Git repository (contract: gitrepository 23). A server that is not the provider's has the property
// ErrUnsupported.
func (a *Authenticator) Git(ctx context.Context, provider string, r Request, repository *url.URL) (*GitLogin, error) {
	cloud, err := offer[GitCloud](a, provider, "Git repositories")
	if err != nil {
		return nil, err
	}
	plain := *repository
	plain.User = nil
	if err := cloud.CheckGit(&plain); err != nil {
		return nil, fmt.Errorf("log in to the Git repository '%s' as provider '%s': %w", plain.Redacted(), provider, err)
	}
	return obtain(ctx, a, provider, r, []string{"git", plain.String()}, func(ctx context.Context, c *Call) (GitLogin, error) {
		return cloud.Git(ctx, c, &plain)
	})
}

// Keys returns keys for AWS. With a ServiceAccount the Region is required (contract: bucket 6).
func (a *Authenticator) Keys(ctx context.Context, r Request) (*Keys, error) {
	cloud, err := offer[KeysCloud](a, AWS, "keys")
	if err != nil {
		return nil, err
	}
	return obtain(ctx, a, AWS, r, []string{"keys"}, cloud.Keys)
}

// Token returns a bearer token of Azure or GCP for the scopes.
func (a *Authenticator) Token(ctx context.Context, provider string, r Request, scopes ...string) (*Token, error) {
	cloud, err := offer[TokenCloud](a, provider, "tokens")
	if err != nil {
		return nil, err
	}
	scopes = slices.Clone(scopes)
	slices.Sort(scopes)
	return obtain(ctx, a, provider, r, append([]string{"token"}, scopes...), func(ctx context.Context, c *Call) (Token, error) {
		return cloud.Token(ctx, c, scopes)
	})
}

// GitHubApp returns the login of an installation of a GitHub App, which data describes with the keys GitHubAppIDKey and so on (contract:
// _common 44, gitrepository 22). Data that does not suffice has the property ErrAppData. The configuration of TLS, nil for the
// system's, must be made of the same data: it is part of what a cached login is kept for.
func (a *Authenticator) GitHubApp(ctx context.Context, r Request, data map[string][]byte, config *tls.Config) (*Login, error) {
	if a == nil {
		return nil, errNone
	}
	app, err := parseGitHubApp(data)
	if err != nil {
		return nil, err
	}
	// An app is an identity of its own.
	r.ServiceAccountName = ""
	return a.githubApp(ctx, r, app, data, config)
}

// Forget drops the metrics of an object that is gone (contract: _common 50).
func (a *Authenticator) Forget(kind, namespace, name string) {
	if a != nil {
		a.metrics.forget(kind, namespace, name)
	}
}
