// Package clustertest has API servers for tests of what acts on other clusters.
package clustertest

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// Server is an API server that knows its namespace kube-system and says no to all else.
type Server struct {
	URL string
	// CA verifies it, in PEM.
	CA []byte
	// Instead answers a request, when set and if it returns true. Set it before the first request.
	Instead func(http.ResponseWriter, *http.Request) bool

	uid  string
	mu   sync.Mutex // guards seen
	seen []string
}

// NewServer starts a server whose namespace kube-system has the UID.
func NewServer(t testing.TB, uid string) *Server {
	t.Helper()
	s := &Server{uid: uid}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.Instead != nil && s.Instead(w, r) {
		return
	}
	s.mu.Lock()
	s.seen = append(s.seen, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Path == "/api/v1/namespaces/kube-system" {
		_, _ = fmt.Fprintf(w, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"kube-system","uid":%q}}`, s.uid)
		return
	}
	w.WriteHeader(http.StatusForbidden)
	_, _ = fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","message":"no","code":403}`)
}

// Requests returns what was asked since the last call, as "GET /path".
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.seen
	s.seen = nil
	return out
}

// Clients are the clients of a controller whose own cluster it is.
func (s *Server) Clients(t testing.TB) *kube.Clients {
	t.Helper()
	config := &rest.Config{Host: s.URL, TLSClientConfig: rest.TLSClientConfig{CAData: s.CA}}
	clients, err := kube.NewClients(kube.ClientsOptions{Config: kube.Config(config, "test")})
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

// Kubeconfig leads to the server, with the token "canary-token", which must appear nowhere.
func (s *Server) Kubeconfig() string { return Kubeconfig(s.URL, s.CA, "token: canary-token") }

// Kubeconfig is one with the fields of a user.
func Kubeconfig(url string, ca []byte, user string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k, user: u}}],
clusters: [{name: k, cluster: {server: %q, certificate-authority-data: %s}}], users: [{name: u, user: {%s}}]}`,
		url, base64.StdEncoding.EncodeToString(ca), user)
}
