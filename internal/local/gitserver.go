package local

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	uploadPack  = "git-upload-pack"
	receivePack = "git-receive-pack"
	// maxNegotiation bounds what a fetching client may say: names of commits it has and wants. A push has no bound but the disk.
	maxNegotiation = 16 << 20
	headerTimeout  = 30 * time.Second
)

// gitServer serves Git repositories over the smart HTTP protocol (gitprotocol-http), by way of git's own upload-pack and receive-pack.
type gitServer struct {
	program string
	log     func(format string, args ...any)
	// pushed is called with a repository's name after each push to it.
	pushed func(name string)

	mu    sync.RWMutex // guards repos
	repos map[string]servedRepo
}

// servedRepo is one repository of a gitServer.
type servedRepo struct {
	dir string
	// own is a bare repository of ours: it takes pushes, and the user's Git configuration has no say in it.
	own bool
}

func newGitServer(program string, pushed func(string), log func(string, ...any)) *gitServer {
	return &gitServer{program: program, pushed: pushed, log: log, repos: map[string]servedRepo{}}
}

func (s *gitServer) serve(name string, repo servedRepo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[name] = repo
}

func (s *gitServer) repo(name string) (servedRepo, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	repo, ok := s.repos[name]
	return repo, ok
}

// ServeHTTP answers /<name>.git/info/refs?service=..., /<name>.git/git-upload-pack and /<name>.git/git-receive-pack.
func (s *gitServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	repo, known := s.repo(name)
	if !ok || !known {
		http.Error(w, "no such repository", http.StatusNotFound)
		return
	}
	switch {
	case rest == "info/refs" && r.Method == http.MethodGet:
		s.advertise(w, r, repo, r.URL.Query().Get("service"))
	case (rest == uploadPack || rest == receivePack) && r.Method == http.MethodPost:
		s.exchange(w, r, name, repo, rest)
	default:
		http.Error(w, "not found", http.StatusNotFound)
	}
}

// allowed answers requests for services that a repository does not have.
func allowed(w http.ResponseWriter, repo servedRepo, service string) bool {
	switch {
	case service == uploadPack, service == receivePack && repo.own:
		return true
	case service == receivePack:
		http.Error(w, "this repository is a working tree on this machine: commit there instead of pushing", http.StatusForbidden)
	default:
		// The dumb protocol would serve files; no client of today needs it.
		http.Error(w, "this server speaks the smart protocol only", http.StatusForbidden)
	}
	return false
}

func (s *gitServer) advertise(w http.ResponseWriter, r *http.Request, repo servedRepo, service string) {
	if !allowed(w, repo, service) {
		return
	}
	cmd := s.command(r, repo, service, "--advertise-refs")
	words := &tail{}
	cmd.Stderr = words
	refs, err := cmd.Output()
	if err != nil {
		s.log("git %s of %s: %v: %s", service, repo.dir, err, words)
		http.Error(w, "git failed", http.StatusInternalServerError)
		return
	}
	noCache(w, "application/x-"+service+"-advertisement")
	// Version 2 begins with its own line; the older protocol wants the name of the service first.
	if service != uploadPack || !strings.Contains(r.Header.Get("Git-Protocol"), "version=2") {
		line := "# service=" + service + "\n"
		fmt.Fprintf(w, "%04x%s0000", len(line)+4, line)
	}
	_, _ = w.Write(refs)
}

func (s *gitServer) exchange(w http.ResponseWriter, r *http.Request, name string, repo servedRepo, service string) {
	if !allowed(w, repo, service) {
		return
	}
	// A web page in the user's browser can post to loopback, but not with this type unless the server agrees.
	if r.Header.Get("Content-Type") != "application/x-"+service+"-request" {
		http.Error(w, "unexpected content type", http.StatusUnsupportedMediaType)
		return
	}
	// git reports progress while it still reads the pack.
	_ = http.NewResponseController(w).EnableFullDuplex()
	body, err := requestBody(r, service)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	cmd := s.command(r, repo, service)
	words := &tail{}
	cmd.Stdin, cmd.Stderr = body, words
	noCache(w, "application/x-"+service+"-result")
	cmd.Stdout = flusher{w}
	if err := cmd.Run(); err != nil && r.Context().Err() == nil {
		// The answer has begun, so that the client learns of it from git's own report or from the broken stream.
		s.log("git %s of %s: %v: %s", service, repo.dir, err, words)
	}
	if service == receivePack {
		s.pushed(name)
	}
}

func requestBody(r *http.Request, service string) (io.Reader, error) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, fmt.Errorf("read the request: %w", err)
		}
		body = unzipped
	}
	if service == uploadPack {
		body = io.LimitReader(body, maxNegotiation)
	}
	return body, nil
}

// command prepares one run of git. It ends with the request.
func (s *gitServer) command(r *http.Request, repo servedRepo, service string, flags ...string) *exec.Cmd {
	args := append([]string{strings.TrimPrefix(service, "git-"), "--stateless-rpc"}, flags...)
	if service == uploadPack {
		args = append(args, "--strict")
	}
	cmd := exec.CommandContext(r.Context(), s.program, append(args, repo.dir)...)
	cmd.Env = cleanGitEnv(os.Environ())
	if repo.own {
		cmd.Env = append(cmd.Env, ownGitEnv()...)
	}
	// What git itself accepts: "version=1" or "version=2", anything else is ignored by it.
	if protocol := r.Header.Get("Git-Protocol"); protocol != "" {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+protocol)
	}
	return cmd
}

// ownGitEnv keeps hooks, signing and aliases of the user out of what we do with Git on our own account.
func ownGitEnv() []string {
	return []string{
		"GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	}
}

func noCache(w http.ResponseWriter, contentType string) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-cache")
}

// flusher sends progress lines of git to the client as they come.
type flusher struct{ w http.ResponseWriter }

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	_ = http.NewResponseController(f.w).Flush()
	return n, err
}

// loopbackOnly refuses requests that were not meant for this machine: a name of the outside world that resolves to loopback is how web
// pages reach local servers (DNS rebinding).
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, "this server answers to loopback names only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serveHTTP serves until ctx ends, then lets requests in flight come to their end for a moment.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: loopbackOnly(handler), ReadHeaderTimeout: headerTimeout}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		_ = server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
