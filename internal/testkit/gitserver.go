package testkit

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The credentials that a GitServer asks for below /auth/.
const (
	GitUser     = "user"
	GitPassword = "pass"
	GitToken    = "tok123"
)

// GitServer serves bare repositories over smart HTTP, by git http-backend.
// Pushes are allowed. Below /auth/ the same repositories need the credentials
// above, basic or bearer.
type GitServer struct {
	// URL is the base of the repositories, without a slash at the end.
	URL string
	// Root is the directory of the repositories.
	Root string

	server *http.Server
}

// NewGitServer starts a server of the repositories below root on a free port
// of 127.0.0.1; with a TLS configuration it speaks HTTPS.
func NewGitServer(root string, t *tls.Config) (*GitServer, error) {
	handler, err := GitHandler(root)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for git clients: %w", err)
	}
	scheme := "http"
	if t != nil {
		scheme, listener = "https", tls.NewListener(listener, t)
	}
	s := &GitServer{
		URL:    scheme + "://" + listener.Addr().String(),
		Root:   root,
		server: &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)},
	}
	go func() { _ = s.server.Serve(listener) }()
	return s, nil
}

// Close ends the server and its connections.
func (s *GitServer) Close() { _ = s.server.Close() }

// Repo creates a repository that the server serves as <URL>/<name>.git.
func (s *GitServer) Repo(name string) (*GitRepo, error) {
	return NewGitRepo(filepath.Join(s.Root, name+".git"))
}

// GitHandler serves the repositories below root as a GitServer does.
func GitHandler(root string) (http.Handler, error) {
	libexec, err := git("", nil, "--exec-path")
	if err != nil {
		return nil, err
	}
	backend := withLength(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(libexec)), "git-http-backend"),
		Root: "/",
		Dir:  root,
		Env: []string{
			"GIT_PROJECT_ROOT=" + root,
			"GIT_HTTP_EXPORT_ALL=1",
			"GIT_CONFIG_GLOBAL=" + os.DevNull,
			"GIT_CONFIG_NOSYSTEM=1",
			"GIT_CONFIG_COUNT=2",
			"GIT_CONFIG_KEY_0=http.receivepack", "GIT_CONFIG_VALUE_0=true",
			"GIT_CONFIG_KEY_1=safe.directory", "GIT_CONFIG_VALUE_1=*",
		},
		Logger: log.New(io.Discard, "", 0),
		Stderr: io.Discard,
	})
	mux := http.NewServeMux()
	mux.Handle("/", backend)
	mux.Handle("/auth/", requireCredentials(http.StripPrefix("/auth", backend)))
	return mux, nil
}

// withLength spools chunked bodies: CGI wants to know the length, and git
// sends large packs chunked.
func withLength(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		}
		h.ServeHTTP(w, r)
	})
}

func requireCredentials(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := r.BasicAuth()
		basic := ok && user == GitUser && password == GitPassword
		if !basic && r.Header.Get("Authorization") != "Bearer "+GitToken {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "Unauthorized")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// gitService prepares git-upload-pack or git-receive-pack for a repository, for
// servers of other protocols.
func gitService(name, dir string) (*exec.Cmd, error) {
	libexec, err := git("", nil, "--exec-path")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(strings.TrimSpace(string(libexec)), name), dir)
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	)
	return cmd, nil
}
