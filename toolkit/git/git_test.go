package git_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/git"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

func app(t testing.TB, server *testkit.GitServer) *testkit.GitRepo {
	t.Helper()
	repo := must(server.Repo("app"))
	must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "first\n\nbody", Files: map[string]*testkit.GitFile{
		"app.yaml": {Content: "a: 1\n"},
	}, Tag: "v1.0.0"}))
	return repo
}

// TestErrorTexts holds what 2.9 says about failing checkouts, after its prefix
// "failed to checkout and determine revision: " (gitrepository 31, 33, 35, 36).
func TestErrorTexts(t *testing.T) {
	server := gitServer(t)
	app(t, server)
	must(server.Repo("empty"))
	tests := []struct {
		recording string
		url       string
		ref       git.Reference
		auth      git.Auth
		want      string
		property  error
	}{
		{
			recording: "repository-missing", url: server.URL + "/nothing.git", ref: git.Reference{Branch: "main"},
			want: "unable to clone '" + server.URL + "/nothing.git': repository not found: ", property: git.ErrNotFound,
		},
		{
			recording: "branch-unknown", ref: git.Reference{Branch: "absent"},
			want: "unable to clone '" + server.URL + "/app.git': couldn't find remote ref \"refs/heads/absent\"", property: git.ErrReferenceNotFound,
		},
		{
			recording: "default branch is master", ref: git.Reference{},
			want: "unable to clone '" + server.URL + "/app.git': couldn't find remote ref \"refs/heads/master\"", property: git.ErrReferenceNotFound,
		},
		{
			recording: "host-refuses", url: "http://127.0.0.1:1/app.git", ref: git.Reference{Branch: "main"},
			want: `unable to clone 'http://127.0.0.1:1/app.git': Get "http://127.0.0.1:1/app.git/info/refs?service=git-upload-pack": dial tcp 127.0.0.1:1: connect: connection refused`,
		},
		{
			recording: "auth-wrong", url: server.URL + "/auth/app.git", ref: git.Reference{Branch: "main"},
			auth: git.Auth{Basic: &secret.Basic{Username: "user", Password: "wrong"}},
			want: "unable to clone '" + server.URL + "/auth/app.git': authentication required: Unauthorized", property: git.ErrAuthentication,
		},
		{
			recording: "commit-unknown", ref: git.Reference{Commit: "0123456789012345678901234567890123456789"},
			want: "unable to resolve commit object for '0123456789012345678901234567890123456789': object not found", property: git.ErrReferenceNotFound,
		},
		{
			recording: "commit in another branch", ref: git.Reference{Branch: "other", Commit: "0123456789012345678901234567890123456789"},
			want: "unable to clone '" + server.URL + "/app.git': couldn't find remote ref \"refs/heads/other\"", property: git.ErrReferenceNotFound,
		},
		{
			recording: "name-unknown", ref: git.Reference{Name: "refs/heads/absent"},
			want: "unable to resolve ref 'refs/heads/absent' to a specific commit", property: git.ErrReferenceNotFound,
		},
		{
			recording: "name with a slash at its end (gitrepository 31)", ref: git.Reference{Name: "refs/heads/main/"},
			want: "invalid reference name 'refs/heads/main/': it must not begin or end with '/'", property: git.ErrReferenceNotFound,
		},
		{
			recording: "semver-bad-range", ref: git.Reference{SemVer: "not a range"},
			want: `semver parse error: improper constraint: "not a range"`, property: git.ErrReferenceNotFound,
		},
		{
			recording: "semver-no-match", ref: git.Reference{SemVer: ">=3.0.0"},
			want: "no match found for semver: >=3.0.0", property: git.ErrReferenceNotFound,
		},
		{
			recording: "empty-repository", url: server.URL + "/empty.git", ref: git.Reference{Branch: "main"},
			want: "git repository is empty", property: git.ErrEmptyRepository,
		},
	}
	for _, test := range tests {
		t.Run(test.recording, func(t *testing.T) {
			t.Parallel()
			if test.url == "" {
				test.url = server.URL + "/app.git"
			}
			client := must(git.New(git.Options{URL: test.url, Auth: test.auth}))
			defer client.Close()
			_, err := client.Fetch(t.Context(), test.ref, t.TempDir())
			if err == nil || err.Error() != test.want {
				t.Errorf("fetch: %v\nwant:  %s", err, test.want)
			}
			if test.property != nil && !errors.Is(err, test.property) {
				t.Errorf("fetch: %v lacks the property %q", err, test.property)
			}
		})
	}
}

func TestInvalidURL(t *testing.T) {
	for _, raw := range []string{
		"ftp://host/app.git", "git@host:app.git", "file:///app.git", "ext::sh -c id", "ssh://", "http:///app.git",
		"http://user:secret\x7f@host/app.git", "ssh://host/app.git\r\nX: y", "ssh://host:port/app.git",
	} {
		_, err := git.New(git.Options{URL: raw})
		if !errors.Is(err, git.ErrInvalidURL) {
			t.Errorf("gitrepository 12: %q: %v, want ErrInvalidURL", raw, err)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%v shows the password", err)
		}
	}
}

func TestReferences(t *testing.T) {
	server := gitServer(t)
	repo := must(server.Repo("app"))
	commit := func(c testkit.GitCommit) string {
		c.Files = map[string]*testkit.GitFile{"f": {Content: c.Message}}
		return must(repo.Commit(c))
	}
	first := commit(testkit.GitCommit{Branch: "main", Message: "1", Tag: "v1.2.3"})
	second := commit(testkit.GitCommit{Branch: "main", Message: "2", Tag: "1.2.3+build"})
	third := commit(testkit.GitCommit{Branch: "main", Message: "3", AnnotatedTag: "v1.0.0"})
	side := commit(testkit.GitCommit{Branch: "side", Message: "4", Tag: "v1.9"})
	pre := commit(testkit.GitCommit{Branch: "side", Message: "5", Tag: "v2.0.0-rc.1"})
	testkitGit(t, repo, "update-ref", "refs/pull/7/head", second)

	tests := []struct {
		name string
		ref  git.Reference
		want string
		err  error
	}{
		{"26: commit before name", git.Reference{Commit: first, Name: "refs/heads/side"}, "sha1:" + first, nil},
		{"26: name before semver", git.Reference{Name: "refs/heads/side", SemVer: "1.x"}, "refs/heads/side@sha1:" + pre, nil},
		{"26: semver before tag", git.Reference{SemVer: "1.0.x", Tag: "v1.9"}, "v1.0.0@sha1:" + third, nil},
		{"26: tag before branch", git.Reference{Tag: "v1.9", Branch: "main"}, "v1.9@sha1:" + side, nil},
		{"28: commit in a branch", git.Reference{Commit: first, Branch: "main"}, "main@sha1:" + first, nil},
		{"28: commit that is the tip", git.Reference{Commit: third}, "sha1:" + third, nil},
		{"27: commit of another branch", git.Reference{Commit: side, Branch: "main"}, "", git.ErrReferenceNotFound},
		{"27: commit of any branch", git.Reference{Commit: side}, "sha1:" + side, nil},
		{"30: annotated tag", git.Reference{Tag: "v1.0.0"}, "v1.0.0@sha1:" + third, nil},
		{"30: annotated tag by name", git.Reference{Name: "refs/tags/v1.0.0"}, "refs/tags/v1.0.0@sha1:" + third, nil},
		{"30: peeled suffix", git.Reference{Name: "refs/tags/v1.0.0^{}"}, "refs/tags/v1.0.0^{}@sha1:" + third, nil},
		{"32: pull request", git.Reference{Name: "refs/pull/7/head"}, "refs/pull/7/head@sha1:" + second, nil},
		{"33: of equal versions the newest commit", git.Reference{SemVer: "1.x"}, "1.2.3+build@sha1:" + second, nil},
		{"33: prerelease only when allowed", git.Reference{SemVer: ">=2.0.0"}, "", git.ErrReferenceNotFound},
		{"33: prerelease", git.Reference{SemVer: ">=2.0.0-0"}, "v2.0.0-rc.1@sha1:" + pre, nil},
	}
	client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
	defer client.Close()
	for _, test := range tests {
		t.Run("gitrepository "+test.name, func(t *testing.T) {
			checkout, err := client.Fetch(t.Context(), test.ref, t.TempDir())
			if test.err != nil {
				if !errors.Is(err, test.err) {
					t.Errorf("fetch: %v, want %v", err, test.err)
				}
				return
			}
			check(t, err)
			defer checkout.Close()
			if got := checkout.Revision.String(); got != test.want {
				t.Errorf("fetched %s, want %s", got, test.want)
			}
			resolved, err := client.Resolve(t.Context(), test.ref)
			if errors.Is(err, git.ErrAmbiguous) && test.ref.SemVer == "1.x" {
				return
			}
			check(t, err)
			if got := resolved.String(); got != test.want {
				t.Errorf("resolved %s, want %s", got, test.want)
			}
		})
	}
}

func TestCheckoutDetails(t *testing.T) {
	server := gitServer(t)
	repo := app(t, server)
	annotated := must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "second", AnnotatedTag: "v2.0.0"}))
	client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
	defer client.Close()

	branch := must(client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir()))
	defer branch.Close()
	dev := git.Signature{Name: "dev", Email: "dev@example.com", When: time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)}
	equalTimes := cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })
	if diff := cmp.Diff([]any{annotated, dev, dev, "second"}, []any{branch.Commit.Hash, branch.Commit.Author, branch.Commit.Committer, branch.Commit.Subject()}, equalTimes); diff != "" {
		t.Errorf("commit (-want +got):\n%s", diff)
	}
	if branch.Tag != nil {
		t.Errorf("tag %v of a branch", branch.Tag)
	}
	if raw := testkitGit(t, repo, "cat-file", "commit", annotated); string(branch.Commit.Raw) != raw {
		t.Errorf("raw commit %q, want %q", branch.Commit.Raw, raw)
	}

	tag := must(client.Fetch(t.Context(), git.Reference{Tag: "v2.0.0"}, t.TempDir()))
	defer tag.Close()
	if tag.Tag == nil || !tag.Tag.Annotated() || tag.Commit.Hash != annotated {
		t.Fatalf("tag %+v of commit %s", tag.Tag, tag.Commit.Hash)
	}
	if raw := testkitGit(t, repo, "cat-file", "tag", tag.Tag.Hash); string(tag.Tag.Raw) != raw || tag.Tag.Tagger.Name != "dev" {
		t.Errorf("tag %+v, raw want %q", tag.Tag, raw)
	}

	light := must(client.Fetch(t.Context(), git.Reference{Tag: "v1.0.0"}, t.TempDir()))
	defer light.Close()
	if light.Tag == nil || light.Tag.Annotated() || light.Commit.Subject() != "first" {
		t.Errorf("lightweight tag %+v, subject %q", light.Tag, light.Commit.Subject())
	}
}

// TestSubmodulesAndLinks: a submodule is an empty directory, links are left
// out, and a directory that held only links stays (gitrepository 64).
func TestSubmodulesAndLinks(t *testing.T) {
	server := gitServer(t)
	repo := must(server.Repo("app"))
	commit := must(repo.Commit(testkit.GitCommit{Branch: "main", Message: "1", Files: map[string]*testkit.GitFile{
		"links/l": {Symlink: "../../../etc/passwd"},
		"run.sh":  {Content: "#!/bin/sh\n", Executable: true},
		"a-b":     {Content: "x"},
		"a/f":     {Content: "y"},
	}}))
	index := "GIT_INDEX_FILE=" + t.TempDir() + "/index"
	testkitGitEnv(t, repo, index, "read-tree", commit)
	testkitGitEnv(t, repo, index, "update-index", "--add", "--cacheinfo", "160000,"+commit+",sub/module")
	tree := strings.TrimSpace(testkitGitEnv(t, repo, index, "write-tree"))
	withModule := strings.TrimSpace(testkitGit(t, repo, "commit-tree", "-m", "2", tree))
	testkitGit(t, repo, "update-ref", "refs/heads/main", withModule)

	client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
	defer client.Close()
	checkout := must(client.Fetch(t.Context(), git.Reference{Branch: "main"}, t.TempDir()))
	defer checkout.Close()
	var got []string
	check(t, checkout.Tree().Walk(t.Context(), func(e archive.Entry) error {
		got = append(got, e.Mode.String()+" "+e.Path)
		return nil
	}))
	want := []string{
		"drwxr-xr-x a", "-rw-r--r-- a/f", "-rw-r--r-- a-b", "drwxr-xr-x links", "Lrwxrwxrwx links/l",
		"-rwxr-xr-x run.sh", "drwxr-xr-x sub", "drwxr-xr-x sub/module",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
}

// TestPackedHistory: what git packs with deltas reads back as git says.
func TestPackedHistory(t *testing.T) {
	server := gitServer(t)
	repo := must(server.Repo("app"))
	var lines []string
	for i := range 3000 {
		lines = append(lines, fmt.Sprintf("line %d of a manifest that changes a little", i))
	}
	var first string
	for i := range 12 {
		lines[i*200] = fmt.Sprint("changed ", i)
		text := strings.Join(lines, "\n")
		hash := must(repo.Commit(testkit.GitCommit{Branch: "main", Message: fmt.Sprint(i), Files: map[string]*testkit.GitFile{
			"big": {Content: text}, fmt.Sprintf("d/copy-%d", i%3): {Content: text[:len(text)/2]},
		}}))
		if i == 5 {
			first = hash
		}
	}
	testkitGit(t, repo, "repack", "-q", "-a", "-d", "-f", "--depth=50", "--window=50")
	client := must(git.New(git.Options{URL: server.URL + "/app.git"}))
	defer client.Close()
	for _, ref := range []git.Reference{{Commit: first}, {Branch: "main"}} {
		checkout := must(client.Fetch(t.Context(), ref, t.TempDir()))
		defer checkout.Close()
		files := 0
		check(t, checkout.Tree().Walk(t.Context(), func(e archive.Entry) error {
			if e.Open == nil {
				return nil
			}
			files++
			r := must(e.Open())
			defer r.Close()
			if got := string(must(io.ReadAll(r))); got != testkitGit(t, repo, "show", checkout.Commit.Hash+":"+e.Path) {
				t.Errorf("%s at %s differs", e.Path, checkout.Revision)
			}
			return nil
		}))
		if files != 4 {
			t.Errorf("%d files, want 4", files)
		}
	}
}
