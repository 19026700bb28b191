package replay

import (
	"path/filepath"
	"sync"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// gitHost serves the repositories of all recordings, plain and with TLS.
type gitHost struct {
	plain, secure *testkit.GitServer

	root  string
	mu    sync.Mutex // guards repos
	repos map[string]*testkit.GitRepo
}

func newGitHost(root string, ca *testkit.CA) (*gitHost, error) {
	config, err := ca.ServerTLS()
	if err != nil {
		return nil, err
	}
	g := &gitHost{root: root, repos: map[string]*testkit.GitRepo{}}
	if g.plain, err = testkit.NewGitServer(root, nil); err != nil {
		return nil, err
	}
	if g.secure, err = testkit.NewGitServer(root, config); err != nil {
		g.plain.Close()
		return nil, err
	}
	return g, nil
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
