package kube

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

// idleClients is how long an unused identity's client is kept. It holds a few kilobytes, so this only bounds churn.
const idleClients = time.Hour

// Identity is who a client acts as. The zero Identity is the one of the configuration.
type Identity struct {
	// Namespace and ServiceAccount name the account to impersonate; no ServiceAccount, no impersonation.
	Namespace, ServiceAccount string
}

// user is the Kubernetes user name of the identity's service account.
func (id Identity) user() string {
	return "system:serviceaccount:" + id.Namespace + ":" + id.ServiceAccount
}

// Validate refuses names that the API server would not give to a ServiceAccount: they go into a user name, where a colon or
// a slash would make them somebody else (reliability 031).
func (id Identity) Validate() error {
	if id.ServiceAccount == "" {
		return nil
	}
	if msgs := validation.IsDNS1123Subdomain(id.ServiceAccount); len(msgs) > 0 {
		return fmt.Errorf("invalid service account name %q: %s", id.ServiceAccount, strings.Join(msgs, ", "))
	}
	if msgs := validation.IsDNS1123Label(id.Namespace); len(msgs) > 0 {
		return fmt.Errorf("invalid namespace %q of service account %q: %s", id.Namespace, id.ServiceAccount, strings.Join(msgs, ", "))
	}
	return nil
}

// ClientsOptions is what Clients needs.
type ClientsOptions struct {
	// Config reaches the cluster; it has gone through Config or Remote.
	Config *rest.Config
	// Damping of the mapper, see NewMapper.
	Damping time.Duration
	Clock   clock.Clock
}

// Clients keeps one client per identity on one cluster warm.
type Clients struct {
	o      ClientsOptions
	own    *Client
	mapper *Mapper

	mu   sync.Mutex // guards warm
	warm map[Identity]*warmClient
}

type warmClient struct {
	client *Client
	used   time.Time
}

// NewClients makes the clients of a cluster. It makes no request.
func NewClients(o ClientsOptions) (*Clients, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	d, err := discovery.NewDiscoveryClientForConfig(o.Config)
	if err != nil {
		return nil, fmt.Errorf("failed to build the discovery client: %w", err)
	}
	mapper := NewMapper(d, o.Damping, o.Clock)
	own, err := NewClient(o.Config, mapper)
	if err != nil {
		return nil, err
	}
	return &Clients{o: o, own: own, mapper: mapper, warm: map[Identity]*warmClient{}}, nil
}

// Own is the client of the configuration's own identity.
func (c *Clients) Own() *Client { return c.own }

// Mapper is the one shared view of the cluster's kinds.
func (c *Clients) Mapper() *Mapper { return c.mapper }

// For returns the client of an identity. Whether its service account exists is not checked: the API server refuses what the
// account may not do (kustomization 96, 99).
func (c *Clients) For(_ context.Context, id Identity) (*Client, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	if id.ServiceAccount == "" {
		return c.own, nil
	}
	now := c.o.Clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if w, ok := c.warm[id]; ok {
		w.used = now
		return w.client, nil
	}
	for other, w := range c.warm {
		if now.Sub(w.used) > idleClients {
			delete(c.warm, other)
		}
	}
	client, err := NewClient(impersonate(c.o.Config, id), c.mapper)
	if err != nil {
		return nil, err
	}
	c.warm[id] = &warmClient{client: client, used: now}
	return client, nil
}

func impersonate(config *rest.Config, id Identity) *rest.Config {
	config = rest.CopyConfig(config)
	config.Impersonate = rest.ImpersonationConfig{UserName: id.user()}
	return config
}

// AccountExists reports whether an identity's service account exists. Only the API server's NotFound is a no: any other
// failure is an error, since the callers of this question give up on cleaning up when the account is gone
// (kustomization 109, reliability 105).
func (c *Clients) AccountExists(ctx context.Context, id Identity) (bool, error) {
	if id.ServiceAccount == "" {
		return true, nil
	}
	if err := id.Validate(); err != nil {
		return false, err
	}
	ref := Ref{
		Resource:  Resource{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}, Plural: "serviceaccounts", Namespaced: true},
		Namespace: id.Namespace, Name: id.ServiceAccount,
	}
	_, err := c.own.GetMetadata(ctx, ref)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("failed to look up service account %s/%s: %w", id.Namespace, id.ServiceAccount, err)
	}
	return true, nil
}
