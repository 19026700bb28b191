// Package sopstest encrypts as the sops command does, and plays the key services, for tests.
package sopstest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	upstream "github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/pgp"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	"github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"
	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc"

	"github.com/seed-79636ae9/flux/toolkit/sops"
)

// encryptor is a key service that needs no server. Key services over the network are played by tests: to them, what is
// encrypted is the text with a word in front.
type encryptor struct {
	keyservice.KeyServiceClient
	pgp  openpgp.EntityList
	seal func([]byte) []byte
}

const sealed = "sealed:"

func (e encryptor) Encrypt(ctx context.Context, r *keyservice.EncryptRequest, opts ...grpc.CallOption) (*keyservice.EncryptResponse, error) {
	seal := append([]byte(sealed), r.Plaintext...)
	var out []byte
	switch r.Key.KeyType.(type) {
	case *keyservice.Key_AgeKey:
		return keyservice.NewLocalClient().Encrypt(ctx, r, opts...)
	case *keyservice.Key_PgpKey:
		if e.seal != nil {
			return &keyservice.EncryptResponse{Ciphertext: e.seal(r.Plaintext)}, nil
		}
		var err error
		if out, err = sealPGP(e.pgp, r.Plaintext); err != nil {
			return nil, err
		}
	case *keyservice.Key_KmsKey, *keyservice.Key_GcpKmsKey:
		out = []byte(base64.StdEncoding.EncodeToString(seal))
	case *keyservice.Key_AzureKeyvaultKey:
		out = []byte(base64.RawURLEncoding.EncodeToString(seal))
	case *keyservice.Key_VaultKey:
		out = []byte("vault:v1:" + base64.StdEncoding.EncodeToString(seal))
	default:
		return nil, errors.New("not a key of these tests")
	}
	return &keyservice.EncryptResponse{Ciphertext: out}, nil
}

func sealPGP(to openpgp.EntityList, plain []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.Encode(&out, "PGP MESSAGE", nil)
	if err != nil {
		return nil, err
	}
	message, err := openpgp.Encrypt(w, to, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	if _, err := message.Write(plain); err != nil {
		return nil, err
	}
	if err := message.Close(); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// File is what the sops command would make of plain text.
type File struct {
	Format sops.Format
	// Groups are the keys.
	Groups []upstream.KeyGroup
	// Regex selects the fields to encrypt; empty: all.
	Regex string
	// PGP are the keys of groups of PGP.
	PGP openpgp.EntityList
	// Seal encrypts data keys for groups of PGP in place of them.
	Seal func(dataKey []byte) []byte
	// Threshold is how many groups open the file; 0: all.
	Threshold int
}

func (f File) store() upstream.Store {
	c := config.NewStoresConfig()
	switch f.Format {
	case sops.YAML:
		return yaml.NewStore(&c.YAML)
	case sops.JSON:
		return json.NewStore(&c.JSON)
	case sops.Dotenv:
		return dotenv.NewStore(&c.Dotenv)
	case sops.INI:
		return ini.NewStore(&c.INI)
	}
	return json.NewBinaryStore(&c.JSONBinary)
}

// Encrypt returns the encrypted file.
func (f File) Encrypt(t testing.TB, plain string) []byte {
	t.Helper()
	branches, err := f.store().LoadPlainFile([]byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	tree := upstream.Tree{Branches: branches, Metadata: upstream.Metadata{
		KeyGroups: f.Groups, Version: "3.13.3", LastModified: time.Now().UTC(), EncryptedRegex: f.Regex, ShamirThreshold: f.Threshold,
	}}
	if f.Regex == "" {
		tree.Metadata.UnencryptedSuffix = upstream.DefaultUnencryptedSuffix
	}
	key, errs := tree.GenerateDataKeyWithKeyServices([]keyservice.KeyServiceClient{encryptor{pgp: f.PGP, seal: f.Seal}})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	cipher := aes.NewCipher()
	mac, err := tree.Encrypt(key, cipher)
	if err != nil {
		t.Fatal(err)
	}
	tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(mac, key, tree.Metadata.LastModified.Format(time.RFC3339))
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.store().EmitEncryptedFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Group is one group of keys.
func Group(members ...keys.MasterKey) []upstream.KeyGroup { return []upstream.KeyGroup{members} }

// Recipient is a key of age or SSH.
func Recipient(t testing.TB, name string) *sopsage.MasterKey {
	t.Helper()
	key, err := sopsage.MasterKeyFromRecipient(name)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Identity is a private key, and the recipient it opens.
type Identity struct{ Private, Public string }

// NewIdentity returns one of age, of the kind X25519.
func NewIdentity(t testing.TB) Identity {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return Identity{i.String(), i.Recipient().String()}
}

func (i Identity) Group(t testing.TB) []upstream.KeyGroup { return Group(Recipient(t, i.Public)) }

// NewHybrid returns a post-quantum one of age.
func NewHybrid(t testing.TB) Identity {
	t.Helper()
	i, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return Identity{i.String(), i.Recipient().String()}
}

// NewSSH returns one of SSH, of the kind ssh.KeyAlgoRSA or another.
func NewSSH(t testing.TB, kind string) Identity {
	t.Helper()
	var private any
	var public any
	if kind == ssh.KeyAlgoRSA {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		private, public = key, key.Public()
	} else {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		private, public = key, pub
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return Identity{string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line)))}
}

// NewPGP returns a key pair, and its private part in ASCII armor.
func NewPGP(t testing.TB) (*openpgp.Entity, string) {
	t.Helper()
	e, err := openpgp.NewEntity("test", "", "test@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	return e, Armored(t, openpgp.PrivateKeyType, func(w *bytes.Buffer) error { return e.SerializePrivate(w, nil) })
}

// Armored writes a key in ASCII armor.
func Armored(t testing.TB, kind string, write func(*bytes.Buffer) error) string {
	t.Helper()
	var raw, out bytes.Buffer
	if err := write(&raw); err != nil {
		t.Fatal(err)
	}
	w, err := armor.Encode(&out, kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(raw.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// PGPKey names a key of PGP.
func PGPKey(fingerprint string) *pgp.MasterKey { return pgp.NewMasterKeyFromFingerprint(fingerprint) }
