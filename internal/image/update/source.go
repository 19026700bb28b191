package update

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// The keys of a Secret with a signing key (wire 18).
const (
	pgpKey        = "git.asc"
	passphraseKey = "passphrase"
)

// sourceFailed says that the way to the repository could not be prepared (imageupdateautomation 6).
func sourceFailed(err error) error {
	return loop.Fail(imagev1.SourceManagerFailedReason, fmt.Errorf("failed configuring source manager: %w", err))
}

func invalidSource(err error) error {
	return loop.Stall(imagev1.InvalidSourceConfigurationReason, fmt.Errorf("%w: invalid source configuration", err))
}

// repository reads the GitRepository of an automation, which may be suspended (imageupdateautomation 5, 6, 63).
func (a *Automator) repository(ctx context.Context, obj *imagev1.ImageUpdateAutomation) (*sourcev1.GitRepository, error) {
	key := sourceKey(obj)
	if a.options.NoCrossNamespaceRefs && key.Namespace != obj.Namespace {
		return nil, loop.Stall(meta.AccessDeniedReason,
			fmt.Errorf("can't access '%s/%s', cross-namespace references have been blocked", obj.Spec.SourceRef.Kind, key))
	}
	var found sourcev1.GitRepository
	err := a.options.Objects.Get(ctx, key, &found)
	switch {
	case apierrors.IsNotFound(err):
		return nil, sourceFailed(fmt.Errorf("referenced git repository does not exist: %s.%s %q not found",
			sourcev1.GitRepositoryKind, sourcev1.GroupVersion.Group, key.Name))
	case err != nil:
		return nil, sourceFailed(fmt.Errorf("failed to get git repository '%s': %w", key, err))
	}
	return &found, nil
}

// connect returns a client for the repository (imageupdateautomation 6, 7, 36, 59-61).
func (a *Automator) connect(ctx context.Context, obj *imagev1.ImageUpdateAutomation, repository *sourcev1.GitRepository) (*git.Client, error) {
	o := git.Options{URL: repository.Spec.URL, KexAlgos: a.options.KexAlgos, HostKeyAlgos: a.options.HostKeyAlgos, Limits: a.options.Limits}
	if ref := repository.Spec.ProxySecretRef; ref != nil {
		data, err := a.secret(ctx, repository.Namespace, ref.Name)
		if err == nil {
			o.Proxy, err = secret.Proxy(data)
			err = secret.Wrap(repository.Namespace, ref.Name, err)
		}
		if err != nil {
			return nil, sourceFailed(fmt.Errorf("failed to configure proxy options: %w", err))
		}
	}
	if err := a.signIn(ctx, obj, repository, &o); err != nil {
		return nil, err
	}
	c, err := git.New(o)
	if err != nil {
		return nil, sourceFailed(err)
	}
	return c, nil
}

// signIn fills in the credentials. A service account is one of the automation's namespace, though the GitRepository names it
// (imageupdateautomation 7).
func (a *Automator) signIn(ctx context.Context, obj *imagev1.ImageUpdateAutomation, repository *sourcev1.GitRepository, o *git.Options) error {
	data, err := a.credentials(ctx, repository)
	if err != nil {
		return err
	}
	provider := repository.Spec.Provider
	u, err := url.Parse(o.URL)
	if err != nil {
		// The client says so better, and without what the URL may hold.
		u = &url.URL{}
	}
	if provider == "" || provider == sourcev1.GitProviderGeneric || u.Scheme == "ssh" {
		if data == nil && u.Scheme != "ssh" {
			return nil
		}
		if o.Auth, err = git.AuthFromSecret(o.URL, data); err != nil {
			return sourceFailed(fmt.Errorf("failed to configure authentication options: %w", err))
		}
		return nil
	}
	if o.Auth.TLS, err = secret.TLS(data); err != nil {
		err = secret.Wrap(repository.Namespace, repository.Spec.SecretRef.Name, err)
		return sourceFailed(fmt.Errorf("failed to configure authentication options: %w", err))
	}
	if a.options.Identities == nil {
		return invalidSource(fmt.Errorf("provider '%s' is not available in this process", provider))
	}
	request := auth.Request{
		Kind: imagev1.ImageUpdateAutomationKind, Namespace: obj.Namespace, Name: obj.Name, Operation: "reconcile",
		ServiceAccountName: repository.Spec.ServiceAccountName, Proxy: o.Proxy,
	}
	if provider == sourcev1.GitProviderGitHub {
		err = a.signInApp(ctx, request, data, o)
	} else {
		err = a.signInCloud(ctx, provider, request, u, o)
	}
	switch {
	case errors.Is(err, auth.ErrFeatureGate):
		return loop.Stall(meta.FeatureGateDisabledReason, err)
	case err != nil:
		return sourceFailed(fmt.Errorf("failed to configure authentication options: %w", err))
	}
	return nil
}

func (a *Automator) signInApp(ctx context.Context, r auth.Request, data map[string][]byte, o *git.Options) error {
	var config *tls.Config
	if o.Auth.TLS != nil {
		var err error
		if config, err = o.Auth.TLS.ConfigWithSystemRoots(); err != nil {
			return err
		}
	}
	login, err := a.options.Identities.GitHubApp(ctx, r, data, config)
	if err != nil {
		return err
	}
	o.Auth.Basic = &secret.Basic{Username: login.Username, Password: login.Password}
	return nil
}

func (a *Automator) signInCloud(ctx context.Context, provider string, r auth.Request, u *url.URL, o *git.Options) error {
	login, err := a.options.Identities.Git(ctx, provider, r, u)
	if err != nil {
		return err
	}
	if o.Auth.Bearer = login.Bearer; login.Bearer == "" {
		o.Auth.Basic = &secret.Basic{Username: login.Username, Password: login.Password}
	}
	return nil
}

// credentials returns the data of the repository's Secret, nil without one (imageupdateautomation 7, 59).
func (a *Automator) credentials(ctx context.Context, repository *sourcev1.GitRepository) (map[string][]byte, error) {
	github := repository.Spec.Provider == sourcev1.GitProviderGitHub
	if repository.Spec.SecretRef == nil {
		if github {
			return nil, invalidSource(errors.New("secretRef with github app data must be specified when provider is set to github"))
		}
		return nil, nil
	}
	name := repository.Spec.SecretRef.Name
	data, err := a.secret(ctx, repository.Namespace, name)
	if err != nil {
		return nil, sourceFailed(err)
	}
	_, app := data[auth.GitHubAppIDKey]
	switch {
	case app && !github:
		return nil, invalidSource(fmt.Errorf("secretRef '%s/%s' has github app data but provider is not set to github", repository.Namespace, name))
	case github && !app:
		return nil, invalidSource(fmt.Errorf("secretRef '%s/%s' has no github app data (key '%s') but provider is set to github",
			repository.Namespace, name, auth.GitHubAppIDKey))
	}
	return data, nil
}

// signer returns what signs the commits, nil when nothing does (imageupdateautomation 27).
func (a *Automator) signer(ctx context.Context, obj *imagev1.ImageUpdateAutomation) (git.Signer, error) {
	key := obj.Spec.Git.Commit.SigningKey
	if key == nil {
		return nil, nil
	}
	data, err := a.secret(ctx, obj.Namespace, key.SecretRef.Name)
	if err != nil {
		return nil, sourceFailed(fmt.Errorf("signing key: %w", err))
	}
	var signer git.Signer
	entry := pgpKey
	if key.Type == imagev1.SigningKeySSH {
		entry = secret.IdentityKey
	}
	switch {
	case len(data[entry]) == 0:
		err = fmt.Errorf("key '%s' is required", entry)
	case key.Type == imagev1.SigningKeySSH:
		signer, err = git.NewSSHSigner(data[entry], data[secret.PasswordKey])
	default:
		signer, err = git.NewPGPSigner(data[entry], data[passphraseKey])
	}
	if err != nil {
		return nil, sourceFailed(fmt.Errorf("signing key: %w", secret.Wrap(obj.Namespace, key.SecretRef.Name, err)))
	}
	return signer, nil
}

func (a *Automator) secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	var found corev1.Secret
	key := types.NamespacedName{Namespace: namespace, Name: name}
	if err := a.options.Reader.Get(ctx, key, &found); err != nil {
		return nil, fmt.Errorf("failed to get secret '%s': %w", key, err)
	}
	return found.Data, nil
}
