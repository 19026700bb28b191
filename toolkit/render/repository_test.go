package render

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// What this package takes for a repository must include what kustomize takes for one, or kustomize would start git.
func TestRepositoriesOfKustomize(t *testing.T) {
	if _, err := exec.LookPath("git"); err == nil {
		t.Setenv("PATH", t.TempDir())
	}
	for _, entry := range repositorySamples {
		t.Run(entry, func(t *testing.T) {
			k := newKustomizer()
			tree := writeTree(t, map[string]string{"kustomization.yaml": "components:\n- " + fmt.Sprintf("%q", entry) + "\n"})
			_, err := k.Run(newFileSystem(t.Context(), disk(t, tree), DefaultLimits()), Root)
			startsGit := err != nil && strings.Contains(err.Error(), "no 'git' program on path")
			if _, ok := parseRepository(entry); ok != startsGit {
				t.Errorf("parseRepository = %v, kustomize starts git = %v (%v)", ok, startsGit, err)
			}
			if startsGit && !looksRemote(entry) {
				t.Error("looksRemote = false")
			}
		})
	}
}

var repositorySamples = []string{
	"https://github.com/org/repo", "https://github.com/org/repo/sub/dir?ref=v1", "https://github.com/org", "HTTPS://GitHub.com/org/repo",
	"github.com/org/repo//deploy?ref=main", "github.com:org/repo", "GITHUB.COM/org/repo", "git@github.com:org/repo.git", "git@github.com/org/repo",
	"ssh://git@example.com/org/repo.git", "ssh://git@example.com:22/org/repo//x", "git::https://example.com/org/repo.git", "GIT::ssh://git@x/y/z",
	"git::git@example.com:a/b", "user@host.example:path/to/repo.git", "user@host", "user@host/x", "a@b/c/d", "app@v1", "app@v1/overlay", "./github.com/org/repo",
	"file:///srv/repo", "file://repo//x", "http://127.0.0.1/x.yaml", "http://127.0.0.1/a/b/x.yaml", "https://example.com/_git/repo/x",
	"https://dev.azure.com/org/project/_git/repo/x?version=v1", "https://example.com/a//../b", "https://example.com/a.git/../../b", "https:///a/b", "git::", "git::./x",
	"ftp://example.com/a/b", "oci://example.com/a/b", "s3::https://example.com/a/b", "../base", "base", "a:b/c", "C:/x", "example.com/a/b.git", "github.com", "github.com/", "github.com/a",
	"git@", "@", "", "a b@c/d/e", "_u@h/x/y", "ssh://", "https://u:p@example.com/a/b", "https://example.com?ref=x", "git@github.com:org/repo//p?submodules=0&ref=x",
}

func FuzzParseRepository(f *testing.F) {
	for _, s := range repositorySamples {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		repo, ok := parseRepository(s)
		if ok && (!looksRemote(s) || repo.URL == "") {
			t.Errorf("%q: %+v, looksRemote %v", s, repo, looksRemote(s))
		}
		if looksRemote("./" + s) {
			t.Errorf("%q is not made local by ./", s)
		}
	})
}
