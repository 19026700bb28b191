package git

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/sourcetest"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// gitUpstream is a Git server with one repository.
type gitUpstream struct {
	http.Handler
	repo *testkit.GitRepo
}

func newUpstream(t testing.TB) sourcetest.Upstream {
	t.Helper()
	root := t.TempDir()
	handler, err := testkit.GitHandler(root)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := testkit.NewGitRepo(filepath.Join(root, "app.git"))
	if err != nil {
		t.Fatal(err)
	}
	return &gitUpstream{handler, repo}
}

func (u *gitUpstream) Publish(t testing.TB, files map[string]string) {
	t.Helper()
	c := testkit.GitCommit{Branch: "main", Message: "publish", Files: map[string]*testkit.GitFile{}}
	for _, name := range []string{"app.yaml", "dir/more.yaml", "large.yaml"} {
		c.Files[name] = nil
	}
	for name, content := range files {
		c.Files[name] = &testkit.GitFile{Content: content}
	}
	if _, err := u.repo.Commit(c); err != nil {
		t.Fatal(err)
	}
}

// bomb serves a repository of a dozen objects that stand for 10^10 files (reliability 003).
func bomb(t testing.TB) http.Handler {
	t.Helper()
	u := newUpstream(t).(*gitUpstream)
	hash, kind := strings.TrimSpace(plumb(t, u.repo.Dir, "x", "hash-object", "-w", "--stdin")), "100644 blob"
	for range 10 {
		var tree strings.Builder
		for i := range 10 {
			fmt.Fprintf(&tree, "%s %s\tf%d\n", kind, hash, i)
		}
		hash, kind = strings.TrimSpace(plumb(t, u.repo.Dir, tree.String(), "mktree")), "040000 tree"
	}
	commit := strings.TrimSpace(plumb(t, u.repo.Dir, "", "commit-tree", "-m", "bomb", hash))
	plumb(t, u.repo.Dir, "", "update-ref", "refs/heads/main", commit)
	return u
}

func plumb(t testing.TB, dir, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin, cmd.Stderr = dir, strings.NewReader(stdin), os.Stderr
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@example.com", "GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@example.com")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %v: %v", args, err)
	}
	return string(out)
}

func webPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, "<html>"+strings.Repeat("sign in ", 1000))
}

// endlessReferences never comes to an end by itself, and knows no version 2 of the protocol (reliability 006).
func endlessReferences(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		http.Error(w, "no", http.StatusBadRequest)
		return
	}
	hash := strings.Repeat("1", 40)
	write := func(line string) error {
		_, err := fmt.Fprintf(w, "%04x%s", len(line)+4, line)
		return err
	}
	err := write(hash + " refs/heads/main\x00side-band-64k\n")
	for i := 0; err == nil; i++ {
		err = write(fmt.Sprintf("%s refs/pull/%012d/head\n", hash, i))
	}
}

// A GitRepository is a source like any other.
func TestSource(t *testing.T) {
	sourcetest.Run(t, sourcetest.Subject[*sourcev1.GitRepository]{
		New: func() *sourcev1.GitRepository { return &sourcev1.GitRepository{} },
		Controller: func(_ testing.TB, e sourcetest.Environment) *loop.Controller[*sourcev1.GitRepository] {
			return Controller("source-controller", e.Client, e.Store, Options{TempDir: e.TempDir})
		},
		Upstream: newUpstream,
		Configure: func(obj *sourcev1.GitRepository, c sourcetest.Config) {
			scheme := "http://"
			if c.TLS {
				scheme = "https://"
			}
			obj.Spec.URL = scheme + c.Host + "/app.git"
			obj.Spec.Ref = &sourcev1.GitRepositoryRef{Branch: "main"}
			obj.Spec.Interval = meta.DurationOf(10 * time.Minute)
			if c.Secret != "" {
				obj.Spec.SecretRef = &meta.LocalObjectReference{Name: c.Secret}
			}
		},
		Login: func(_ sourcetest.Config, user, password string) map[string][]byte {
			return map[string][]byte{"username": []byte(user), "password": []byte(password)}
		},
		Suspend:    func(obj *sourcev1.GitRepository, suspend bool) { obj.Spec.Suspend = suspend },
		SetTimeout: func(obj *sourcev1.GitRepository, d time.Duration) { obj.Spec.Timeout = meta.DurationOf(d) },
		Unchanged:  1,
		Hostile: map[string]func(testing.TB) http.Handler{
			"ten directories in each of ten levels": bomb,
			"a web page":                            func(testing.TB) http.Handler { return http.HandlerFunc(webPage) },
			"references without end":                func(testing.TB) http.Handler { return http.HandlerFunc(endlessReferences) },
		},
	})
}
