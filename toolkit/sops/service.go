package sops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	agearmor "filippo.io/age/armor"
	"github.com/ProtonMail/go-crypto/openpgp"
	pgparmor "github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/getsops/sops/v3/keyservice"
	"google.golang.org/grpc"
)

// maxDataKey bounds a data key, in bytes. It has 32, and a share of one has 33.
const maxDataKey = 1024

// service is the key service of one file. The library asks it with a context of its own, which says nothing.
type service struct {
	*Decrypter
	ctx   context.Context
	tries int // left, of keys at key services
}

// Encrypt implements keyservice.KeyServiceClient.
func (s *service) Encrypt(context.Context, *keyservice.EncryptRequest, ...grpc.CallOption) (*keyservice.EncryptResponse, error) {
	return nil, errors.New("nothing is encrypted here")
}

// Decrypt implements keyservice.KeyServiceClient.
func (s *service) Decrypt(_ context.Context, r *keyservice.DecryptRequest, _ ...grpc.CallOption) (*keyservice.DecryptResponse, error) {
	if err := context.Cause(s.ctx); err != nil {
		return nil, err
	}
	plain, err := s.decrypt(r)
	if err != nil {
		return nil, err
	}
	return &keyservice.DecryptResponse{Plaintext: plain}, nil
}

func (s *service) decrypt(r *keyservice.DecryptRequest) ([]byte, error) {
	switch key := r.Key.KeyType.(type) {
	case *keyservice.Key_AgeKey:
		return s.age(r.Ciphertext)
	case *keyservice.Key_PgpKey:
		return s.pgp(r.Ciphertext)
	case *keyservice.Key_HckmsKey:
		return nil, errors.New("HuaweiCloud KMS is not supported: encrypt the file for another key, too")
	default:
		if s.tries--; s.tries < 0 {
			return nil, fmt.Errorf("not tried: the file names more than %d keys of key services", s.limits.RemoteKeys)
		}
		s.Decrypter.remote = true
		return s.remotely(key, r.Ciphertext)
	}
}

func (s *service) remotely(key any, ciphertext []byte) ([]byte, error) {
	switch key := key.(type) {
	case *keyservice.Key_KmsKey:
		return s.awsKMS(s.ctx, key.KmsKey, ciphertext)
	case *keyservice.Key_GcpKmsKey:
		return s.gcpKMS(s.ctx, key.GcpKmsKey.ResourceId, ciphertext)
	case *keyservice.Key_AzureKeyvaultKey:
		return s.keyVault(s.ctx, key.AzureKeyvaultKey, ciphertext)
	case *keyservice.Key_VaultKey:
		return s.vault(s.ctx, key.VaultKey, ciphertext)
	}
	return nil, errors.New("the type of the key is not supported")
}

func (s *service) age(ciphertext []byte) ([]byte, error) {
	if len(s.keys.age) == 0 {
		return nil, fmt.Errorf("no age identity: add a key that ends in '%s' to the Secret", AgeExtension)
	}
	plain, err := age.Decrypt(agearmor.NewReader(bytes.NewReader(ciphertext)), s.keys.age...)
	if err != nil {
		return nil, fmt.Errorf("failed to create reader for decrypting sops data key with age: %w", err)
	}
	return dataKey(plain)
}

// pgp opens the message with the keys in memory: there is no agent and no keyring.
func (s *service) pgp(ciphertext []byte) ([]byte, error) {
	if len(s.keys.pgp) == 0 {
		return nil, fmt.Errorf("no PGP key: add a key that ends in '%s' to the Secret", PGPExtension)
	}
	block, err := pgparmor.Decode(bytes.NewReader(ciphertext))
	if err != nil {
		return nil, fmt.Errorf("the data key is not in ASCII armor: %w", err)
	}
	message, err := openpgp.ReadMessage(block.Body, s.keys.pgp, nil, &packet.Config{})
	if err != nil {
		return nil, fmt.Errorf("could not decrypt data key with PGP key: %w", err)
	}
	return dataKey(message.UnverifiedBody)
}

func dataKey(r io.Reader) ([]byte, error) {
	key, err := io.ReadAll(io.LimitReader(r, maxDataKey+1))
	if err != nil {
		return nil, fmt.Errorf("read the data key: %w", err)
	}
	return checkDataKey(key)
}

func checkDataKey(key []byte) ([]byte, error) {
	if len(key) == 0 || len(key) > maxDataKey {
		return nil, fmt.Errorf("the data key has %d bytes or more: it should have 32", len(key))
	}
	return key, nil
}
