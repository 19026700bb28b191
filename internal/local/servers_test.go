package local

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// testGit is git as an environment uses it.
func testGit(t *testing.T) *git {
	t.Helper()
	g, err := findGit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *git) must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	author := []string{"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@t", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@t"}
	out, err := g.with(author...).run(t.Context(), dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func startGitServer(t *testing.T, g *git) (*gitServer, string, chan string) {
	t.Helper()
	pushes := make(chan string, 8)
	s := newGitServer(g.program, func(name string) { pushes <- name }, t.Logf)
	server := httptest.NewServer(loopbackOnly(s))
	t.Cleanup(server.Close)
	return s, server.URL, pushes
}

func TestGitServer(t *testing.T) {
	g := testGit(t)
	dir := t.TempDir()
	s, url, pushes := startGitServer(t, g)
	bare := filepath.Join(dir, "a.git")
	g.must(t, "", "init", "--quiet", "--bare", "--initial-branch=main", bare)
	s.serve("a", servedRepo{dir: bare, own: true})

	work := filepath.Join(dir, "work")
	g.must(t, "", "clone", "--quiet", url+"/a.git", work)
	write(t, filepath.Join(work, "f"), "one")
	g.must(t, work, "add", ".")
	g.must(t, work, "commit", "--quiet", "-m", "one")
	g.must(t, work, "push", "--quiet", "origin", "HEAD:main")
	select {
	case name := <-pushes:
		if name != "a" {
			t.Errorf("the push was told as one to %q", name)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the push was not told")
	}

	for _, version := range []string{"0", "1", "2"} {
		t.Run("fetch in protocol version "+version, func(t *testing.T) {
			clone := filepath.Join(t.TempDir(), "clone")
			g.must(t, "", "-c", "protocol.version="+version, "clone", "--quiet", "--depth=1", url+"/a.git", clone)
			if content, err := os.ReadFile(filepath.Join(clone, "f")); err != nil || string(content) != "one" {
				t.Errorf("the clone holds %q, %v", content, err)
			}
		})
	}
	t.Run("a large push", func(t *testing.T) {
		// More than git's http.postBuffer, so that it comes in chunks.
		noise := make([]byte, 3<<20)
		for i := range noise {
			noise[i] = byte(i * i >> 3)
		}
		for i := range 4 {
			write(t, filepath.Join(work, fmt.Sprintf("large%d", i)), fmt.Sprint(i)+string(noise))
		}
		g.must(t, work, "add", ".")
		g.must(t, work, "-c", "core.compression=0", "commit", "--quiet", "-m", "large")
		g.must(t, work, "-c", "pack.compression=0", "-c", "core.compression=0", "push", "--quiet", "origin", "HEAD:main")
		if got, want := g.must(t, bare, "rev-parse", "main"), g.must(t, work, "rev-parse", "HEAD"); got != want {
			t.Errorf("the server has %s, want %s", got, want)
		}
	})
	t.Run("hooks and configuration of the user stay out", func(t *testing.T) {
		home := t.TempDir()
		write(t, filepath.Join(home, ".gitconfig"), "[core]\n\thooksPath = "+home+"\n")
		write(t, filepath.Join(home, "pre-receive"), "#!/bin/sh\nexit 1\n")
		if err := os.Chmod(filepath.Join(home, "pre-receive"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("HOME", home)
		g.must(t, work, "commit", "--quiet", "--allow-empty", "-m", "two")
		g.must(t, work, "push", "--quiet", "origin", "HEAD:main")
	})
}

func TestGitServerOfAWorkingTree(t *testing.T) {
	g := testGit(t)
	dir := t.TempDir()
	s, url, _ := startGitServer(t, g)
	g.must(t, dir, "init", "--quiet", "--initial-branch=main")
	g.must(t, dir, "commit", "--quiet", "--allow-empty", "-m", "one")
	s.serve("a", servedRepo{dir: filepath.Join(dir, ".git")})
	clone := filepath.Join(t.TempDir(), "clone")
	g.must(t, "", "clone", "--quiet", url+"/a.git", clone)
	if _, err := g.run(t.Context(), clone, "push", "--quiet", "origin", "HEAD:other"); err == nil || !strings.Contains(err.Error(), "commit there instead") {
		t.Errorf("a push to a working tree: %v, want the advice to commit there", err)
	}
}

func TestGitServerRefuses(t *testing.T) {
	s := newGitServer("git", func(string) {}, t.Logf)
	s.serve("a", servedRepo{dir: t.TempDir(), own: true})
	handler := loopbackOnly(s)
	for _, test := range []struct {
		name, method, target, host, contentType string
		want                                    int
	}{
		{"an unknown repository", "GET", "/b.git/info/refs?service=git-upload-pack", "", "", 404},
		{"a file of the repository", "GET", "/a.git/config", "", "", 404},
		{"the dumb protocol", "GET", "/a.git/info/refs", "", "", 403},
		{"another service", "GET", "/a.git/info/refs?service=git-upload-archive", "", "", 403},
		{"a way out", "GET", "/../a.git/../../etc/passwd", "", "", 404},
		{"a form from a web page", "POST", "/a.git/git-receive-pack", "", "text/plain", 415},
		{"a name of the outside world", "GET", "/a.git/info/refs?service=git-upload-pack", "evil.example", "", 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := httptest.NewRequest(test.method, test.target, nil)
			request.Host = "127.0.0.1:1"
			if test.host != "" {
				request.Host = test.host
			}
			request.Header.Set("Content-Type", test.contentType)
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, request)
			if answer.Code != test.want {
				t.Errorf("answered %d, want %d", answer.Code, test.want)
			}
		})
	}
}

func TestLoopbackOnly(t *testing.T) {
	handler := loopbackOnly(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for host, want := range map[string]int{
		"127.0.0.1:80": 200, "127.0.0.1": 200, "localhost:1": 200, "[::1]:1": 200, "[::1]": 200,
		"example.com": 403, "10.0.0.1:80": 403, "localhost.example.com": 403, "": 403,
	} {
		request := httptest.NewRequest("GET", "/", nil)
		request.Host = host
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != want {
			t.Errorf("Host %q is answered %d, want %d", host, answer.Code, want)
		}
	}
}

func startRegistry(t *testing.T, dir string, pushed func(string)) (host string, stop func()) {
	t.Helper()
	r, err := openRegistry(dir, pushed)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(loopbackOnly(r))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), server.Close
}

func reference(t *testing.T, text string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(text, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestRegistrySurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	pushed := make(chan string, 64)
	host, stop := startRegistry(t, dir, func(name string) { pushed <- name })
	img, err := random.Image(1<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(1<<10, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	// An index of indexes needs more than one round to come back.
	nested := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index})
	for _, err := range []error{
		remote.Write(reference(t, host+"/team/app:v1"), img),
		remote.WriteIndex(reference(t, host+"/team/many:v1"), nested),
		remote.Write(reference(t, host+"/team/gone:v1"), img),
		remote.Delete(reference(t, host+"/team/gone:v1")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if first := <-pushed; first != "team/app" {
		t.Errorf("the first push was told as one to %s, want team/app", first)
	}
	stop()

	host, _ = startRegistry(t, dir, func(string) {})
	got, err := remote.Image(reference(t, host+"/team/app:v1"))
	if err != nil {
		t.Fatal(err)
	}
	sameDigest(t, got, img)
	layers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, content); err != nil {
		t.Errorf("reading a layer: %v", err)
	}
	if _, err := remote.Index(reference(t, host+"/team/many:v1")); err != nil {
		t.Errorf("the index of indexes: %v", err)
	}
	if _, err := remote.Image(reference(t, host+"/team/gone:v1")); err == nil {
		t.Error("a deleted manifest came back")
	}
}

func sameDigest(t *testing.T, a, b v1.Image) {
	t.Helper()
	da, errA := a.Digest()
	db, errB := b.Digest()
	if errA != nil || errB != nil || da != db {
		t.Errorf("digests %s (%v) and %s (%v), want the same", da, errA, db, errB)
	}
}

func TestRegistryRefusesHugeManifests(t *testing.T) {
	r, err := openRegistry(t.TempDir(), func(string) { t.Error("a refused manifest was told as pushed") })
	if err != nil {
		t.Fatal(err)
	}
	request := httptest.NewRequest("PUT", "/v2/a/manifests/b", strings.NewReader(strings.Repeat("x", maxManifest+1)))
	answer := httptest.NewRecorder()
	r.ServeHTTP(answer, request)
	if answer.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("answered %d, want 413", answer.Code)
	}
	if found := list(t, r.dir); len(found) != 0 {
		t.Errorf("a refused manifest was stored: %v", found)
	}
}

func TestManifestOf(t *testing.T) {
	for path, want := range map[string]string{
		"/v2/a/manifests/x": "a", "/v2/a/b/manifests/sha256:1": "a/b", "/v2/manifests/manifests/x": "manifests",
		"/v2/a/blobs/x": "", "/v2//manifests/x": "", "/v1/a/manifests/x": "", "/v2/manifests/x": "",
	} {
		if got, ok := manifestOf(path); got != want || ok != (want != "") {
			t.Errorf("manifestOf(%q) = %q, %t; want %q", path, got, ok, want)
		}
	}
}

func TestWatchBranch(t *testing.T) {
	g := testGit(t)
	for _, branch := range []string{"main", "team/topic"} {
		t.Run(branch, func(t *testing.T) {
			dir := t.TempDir()
			g.must(t, dir, "init", "--quiet", "--initial-branch="+branch)
			g.must(t, dir, "commit", "--quiet", "--allow-empty", "-m", "one")
			ctx, cancel := context.WithCancel(t.Context())
			watching, moved, ended := make(chan struct{}), make(chan struct{}, 8), make(chan error, 1)
			go func() {
				ended <- watchBranch(ctx, g, filepath.Join(dir, ".git"), branch, func() { close(watching) }, func() { moved <- struct{}{} })
			}()
			<-watching
			for _, step := range [][]string{
				{"commit", "--quiet", "--allow-empty", "-m", "two"},
				{"pack-refs", "--all", "--prune"},
				{"commit", "--quiet", "--allow-empty", "-m", "three"},
			} {
				g.must(t, dir, step...)
				if step[0] != "commit" {
					continue
				}
				select {
				case <-moved:
				case <-time.After(10 * time.Second):
					t.Fatalf("git %s went unnoticed", step[len(step)-1])
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
