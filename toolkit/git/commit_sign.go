package git

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// ErrSigningKey: a key cannot be used to sign.
var ErrSigningKey = errors.New("invalid signing key")

// Signer signs commits.
type Signer interface {
	// Sign returns the armored signature of the object without one.
	Sign(payload []byte) ([]byte, error)
}

type pgpSigner struct{ entity *openpgp.Entity }

// NewPGPSigner returns a signer with the one key of an armored ring. The passphrase counts only if the key is encrypted. The error
// has the property ErrSigningKey.
func NewPGPSigner(armored, passphrase []byte) (Signer, error) {
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(armored))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: it is no armored PGP key ring: %w", ErrSigningKey, err)
	case len(ring) != 1:
		return nil, fmt.Errorf("%w: the key ring holds %d keys, and must hold one", ErrSigningKey, len(ring))
	case ring[0].PrivateKey == nil:
		return nil, fmt.Errorf("%w: the key ring holds a public key alone", ErrSigningKey)
	}
	entity := ring[0]
	if encrypted(entity) {
		if len(passphrase) == 0 {
			return nil, fmt.Errorf("%w: the PGP key is encrypted, and there is no passphrase", ErrSigningKey)
		}
		if err := entity.DecryptPrivateKeys(passphrase); err != nil {
			return nil, fmt.Errorf("%w: the PGP key cannot be decrypted with the passphrase: %w", ErrSigningKey, err)
		}
	}
	return &pgpSigner{entity}, nil
}

// encrypted reports whether a key, or one of its subkeys, has to be decrypted.
func encrypted(e *openpgp.Entity) bool {
	if e.PrivateKey.Encrypted {
		return true
	}
	for _, sub := range e.Subkeys {
		if sub.PrivateKey != nil && sub.PrivateKey.Encrypted {
			return true
		}
	}
	return false
}

func (s *pgpSigner) Sign(payload []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := openpgp.ArmoredDetachSign(&out, s.entity, bytes.NewReader(payload), nil); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

type sshSigner struct{ key ssh.Signer }

// NewSSHSigner returns a signer with the private key of an SSH identity. The password counts only if the key is encrypted. The
// error has the property ErrSigningKey.
func NewSSHSigner(identity, password []byte) (Signer, error) {
	key, err := parseKey(&secret.SSHKey{Identity: identity, Password: password})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSigningKey, err)
	}
	return &sshSigner{key}, nil
}

func (s *sshSigner) Sign(payload []byte) ([]byte, error) {
	signature, err := sshsig.Sign(bytes.NewReader(payload), s.key, sshsig.HashSHA512, sshNamespace)
	if err != nil {
		return nil, err
	}
	return sshsig.Armor(signature), nil
}
