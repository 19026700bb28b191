package auth

import (
	"context"
	"net/http"
	"net/url"
)

// Cloud is one provider of credentials. What it can do is told by which of RegistryCloud, GitCloud, KeysCloud, TokenCloud and ClusterCloud it
// implements. The checks cost no request; they are made before anything else.
type Cloud interface {
	// Name is the value of spec.provider.
	Name() string
}

// RegistryCloud logs in to container registries.
type RegistryCloud interface {
	Cloud
	// CheckRegistry fails with ErrUnsupported when the host is not one of the cloud's registries.
	CheckRegistry(host string) error
	Registry(ctx context.Context, c *Call, host string) (Login, error)
}

// GitCloud logs in to Git servers.
type GitCloud interface {
	Cloud
	// CheckGit fails with ErrUnsupported when the URL is not one of the cloud's Git repositories.
	CheckGit(repository *url.URL) error
	Git(ctx context.Context, c *Call, repository *url.URL) (GitLogin, error)
}

// KeysCloud gives keys to sign requests with.
type KeysCloud interface {
	Cloud
	Keys(ctx context.Context, c *Call) (Keys, error)
}

// TokenCloud gives bearer tokens.
type TokenCloud interface {
	Cloud
	Token(ctx context.Context, c *Call, scopes []string) (Token, error)
}

// ClusterCloud signs in to the Kubernetes clusters that it runs.
type ClusterCloud interface {
	Cloud
	// CheckCluster fails with ErrUnsupported when the name is not one of a cluster of the cloud.
	CheckCluster(name string) error
	// Cluster returns all addresses of the cluster.
	Cluster(ctx context.Context, c *Call, name string) (ClusterAnswer, error)
}

// Call is one request to a cloud.
type Call struct {
	Request
	// Account is who is asked for; nil: the process itself.
	Account *Account
	// HTTP honours the proxy and the limits and follows no redirect.
	HTTP *http.Client

	secrets []string
}

// Hide keeps a value that was obtained on the way out of the errors of this call.
func (c *Call) Hide(value string) { c.secrets = append(c.secrets, value) }

// Account is a ServiceAccount.
type Account struct {
	Namespace, Name string
	Annotations     map[string]string
	// Token has the API server issue a token of the account for the audience.
	Token func(ctx context.Context, audience string) (string, error)

	uid string
}
