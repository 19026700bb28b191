package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/toolkit/auth"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// Keys of the ConfigMap of spec.kubeConfig.configMapRef (contract: wire 18).
const (
	providerKey  = "provider"
	clusterKey   = "cluster"
	addressKey   = "address"
	caKey        = "ca.crt"
	accountKey   = "serviceAccountName"
	audiencesKey = "audiences"
)

const (
	// fetchKubeconfig labels the metrics of these credentials (wire.md 10).
	fetchKubeconfig = "fetch_kubeconfig"
	// maxAudiences bounds what a token is asked for.
	maxAudiences = 10
)

// Properties of the errors of Reach by which credentials were taken away.
var (
	// ErrNotFound: the Secret or ConfigMap of spec.kubeConfig does not exist.
	ErrNotFound = errors.New("it does not exist")
	// ErrUnusable: the Secret holds no kubeconfig that can be used.
	ErrUnusable = errors.New("it cannot be used")
)

// target is how to reach another cluster.
type target struct {
	// key is equal for equal clusters and credentials. It holds nothing of them.
	key    string
	config *rest.Config
	// token is nil where the configuration has the credentials.
	token *tokenSource
}

// target reads spec.kubeConfig (kustomization 97). It is read live in each run, so that what was taken away is used no longer.
func (s *Set[W]) target(ctx context.Context, r Request) (*target, error) {
	var kind, name string
	var err error
	var t *target
	switch ref := r.KubeConfig; {
	case ref.SecretRef != nil:
		kind, name = "Secret", ref.SecretRef.Name
		var found corev1.Secret
		if err = s.read(ctx, r.Owner.Namespace, name, &found); err == nil {
			t, err = s.fromSecret(found.Data, ref.SecretRef.Key)
		}
	case ref.ConfigMapRef != nil:
		kind, name = "ConfigMap", ref.ConfigMapRef.Name
		var found corev1.ConfigMap
		if err = s.read(ctx, r.Owner.Namespace, name, &found); err == nil {
			t, err = s.fromConfigMap(ctx, r.Owner, found.Data)
		}
	default:
		return nil, errors.New("spec.kubeConfig names neither a secretRef nor a configMapRef: set one of them")
	}
	if err != nil {
		return nil, fmt.Errorf("the %s '%s/%s' of spec.kubeConfig: %w", kind, r.Owner.Namespace, name, err)
	}
	return t, nil
}

func (s *Set[W]) read(ctx context.Context, namespace, name string, into client.Object) error {
	err := s.o.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, into)
	if apierrors.IsNotFound(err) {
		return ErrNotFound
	}
	return err
}

// fromSecret reads a kubeconfig (kustomization 97, 98).
func (s *Set[W]) fromSecret(data map[string][]byte, key string) (*target, error) {
	keys := []string{key}
	if key == "" {
		keys = []string{"value", "value.yaml"}
	}
	for _, name := range keys {
		content, ok := data[name]
		if !ok {
			continue
		}
		config, err := kube.ParseKubeconfig(content, s.o.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("%w: key '%s': %w", ErrUnusable, name, err)
		}
		return &target{key: digest("kubeconfig", string(content)), config: config}, nil
	}
	return nil, fmt.Errorf("%w: it has no key '%s'", ErrUnusable, strings.Join(keys, "' or '"))
}

// fromConfigMap signs in by workload identity (kustomization 97).
func (s *Set[W]) fromConfigMap(ctx context.Context, owner kube.Owner, data map[string]string) (*target, error) {
	provider := data[providerKey]
	if provider == "" {
		return nil, fmt.Errorf("it has no key '%s': set aws, azure, gcp or generic", providerKey)
	}
	account := data[accountKey]
	if account == "" {
		account = s.o.KubeConfigServiceAccount
	}
	want := auth.ClusterTarget{Name: data[clusterKey], CA: data[caKey], Audiences: strings.Fields(data[audiencesKey])}
	if len(want.Audiences) > maxAudiences {
		return nil, fmt.Errorf("key '%s': it has %d audiences, the limit is %d", audiencesKey, len(want.Audiences), maxAudiences)
	}
	if address := data[addressKey]; address != "" {
		var err error
		if want.Address, err = kube.ServerAddress(address); err != nil {
			return nil, fmt.Errorf("key '%s': %w", addressKey, err)
		}
	}
	request := auth.Request{
		Kind: s.o.Kind, Namespace: owner.Namespace, Name: owner.Name, Operation: fetchKubeconfig, ServiceAccountName: account,
	}
	source := &tokenSource{clock: s.o.Clock, renew: func(ctx context.Context) (*auth.ClusterAccess, error) {
		return s.o.Auth.Cluster(ctx, provider, request, want)
	}}
	access, err := source.renew(ctx)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(access.Address, "https:") && !s.o.Kubeconfig.InsecureTLS {
		return nil, fmt.Errorf("key '%s': it has no TLS: use https, or start the controller with --insecure-kubeconfig-tls", addressKey)
	}
	source.access = access
	config := &rest.Config{Host: access.Address}
	config.CAData = access.CA
	parts := append([]string{"identity", provider, owner.Namespace, account, want.Name, access.Address, string(access.CA)}, want.Audiences...)
	return &target{key: digest(parts...), config: config, token: source}, nil
}

// digest tells apart what is cut at different places, too.
func digest(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil))
}
