package local

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecentGit(t *testing.T) {
	for version, want := range map[string]bool{
		"git version 2.39.5": true, "git version 2.28.0": true, "git version 2.39.5 (Apple Git-154)": true, "git version 3.0": true,
		"git version 2.27.1": false, "git version 1.9": false, "git version": false, "": false, "git version x.y": false,
	} {
		if got := recent(version); got != want {
			t.Errorf("recent(%q) = %t, want %t", version, got, want)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for url, want := range map[string]string{
		"https://example.com/a/b":       "",
		"http://127.0.0.1:80/a.git":     "",
		"https://":                      "cannot be read",
		"ssh://git@example.com/a":       "scheme ssh",
		"https://me:secret@example.com": "credentials",
	} {
		err := checkURL(url)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("checkURL(%q) = %v, want %q in it", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

func TestUnderRoot(t *testing.T) {
	for path, want := range map[string]string{"": "./", ".": "./", "a": "./a", "./a/": "./a", "/a/b": "./a/b", "../../a": "./a"} {
		if got := underRoot(path); got != want {
			t.Errorf("underRoot(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestServedName(t *testing.T) {
	for name, want := range map[string]string{"fleet": "fleet", "my fleet": "my-fleet", "..": "repository", "été": "-t-", "a/b": "a-b"} {
		if got := served(name); got != want {
			t.Errorf("served(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestLookAt(t *testing.T) {
	g := testGit(t)
	dir := realTempDir(t)
	repo := filepath.Join(dir, "repo")
	write(t, filepath.Join(repo, "apps", "x.yaml"), "a: 1\n")
	g.must(t, repo, "init", "--quiet", "--initial-branch=trunk")

	_, err := lookAt(t.Context(), g, Options{Directory: dir, Repo: "repo"})
	wantError(t, "an empty repository", err, "no commit on branch trunk")
	g.must(t, repo, "add", ".")
	g.must(t, repo, "commit", "--quiet", "-m", "one")

	got, err := lookAt(t.Context(), g, Options{Directory: dir, Repo: "repo"})
	if err != nil {
		t.Fatal(err)
	}
	if got.branch != "trunk" || got.path != "./" || got.clone != repo || got.warning != "" {
		t.Errorf("lookAt the root: %+v", got)
	}
	write(t, filepath.Join(repo, "apps", "x.yaml"), "a: 2\n")
	if got, err = lookAt(t.Context(), g, Options{Directory: "/", Repo: filepath.Join(repo, "apps")}); err != nil {
		t.Fatal(err)
	}
	if got.path != "./apps" || got.clone != repo || !strings.Contains(got.warning, "not committed") {
		t.Errorf("lookAt a directory below, with changes: %+v", got)
	}
	if got, err = lookAt(t.Context(), g, Options{Directory: dir, Repo: "repo/apps", Path: "other"}); err != nil || got.path != "./other" {
		t.Errorf("lookAt with a path: %+v, %v", got, err)
	}

	linked := filepath.Join(dir, "linked")
	g.must(t, repo, "worktree", "add", "--quiet", "-b", "topic", linked)
	if got, err = lookAt(t.Context(), g, Options{Directory: dir, Repo: "linked"}); err != nil {
		t.Fatal(err)
	}
	if got.branch != "topic" || got.clone != linked || got.watch != filepath.Join(repo, ".git") {
		t.Errorf("lookAt a linked working tree: %+v", got)
	}

	bare := filepath.Join(dir, "bare.git")
	g.must(t, "", "clone", "--quiet", "--bare", repo, bare)
	if got, err = lookAt(t.Context(), g, Options{Directory: dir, Repo: "bare.git"}); err != nil || got.branch != "trunk" || got.path != "./" {
		t.Errorf("lookAt a bare repository: %+v, %v", got, err)
	}

	g.must(t, repo, "checkout", "--quiet", "--detach")
	_, err = lookAt(t.Context(), g, Options{Directory: dir, Repo: "repo"})
	wantError(t, "a detached HEAD", err, "on no branch")
	_, err = lookAt(t.Context(), g, Options{Directory: dir, Repo: "repo", Branch: "nope"})
	wantError(t, "an unknown branch", err, "no commit on branch nope")
	_, err = lookAt(t.Context(), g, Options{Directory: dir, Repo: "nowhere"})
	wantError(t, "no directory", err, "is no directory")
	_, err = lookAt(t.Context(), g, Options{Directory: "/", Repo: t.TempDir()})
	wantError(t, "no repository", err, "no usable Git repository")
}

func TestDemo(t *testing.T) {
	g := testGit(t)
	t.Setenv("HOME", t.TempDir())
	work, home := realTempDir(t), &home{dir: t.TempDir()}
	server, url, _ := startGitServer(t, g)
	o := Options{Directory: work}
	clone := filepath.Join(work, DemoDir)
	prepare := func() repository {
		t.Helper()
		repo, err := prepareRepo(t.Context(), g, o, home, server, url)
		if err != nil {
			t.Fatal(err)
		}
		return repo
	}
	repo := prepare()
	if repo.url != url+"/flux-demo.git" || repo.branch != "main" || repo.path != "./apps" || repo.clone != clone {
		t.Errorf("the new demo: %+v", repo)
	}
	// The newcomer, with a git that knows neither name nor proxy.
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	user := g.asUser()
	for _, args := range [][]string{{"commit", "--quiet", "--allow-empty", "-m", "two"}, {"push", "--quiet"}} {
		if _, err := user.run(t.Context(), clone, args...); err != nil {
			t.Fatal(err)
		}
	}
	tipOf := func() string {
		t.Helper()
		hash, err := tip(t.Context(), g, home.path(gitDir, "flux-demo.git"), "main")
		if err != nil {
			t.Fatal(err)
		}
		return hash
	}
	second := tipOf()
	if got := g.must(t, clone, "rev-parse", "HEAD"); got != second {
		t.Errorf("the server has %s after the push, want %s", second, got)
	}

	t.Run("the clone goes on after its server's data is gone", func(t *testing.T) {
		if err := os.RemoveAll(home.path(gitDir)); err != nil {
			t.Fatal(err)
		}
		if repo := prepare(); repo.warning != "" || tipOf() != second {
			t.Errorf("the branch is at %s, want %s; %+v", tipOf(), second, repo)
		}
	})
	t.Run("kept data gives a new clone", func(t *testing.T) {
		if err := os.RemoveAll(clone); err != nil {
			t.Fatal(err)
		}
		prepare()
		if got := g.must(t, clone, "rev-parse", "HEAD"); got != second {
			t.Errorf("the new clone is at %s, want %s", got, second)
		}
	})
	t.Run("a clone that went another way is left alone", func(t *testing.T) {
		g.must(t, clone, "commit", "--quiet", "--amend", "--allow-empty", "-m", "other")
		if repo := prepare(); !strings.Contains(repo.warning, "could not be pushed") || tipOf() != second {
			t.Errorf("the branch is at %s, want %s; %+v", tipOf(), second, repo)
		}
	})
	t.Run("anything else by that name is in the way", func(t *testing.T) {
		if err := os.RemoveAll(clone); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(clone, "thesis.txt"), "x")
		err := checkRepo(t.Context(), g, o)
		wantError(t, "a directory of the user", err, "--repo flux-demo")
		if found := list(t, clone); len(found) != 1 {
			t.Errorf("the user's directory holds %v", found)
		}
	})
}

func wantError(t *testing.T, what string, err error, part string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), part) {
		t.Errorf("%s: %v, want an error with %q", what, err, part)
	}
}
