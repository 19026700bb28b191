package local

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
)

//go:embed demo
var demoFiles embed.FS

const (
	demoBranch = "main"
	demoPath   = "./apps"
	// demoMark is the key in the local configuration of a demo clone by which we know it again.
	demoMark = "flux.demo"
)

// repository is what an environment follows.
type repository struct {
	// url, branch and path go into the source and the Kustomization.
	url, branch, path string
	// clone is the user's working tree, if there is one on this machine.
	clone string
	// watch is the Git directory whose commits are to be noticed, for a repository that nobody pushes to.
	watch string
	// story is the progress line.
	story string
	// warning is what deserves the user's attention.
	warning string
}

// isURL tells a URL from a directory.
func isURL(repo string) bool { return strings.Contains(repo, "://") }

// checkRepo judges what the user named before anything is started.
func checkRepo(ctx context.Context, g *git, o Options) error {
	switch {
	case o.Repo == "":
		_, err := existingDemo(ctx, g, o.Directory)
		return err
	case isURL(o.Repo):
		return checkURL(o.Repo)
	}
	_, err := lookAt(ctx, g, o)
	return err
}

// prepareRepo makes the repository of the options available at server, whose base URL is base.
func prepareRepo(ctx context.Context, g *git, o Options, home *home, server *gitServer, base string) (repository, error) {
	switch {
	case o.Repo == "":
		return prepareDemo(ctx, g, o, home, server, base)
	case isURL(o.Repo):
		return remoteRepo(ctx, g, o)
	}
	repo, err := lookAt(ctx, g, o)
	if err != nil {
		return repository{}, err
	}
	name := served(filepath.Base(strings.TrimSuffix(repo.clone, ".git")))
	server.serve(name, servedRepo{dir: repo.watch})
	repo.url = base + "/" + name + ".git"
	return repo, nil
}

// served makes a name fit for a URL.
func served(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
	if strings.Trim(name, ".-") == "" {
		return "repository"
	}
	return name
}

func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return errors.New("--repo holds a URL that cannot be read: want https://host/path")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--repo has the scheme %s: flux up follows http and https URLs; clone the repository and name the clone with --repo DIR instead", u.Scheme)
	}
	if u.User != nil {
		return errors.New("--repo holds credentials, which would end up in plain sight: clone the repository and name the clone with --repo DIR instead")
	}
	return nil
}

// remoteRepo follows a URL, on its default branch unless told otherwise.
func remoteRepo(ctx context.Context, g *git, o Options) (repository, error) {
	repo := repository{url: o.Repo, branch: o.Branch, path: underRoot(o.Path)}
	if repo.branch == "" {
		out, err := g.run(ctx, "", "ls-remote", "--symref", o.Repo, "HEAD")
		if err != nil {
			return repo, fmt.Errorf("ask %s for its default branch: %w", o.Repo, err)
		}
		for line := range strings.Lines(out) {
			if rest, ok := strings.CutPrefix(line, "ref: refs/heads/"); ok {
				repo.branch, _, _ = strings.Cut(rest, "\t")
			}
		}
		if repo.branch == "" {
			return repo, fmt.Errorf("%s names no default branch: choose one with --branch", o.Repo)
		}
	}
	repo.story = fmt.Sprintf("following %s, branch %s, path %s", repo.url, repo.branch, repo.path)
	return repo, nil
}

// underRoot writes a path as spec.path has it.
func underRoot(p string) string {
	return "./" + strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(p)), "/")
}

// lookAt describes the repository that a directory belongs to.
func lookAt(ctx context.Context, g *git, o Options) (repository, error) {
	var repo repository
	dir := o.Repo
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(o.Directory, dir)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return repo, fmt.Errorf("--repo: %s is no directory, and no URL either", dir)
	}
	user := g.asUser()
	gitDir, err := user.run(ctx, dir, "rev-parse", "--git-common-dir")
	if err != nil {
		return repo, fmt.Errorf("--repo: %s is in no usable Git repository: %w", dir, err)
	}
	if !filepath.IsAbs(gitDir) {
		gitDir = filepath.Join(dir, gitDir)
	}
	repo.watch, repo.clone = gitDir, gitDir
	prefix := ""
	if bare, _ := user.run(ctx, dir, "rev-parse", "--is-bare-repository"); bare != "true" {
		if repo.clone, err = user.run(ctx, dir, "rev-parse", "--show-toplevel"); err != nil {
			return repo, fmt.Errorf("--repo: %s is in no working tree: %w", dir, err)
		}
		if prefix, err = user.run(ctx, dir, "rev-parse", "--show-prefix"); err != nil {
			return repo, fmt.Errorf("--repo: %w", err)
		}
	}
	if repo.branch = o.Branch; repo.branch == "" {
		if repo.branch, err = user.run(ctx, dir, "symbolic-ref", "--short", "HEAD"); err != nil {
			return repo, fmt.Errorf("--repo: %s is on no branch: check one out, or choose one with --branch", repo.clone)
		}
	}
	if _, err := tip(ctx, user, repo.watch, repo.branch); err != nil {
		return repo, fmt.Errorf("--repo: %s has no commit on branch %s: commit something, or choose another branch with --branch", repo.clone, repo.branch)
	}
	if repo.path = underRoot(prefix); o.Path != "" {
		repo.path = underRoot(o.Path)
	}
	if o.Repo != "" && repo.clone != repo.watch {
		if dirty, err := user.run(ctx, repo.clone, "status", "--porcelain", "--untracked-files=no"); err == nil && dirty != "" {
			repo.warning = repo.clone + " has changes that are not committed: only commits are followed"
		}
	}
	repo.story = fmt.Sprintf("following commits in %s, branch %s, path %s", repo.clone, repo.branch, repo.path)
	return repo, nil
}

// tip returns the commit that a branch is at.
func tip(ctx context.Context, g *git, gitDir, branch string) (string, error) {
	return g.run(ctx, "", "--git-dir", gitDir, "rev-parse", "--quiet", "--verify", "refs/heads/"+branch+"^{commit}")
}

// existingDemo tells whether directory holds a demo clone of an earlier life. Anything else by that name is in the way.
func existingDemo(ctx context.Context, g *git, directory string) (bool, error) {
	clone := filepath.Join(directory, DemoDir)
	entries, err := os.ReadDir(clone)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return false, nil
	}
	if err == nil {
		if mark, err := g.run(ctx, clone, "--git-dir", filepath.Join(clone, ".git"), "config", "--local", demoMark); err == nil && mark == "true" {
			return true, nil
		}
	}
	return false, fmt.Errorf("%s is in the way, it was not made by flux up: move it, or follow it with --repo %s", clone, DemoDir)
}

// prepareDemo serves a bare repository of ours and gives the user a working clone of it. A clone of an earlier life goes on: its main
// branch is pushed again.
func prepareDemo(ctx context.Context, g *git, o Options, home *home, server *gitServer, base string) (repository, error) {
	clone := filepath.Join(o.Directory, DemoDir)
	bare := home.path(gitDir, DemoDir+".git")
	repo := repository{
		url: base + "/" + DemoDir + ".git", branch: demoBranch, path: demoPath, clone: clone,
		story: "demo repository in ./" + DemoDir,
	}
	if o.Path != "" {
		repo.path = underRoot(o.Path)
	}
	if _, err := os.Stat(bare); errors.Is(err, os.ErrNotExist) {
		if _, err := g.run(ctx, "", "init", "--quiet", "--bare", "--template=", "--initial-branch="+demoBranch, bare); err != nil {
			return repo, fmt.Errorf("create the demo repository: %w", err)
		}
	}
	server.serve(DemoDir, servedRepo{dir: bare, own: true})
	there, err := existingDemo(ctx, g, o.Directory)
	if err != nil {
		return repo, err
	}
	if !there {
		if _, err := tip(ctx, g, bare, demoBranch); err == nil {
			// Kept data whose clone is gone: a new one.
			err = cloneDemo(ctx, g, clone, repo.url)
			return repo, err
		}
		return repo, createDemo(ctx, g, clone, repo.url)
	}
	repo.story = "demo repository in ./" + DemoDir + ", as you left it"
	if _, err := g.run(ctx, clone, "remote", "set-url", "origin", repo.url); err != nil {
		return repo, fmt.Errorf("turn the demo repository to its server: %w", err)
	}
	if _, err := g.run(ctx, clone, pushArgs()...); err != nil {
		repo.warning = fmt.Sprintf("./%s could not be pushed, so the cluster follows what was pushed before: %v", DemoDir, err)
		if _, err := tip(ctx, g, bare, demoBranch); err != nil {
			return repo, fmt.Errorf("push ./%s: the branch %s is needed: %s", DemoDir, demoBranch, repo.warning)
		}
	}
	return repo, nil
}

func pushArgs() []string {
	return []string{"-c", "core.hooksPath=" + os.DevNull, "-c", "http.proxy=", "push", "--quiet", "--set-upstream", "origin", demoBranch}
}

func createDemo(ctx context.Context, g *git, clone, url string) error {
	if err := writeDemo(clone); err != nil {
		return fmt.Errorf("write the demo repository: %w", err)
	}
	author := []string{
		"GIT_AUTHOR_NAME=flux up", "GIT_AUTHOR_EMAIL=flux@localhost", "GIT_COMMITTER_NAME=flux up", "GIT_COMMITTER_EMAIL=flux@localhost",
	}
	g = g.with(author...)
	for _, args := range [][]string{
		{"init", "--quiet", "--template=", "--initial-branch=" + demoBranch},
		{"config", demoMark, "true"},
		{"remote", "add", "origin", url},
		{"add", "."},
		{"commit", "--quiet", "--message", "Begin the demo"},
		pushArgs(),
	} {
		if _, err := g.run(ctx, clone, args...); err != nil {
			return fmt.Errorf("create the demo repository: %w", err)
		}
	}
	return settleClone(ctx, g, clone, url)
}

func cloneDemo(ctx context.Context, g *git, clone, url string) error {
	if _, err := g.run(ctx, "", "-c", "http.proxy=", "clone", "--quiet", "--template=", url, clone); err != nil {
		return fmt.Errorf("clone the demo repository: %w", err)
	}
	if _, err := g.run(ctx, clone, "config", demoMark, "true"); err != nil {
		return fmt.Errorf("clone the demo repository: %w", err)
	}
	return settleClone(ctx, g, clone, url)
}

// settleClone makes commits and pushes of a newcomer work: with an author, and past any proxy.
func settleClone(ctx context.Context, g *git, clone, url string) error {
	settings := [][2]string{{"http.proxy", ""}, {"push.default", "simple"}}
	if name, err := g.asUser().run(ctx, clone, "config", "user.email"); err != nil || name == "" {
		settings = append(settings, [2]string{"user.name", "You"}, [2]string{"user.email", "you@localhost"})
	}
	for _, s := range settings {
		if _, err := g.run(ctx, clone, "config", s[0], s[1]); err != nil {
			return fmt.Errorf("configure the demo repository: %w", err)
		}
	}
	return nil
}

func writeDemo(clone string) error {
	return fs.WalkDir(demoFiles, "demo", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(clone, filepath.FromSlash(strings.TrimPrefix(name, "demo")))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := demoFiles.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}
