package git_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/git"
)

// manyRefs is a repository with so many branches that a client does better to ask for few.
func manyRefs(t testing.TB, root string, n int) (repo *testkit.GitRepo, tip string) {
	t.Helper()
	repo = must(testkit.NewGitRepo(root + "/app.git"))
	first := must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: files("f", "1"), Tag: "v1.0.0"}))
	tip = must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "2", Files: files("f", "2"), AnnotatedTag: "v2.0.0"}))
	testkitGit(t, repo, "pack-refs", "--all")
	// Without the word git sorts what is appended.
	packed := bytes.NewBuffer(bytes.Replace(must(os.ReadFile(filepath.Join(repo.Dir, "packed-refs"))), []byte(" sorted"), nil, 1))
	for i := range n {
		fmt.Fprintf(packed, "%s refs/pull/%07d/head\n", first, i)
	}
	check(t, os.WriteFile(filepath.Join(repo.Dir, "packed-refs"), packed.Bytes(), 0o600))
	return repo, tip
}

// TestManyReferences: whoever has very many references is asked for those that matter (gitrepository 37).
func TestManyReferences(t *testing.T) {
	root := t.TempDir()
	_, tip := manyRefs(t, root, 20_000)
	backend := must(testkit.GitHandler(root))
	old := false
	var requests []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		version := r.Header.Get("Git-Protocol")
		requests = append(requests, r.Method+" "+version)
		if old {
			r.Header.Del("Git-Protocol")
		}
		backend.ServeHTTP(w, r)
	}))
	defer server.Close()
	for _, old = range []bool{false, true} {
		for _, ref := range []struct {
			git.Reference
			want string
		}{
			{git.Reference{Branch: "main"}, "main@sha1:" + tip},
			{git.Reference{Tag: "v2.0.0"}, "v2.0.0@sha1:" + tip},
			{git.Reference{SemVer: ">=1.0.0"}, "v2.0.0@sha1:" + tip},
			{git.Reference{Name: "refs/heads/main"}, "refs/heads/main@sha1:" + tip},
			{git.Reference{Commit: tip}, "sha1:" + tip},
		} {
			client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
			requests = nil
			resolved, err := client.Resolve(t.Context(), ref.Reference)
			if err != nil || resolved.String() != ref.want {
				t.Errorf("old server %t: %+v resolves to %s, %v, want %s", old, ref.Reference, resolved, err, ref.want)
			}
			if diff := cmp.Diff([]string{"GET ", "POST version=2"}, requests); diff != "" {
				t.Errorf("old server %t: requests (-want +got):\n%s", old, diff)
			}
			checkout, err := client.Fetch(t.Context(), ref.Reference, t.TempDir())
			if err != nil {
				t.Fatalf("old server %t: %+v: %v", old, ref.Reference, err)
			}
			if checkout.Revision.String() != ref.want {
				t.Errorf("old server %t: fetched %s, want %s", old, checkout.Revision, ref.want)
			}
			check(t, checkout.Close())
			client.Close()
		}
	}
	old = false
	client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
	defer client.Close()
	for _, ref := range []git.Reference{{Branch: "mai"}, {Tag: "v3"}, {Name: "refs/pull"}} {
		if _, err := client.Resolve(t.Context(), ref); !errors.Is(err, git.ErrReferenceNotFound) {
			t.Errorf("%+v: %v, want ErrReferenceNotFound", ref, err)
		}
	}
}

// TestManyReferencesOfInterest: the limit holds for what was asked for, too.
func TestManyReferencesOfInterest(t *testing.T) {
	root := t.TempDir()
	manyRefs(t, root, 20_000)
	server := httptest.NewServer(must(testkit.GitHandler(root)))
	defer server.Close()
	client := must(git.New(git.Options{URL: server.URL + "/app.git", Limits: git.Limits{AdvertisementBytes: 300 << 10}}))
	defer client.Close()
	if _, err := client.Resolve(t.Context(), git.Reference{Branch: "main"}); err != nil {
		t.Errorf("a branch: %v", err)
	}
	if _, err := client.Resolve(t.Context(), git.Reference{Name: "refs/pull/"}); !errors.Is(err, git.ErrReferenceNotFound) {
		t.Errorf("a name that is none: %v", err)
	}
}
