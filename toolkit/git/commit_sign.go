package git

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgp "github.com/ProtonMail/go-crypto/openpgp/packet"
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
		if err := checkCost(armored); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSigningKey, err)
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

// maxArgonExponent bounds the memory that a key may ask for to be decrypted: 2^18 KiB. The key says how much, up to 2^31 KiB, and the
// library does what it says (RFC 9580, 3.7.1.4).
const (
	maxArgonExponent = 18
	argonMode        = 4
	argonSalt        = 16
)

// checkCost refuses keys whose decryption would cost more than a process has.
func checkCost(armored []byte) error {
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil {
		return err
	}
	for packets := pgp.NewOpaqueReader(block.Body); ; {
		p, err := packets.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		const secretKey, secretSubkey = 5, 7
		if p.Tag != secretKey && p.Tag != secretSubkey {
			continue
		}
		if exponent, ok := argonExponent(p.Contents); ok && exponent > maxArgonExponent {
			return fmt.Errorf("decrypting the PGP key would take 2^%d KiB of memory, more than 2^%d", exponent, maxArgonExponent)
		}
	}
}

// argonExponent reads how much memory the decryption of a secret key takes, if it takes any to speak of. The public key comes before
// what says so (RFC 9580, 5.5.3).
func argonExponent(secretKey []byte) (byte, bool) {
	const publicKey = 6
	parsed, err := (&pgp.OpaquePacket{Tag: publicKey, Contents: secretKey}).Parse()
	public, ok := parsed.(*pgp.PublicKey)
	if err != nil || !ok {
		return 0, false
	}
	var whole bytes.Buffer
	if err := public.Serialize(&whole); err != nil {
		return 0, false
	}
	body, err := pgp.NewOpaqueReader(&whole).Next()
	if err != nil || len(secretKey) <= len(body.Contents) {
		return 0, false
	}
	protection := secretKey[len(body.Contents):]
	at := 2 // behind the usage and the cipher
	if protection[0] == 253 {
		at++ // the mode of the cipher
	}
	if public.Version == 6 {
		at += 2 // the lengths of all this, and of what follows
	}
	last := at + 1 + argonSalt + 2
	if protection[0] < 253 || len(protection) <= last || protection[at] != argonMode {
		return 0, false
	}
	return protection[last], true
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
