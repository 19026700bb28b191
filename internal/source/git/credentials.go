package git

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"

	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Identities obtains credentials for Git servers; *auth.Authenticator does.
type Identities interface {
	Git(ctx context.Context, provider string, r auth.Request, repository *url.URL) (*auth.GitLogin, error)
	GitHubApp(ctx context.Context, r auth.Request, data map[string][]byte, tls *tls.Config) (*auth.Login, error)
	Forget(kind, namespace, name string)
}

// signIn fills in the credentials for the server (gitrepository 13-24).
func (s *Source) signIn(ctx context.Context, obj *sourcev1.GitRepository, o *git.Options) error {
	data, err := s.credentials(ctx, obj)
	if err != nil {
		return err
	}
	provider := obj.Spec.Provider
	if provider == "" || provider == sourcev1.GitProviderGeneric || isSSH(obj.Spec.URL) {
		if data == nil && !isSSH(obj.Spec.URL) {
			return nil
		}
		if o.Auth, err = git.AuthFromSecret(obj.Spec.URL, data); err != nil {
			return connectFailed(err)
		}
		return nil
	}
	if o.Auth.TLS, err = secret.TLS(data); err != nil {
		return authenticationFailed(fmt.Errorf("failed to configure authentication options: %w", secret.Wrap(obj.Namespace, obj.Spec.SecretRef.Name, err)))
	}
	if s.options.Identities == nil {
		return invalidProvider(fmt.Errorf("provider '%s' is not available in this process", provider), true)
	}
	request := auth.Request{
		Kind: sourcev1.GitRepositoryKind, Namespace: obj.Namespace, Name: obj.Name, Operation: "reconcile",
		ServiceAccountName: obj.Spec.ServiceAccountName, Proxy: o.Proxy,
	}
	if provider == sourcev1.GitProviderGitHub {
		err = s.signInApp(ctx, request, data, o)
	} else {
		err = s.signInCloud(ctx, provider, request, o)
	}
	switch {
	case errors.Is(err, auth.ErrFeatureGate):
		return loop.Stall(meta.FeatureGateDisabledReason, err).On(sourcev1.FetchFailedCondition) // gitrepository 24
	case errors.Is(err, auth.ErrAppData):
		return invalidProvider(fmt.Errorf("secretRef '%s/%s': %w", obj.Namespace, obj.Spec.SecretRef.Name, err), false) // gitrepository 21
	case err != nil:
		return authenticationFailed(fmt.Errorf("failed to configure authentication options: %w", err))
	}
	return nil
}

// signInApp signs in as a GitHub App; certificates of the Secret count for the API and for Git (gitrepository 22).
func (s *Source) signInApp(ctx context.Context, r auth.Request, data map[string][]byte, o *git.Options) error {
	var config *tls.Config
	if o.Auth.TLS != nil {
		var err error
		if config, err = o.Auth.TLS.ConfigWithSystemRoots(); err != nil {
			return err
		}
	}
	login, err := s.options.Identities.GitHubApp(ctx, r, data, config)
	if err != nil {
		return err
	}
	o.Auth.Basic = &secret.Basic{Username: login.Username, Password: login.Password}
	return nil
}

// signInCloud signs in to the Git servers of a cloud (gitrepository 23).
func (s *Source) signInCloud(ctx context.Context, provider string, r auth.Request, o *git.Options) error {
	u, err := url.Parse(o.URL)
	if err != nil {
		// The client says so better, and without what the URL may hold.
		return nil
	}
	login, err := s.options.Identities.Git(ctx, provider, r, u)
	if err != nil {
		return err
	}
	if o.Auth.Bearer = login.Bearer; login.Bearer == "" {
		o.Auth.Basic = &secret.Basic{Username: login.Username, Password: login.Password}
	}
	return nil
}

// credentials returns the data of the object's Secret, nil without one (gitrepository 13, 20, 21).
func (s *Source) credentials(ctx context.Context, obj *sourcev1.GitRepository) (map[string][]byte, error) {
	github := obj.Spec.Provider == sourcev1.GitProviderGitHub
	if obj.Spec.SecretRef == nil {
		if github {
			return nil, invalidProvider(errors.New("secretRef with github app data must be specified when provider is set to github"), true)
		}
		return nil, nil
	}
	key := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Spec.SecretRef.Name}
	data, err := s.secret(ctx, key)
	if err != nil {
		return nil, authenticationFailed(fmt.Errorf("failed to get secret '%s': %w", key, err))
	}
	_, app := data[auth.GitHubAppIDKey]
	switch {
	case app && !github:
		return nil, invalidProvider(fmt.Errorf("secretRef '%s' has github app data but provider is not set to github", key), false)
	case github && !app:
		return nil, invalidProvider(fmt.Errorf("secretRef '%s' has no github app data (key '%s') but provider is set to github", key, auth.GitHubAppIDKey), false)
	}
	return data, nil
}

func invalidProvider(err error, final bool) error {
	if final {
		return loop.Stall(sourcev1.InvalidProviderConfigurationReason, err).On(sourcev1.FetchFailedCondition)
	}
	return loop.Fail(sourcev1.InvalidProviderConfigurationReason, err).On(sourcev1.FetchFailedCondition)
}

func (s *Source) proxy(ctx context.Context, key types.NamespacedName) (*url.URL, error) {
	data, err := s.secret(ctx, key)
	if err != nil {
		return nil, err
	}
	proxy, err := secret.Proxy(data)
	if err != nil {
		return nil, secret.Wrap(key.Namespace, key.Name, err)
	}
	return proxy, nil
}
