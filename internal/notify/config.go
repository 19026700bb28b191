package notify

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	notificationv1beta3 "github.com/seed-79636ae9/flux/api/notification/v1beta3"
	"github.com/seed-79636ae9/flux/internal/notify/provider"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Keys of the Secret of a Provider besides the common ones (provider 5).
const (
	headersKey = "headers"
	proxyKey   = "proxy"
)

const (
	// maxAddress is the longest address a Secret may hold (provider 35).
	maxAddress = 2048
	// maxHeaders bounds the headers of a Secret, in bytes.
	maxHeaders = 64 << 10
)

const (
	// secretAge is how long a Secret that was read is believed: long enough that a storm of events does not become a storm of reads, short
	// enough that a rotated one counts for the next event.
	secretAge = time.Second
	// staleSecretAge is how long it is believed while the API server does not answer.
	staleSecretAge = 10 * time.Minute
	// maxSecrets bounds how many are kept.
	maxSecrets = 1024
)

// secrets reads Secrets for Providers.
type secrets struct {
	reader client.Reader
	now    func() time.Time

	mu   sync.Mutex // guards kept
	kept map[types.NamespacedName]keptSecret
}

type keptSecret struct {
	data map[string][]byte
	at   time.Time
}

// get returns the data of a Secret. Nobody may change it.
func (s *secrets) get(ctx context.Context, key types.NamespacedName) (map[string][]byte, error) {
	s.mu.Lock()
	found, ok := s.kept[key]
	s.mu.Unlock()
	if ok && s.now().Sub(found.at) < secretAge {
		return found.data, nil
	}
	var read corev1.Secret
	if err := s.reader.Get(ctx, key, &read); err != nil {
		if ok && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) && s.now().Sub(found.at) < staleSecretAge {
			return found.data, nil
		}
		return nil, fmt.Errorf("failed to get secret '%s': %w", key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil || len(s.kept) >= maxSecrets {
		s.kept = map[types.NamespacedName]keptSecret{}
	}
	s.kept[key] = keptSecret{read.Data, s.now()}
	return read.Data, nil
}

// settings are the credentials of a Provider, and what must not be shown of them.
type settings struct {
	provider.Config
	material *secret.TLSMaterial
	hidden   []string
}

// config reads what a Provider and its Secrets say (provider 4-7, 34-38). Errors hold no value of a Secret.
func (d *Dispatcher) config(ctx context.Context, p *notificationv1beta3.Provider, kind provider.Type) (*settings, error) {
	s := &settings{Config: provider.Config{
		Type: p.Spec.Type, Provider: provider.Owner{Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)},
		Address: p.Spec.Address, Channel: p.Spec.Channel, Username: p.Spec.Username, ServiceAccountName: p.Spec.ServiceAccountName,
		Auth: d.auth,
	}}
	proxy := p.Spec.Proxy
	if ref := p.Spec.SecretRef; ref != nil {
		key := types.NamespacedName{Namespace: p.Namespace, Name: ref.Name}
		data, err := d.secrets.get(ctx, key)
		if err != nil {
			return nil, err
		}
		fromSecret, err := s.read(data, kind)
		if err != nil {
			return nil, secret.Wrap(key.Namespace, key.Name, err)
		}
		if fromSecret != "" {
			proxy = fromSecret
		}
	}
	if ref := p.Spec.CertSecretRef; ref != nil {
		key := types.NamespacedName{Namespace: p.Namespace, Name: ref.Name}
		data, err := d.secrets.get(ctx, key)
		if err != nil {
			return nil, err
		}
		if s.material, err = secret.TLS(data); err == nil && s.material == nil {
			err = &secret.KeyError{Key: secret.CACertKey, Err: secret.ErrMissing}
		}
		if err != nil {
			return nil, secret.Wrap(key.Namespace, key.Name, err)
		}
	}
	if err := s.readProxy(ctx, d, p, proxy); err != nil {
		return nil, err
	}
	transport, config, err := d.transports.Get(s.material, s.Proxy)
	if err != nil {
		return nil, fmt.Errorf("using the TLS material: %w", err)
	}
	s.TLS = config
	s.HTTP = provider.NewClient(transport, d.userAgent, s.hidden...)
	return s, nil
}

// read takes over the Secret of secretRef and returns the proxy it names.
func (s *settings) read(data map[string][]byte, kind provider.Type) (proxy string, err error) {
	s.Secret = data
	for key, value := range data {
		if key != secret.UsernameKey {
			s.hide(string(value))
		}
	}
	if address, ok := data[secret.AddressKey]; ok {
		if len(address) > maxAddress {
			return "", &secret.KeyError{Key: secret.AddressKey, Err: fmt.Errorf("longer than %d bytes", maxAddress)}
		}
		s.Address = strings.TrimSpace(string(address))
		s.hide(s.Address)
	}
	s.Token = strings.TrimSpace(string(data[secret.TokenKey]))
	s.hide(s.Token)
	username, named := data[secret.UsernameKey]
	if password, ok := data[secret.PasswordKey]; ok && named {
		s.Username, s.Password = string(username), string(password)
		s.hidden = append(s.hidden, secret.Login(s.Username, s.Password)...)
	}
	if password := string(data[secret.PasswordKey]); s.Token == "" && slices.Contains([]string{"github", "gitlab", "gitea", "otel"}, kind.Name) {
		s.Token = password
	}
	if text, ok := data[headersKey]; ok {
		if len(text) > maxHeaders {
			return "", &secret.KeyError{Key: headersKey, Err: fmt.Errorf("longer than %d bytes", maxHeaders)}
		}
		if yaml.UnmarshalStrict(text, &s.Headers) != nil {
			// The cause would quote the value.
			return "", &secret.KeyError{Key: headersKey, Err: errors.New("not a YAML map of texts")}
		}
		for _, value := range s.Headers {
			s.hide(value)
		}
	}
	if kind.PostsCommitStatus() {
		if s.material, err = secret.TLS(data); err != nil {
			return "", err
		}
	}
	return strings.TrimSpace(string(data[proxyKey])), nil
}

func (s *settings) hide(value string) { s.hidden = append(s.hidden, value) }

// readProxy finds the proxy: that of proxySecretRef before that of the Secret, before that of the spec (provider 6).
func (s *settings) readProxy(ctx context.Context, d *Dispatcher, p *notificationv1beta3.Provider, address string) error {
	if ref := p.Spec.ProxySecretRef; ref != nil {
		key := types.NamespacedName{Namespace: p.Namespace, Name: ref.Name}
		data, err := d.secrets.get(ctx, key)
		if err != nil {
			return err
		}
		if s.Proxy, err = secret.Proxy(data); err != nil {
			return secret.Wrap(key.Namespace, key.Name, err)
		}
	} else if address != "" {
		u, err := url.Parse(address)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return errors.New("the proxy is not a URL of the form http://host:port")
		}
		s.Proxy = u
	}
	if s.Proxy != nil && s.Proxy.User != nil {
		password, _ := s.Proxy.User.Password()
		s.hidden = append(s.hidden, secret.Login(s.Proxy.User.Username(), password)...)
	}
	return nil
}
