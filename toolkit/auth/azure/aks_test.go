package azure_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

const (
	clusterID  = "/subscriptions/33333333-3333-3333-3333-333333333333/resourceGroups/fleet/providers/Microsoft.ContainerService/managedClusters/one"
	kubeconfig = `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"one","cluster":{"server":"https://one-dns.hcp.westeurope.azmk8s.io:443","certificate-authority-data":"Y2E="}}],
"users":[{"name":"u","user":{"exec":{"command":"kubelogin"},"token":"canary-user"}}]}`
)

// cluster answers like listClusterUserCredential of the resource manager.
func (e *entra) cluster(w http.ResponseWriter, r *http.Request) {
	e.saw("%s %s by %s", r.Method, r.URL.Path, r.Header.Get("Authorization"))
	if r.URL.Query().Get("api-version") == "" {
		http.Error(w, `{"error":{"code":"MissingApiVersionParameter"}}`, http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(w, `{"kubeconfigs":[{"name":"clusterUser","value":"%s"}]}`, base64.StdEncoding.EncodeToString([]byte(e.kubeconfig)))
}

// kustomization 97: the resource manager tells the address, Entra ID gives the token; users of the kubeconfig are nobody.
func TestCluster(t *testing.T) {
	cloud, e, call := lab(t)
	e.kubeconfig = kubeconfig
	got, err := cloud.Cluster(t.Context(), call(annotations()), clusterID)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "endpoints", []auth.ClusterEndpoint{{Address: "https://one-dns.hcp.westeurope.azmk8s.io:443", CA: []byte("ca")}}, got.Endpoints)
	expect(t, "token", "canary-entra", got.Token.Value)
	if len(e.seen) != 3 {
		t.Fatalf("requests = %q", e.seen)
	}
	expect(t, "the question", "POST "+clusterID+"/listClusterUserCredential by Bearer canary-entra", e.seen[1])
	if !strings.Contains(e.seen[2], " 6dae42f8-4368-4678-94ff-3960e28e3630/.default ") {
		t.Errorf("the token is for %s", e.seen[2])
	}
}

func TestClusterRefusals(t *testing.T) {
	cloud, e, call := lab(t)
	for _, name := range []string{"", "one", clusterID + "/x", strings.Replace(clusterID, "fleet", "..%2f", 1), "//evil.test" + clusterID} {
		if err := cloud.CheckCluster(name); !errors.Is(err, auth.ErrUnsupported) {
			t.Errorf("%s: error = %v", name, err)
		}
	}
	for _, e.kubeconfig = range []string{"[", `{"clusters":[{"cluster":{}}]}`, `{"clusters":[{"cluster":{"server":"https://x","certificate-authority-data":"?"}}]}`} {
		if got, err := cloud.Cluster(t.Context(), call(annotations()), clusterID); err == nil {
			t.Errorf("%s: it was given %+v", e.kubeconfig, got)
		}
	}
}
