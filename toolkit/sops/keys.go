package sops

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"github.com/ProtonMail/go-crypto/openpgp"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// The keys of a Secret with key material (kustomization 40).
const (
	PGPExtension    = ".asc"
	AgeExtension    = ".agekey"
	VaultTokenKey   = "sops.vault-token"
	VaultAddressKey = "sops.vault-address"
	AWSKey          = "sops.aws-kms"
	AzureKey        = "sops.azure-kv"
	GCPKey          = "sops.gcp-kms"
)

// maxIdentities bounds the age identities and PGP keys of one Secret: each is tried on each recipient.
const maxIdentities = 100

// Keys is key material. The zero value has none.
type Keys struct {
	age        []age.Identity
	pgp        openpgp.EntityList
	vaultToken string
	vaultHosts []string
	aws        *auth.Keys
	azure      *azureConfig
	gcp        []byte
	secrets    []string // what must not be shown
	sum        string
}

// Fingerprint identifies the key material: it changes when any of it does. It is derived from the keys, so keep it in
// memory and out of logs.
func (k *Keys) Fingerprint() string {
	if k == nil {
		return "none"
	}
	return k.sum
}

// ParseKeys reads key material from the data of a Secret (kustomization 40); other keys are ignored. Errors are of the
// type *secret.KeyError.
func ParseKeys(data map[string][]byte) (*Keys, error) {
	k := &Keys{}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(data)) {
		if err := k.add(name, data[name]); err != nil {
			return nil, &secret.KeyError{Key: name, Err: err}
		}
		_, _ = fmt.Fprintf(sum, "%q %q\n", name, data[name])
		if len(k.age)+len(k.pgp) > maxIdentities {
			return nil, &secret.KeyError{Key: name, Err: fmt.Errorf("more than %d age and PGP keys in one Secret", maxIdentities)}
		}
	}
	k.sum = hex.EncodeToString(sum.Sum(nil))
	return k, nil
}

// ParseAgeKeys reads the age identities only (kustomization 41).
func ParseAgeKeys(data map[string][]byte) (*Keys, error) {
	own := maps.Clone(data)
	maps.DeleteFunc(own, func(name string, _ []byte) bool { return !strings.HasSuffix(name, AgeExtension) })
	return ParseKeys(own)
}

func (k *Keys) add(name string, value []byte) (err error) {
	switch {
	case strings.HasSuffix(name, PGPExtension):
		err = k.addPGP(value)
	case strings.HasSuffix(name, AgeExtension):
		err = k.addAge(value)
	case name == VaultTokenKey:
		k.vaultToken = strings.TrimSpace(string(value))
		k.secrets = append(k.secrets, k.vaultToken)
	case name == VaultAddressKey:
		err = k.addVaultHosts(string(value))
	case name == AWSKey:
		err = k.addAWS(value)
	case name == AzureKey:
		err = k.addAzure(value)
	case name == GCPKey:
		k.gcp, err = checkGCP(value)
	}
	return err
}

// addAge reads identities, one a line, or one SSH private key. The causes of the libraries are left out where they could
// quote a line.
func (k *Keys) addAge(value []byte) error {
	if bytes.HasPrefix(bytes.TrimSpace(value), []byte("-----BEGIN ")) {
		identity, err := agessh.ParseIdentity(value)
		if err != nil {
			return errors.New("not an SSH private key of the type ed25519 or rsa without a passphrase")
		}
		k.age = append(k.age, identity)
		return nil
	}
	for i, line := range strings.Split(string(value), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "AGE-PLUGIN-") {
			return fmt.Errorf("line %d names a plugin of age, and no programs are started: use an identity that begins with AGE-SECRET-KEY-", i+1)
		}
		parsed, err := age.ParseIdentities(strings.NewReader(line))
		if err != nil {
			return fmt.Errorf("line %d is not an age identity, which begins with AGE-SECRET-KEY-", i+1)
		}
		k.age = append(k.age, parsed...)
		k.secrets = append(k.secrets, line)
	}
	return nil
}

func (k *Keys) addPGP(value []byte) error {
	ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(value))
	if err != nil {
		return errors.New("not a PGP key in ASCII armor, as gpg --export-secret-keys --armor writes it")
	}
	for _, e := range ring {
		if e.PrivateKey == nil {
			return fmt.Errorf("the PGP key %X is public: export the private one", e.PrimaryKey.Fingerprint)
		}
		if e.PrivateKey.Encrypted && !e.PrivateKey.Dummy() {
			return fmt.Errorf("the PGP key %X has a passphrase: export it without", e.PrimaryKey.Fingerprint)
		}
	}
	k.pgp = append(k.pgp, ring...)
	return nil
}

func (k *Keys) addVaultHosts(value string) error {
	for _, field := range strings.Fields(value) {
		address, err := vaultAddress(field)
		if err != nil {
			return err
		}
		k.vaultHosts = append(k.vaultHosts, address.String())
	}
	return nil
}

func (k *Keys) addAWS(value []byte) error {
	var c struct {
		AccessKey    string `json:"aws_access_key_id"`
		SecretKey    string `json:"aws_secret_access_key"`
		SessionToken string `json:"aws_session_token"`
	}
	if yaml.Unmarshal(value, &c) != nil || c.AccessKey == "" || c.SecretKey == "" {
		return errors.New("not YAML with aws_access_key_id and aws_secret_access_key")
	}
	k.aws = &auth.Keys{AccessKey: c.AccessKey, SecretKey: c.SecretKey, SessionToken: c.SessionToken}
	k.secrets = append(k.secrets, c.SecretKey, c.SessionToken)
	return nil
}

// azureConfig is an application of Entra ID, in the words of Flux or in those of `az ad sp create-for-rbac`.
type azureConfig struct {
	Tenant              string `json:"tenantId"`
	Client              string `json:"clientId"`
	Secret              string `json:"clientSecret"`
	Certificate         string `json:"clientCertificate"`
	CertificatePassword string `json:"clientCertificatePassword"`
	SendChain           bool   `json:"clientCertificateSendChain"`
	Authority           string `json:"authorityHost"`

	AzTenant   string `json:"tenant"`
	AzClient   string `json:"appId"`
	AzPassword string `json:"password"`
}

func (k *Keys) addAzure(value []byte) error {
	var c azureConfig
	if yaml.Unmarshal(value, &c) != nil {
		return errors.New("not YAML or JSON with tenantId, clientId and clientSecret")
	}
	c.Tenant, c.Client, c.Secret = first(c.Tenant, c.AzTenant), first(c.Client, c.AzClient), first(c.Secret, c.AzPassword)
	switch {
	case c.Secret == "" && c.Certificate == "":
		return errors.New("clientSecret or clientCertificate is missing; for a managed identity leave the key out, and the controller's is used")
	case c.Tenant == "" || c.Client == "":
		return errors.New("tenantId or clientId is missing")
	}
	k.azure = &c
	k.secrets = append(k.secrets, c.Secret, c.Certificate, c.CertificatePassword)
	return nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// checkGCP takes keys of service accounts only: other types of credentials name files and programs.
func checkGCP(value []byte) ([]byte, error) {
	var c struct{ Type string }
	if json.Unmarshal(value, &c) != nil {
		return nil, errors.New("not JSON")
	}
	if c.Type != "service_account" {
		return nil, errors.New("not the key of a service account: its type is not 'service_account'")
	}
	return value, nil
}
