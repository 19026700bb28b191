package kube

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// DefaultKubeconfigBytes bounds a kubeconfig. It is the most that a Secret can hold.
const DefaultKubeconfigBytes = 1 << 20

// maxKubeconfigEntries bounds the clusters, users and contexts of a kubeconfig, each.
const maxKubeconfigEntries = 1000

// KubeconfigOptions say what a kubeconfig may ask for. The zero value suits one that a stranger wrote.
type KubeconfigOptions struct {
	// MaxBytes bounds its size; 0 means DefaultKubeconfigBytes.
	MaxBytes int
	// Exec lets it start programs of this machine to get credentials (--insecure-kubeconfig-exec).
	Exec bool
	// InsecureTLS lets it leave the server unverified, or speak HTTP without TLS (--insecure-kubeconfig-tls).
	InsecureTLS bool
}

// ParseKubeconfig makes a client configuration of a kubeconfig that may be a stranger's (kustomization 98). Only what it holds itself
// is used: no file of this machine, no environment, never the process's own identity. Programs and insecure TLS are left out unless
// the options allow them. Its errors quote nothing of the content but names of contexts, users and clusters, and hosts.
func ParseKubeconfig(data []byte, o KubeconfigOptions) (*rest.Config, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultKubeconfigBytes
	}
	if len(data) > o.MaxBytes {
		return nil, fmt.Errorf("the kubeconfig has %d bytes, the limit is %d: keep only the context that is used", len(data), o.MaxBytes)
	}
	// What the parser says quotes the line, which may hold a token.
	file, err := clientcmd.Load(data)
	if err != nil {
		return nil, errors.New("the kubeconfig is not one in YAML or JSON of kind Config, version v1")
	}
	if max(len(file.Clusters), len(file.AuthInfos), len(file.Contexts)) > maxKubeconfigEntries {
		return nil, fmt.Errorf("the kubeconfig has more than %d clusters, users or contexts: keep only the context that is used", maxKubeconfigEntries)
	}
	if file.CurrentContext == "" {
		return nil, errors.New("the kubeconfig has no current-context: set it")
	}
	current := file.Contexts[file.CurrentContext]
	if current == nil {
		return nil, fmt.Errorf("the kubeconfig has no context %q, which is its current-context", file.CurrentContext)
	}
	cluster := file.Clusters[current.Cluster]
	if cluster == nil {
		return nil, fmt.Errorf("the kubeconfig has no cluster %q, which its context %q names", current.Cluster, file.CurrentContext)
	}
	user := file.AuthInfos[current.AuthInfo]
	if user == nil && current.AuthInfo != "" {
		return nil, fmt.Errorf("the kubeconfig has no user %q, which its context %q names", current.AuthInfo, file.CurrentContext)
	}
	if user == nil {
		user = &clientcmdapi.AuthInfo{}
	}
	config := &rest.Config{}
	if err := reach(config, cluster, o); err != nil {
		return nil, fmt.Errorf("the cluster %q of the kubeconfig: %w", current.Cluster, err)
	}
	if err := authenticate(config, user, cluster, o); err != nil {
		return nil, fmt.Errorf("the user %q of the kubeconfig: %w", current.AuthInfo, err)
	}
	return config, nil
}

// reach fills in where the cluster is and how it is verified.
func reach(config *rest.Config, c *clientcmdapi.Cluster, o KubeconfigOptions) error {
	if c.CertificateAuthority != "" {
		return refusedFile("certificate-authority", "certificate-authority-data")
	}
	address, err := ServerAddress(c.Server)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	if strings.HasPrefix(address, "http:") && !o.InsecureTLS {
		return errors.New("server: it has no TLS: use https, or start the controller with --insecure-kubeconfig-tls")
	}
	config.Host = address
	config.CAData = c.CertificateAuthorityData
	config.ServerName = c.TLSServerName
	config.DisableCompression = c.DisableCompression
	if c.InsecureSkipTLSVerify && o.InsecureTLS {
		config.Insecure, config.CAData = true, nil
	}
	if c.ProxyURL == "" {
		return nil
	}
	proxy, err := url.Parse(c.ProxyURL)
	if err != nil || proxy.Host == "" || !slices.Contains([]string{"http", "https", "socks5"}, proxy.Scheme) {
		return errors.New("proxy-url: it is not of the form http://host:port, https://host:port or socks5://host:port")
	}
	config.Proxy = http.ProxyURL(proxy)
	return nil
}

// ServerAddress checks the address of an API server and returns it without a slash at its end.
func ServerAddress(server string) (string, error) {
	u, err := url.Parse(server)
	switch {
	case server == "":
		return "", errors.New("it is empty: set the address of the API server, like https://host:6443")
	case err != nil, u.Host == "", !slices.Contains([]string{"http", "https"}, u.Scheme):
		return "", errors.New("it is not a URL of the form https://host:6443")
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return "", errors.New("it has a user, a query or a fragment: leave them out")
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// authenticate fills in who the client is.
func authenticate(config *rest.Config, user *clientcmdapi.AuthInfo, cluster *clientcmdapi.Cluster, o KubeconfigOptions) error {
	for _, f := range []struct{ value, field, instead string }{
		{user.TokenFile, "tokenFile", "token"},
		{user.ClientCertificate, "client-certificate", "client-certificate-data"},
		{user.ClientKey, "client-key", "client-key-data"},
	} {
		if f.value != "" {
			return refusedFile(f.field, f.instead)
		}
	}
	config.BearerToken = user.Token
	config.Username, config.Password = user.Username, user.Password
	config.CertData, config.KeyData = user.ClientCertificateData, user.ClientKeyData
	config.Impersonate = rest.ImpersonationConfig{UserName: user.Impersonate, UID: user.ImpersonateUID, Groups: user.ImpersonateGroups, Extra: user.ImpersonateUserExtra}
	if user.Exec != nil && o.Exec {
		config.ExecProvider = user.Exec.DeepCopy()
		config.ExecProvider.InteractiveMode = clientcmdapi.NeverExecInteractiveMode
		config.ExecProvider.Config = cluster.Extensions["client.authentication.k8s.io/exec"]
	}
	known := config.BearerToken != "" || config.Username != "" || len(config.CertData) > 0 || config.ExecProvider != nil
	switch {
	case known:
		return nil
	case user.Exec != nil:
		return errors.New("exec: programs are not started for credentials: use a token or a client certificate, or start the controller with --insecure-kubeconfig-exec")
	case user.AuthProvider != nil:
		return errors.New("auth-provider: it is not supported: use a token or a client certificate")
	}
	return errors.New("it has no credentials: set token, or client-certificate-data and client-key-data")
}

func refusedFile(field, instead string) error {
	return fmt.Errorf("%s: it names a file of the controller, which is not read: put the content into %s", field, instead)
}
