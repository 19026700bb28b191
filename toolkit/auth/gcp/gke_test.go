package gcp_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-79636ae9/flux/toolkit/auth"
)

const (
	clusterPath   = "projects/project/locations/europe-west1/clusters/fleet"
	clusterAnswer = `{"name":"fleet","endpoint":"203.0.113.7","masterAuth":{"clusterCaCertificate":"Y2E="},
"controlPlaneEndpointsConfig":{"dnsEndpointConfig":{"endpoint":"gke-abc.europe-west1.gke.goog"},"ipEndpointsConfig":{"publicEndpoint":"203.0.113.7","privateEndpoint":"10.0.0.2"}}}`
)

// kustomization 97: the address is the cluster's first one, or that of its others that the object names.
func TestCluster(t *testing.T) {
	for name, test := range map[string]struct {
		target      auth.ClusterTarget
		address, ca string
	}{
		"the first": {auth.ClusterTarget{Name: clusterPath}, "https://203.0.113.7", "ca"},
		"private":   {auth.ClusterTarget{Name: clusterPath, Address: "https://10.0.0.2/"}, "https://10.0.0.2", "ca"},
		"by name":   {auth.ClusterTarget{Name: clusterPath, Address: "https://gke-abc.europe-west1.gke.goog"}, "https://gke-abc.europe-west1.gke.goog", ""},
		"a CA":      {auth.ClusterTarget{Name: clusterPath, CA: "other"}, "https://203.0.113.7", "other"},
	} {
		t.Run(name, func(t *testing.T) {
			a, g, _ := lab(t, nil)
			var by string
			g.instead = map[string]http.HandlerFunc{"/v1/" + clusterPath: func(w http.ResponseWriter, r *http.Request) {
				by = r.Header.Get("Authorization")
				_, _ = io.WriteString(w, clusterAnswer)
			}}
			got, err := a.Cluster(t.Context(), "gcp", request("team"), test.target)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "answer", &auth.ClusterAccess{Address: test.address, CA: bytesOf(test.ca), Token: "canary-federated", Expires: got.Expires}, got)
			expect(t, "asked by", "Bearer canary-federated", by)
		})
	}
}

func bytesOf(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

// kustomization 97: the token goes nowhere else.
func TestClusterRefusals(t *testing.T) {
	a, g, _ := lab(t, nil)
	for _, target := range []auth.ClusterTarget{
		{}, {Name: "fleet"}, {Name: clusterPath + "/../x"}, {Name: strings.Replace(clusterPath, "europe-west1", "..", 1)},
		{Name: clusterPath, Address: "https://evil.test"},
	} {
		g.instead = map[string]http.HandlerFunc{"/v1/" + clusterPath: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, clusterAnswer) }}
		if got, err := a.Cluster(t.Context(), "gcp", request("team"), target); !errors.Is(err, auth.ErrUnsupported) {
			t.Errorf("%+v: %+v, error = %v", target, got, err)
		}
	}
	for _, answer := range []string{`{}`, `{"endpoint":"evil.test/@x"}`, `{"endpoint":"x","masterAuth":{"clusterCaCertificate":"?"}}`} {
		a, g, _ := lab(t, nil)
		g.instead = map[string]http.HandlerFunc{"/v1/" + clusterPath: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }}
		if got, err := a.Cluster(t.Context(), "gcp", request("team"), auth.ClusterTarget{Name: clusterPath}); err == nil {
			t.Errorf("%s: it was given %+v", answer, got)
		}
	}
}
