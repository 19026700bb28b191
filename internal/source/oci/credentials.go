package oci

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

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// connection reads what the spec says about reaching the registry (ocirepository 20-26).
func (s *Source) connection(ctx context.Context, obj *sourcev1.OCIRepository, run *loop.Run, repo name.Repository) (*oci.Options, error) {
	o := &oci.Options{
		Insecure: obj.Spec.Insecure, Pool: s.options.Pool, Limits: s.options.Registry,
	}
	o.Fresh, o.Since = fresh(obj, run.Requested())
	if ref := obj.Spec.ProxySecretRef; ref != nil {
		data, err := s.secret(ctx, obj.Namespace, ref.Name)
		if err == nil {
			o.Proxy, err = secret.Proxy(data)
			err = secret.Wrap(obj.Namespace, ref.Name, err)
		}
		if err != nil {
			return nil, authenticationFailed(fmt.Errorf("failed to configure proxy options: %w", err))
		}
	}
	if ref := obj.Spec.CertSecretRef; ref != nil {
		data, err := s.secret(ctx, obj.Namespace, ref.Name)
		if err == nil {
			o.TLS, err = material(data)
			err = secret.Wrap(obj.Namespace, ref.Name, err)
		}
		if err != nil {
			return nil, authenticationFailed(fmt.Errorf("failed to configure TLS: %w", err))
		}
	}
	configs, err := s.dockerConfigs(ctx, obj, run)
	if err != nil {
		return nil, authenticationFailed(fmt.Errorf("failed to get credential: %w", err))
	}
	provider := obj.Spec.Provider
	if len(configs) > 0 || provider == "" || provider == sourcev1.GenericProvider {
		if o.Keychain, err = oci.Keychain(configs...); err != nil {
			return nil, authenticationFailed(fmt.Errorf("failed to get credential: %w", err))
		}
		return o, nil
	}
	o.Keychain, err = s.login(ctx, obj, repo, o)
	return o, err
}

// fresh tells what may answer a look of the object. One that nobody waits for takes what another object has just been told,
// one of a new object what others were told since it was created, any other asks for itself.
func fresh(obj *sourcev1.OCIRepository, requested bool) (now bool, since time.Time) {
	switch {
	case requested:
		return true, time.Time{}
	case obj.Generation == 1 && obj.Status.ObservedGeneration < 1:
		// The API server writes whole seconds.
		return false, obj.CreationTimestamp.Add(time.Second)
	}
	return obj.Status.ObservedGeneration != obj.Generation || obj.Status.Artifact == nil, time.Time{}
}

// login signs in to the registry of a cloud (ocirepository 22, 23).
func (s *Source) login(ctx context.Context, obj *sourcev1.OCIRepository, repo name.Repository, o *oci.Options) (authn.Keychain, error) {
	login, err := s.options.Auth.Registry(ctx, obj.Spec.Provider, auth.Request{
		Kind: sourcev1.OCIRepositoryKind, Namespace: obj.Namespace, Name: obj.Name, Operation: "reconcile",
		ServiceAccountName: obj.Spec.ServiceAccountName, Proxy: o.Proxy,
	}, repo.Name())
	switch {
	case errors.Is(err, auth.ErrFeatureGate):
		return nil, featureGateDisabled(err)
	case err != nil:
		return nil, authenticationFailed(fmt.Errorf("failed to get credential from '%s': %w", obj.Spec.Provider, err))
	}
	return oci.Login(repo.Registry, login.Username, login.Password), nil
}

// dockerConfigs returns the credentials of secretRef, then those of the service account (ocirepository 20, 21, 69).
func (s *Source) dockerConfigs(ctx context.Context, obj *sourcev1.OCIRepository, run *loop.Run) ([][]byte, error) {
	var configs [][]byte
	add := func(name string) error {
		data, err := s.secret(ctx, obj.Namespace, name)
		if err != nil {
			return err
		}
		config, err := dockerConfig(data)
		if err != nil {
			return secret.Wrap(obj.Namespace, name, err)
		}
		configs = append(configs, config)
		return nil
	}
	if ref := obj.Spec.SecretRef; ref != nil {
		if err := add(ref.Name); err != nil {
			if apierrors.IsNotFound(err) {
				run.Event(event.Event{Severity: event.Trace, Reason: sourcev1.AuthenticationFailedReason, Message: fmt.Sprintf("auth secret '%s' not found", ref.Name)})
			}
			return nil, err
		}
	}
	if obj.Spec.ServiceAccountName == "" {
		return configs, nil
	}
	key := types.NamespacedName{Namespace: obj.Namespace, Name: obj.Spec.ServiceAccountName}
	var account corev1.ServiceAccount
	if err := s.reader.Get(ctx, key, &account); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("serviceaccount '%s' not found", key)
		}
		return nil, fmt.Errorf("failed to get serviceaccount '%s': %w", key, err)
	}
	for _, ref := range account.ImagePullSecrets {
		if err := add(ref.Name); err != nil {
			return nil, fmt.Errorf("image pull secret of serviceaccount '%s': %w", key, err)
		}
	}
	return configs, nil
}

// dockerConfig returns the Docker configuration of a Secret; the older form has the entries alone.
func dockerConfig(data map[string][]byte) ([]byte, error) {
	if config, ok := data[oci.DockerConfigKey]; ok {
		return config, nil
	}
	if entries, ok := data[corev1.DockerConfigKey]; ok {
		return append(append([]byte(`{"auths":`), entries...), '}'), nil
	}
	return nil, &secret.KeyError{Key: oci.DockerConfigKey, Err: secret.ErrMissing}
}

// material returns the TLS material of a Secret that is there for nothing else.
func material(data map[string][]byte) (*secret.TLSMaterial, error) {
	m, err := secret.TLS(data)
	if err == nil && m == nil {
		err = &secret.KeyError{Key: secret.CACertKey, Err: fmt.Errorf("%w, or '%s' and '%s'", secret.ErrMissing, secret.TLSCertKey, secret.TLSKeyKey)}
	}
	return m, err
}

func (s *Source) secret(ctx context.Context, namespace, name string) (map[string][]byte, error) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	var found corev1.Secret
	if err := s.reader.Get(ctx, key, &found); err != nil {
		return nil, fmt.Errorf("failed to get secret '%s': %w", key, err)
	}
	return found.Data, nil
}
