// Package secret reads typed credentials from the data of Kubernetes Secrets
// and keeps their values out of messages.
package secret

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
)

// The keys of a Secret (contract: wire 18).
const (
	UsernameKey    = "username"
	PasswordKey    = "password"
	BearerTokenKey = "bearerToken"
	TokenKey       = "token"
	CACertKey      = "ca.crt"
	TLSCertKey     = "tls.crt"
	TLSKeyKey      = "tls.key"
	IdentityKey    = "identity"
	IdentityPubKey = "identity.pub"
	KnownHostsKey  = "known_hosts"
	AddressKey     = "address"

	LegacyCACertKey  = "caFile"
	LegacyTLSCertKey = "certFile"
	LegacyTLSKeyKey  = "keyFile"
)

const maxAddress = 2048

// ErrMissing is the property of an error about a key that has to be there.
var ErrMissing = errors.New("key is required")

// KeyError says which key of a Secret cannot be used and why. It never holds a
// value.
type KeyError struct {
	Key string
	Err error
}

func (e *KeyError) Error() string { return fmt.Sprintf("key '%s': %v", e.Key, e.Err) }

func (e *KeyError) Unwrap() error { return e.Err }

// Wrap names the Secret that err is about; nil stays nil.
func Wrap(namespace, name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("invalid secret '%s/%s': %w", namespace, name, err)
}

// Basic is a user name and a password.
type Basic struct{ Username, Password string }

// BasicAuth returns the credentials of the keys username and password, or nil
// when the Secret has neither. One without the other is a KeyError (contract:
// _common 44).
func BasicAuth(data map[string][]byte) (*Basic, error) {
	username, hasUser := data[UsernameKey]
	password, hasPassword := data[PasswordKey]
	switch {
	case !hasUser && !hasPassword:
		return nil, nil
	case !hasUser:
		return nil, &KeyError{UsernameKey, fmt.Errorf("%w beside '%s'", ErrMissing, PasswordKey)}
	case !hasPassword:
		return nil, &KeyError{PasswordKey, fmt.Errorf("%w beside '%s'", ErrMissing, UsernameKey)}
	}
	return &Basic{Username: string(username), Password: string(password)}, nil
}

// Bearer returns the key bearerToken, or "" when the Secret has none.
func Bearer(data map[string][]byte) string { return string(data[BearerTokenKey]) }

// Token returns the key token. It fails with ErrMissing when the key is absent
// or empty.
func Token(data map[string][]byte) (string, error) {
	if len(data[TokenKey]) == 0 {
		return "", &KeyError{TokenKey, ErrMissing}
	}
	return string(data[TokenKey]), nil
}

// TLSMaterial is what a Secret says about TLS: a client certificate with its
// key, a bundle of authorities, or both, in PEM.
type TLSMaterial struct{ Cert, Key, CA []byte }

// TLS returns the TLS material of a Secret, or nil when it has none. ca.crt,
// tls.crt and tls.key win over their legacy names caFile, certFile and keyFile.
// A certificate without its key, the reverse, and PEM that cannot be read are
// KeyErrors (contract: _common 43, gitrepository 18).
func TLS(data map[string][]byte) (*TLSMaterial, error) {
	ca, caKey := either(data, CACertKey, LegacyCACertKey)
	cert, certKey := either(data, TLSCertKey, LegacyTLSCertKey)
	key, keyKey := either(data, TLSKeyKey, LegacyTLSKeyKey)
	m := &TLSMaterial{Cert: cert, Key: key, CA: ca}
	switch {
	case len(ca) == 0 && len(cert) == 0 && len(key) == 0:
		return nil, nil
	case len(cert) == 0 && len(key) != 0:
		return nil, &KeyError{certKey, fmt.Errorf("%w beside '%s'", ErrMissing, keyKey)}
	case len(key) == 0 && len(cert) != 0:
		return nil, &KeyError{keyKey, fmt.Errorf("%w beside '%s'", ErrMissing, certKey)}
	}
	if len(cert) != 0 {
		if _, err := tls.X509KeyPair(cert, key); err != nil {
			return nil, &KeyError{certKey, fmt.Errorf("no certificate that belongs to '%s': %w", keyKey, err)}
		}
	}
	if len(ca) != 0 && !x509.NewCertPool().AppendCertsFromPEM(ca) {
		return nil, &KeyError{caKey, errors.New("no PEM certificate found")}
	}
	return m, nil
}

func either(data map[string][]byte, key, legacy string) ([]byte, string) {
	if v := data[key]; len(v) != 0 {
		return v, key
	}
	if v := data[legacy]; len(v) != 0 {
		return v, legacy
	}
	return nil, key
}

// Config returns a client configuration that trusts the authorities of the
// material alone, or those of the system when it names none.
func (m *TLSMaterial) Config() (*tls.Config, error) {
	return m.config(x509.NewCertPool())
}

// ConfigWithSystemRoots is Config, but the authorities of the material are
// trusted in addition to those of the system.
func (m *TLSMaterial) ConfigWithSystemRoots() (*tls.Config, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read the system's certificate authorities: %w", err)
	}
	return m.config(roots)
}

func (m *TLSMaterial) config(roots *x509.CertPool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(m.CA) != 0 {
		if !roots.AppendCertsFromPEM(m.CA) {
			return nil, &KeyError{CACertKey, errors.New("no PEM certificate found")}
		}
		c.RootCAs = roots
	}
	if len(m.Cert) != 0 {
		pair, err := tls.X509KeyPair(m.Cert, m.Key)
		if err != nil {
			return nil, &KeyError{TLSCertKey, err}
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// SSHKey is what an SSH client needs: its private key in PEM, the password
// that protects the key if any, and the host keys it trusts.
type SSHKey struct {
	Identity   []byte
	Password   []byte
	KnownHosts []byte
}

// SSH returns the SSH credentials of a Secret. It fails with ErrMissing when
// identity or known_hosts is absent (contract: gitrepository 14, _common 44).
func SSH(data map[string][]byte) (*SSHKey, error) {
	for _, key := range []string{IdentityKey, KnownHostsKey} {
		if len(data[key]) == 0 {
			return nil, &KeyError{key, ErrMissing}
		}
	}
	return &SSHKey{Identity: data[IdentityKey], Password: data[PasswordKey], KnownHosts: data[KnownHostsKey]}, nil
}

// Proxy returns the URL of the proxy a Secret describes, user and password
// included. The address is required, an absolute http, https or socks5 URL of
// at most 2048 characters; a password without a user name is ignored (contract:
// _common 45).
func Proxy(data map[string][]byte) (*url.URL, error) {
	address := string(data[AddressKey])
	if address == "" {
		return nil, &KeyError{AddressKey, ErrMissing}
	}
	if len(address) > maxAddress {
		return nil, &KeyError{AddressKey, fmt.Errorf("longer than %d characters", maxAddress)}
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		// The cause is left out: it would quote the address, which may hold a password.
		return nil, &KeyError{AddressKey, errors.New("not a URL of the form scheme://host:port")}
	}
	if !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme) {
		return nil, &KeyError{AddressKey, fmt.Errorf("scheme '%s' is not one of http, https and socks5", u.Scheme)}
	}
	if user := string(data[UsernameKey]); user != "" {
		u.User = url.User(user)
		if password, ok := data[PasswordKey]; ok {
			u.User = url.UserPassword(user, string(password))
		}
	}
	return u, nil
}
