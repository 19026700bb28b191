package kustomize

import (
	"context"
	"errors"
	"fmt"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/sops"
)

const (
	// vaultConfigKey is the key of the ConfigMap with the Vaults.
	vaultConfigKey = "config.yaml"
	// maxVaultConfig and maxVaults bound that ConfigMap, in bytes and instances.
	maxVaultConfig = 256 << 10
	maxVaults      = 1000
	// vaultTokenSeconds is how long a token for a login lives, the least that the API server allows.
	vaultTokenSeconds = 600
)

// Accounts has the API server issue tokens.
type Accounts interface {
	// Self returns the ServiceAccount of the process.
	Self(ctx context.Context) (client.ObjectKey, error)
	// Token issues a short-lived token of an account for an audience.
	Token(ctx context.Context, account client.ObjectKey, audience string) (string, error)
}

// accounts asks the API server.
type accounts struct{ set kubernetes.Interface }

func newAccounts(config *rest.Config) (accounts, error) {
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return accounts{}, fmt.Errorf("making the client for tokens of service accounts: %w", err)
	}
	return accounts{set}, nil
}

// Self implements Accounts.
func (a accounts) Self(ctx context.Context) (client.ObjectKey, error) {
	review, err := a.set.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return client.ObjectKey{}, fmt.Errorf("ask the API server who the controller is: %w", err)
	}
	rest, ok := strings.CutPrefix(review.Status.UserInfo.Username, "system:serviceaccount:")
	namespace, name, both := strings.Cut(rest, ":")
	if !ok || !both {
		return client.ObjectKey{}, errors.New("the controller does not run as a service account: name one in spec.decryption.serviceAccountName")
	}
	return client.ObjectKey{Namespace: namespace, Name: name}, nil
}

// Token implements Accounts.
func (a accounts) Token(ctx context.Context, account client.ObjectKey, audience string) (string, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences: []string{audience}, ExpirationSeconds: ptr.To[int64](vaultTokenSeconds),
	}}
	issued, err := a.set.CoreV1().ServiceAccounts(account.Namespace).CreateToken(ctx, account.Name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("create a token of the service account '%s' for the audience '%s': %w", account, audience, err)
	}
	return issued.Status.Token, nil
}

// account is the ServiceAccount that the decryption acts as, empty for the controller itself (kustomization 42).
func (d *decryption) account() string {
	if name := d.obj.Spec.Decryption.ServiceAccountName; name != "" {
		return name
	}
	if d.k.Decryption.ObjectLevel {
		return d.k.Decryption.DefaultServiceAccount
	}
	return ""
}

// identity is whose credentials key services get where the Secret has none (kustomization 42, 43).
func (d *decryption) identity() sops.Identity {
	request := auth.Request{
		Kind: kustomizev1.KustomizationKind, Namespace: d.obj.Namespace, Name: d.obj.Name, Operation: "decrypt",
		ServiceAccountName: d.account(), NoDefault: true,
	}
	return sops.Identity{
		AWS: func(ctx context.Context, region string) (*auth.Keys, error) {
			r := request
			r.Region = region
			return d.k.Auth.Keys(ctx, r)
		},
		Token: func(ctx context.Context, provider, scope string) (*auth.Token, error) {
			return d.k.Auth.Token(ctx, provider, request, scope)
		},
		Vault: d.vaultLogin,
	}
}

// vaultConfig is the content of the ConfigMap of --sops-vault-configmap.
type vaultConfig struct {
	Instances []vaultInstance `json:"instances"`
}

type vaultInstance struct {
	Address   string `json:"address"`
	LoginPath string `json:"loginPath"`
}

// vaultLogin lets the ServiceAccount log in to the Vaults that the operator lists, and to no other (kustomization 43,
// reliability 058).
func (d *decryption) vaultLogin(ctx context.Context, address string) (*sops.VaultLogin, error) {
	instance, err := d.vaultInstance(ctx, address)
	if err != nil || instance == nil {
		return nil, err
	}
	account := client.ObjectKey{Namespace: d.obj.Namespace, Name: d.account()}
	if account.Name == "" {
		if account, err = d.k.Accounts.Self(ctx); err != nil {
			return nil, err
		}
	}
	token, err := d.k.Accounts.Token(ctx, account, instance.Address)
	if err != nil {
		return nil, err
	}
	return &sops.VaultLogin{Path: instance.LoginPath, Role: account.Namespace + "_" + account.Name, JWT: token}, nil
}

func (d *decryption) vaultInstance(ctx context.Context, address string) (*vaultInstance, error) {
	key := client.ObjectKey{Namespace: d.k.Namespace, Name: d.k.Decryption.VaultConfigMap}
	if key.Name == "" {
		return nil, nil
	}
	var found corev1.ConfigMap
	if err := d.k.Reader.Get(ctx, key, &found); err != nil {
		return nil, fmt.Errorf("read the ConfigMap of --sops-vault-configmap: %w", err)
	}
	config, err := parseVaultConfig(found.Data[vaultConfigKey])
	if err != nil {
		return nil, fmt.Errorf("the ConfigMap '%s' of --sops-vault-configmap: key '%s': %w", key, vaultConfigKey, err)
	}
	for _, i := range config.Instances {
		if known, err := sops.VaultAddress(i.Address); err == nil && known == address {
			return &i, nil
		}
	}
	return nil, nil
}

func parseVaultConfig(text string) (*vaultConfig, error) {
	if len(text) > maxVaultConfig {
		return nil, fmt.Errorf("more than %d bytes", maxVaultConfig)
	}
	var config vaultConfig
	if err := yaml.UnmarshalStrict([]byte(text), &config); err != nil {
		return nil, fmt.Errorf("not YAML of the form instances: [{address, loginPath}]: %w", err)
	}
	if len(config.Instances) > maxVaults {
		return nil, fmt.Errorf("more than %d instances", maxVaults)
	}
	for n, i := range config.Instances {
		if _, err := sops.VaultAddress(i.Address); err != nil {
			return nil, fmt.Errorf("instances[%d].address: %w", n, err)
		}
		if i.LoginPath == "" {
			return nil, fmt.Errorf("instances[%d].loginPath is missing: auth/kubernetes/login for example", n)
		}
	}
	return &config, nil
}
