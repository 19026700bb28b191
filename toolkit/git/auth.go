package git

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"

	"golang.org/x/crypto/ssh"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Auth holds credentials; at most one of Basic, Bearer and SSH is set.
type Auth struct {
	Basic  *secret.Basic
	Bearer string
	SSH    *secret.SSHKey
	// TLS adds authorities to those of the system and a client certificate.
	TLS *secret.TLSMaterial
}

// AuthFromSecret picks from the data of a Secret what the scheme of the URL
// can use: identity and known_hosts for ssh; bearerToken, or else username and
// password, and TLS material for http and https (contract: gitrepository 14,
// 15, 18). The errors have the property ErrInvalidAuth or ErrInvalidURL.
func AuthFromSecret(rawURL string, data map[string][]byte) (Auth, error) {
	u, err := parseURL(rawURL)
	if err != nil {
		return Auth{}, err
	}
	var a Auth
	if u.Scheme == "ssh" {
		a.SSH, err = secret.SSH(data)
	} else {
		a.TLS, err = secret.TLS(data)
		if a.Bearer = secret.Bearer(data); a.Bearer == "" && err == nil {
			a.Basic, err = secret.BasicAuth(data)
		}
	}
	if err != nil {
		return Auth{}, authError(u, err)
	}
	return a, a.validate(u)
}

func authError(u *url.URL, err error) error {
	var key *secret.KeyError
	if errors.As(err, &key) && key.Err == secret.ErrMissing {
		err = fmt.Errorf("'%s' is required", key.Key)
	}
	return &propertyError{ErrInvalidAuth, fmt.Errorf("invalid '%s' auth option: %w", u.Scheme, err)}
}

func (a Auth) validate(u *url.URL) error {
	if u.Scheme == "ssh" {
		if a.SSH == nil {
			return authError(u, fmt.Errorf("'%s' is required", secret.IdentityKey))
		}
		_, err := parseIdentity(u, a.SSH)
		return err
	}
	if a.Bearer != "" && (a.Basic != nil || u.User != nil) {
		return authError(u, errors.New("a bearer token cannot be combined with a user name and password"))
	}
	return nil
}

// basic returns the user and password for HTTP: those given, or else those of
// the URL.
func (a Auth) basic(u *url.URL) *secret.Basic {
	if a.Basic != nil || u.User == nil {
		return a.Basic
	}
	password, _ := u.User.Password()
	return &secret.Basic{Username: u.User.Username(), Password: password}
}

func parseIdentity(u *url.URL, key *secret.SSHKey) (ssh.Signer, error) {
	signer, err := parseKey(key)
	if err != nil {
		return nil, authError(u, err)
	}
	return signer, nil
}

func parseKey(key *secret.SSHKey) (ssh.Signer, error) {
	if len(key.Password) != 0 {
		if rounds := bcryptRounds(key.Identity); rounds > maxRounds {
			return nil, fmt.Errorf("'%s' takes %d rounds to decrypt, more than %d: make it anew with ssh-keygen -p -a 16", secret.IdentityKey, rounds, maxRounds)
		}
		signer, err := ssh.ParsePrivateKeyWithPassphrase(key.Identity, key.Password)
		if err == nil {
			return signer, nil
		}
		// A password for a key that has none does no harm.
		if signer, plain := ssh.ParsePrivateKey(key.Identity); plain == nil {
			return signer, nil
		}
		return nil, fmt.Errorf("'%s' cannot be decrypted with '%s': %w", secret.IdentityKey, secret.PasswordKey, err)
	}
	signer, err := ssh.ParsePrivateKey(key.Identity)
	var encrypted *ssh.PassphraseMissingError
	if errors.As(err, &encrypted) {
		return nil, fmt.Errorf("'%s' is encrypted, its passphrase is required as '%s'", secret.IdentityKey, secret.PasswordKey)
	}
	if err != nil {
		return nil, fmt.Errorf("'%s' is not a private key: %w", secret.IdentityKey, err)
	}
	return signer, nil
}

// maxRounds bounds the work of decrypting a key. The key says how much it takes, up to years, and nothing ends it: ssh-keygen asks for 16
// or 24 rounds, and a round takes milliseconds.
const maxRounds = 1000

// bcryptRounds reads how much work the decryption of a key in OpenSSH's own format takes, 0 for any other key (PROTOCOL.key).
func bcryptRounds(identity []byte) uint32 {
	block, _ := pem.Decode(identity)
	if block == nil {
		return 0
	}
	content, ok := bytes.CutPrefix(block.Bytes, []byte("openssh-key-v1\x00"))
	if !ok {
		return 0
	}
	var key struct {
		Cipher, KDF, Options string
		Rest                 []byte `ssh:"rest"`
	}
	var options struct {
		Salt   string
		Rounds uint32
	}
	if ssh.Unmarshal(content, &key) != nil || ssh.Unmarshal([]byte(key.Options), &options) != nil {
		return 0
	}
	return options.Rounds
}
