package auth

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/seed-79636ae9/flux/toolkit/auth/internal/rest"
)

// accountTokenSeconds is how long tokens of ServiceAccounts live. They are exchanged at once, but a cloud may give credentials no
// longer life than the token they were given for.
const accountTokenSeconds = 3600

type credential interface{ expires() time.Time }

func (l Login) expires() time.Time    { return l.Expires }
func (l GitLogin) expires() time.Time { return l.Expires }
func (t Token) expires() time.Time    { return t.Expires }
func (k Keys) expires() time.Time     { return k.Expires }

func (c ClusterAccess) expires() time.Time { return c.Expires }

// offer returns the cloud of the provider if it can do what the type parameter says.
func offer[C Cloud](a *Authenticator, provider, what string) (offered C, err error) {
	if a == nil {
		return offered, errNone
	}
	cloud := a.clouds[provider]
	if cloud == nil {
		return offered, fmt.Errorf("%w: provider '%s' is not one that credentials are obtained from", ErrUnsupported, provider)
	}
	offered, ok := cloud.(C)
	if !ok {
		return offered, fmt.Errorf("%w: provider '%s' gives no credentials for %s", ErrUnsupported, provider, what)
	}
	return offered, nil
}

// obtain asks the cloud, or the cache, for the credential that target names.
func obtain[T credential](ctx context.Context, a *Authenticator, provider string, r Request, target []string, ask func(context.Context, *Call) (T, error)) (*T, error) {
	account, err := a.account(ctx, provider, r)
	if err != nil {
		a.metrics.request(err)
		return nil, err
	}
	return remember(ctx, a, r, cacheKey(provider, target, r, account), func(ctx context.Context) (T, error) {
		call := &Call{Request: r, Account: account, HTTP: rest.Client(r.Proxy, nil, a.limits.AnswerBytes)}
		if account != nil {
			account.Token = a.issue(account, call)
		}
		got, err := ask(ctx, call)
		if err != nil {
			return got, call.explain(provider, err)
		}
		return got, nil
	})
}

// remember returns what the cache has, or else what ask says. Those who want the same at the same time ask once; the work does not end
// with the one who came first.
func remember[T credential](ctx context.Context, a *Authenticator, r Request, key string, ask func(context.Context) (T, error)) (_ *T, err error) {
	defer func() { a.metrics.request(err) }()
	if found, ok := a.cache.get(key); ok {
		a.metrics.event(cacheHit, r)
		value := found.(T)
		return &value, nil
	}
	a.metrics.event(cacheMiss, r)
	done := a.flights.DoChan(key, func() (out any, err error) {
		// A panic in a goroutine of its own would end the process.
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("obtaining a credential panicked: %v", p)
			}
		}()
		if found, ok := a.cache.get(key); ok {
			return found, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.limits.Timeout)
		defer cancel()
		got, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		a.cache.put(key, got, got.expires())
		return got, nil
	})
	select {
	case result := <-done:
		if result.Err != nil {
			return nil, result.Err
		}
		value := result.Val.(T)
		return &value, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("obtain a credential: %w", context.Cause(ctx))
	}
}

// explain says whose credential failed, without any that the call knows.
func (c *Call) explain(provider string, err error) error {
	who := ""
	if c.Account != nil {
		who = fmt.Sprintf(" as service account '%s/%s'", c.Account.Namespace, c.Account.Name)
	}
	return &redactedError{fmt.Errorf("obtain a credential from provider '%s'%s: %w", provider, who, err), append(proxySecrets(c.Proxy), c.secrets...)}
}

func proxySecrets(proxy *url.URL) []string {
	if proxy == nil || proxy.User == nil {
		return nil
	}
	password, _ := proxy.User.Password()
	return []string{password}
}

// account returns the ServiceAccount the object acts as, nil for the process itself (contract: _common 47, 49). It is read in every
// run: one that is gone, replaced or annotated anew must not live on in the cache.
func (a *Authenticator) account(ctx context.Context, provider string, r Request) (*Account, error) {
	name, what := r.ServiceAccountName, "service account"
	if name != "" && !a.objectLevel {
		return nil, fmt.Errorf("use the service account '%s/%s' with provider '%s': %w: switch it on, or remove serviceAccountName", r.Namespace, name, provider, ErrFeatureGate)
	}
	if name == "" && !r.NoDefault {
		name, what = a.defaultAccount, "default service account"
	}
	if name == "" {
		return nil, nil
	}
	found, err := a.accounts.ServiceAccounts(r.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("%w: the %s '%s/%s' does not exist: create it, or name another one", ErrServiceAccount, what, r.Namespace, name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the %s '%s/%s': %w", what, r.Namespace, name, err)
	}
	return &Account{Namespace: r.Namespace, Name: name, Annotations: found.Annotations, uid: string(found.UID)}, nil
}

// issue returns the function that has the API server issue tokens of the account.
func (a *Authenticator) issue(account *Account, call *Call) func(context.Context, string) (string, error) {
	return func(ctx context.Context, audience string) (string, error) {
		issued, err := a.issueFor(ctx, account, call, audience)
		return issued.Value, err
	}
}

// issueFor has the API server issue a token of the account for all of the audiences.
func (a *Authenticator) issueFor(ctx context.Context, account *Account, call *Call, audiences ...string) (Token, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: audiences, ExpirationSeconds: ptr.To[int64](accountTokenSeconds),
	}}
	issued, err := a.accounts.ServiceAccounts(account.Namespace).CreateToken(ctx, account.Name, request, metav1.CreateOptions{})
	if err != nil {
		return Token{}, fmt.Errorf("create a token of the service account for the audience '%s': %w", strings.Join(audiences, "', '"), err)
	}
	call.Hide(issued.Status.Token)
	token := Token{Value: issued.Status.Token, Expires: issued.Status.ExpirationTimestamp.Time}
	if token.Expires.IsZero() {
		token.Expires = a.clock.Now().Add(accountTokenSeconds * time.Second)
	}
	return token, nil
}

// cacheKey is the digest of everything that shapes a credential. The request's object is no part of it: objects that act as the same
// identity towards the same server share.
func cacheKey(provider string, target []string, r Request, account *Account) string {
	parts := []string{provider, digest(target...), r.Region, r.STSEndpoint}
	if r.Proxy != nil {
		parts = append(parts, "proxy", r.Proxy.String())
	}
	if account != nil {
		parts = append(parts, "account", account.Namespace, account.Name, account.uid)
		for _, k := range slices.Sorted(maps.Keys(account.Annotations)) {
			parts = append(parts, k, account.Annotations[k])
		}
	}
	return digest(parts...)
}

// digest tells apart what is cut at different places, too.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(p)))
		_, _ = h.Write(size[:])
		_, _ = h.Write([]byte(p))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// registryHost returns the host of "[scheme://]host[:port][/path]" in lower case.
func registryHost(repository string) (string, error) {
	_, rest, ok := strings.Cut(repository, "://")
	if !ok {
		rest = repository
	}
	host, _, _ := strings.Cut(rest, "/")
	host = strings.ToLower(host)
	if u, err := url.Parse("https://" + host); err != nil || u.Host != host || u.Hostname() == "" {
		return "", fmt.Errorf("%w: no host of a registry in it", ErrUnsupported)
	}
	return host, nil
}
