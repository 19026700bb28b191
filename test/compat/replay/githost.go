package replay

import (
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// gitHost serves bare repositories over smart HTTP, plain and with TLS, pushes included. Below
// /auth/ the same repositories need Basic user:pass or the bearer token tok123.
type gitHost struct {
	url, tlsURL string

	root          string
	plain, secure *httptest.Server
	mu            sync.Mutex // guards repos
	repos         map[string]*testkit.GitRepo
}

func newGitHost(root string, ca *testkit.CA) (*gitHost, error) {
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("serving Git repositories: %w", err)
	}
	backend := &cgi.Handler{
		Path: program,
		Args: []string{"http-backend"},
		Env:  []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"},
	}
	g := &gitHost{root: root, repos: map[string]*testkit.GitRepo{}}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveGit(backend, w, r) })
	config, err := ca.ServerTLS()
	if err != nil {
		return nil, err
	}
	g.plain = httptest.NewServer(handler)
	g.secure = httptest.NewUnstartedServer(handler)
	g.secure.TLS = config
	g.secure.StartTLS()
	g.url, g.tlsURL = g.plain.URL, g.secure.URL
	return g, nil
}

func serveGit(backend http.Handler, w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, "/auth/"); ok {
		user, pass, _ := r.BasicAuth()
		if (user != "user" || pass != "pass") && r.Header.Get("Authorization") != "Bearer tok123" {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		r = r.Clone(r.Context())
		r.URL.Path = "/" + rest
	}
	backend.ServeHTTP(w, r)
}

func (g *gitHost) close() {
	g.plain.Close()
	g.secure.Close()
}

// repo returns the repository <name>.git, creating it when it is new.
func (g *gitHost) repo(name string) (*testkit.GitRepo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.repos[name]; r != nil {
		return r, nil
	}
	r, err := testkit.NewGitRepo(filepath.Join(g.root, name+".git"))
	if err != nil {
		return nil, err
	}
	g.repos[name] = r
	return r, nil
}
