package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/auth/internal/rest"
)

// ClusterTarget names a Kubernetes cluster (contract: kustomization 97).
type ClusterTarget struct {
	// Name is the ARN of a cluster of EKS, the resource id of one of AKS, or projects/<p>/locations/<l>/clusters/<c> (contract: wire 18).
	// The provider Generic has none.
	Name string
	// Address is the URL of the API server: one of those that the cloud tells; empty: the first of them. Generic requires it.
	Address string
	// CA verifies the API server, in PEM; empty: as the cloud tells, else that of the system.
	CA string
	// Audiences of the token; empty: the address. Only Generic has them.
	Audiences []string
}

// ClusterAccess is how to reach a cluster.
type ClusterAccess struct {
	Address string
	CA      []byte // PEM; empty: that of the system
	Token   string
	Expires time.Time // zero: unknown
}

// ClusterAnswer is what a cloud tells of a cluster.
type ClusterAnswer struct {
	Endpoints []ClusterEndpoint
	Token     Token
}

// ClusterEndpoint is one address of an API server.
type ClusterEndpoint struct {
	Address string
	CA      []byte // PEM; empty: that of the system
}

// Cluster signs in to a Kubernetes cluster. A token goes nowhere but to the addresses that the cloud tells: who chooses the address
// would get the identity otherwise. Generic gives a token of a ServiceAccount, never one of the process.
func (a *Authenticator) Cluster(ctx context.Context, provider string, r Request, target ClusterTarget) (*ClusterAccess, error) {
	if a == nil {
		return nil, errNone
	}
	if provider == Generic {
		return a.genericCluster(ctx, r, target)
	}
	cloud, err := offer[ClusterCloud](a, provider, "clusters")
	if err != nil {
		return nil, err
	}
	if err := cloud.CheckCluster(target.Name); err != nil {
		return nil, fmt.Errorf("sign in to the cluster '%s' as provider '%s': %w", target.Name, provider, err)
	}
	return obtain(ctx, a, provider, r, []string{"cluster", target.Name, target.Address, target.CA}, func(ctx context.Context, c *Call) (ClusterAccess, error) {
		answer, err := cloud.Cluster(ctx, c, target.Name)
		if err != nil {
			return ClusterAccess{}, err
		}
		return answer.access(target)
	})
}

// access picks the endpoint.
func (a *ClusterAnswer) access(target ClusterTarget) (ClusterAccess, error) {
	known := make([]string, len(a.Endpoints))
	for i := range a.Endpoints {
		known[i] = strings.TrimRight(a.Endpoints[i].Address, "/")
	}
	pick := 0
	if target.Address != "" {
		pick = slices.Index(known, strings.TrimRight(target.Address, "/"))
	}
	switch {
	case len(known) == 0:
		return ClusterAccess{}, fmt.Errorf("the cluster '%s' has no address yet: try again when it is running", target.Name)
	case pick < 0:
		return ClusterAccess{}, fmt.Errorf("%w: the address '%s' is none of the cluster '%s', which has: %s",
			ErrUnsupported, target.Address, target.Name, strings.Join(known, ", "))
	}
	out := ClusterAccess{Address: known[pick], CA: a.Endpoints[pick].CA, Token: a.Token.Value, Expires: a.Token.Expires}
	if target.CA != "" {
		out.CA = []byte(target.CA)
	}
	return out, nil
}

// genericCluster signs in to a cluster that trusts the issuer of our ServiceAccounts.
func (a *Authenticator) genericCluster(ctx context.Context, r Request, target ClusterTarget) (*ClusterAccess, error) {
	if target.Address == "" {
		return nil, fmt.Errorf("provider '%s' needs the address of the API server", Generic)
	}
	account, err := a.account(ctx, Generic, r)
	if err == nil && account == nil {
		err = fmt.Errorf("%w: provider '%s' needs one: the controller's own token goes to no other server", ErrServiceAccount, Generic)
	}
	if err != nil {
		a.metrics.request(err)
		return nil, err
	}
	audiences := target.Audiences
	if len(audiences) == 0 {
		audiences = []string{target.Address}
	}
	key := append([]string{"cluster", target.Address, target.CA}, audiences...)
	return remember(ctx, a, r, cacheKey(Generic, key, r, account), func(ctx context.Context) (ClusterAccess, error) {
		call := &Call{Request: r, Account: account, HTTP: rest.Client(r.Proxy, nil, a.limits.AnswerBytes)}
		token, err := a.issueFor(ctx, account, call, audiences...)
		if err != nil {
			return ClusterAccess{}, call.explain(Generic, err)
		}
		return ClusterAccess{Address: target.Address, CA: []byte(target.CA), Token: token.Value, Expires: token.Expires}, nil
	})
}
