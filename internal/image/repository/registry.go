package repository

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/secret"
	"github.com/seed-79636ae9/flux/toolkit/throttle"
)

// maxTimeout bounds what spec.timeout can ask for: a run has to end some day.
const maxTimeout = time.Hour

// Options are what Registries need of the process.
type Options struct {
	// Reader reads Secrets and service accounts live.
	Reader client.Reader
	// Auth signs in to the registries of clouds; nil: it does not.
	Auth *auth.Authenticator
	// ObjectLevel allows ImageRepositories to act as service accounts towards clouds.
	ObjectLevel bool
	// Limits bound what registries may send; zero fields take the default.
	Limits oci.Limits
}

// Registries connects to the registries of images. What equal credentials open is shared by all images of a registry:
// connections, and what it said about signing in.
type Registries struct {
	options Options
	pool    *oci.Pool
	hosts   hosts
}

// NewRegistries returns Registries with connections of their own.
func NewRegistries(o Options) *Registries { return &Registries{options: o, pool: oci.NewPool(nil)} }

// Connection is the way to the registry of an ImageRepository, for one run.
type Connection struct {
	registries *Registries
	client     *oci.Client
	repo       name.Repository
	// left is what remains of the time of the object.
	left time.Duration
}

// CheckIdentity stalls an ImageRepository that asks for an identity which the process does not allow (imagerepository 2).
func (r *Registries) CheckIdentity(obj *imagev1.ImageRepository) error {
	if !cloud(obj) || obj.Spec.ServiceAccountName == "" || r.options.ObjectLevel {
		return nil
	}
	return loop.Stall(meta.FeatureGateDisabledReason, fmt.Errorf(
		"use the service account '%s/%s' with provider '%s': %w: switch it on, or remove serviceAccountName",
		obj.Namespace, obj.Spec.ServiceAccountName, obj.Spec.Provider, auth.ErrFeatureGate,
	))
}

func cloud(obj *imagev1.ImageRepository) bool {
	return obj.Spec.Provider != "" && obj.Spec.Provider != imagev1.GenericProvider
}

// Connect reads what the spec says about reaching the registry. It does not connect yet, unless a cloud has to be asked for
// credentials. Its errors are verdicts (imagerepository 4-6, 22-26).
func (r *Registries) Connect(ctx context.Context, obj *imagev1.ImageRepository, repo name.Repository) (*Connection, error) {
	if err := r.CheckIdentity(obj); err != nil {
		return nil, err
	}
	begun := time.Now()
	timeout := min(obj.GetTimeout(), maxTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	options, err := r.connection(ctx, obj, repo)
	if err != nil {
		return nil, loop.Fail(imagev1.AuthenticationFailedReason, fmt.Errorf("failed to configure authentication options: %w", err))
	}
	c, err := oci.New(*options)
	if err != nil {
		return nil, loop.Fail(imagev1.AuthenticationFailedReason, fmt.Errorf("failed to configure authentication options: %w", err))
	}
	return &Connection{registries: r, client: c, repo: repo, left: timeout - time.Since(begun)}, nil
}

func (r *Registries) connection(ctx context.Context, obj *imagev1.ImageRepository, repo name.Repository) (*oci.Options, error) {
	// What a run asks, it asks to see what is there now.
	o := &oci.Options{Insecure: obj.Spec.Insecure, Pool: r.pool, Limits: r.options.Limits, Fresh: true}
	if ref := obj.Spec.ProxySecretRef; ref != nil {
		data, err := r.secret(ctx, obj.Namespace, ref.Name)
		if err == nil {
			o.Proxy, err = secret.Proxy(data)
			err = secret.Wrap(obj.Namespace, ref.Name, err)
		}
		if err != nil {
			return nil, err
		}
	}
	if ref := obj.Spec.CertSecretRef; ref != nil {
		data, err := r.secret(ctx, obj.Namespace, ref.Name)
		if err == nil {
			o.TLS, err = material(data)
			err = secret.Wrap(obj.Namespace, ref.Name, err)
		}
		if err != nil {
			return nil, err
		}
	}
	var err error
	if cloud(obj) {
		o.Keychain, err = r.login(ctx, obj, repo, o)
	} else {
		o.Keychain, err = r.keychain(ctx, obj)
	}
	return o, err
}

// login signs in to the registry of a cloud (imagerepository 5, 22).
func (r *Registries) login(ctx context.Context, obj *imagev1.ImageRepository, repo name.Repository, o *oci.Options) (authn.Keychain, error) {
	login, err := r.options.Auth.Registry(ctx, obj.Spec.Provider, auth.Request{
		Kind: imagev1.ImageRepositoryKind, Namespace: obj.Namespace, Name: obj.Name, Operation: "reconcile",
		ServiceAccountName: obj.Spec.ServiceAccountName, Proxy: o.Proxy,
	}, repo.Name())
	if err != nil {
		return nil, err
	}
	return oci.Login(repo.Registry, login.Username, login.Password), nil
}

// keychain returns the credentials of secretRef, then those of the service account (imagerepository 5, 25).
func (r *Registries) keychain(ctx context.Context, obj *imagev1.ImageRepository) (authn.Keychain, error) {
	var configs [][]byte
	add := func(name string) error {
		data, err := r.secret(ctx, obj.Namespace, name)
		if err != nil {
			return err
		}
		config, err := dockerConfig(data)
		if err == nil {
			configs = append(configs, config)
			// Read on its own, an entry that is no good is known by its Secret.
			_, err = oci.Keychain(config)
		}
		return secret.Wrap(obj.Namespace, name, err)
	}
	if ref := obj.Spec.SecretRef; ref != nil {
		if err := add(ref.Name); err != nil {
			return nil, err
		}
	}
	if obj.Spec.ServiceAccountName != "" {
		var account corev1.ServiceAccount
		key := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Spec.ServiceAccountName}
		if err := r.options.Reader.Get(ctx, key, &account); err != nil {
			return nil, err
		}
		for _, ref := range account.ImagePullSecrets {
			if err := add(ref.Name); err != nil {
				return nil, fmt.Errorf("image pull secret of serviceaccount '%s': %w", key, err)
			}
		}
	}
	return oci.Keychain(configs...)
}

// dockerConfig returns the Docker configuration of a Secret; the older form has the entries alone.
func dockerConfig(data map[string][]byte) ([]byte, error) {
	if config, ok := data[oci.DockerConfigKey]; ok {
		return config, nil
	}
	if entries, ok := data[corev1.DockerConfigKey]; ok {
		return append(append([]byte(`{"auths":`), entries...), '}'), nil
	}
	err := fmt.Errorf("%w: only Secrets of type %s hold credentials of registries", secret.ErrMissing, corev1.SecretTypeDockerConfigJson)
	return nil, &secret.KeyError{Key: oci.DockerConfigKey, Err: err}
}

// material returns the TLS material of a Secret that is there for nothing else (imagerepository 26).
func material(data map[string][]byte) (*secret.TLSMaterial, error) {
	m, err := secret.TLS(data)
	if err == nil && m == nil {
		err = &secret.KeyError{Key: secret.CACertKey, Err: fmt.Errorf("%w, or '%s' and '%s'", secret.ErrMissing, secret.TLSCertKey, secret.TLSKeyKey)}
	}
	return m, err
}

func (r *Registries) secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	var found corev1.Secret
	if err := r.options.Reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &found); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, err
		}
		return nil, fmt.Errorf("failed to get secret '%s/%s': %w", namespace, name, err)
	}
	return found.Data, nil
}

// Tags lists the tags of the image: all of them, or an error. An object that something newer is to be done for gets the
// verdict that says so.
func (c *Connection) Tags(ctx context.Context, run *loop.Run) (tags []string, err error) {
	err = c.call(ctx, run, func(ctx context.Context) (err error) {
		tags, err = c.client.Tags(ctx, c.repo)
		return err
	})
	if errors.Is(err, oci.ErrLimit) {
		err = fmt.Errorf("%w (see --oci-limit-tags and --oci-limit-tags-size)", err)
	}
	return tags, err
}

// Digest asks for the digest of a tag, that of the index where there is one (imagepolicy 31). A tag that the registry does
// not have is an error with the property oci.ErrNotFound.
func (c *Connection) Digest(ctx context.Context, run *loop.Run, tag string) (digest string, err error) {
	err = c.call(ctx, run, func(ctx context.Context) error {
		resolved, err := c.client.Resolve(ctx, c.repo, oci.Reference{Tag: tag})
		digest = resolved.Digest
		return err
	})
	return digest, err
}

func (c *Connection) call(ctx context.Context, run *loop.Run, f func(context.Context) error) error {
	begun := time.Now()
	defer func() { c.left = max(c.left-time.Since(begun), time.Second) }()
	return c.registries.hosts.call(ctx, run, c.repo.RegistryStr(), c.left, f)
}

// Failed is the verdict on a failed call: one that the registry has refused is made again when it says so, any other after
// the usual pause.
func Failed(err error) error {
	if loop.Judged(err) {
		return err
	}
	return loop.Fail(imagev1.ReadOperationFailedReason, err).After(throttle.Delay(err))
}
