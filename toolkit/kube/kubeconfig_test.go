package kube

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const canaryToken = "canary-token-7f3a"

// kubeconfig writes one of one cluster and one user, each in the flow style of YAML.
func kubeconfig(cluster, user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {%s}}]
users: [{name: u, user: {%s}}]
`, cluster, user)
}

// kustomization 97: a kubeconfig that brings everything along is taken as it is.
func TestKubeconfig(t *testing.T) {
	content := kubeconfig(`server: "https://k.test:6443/base/", certificate-authority-data: Y2E=, tls-server-name: other.test, proxy-url: "http://u:p@proxy.test:3128"`,
		`token: `+canaryToken+`, as: robot, as-groups: [g]`)
	config, err := ParseKubeconfig([]byte(content), KubeconfigOptions{})
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := config.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: "k.test"}})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{
		config.Host, string(config.CAData), config.ServerName, proxy.Host, config.BearerToken, config.Impersonate.UserName, strings.Join(config.Impersonate.Groups, ","),
	}
	if diff := cmp.Diff([]string{"https://k.test:6443/base", "ca", "other.test", "proxy.test:3128", canaryToken, "robot", "g"}, got); diff != "" {
		t.Errorf("the configuration (-want +got):\n%s", diff)
	}
}

// kustomization 98, reliability 027, 047: what a stranger must not have is left out or refused, and never replaced by the identity of the process.
func TestKubeconfigRefusals(t *testing.T) {
	// The controller runs in a Pod whose own credentials and environment are tempting.
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "own"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	t.Setenv("KUBERNETES_MASTER", "https://own.test")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("own token"), 0o600); err != nil {
		t.Fatal(err)
	}
	server, token := `server: "https://k.test"`, "token: "+canaryToken
	exec := `exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh, interactiveMode: Never}`
	for name, test := range map[string]struct{ content, want string }{
		"nothing":                   {"", "no current-context"},
		"garbage":                   {canaryToken + ": [", "not one in YAML or JSON"},
		"a token where a map goes":  {"users: " + canaryToken, "not one in YAML or JSON"},
		"another kind":              {"apiVersion: v1\nkind: Secret\n", "not one in YAML or JSON"},
		"no current context":        {"apiVersion: v1\nkind: Config\nclusters: [{name: k, cluster: {server: x}}]\n", "no current-context"},
		"no such context":           {"current-context: x\n", `no context "x"`},
		"no such cluster":           {"current-context: x\ncontexts: [{name: x, context: {cluster: k2}}]\n", `no cluster "k2"`},
		"no such user":              {"current-context: x\ncontexts: [{name: x, context: {cluster: k2, user: u2}}]\nclusters: [{name: k2, cluster: {}}]\n", `no user "u2"`},
		"no server":                 {kubeconfig("", token), "server: it is empty"},
		"a path as server":          {kubeconfig("server: /var/run/x", token), "server: it is not a URL"},
		"a login in the server":     {kubeconfig(`server: "https://u:p@k.test"`, token), "server: it has a user"},
		"no TLS":                    {kubeconfig(`server: "http://k.test"`, token), "--insecure-kubeconfig-tls"},
		"a proxy of another kind":   {kubeconfig(server+`, proxy-url: "file:///etc/passwd"`, token), "proxy-url"},
		"a file of CAs":             {kubeconfig(server+", certificate-authority: "+file, token), "certificate-authority: it names a file"},
		"a file with a token":       {kubeconfig(server, "tokenFile: "+file), "tokenFile: it names a file"},
		"a token and its file":      {kubeconfig(server, token+", tokenFile: "+file), "tokenFile: it names a file"},
		"a file with a certificate": {kubeconfig(server, "client-certificate: "+file+", client-key-data: eA=="), "client-certificate: it names a file"},
		"a file with a key":         {kubeconfig(server, "client-key: "+file+", client-certificate-data: eA=="), "client-key: it names a file"},
		"a program":                 {kubeconfig(server, exec), "--insecure-kubeconfig-exec"},
		"a plugin":                  {kubeconfig(server, "auth-provider: {name: oidc}"), "auth-provider"},
		"nobody":                    {kubeconfig(server, ""), "no credentials"},
		"too much":                  {kubeconfig(server, token) + strings.Repeat("#", DefaultKubeconfigBytes), "the limit is 1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := ParseKubeconfig([]byte(test.content), KubeconfigOptions{})
			if err == nil {
				t.Fatalf("it was taken: %v", config)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q in it", err, test.want)
			}
			if strings.Contains(err.Error(), canaryToken) {
				t.Errorf("the error quotes the token: %v", err)
			}
		})
	}
}

// kustomization 98: without the flags programs and insecure TLS are left out; with them they are not.
func TestKubeconfigFlags(t *testing.T) {
	content := kubeconfig(`server: "https://k.test", insecure-skip-tls-verify: true`,
		"token: x, exec: {apiVersion: client.authentication.k8s.io/v1, command: helper, interactiveMode: IfAvailable}")
	for _, allowed := range []bool{false, true} {
		config, err := ParseKubeconfig([]byte(content), KubeconfigOptions{Exec: allowed, InsecureTLS: allowed})
		if err != nil {
			t.Fatal(err)
		}
		if got := config.Insecure; got != allowed {
			t.Errorf("allowed %t: insecure TLS = %t", allowed, got)
		}
		if got := config.ExecProvider != nil; got != allowed {
			t.Errorf("allowed %t: a program = %t", allowed, got)
		}
	}
	if _, err := ParseKubeconfig([]byte(kubeconfig(`server: "http://k.test"`, "token: x")), KubeconfigOptions{InsecureTLS: true}); err != nil {
		t.Errorf("HTTP without TLS, allowed: %v", err)
	}
}

// reliability 027: entries have a limit of their own.
func TestKubeconfigEntries(t *testing.T) {
	var b strings.Builder
	b.WriteString(kubeconfig(`server: "https://k.test"`, "token: x"))
	for i := range maxKubeconfigEntries {
		fmt.Fprintf(&b, "- {name: u%d, user: {token: x}}\n", i)
	}
	content := strings.Replace(b.String(), "users: [{name: u, user: {token: x}}]", "users:\n- {name: u, user: {token: x}}", 1)
	if _, err := ParseKubeconfig([]byte(content), KubeconfigOptions{}); err == nil || !strings.Contains(err.Error(), "more than 1000") {
		t.Errorf("error = %v", err)
	}
}

// Whatever it is given, the parser neither panics nor reaches for a file.
func FuzzKubeconfig(f *testing.F) {
	f.Add([]byte(kubeconfig(`server: "https://k.test"`, "token: x")))
	f.Add([]byte(kubeconfig(`server: "https://k.test", certificate-authority: /etc/hosts`, "tokenFile: /etc/hosts")))
	f.Add([]byte(`{"current-context":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := ParseKubeconfig(data, KubeconfigOptions{})
		if err != nil {
			return
		}
		if config.CAFile != "" || config.CertFile != "" || config.KeyFile != "" || config.BearerTokenFile != "" || config.ExecProvider != nil || config.Insecure {
			t.Errorf("it may do what a stranger must not: %v", config)
		}
	})
}

// kustomization 98: with the flag a program is asked for the token, without a terminal.
func TestKubeconfigExec(t *testing.T) {
	script := filepath.Join(t.TempDir(), "helper")
	answer := `{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"from-the-program"}}`
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho '"+answer+"'\n"), 0o700); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	var seen string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Get("Authorization")
		reply(http.StatusOK, kubeSystem)(w, r)
	}))
	t.Cleanup(server.Close)
	content := kubeconfig(fmt.Sprintf("server: %q", server.URL), fmt.Sprintf("exec: {apiVersion: client.authentication.k8s.io/v1, command: %q, interactiveMode: Always}", script))
	config, err := ParseKubeconfig([]byte(content), KubeconfigOptions{Exec: true, InsecureTLS: true})
	if err != nil {
		t.Fatal(err)
	}
	clients, err := NewClients(ClientsOptions{Config: Remote(config, RemoteOptions{})})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := clients.Identify(t.Context()); err != nil || id.UID != "one" || seen != "Bearer from-the-program" {
		t.Errorf("id = %v, %v, asked with %q", id, err, seen)
	}
}
