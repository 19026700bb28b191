package ops

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// KeyPair is an SSH key pair as a Git Secret holds it.
type KeyPair struct {
	// Private is PEM, in OpenSSH's format when generated here.
	Private []byte
	// Public is one line of authorized_keys.
	Public []byte
}

// KeyOptions say which key to generate: Algorithm is "rsa" with Bits, "ecdsa" with Curve "p256", "p384" or "p521",
// or "ed25519".
type KeyOptions struct {
	Algorithm, Curve string
	Bits             int
}

// GenerateKey makes an SSH key pair without a passphrase.
func GenerateKey(o KeyOptions) (*KeyPair, error) {
	var (
		key crypto.Signer
		err error
	)
	switch o.Algorithm {
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, o.Bits)
	case "ecdsa":
		var curve elliptic.Curve
		switch o.Curve {
		case "p256":
			curve = elliptic.P256()
		case "p384":
			curve = elliptic.P384()
		case "p521":
			curve = elliptic.P521()
		default:
			return nil, fmt.Errorf("generate SSH key: unknown curve '%s'", o.Curve)
		}
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, fmt.Errorf("generate SSH key: unknown algorithm '%s'", o.Algorithm)
	}
	if err != nil {
		return nil, fmt.Errorf("generate SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, fmt.Errorf("encode SSH key: %w", err)
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode SSH public key: %w", err)
	}
	return &KeyPair{Private: pem.EncodeToMemory(block), Public: ssh.MarshalAuthorizedKey(public)}, nil
}

// ParseKey completes the pair of a private key, which a passphrase may protect.
func ParseKey(private []byte, passphrase string) (*KeyPair, error) {
	var (
		signer ssh.Signer
		err    error
	)
	if passphrase != "" {
		signer, err = ssh.ParsePrivateKeyWithPassphrase(private, []byte(passphrase))
	} else {
		signer, err = ssh.ParsePrivateKey(private)
	}
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, errors.New("the private key is protected by a passphrase: give it with --password")
	}
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	return &KeyPair{Private: private, Public: ssh.MarshalAuthorizedKey(signer.PublicKey())}, nil
}

// scanTimeout bounds the collection of a host key (cli 31).
const scanTimeout = 30 * time.Second

// errScanned ends a handshake once the host key is known.
var errScanned = errors.New("host key collected")

// ScanHostKey asks an SSH server, "host" or "host:port", for its preferred host key and returns it as a line of
// known_hosts.
func ScanHostKey(ctx context.Context, address string) ([]byte, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(address, "22")
	}
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("collect the host key of %s: %w", address, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	var line string
	_, _, _, err = ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: "git",
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			line = knownhosts.Line([]string{knownhosts.Normalize(address)}, key)
			return errScanned
		},
	})
	if line == "" {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("collect the host key of %s: %w", address, err)
	}
	return []byte(line + "\n"), nil
}
