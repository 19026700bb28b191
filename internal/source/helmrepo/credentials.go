package helmrepo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// ErrCredentials is the property of an error about a Secret of a repository that is missing or malformed. The object is
// tried again: Secrets come later than what needs them (helmrepository 29, 44).
var ErrCredentials = errors.New("unusable credentials")

// Credentials are what the Secrets of a HelmRepository hold. The zero value is anonymous.
type Credentials struct {
	// Basic is the login; nil: none.
	Basic *secret.Basic
	// DockerConfig is the key .dockerconfigjson, for registries (helmrepository 25); nil: none.
	DockerConfig []byte
	// TLS is used besides what the system trusts; nil: only that.
	TLS *secret.TLSMaterial
}

// ReadCredentials reads the Secrets of a HelmRepository of any type. The TLS material of secretRef is used when there is
// no certSecretRef; that is deprecated and logged. A secretRef whose Secret has none of the keys gives nothing. Errors have
// the property ErrCredentials and name the Secret (helmrepository 23-25, 29, 39, 43-45).
func ReadCredentials(ctx context.Context, reader client.Reader, repo *sourcev1.HelmRepository) (Credentials, error) {
	var c Credentials
	if ref := repo.Spec.CertSecretRef; ref != nil {
		key := types.NamespacedName{Namespace: repo.Namespace, Name: ref.Name}
		data, err := read(ctx, reader, key)
		if err != nil {
			return Credentials{}, err
		}
		if c.TLS, err = material(key, data); err != nil {
			return Credentials{}, err
		}
		if c.TLS == nil {
			return Credentials{}, malformed(key, fmt.Errorf("it has neither '%s' nor '%s' and '%s'", secret.CACertKey, secret.TLSCertKey, secret.TLSKeyKey))
		}
	}
	ref := repo.Spec.SecretRef
	if ref == nil {
		return c, nil
	}
	key := types.NamespacedName{Namespace: repo.Namespace, Name: ref.Name}
	data, err := read(ctx, reader, key)
	if err != nil {
		return Credentials{}, err
	}
	if c.Basic, err = secret.BasicAuth(data); err != nil {
		return Credentials{}, malformed(key, err)
	}
	c.DockerConfig = data[corev1.DockerConfigJsonKey]
	if repo.Spec.CertSecretRef != nil {
		return c, nil
	}
	if c.TLS, err = material(key, data); err != nil {
		return Credentials{}, err
	}
	if c.TLS != nil {
		log.FromContext(ctx).Info("TLS material in spec.secretRef is deprecated: move it to a Secret of its own and name that in spec.certSecretRef", "secret", key.String())
	}
	return c, nil
}

// RegistryOptionsFor returns the options of the client for a HelmRepository of type oci: credentials of the Secrets or,
// without a secretRef, those the provider gives the controller. Errors have the property ErrURL or ErrCredentials, or are
// the authenticator's (helmrepository 25, 27, 28, helmchart 59, 60).
func RegistryOptionsFor(ctx context.Context, reader client.Reader, a *auth.Authenticator, repo *sourcev1.HelmRepository) (oci.Options, error) {
	address := strings.TrimRight(strings.TrimPrefix(repo.Spec.URL, ociScheme), "/")
	registry, err := registryOf(address)
	if err != nil {
		return oci.Options{}, tell(ErrURL, "invalid Helm repository URL: %w", err)
	}
	c, err := ReadCredentials(ctx, reader, repo)
	if err != nil {
		return oci.Options{}, err
	}
	o := oci.Options{TLS: c.TLS, Insecure: repo.Spec.Insecure}
	switch {
	case c.DockerConfig != nil:
		if o.Keychain, err = oci.Keychain(c.DockerConfig); err != nil {
			return oci.Options{}, malformed(types.NamespacedName{Namespace: repo.Namespace, Name: repo.Spec.SecretRef.Name}, err)
		}
	case c.Basic != nil:
		o.Keychain = oci.Login(registry, c.Basic.Username, c.Basic.Password)
	case repo.Spec.SecretRef == nil && repo.Spec.Provider != "" && repo.Spec.Provider != auth.Generic:
		request := auth.Request{Kind: sourcev1.HelmRepositoryKind, Namespace: repo.Namespace, Name: repo.Name, Operation: "reconcile"}
		login, err := a.Registry(ctx, repo.Spec.Provider, request, address)
		if err != nil {
			return oci.Options{}, fmt.Errorf("failed to log in to the registry with provider '%s': %w", repo.Spec.Provider, err)
		}
		o.Keychain = oci.Login(registry, login.Username, login.Password)
	}
	return o, nil
}

// registryOf returns the registry of an address, which may be a registry or a path in one.
func registryOf(address string) (name.Registry, error) {
	if !strings.Contains(address, "/") {
		return name.NewRegistry(address)
	}
	repo, err := name.NewRepository(address)
	return repo.Registry, err
}

const ociScheme = sourcev1.HelmRepositoryTypeOCI + "://"

// ClientOptionsFor returns the options of the client of a HelmRepository over HTTP, with a normalised URL. Errors have the
// property ErrURL or ErrCredentials (helmchart 59).
func ClientOptionsFor(ctx context.Context, reader client.Reader, repo *sourcev1.HelmRepository, limits Limits) (ClientOptions, error) {
	normal, err := NormalizeURL(repo.Spec.URL)
	if err != nil {
		return ClientOptions{}, fmt.Errorf("invalid Helm repository URL: %w", err)
	}
	u, err := parseURL(normal)
	if err != nil {
		return ClientOptions{}, fmt.Errorf("invalid Helm repository URL: %w", err)
	}
	if u.Scheme == sourcev1.HelmRepositoryTypeOCI {
		return ClientOptions{}, tell(ErrURL, "invalid Helm repository URL: scheme 'oci' belongs to a repository of type 'oci': set spec.type")
	}
	if err := isWeb(u); err != nil {
		return ClientOptions{}, fmt.Errorf("failed to construct Helm client: %w", err)
	}
	c, err := ReadCredentials(ctx, reader, repo)
	if err != nil {
		return ClientOptions{}, err
	}
	return ClientOptions{URL: normal, Basic: c.Basic, TLS: c.TLS, PassCredentials: repo.Spec.PassCredentials, Limits: limits}, nil
}

func read(ctx context.Context, reader client.Reader, key types.NamespacedName) (map[string][]byte, error) {
	var found corev1.Secret
	if err := reader.Get(ctx, key, &found); err != nil {
		return nil, told{fmt.Errorf("failed to get secret '%s': %w", key, err), ErrCredentials}
	}
	return found.Data, nil
}

func material(key types.NamespacedName, data map[string][]byte) (*secret.TLSMaterial, error) {
	m, err := secret.TLS(data)
	if err != nil {
		return nil, malformed(key, err)
	}
	return m, nil
}

func malformed(key types.NamespacedName, err error) error {
	return told{secret.Wrap(key.Namespace, key.Name, err), ErrCredentials}
}
