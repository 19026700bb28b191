package trust

import (
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// ClusterName is the name of the cluster and of the administrator's context in a kubeconfig.
const ClusterName = "flux-cluster"

// WriteKubeconfig writes a kubeconfig for server with one context per user to path, with mode 0600. The first user's context is the
// current one and is named ClusterName; the others are named ClusterName-user.
func (b *Bundle) WriteKubeconfig(path, server string, users ...string) error {
	config := clientcmdapi.NewConfig()
	config.Clusters[ClusterName] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: b.CA}
	config.CurrentContext = ClusterName
	for i, user := range users {
		name := ClusterName
		if i > 0 {
			name += "-" + user
		}
		config.AuthInfos[name] = &clientcmdapi.AuthInfo{Token: b.Tokens[user]}
		config.Contexts[name] = &clientcmdapi.Context{Cluster: ClusterName, AuthInfo: name}
	}
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	// A mode given to WriteFile does not narrow that of a file that is there already.
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// Client returns the configuration of a client of server that acts as user.
func (b *Bundle) Client(server, user string) *rest.Config {
	return &rest.Config{
		Host:            server,
		BearerToken:     b.Tokens[user],
		TLSClientConfig: rest.TLSClientConfig{CAData: b.CA},
		UserAgent:       "flux-cluster",
	}
}
