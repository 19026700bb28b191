package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// isURL reports whether kustomize would load the entry over HTTP.
func isURL(entry string) bool {
	u, err := url.Parse(entry)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https")
}

func isRemote(entry string) bool {
	_, ok := parseRepository(entry)
	return ok || isURL(entry)
}

var (
	forcedGit  = regexp.MustCompile(`(?i)^git::`)
	gitScheme  = regexp.MustCompile(`(?i)^(ssh|https|http|file)://`)
	gitUser    = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]*@`)
	gitHub     = regexp.MustCompile(`(?i)^github\.com[/:]`)
	userinfo   = regexp.MustCompile(`//[^/@\s]*@`)
	errRefused = errors.New("remote bases are refused (--no-remote-bases); copy the files into the source, or allow them")
)

// looksRemote is true for everything kustomize might take for a Git repository, and for more.
func looksRemote(entry string) bool {
	s := forcedGit.ReplaceAllString(entry, "")
	return gitScheme.MatchString(s) || gitUser.MatchString(s) || gitHub.MatchString(s) || isURL(entry)
}

// redact removes the credentials of a URL.
func redact(entry string) string {
	return userinfo.ReplaceAllString(entry, "//")
}

// parseRepository takes a reference to a directory in a Git repository apart, by the rules of kustomize: the
// repository ends after "_git/<name>", before "//", after ".git", or else after two segments of the path.
func parseRepository(entry string) (Repository, bool) {
	if path.IsAbs(entry) || !looksRemote(entry) {
		return Repository{}, false
	}
	s, query, _ := strings.Cut(forcedGit.ReplaceAllString(entry, ""), "?")
	scheme := strings.ToLower(gitScheme.FindString(s))
	s = s[len(scheme):]
	user := gitUser.FindString(s)
	s = s[len(user):]
	onGitHub := gitHub.MatchString(s)
	scp := scheme == "" && (user != "" || onGitHub)
	if scheme == "" && !scp {
		return Repository{}, false
	}
	host := ""
	if scheme == "file://" {
		host, s = scheme, user+s
	} else {
		i := strings.IndexByte(s, '/')
		if c := strings.IndexByte(s, ':'); scp && (i < 0 || c > 0 && c < i) {
			i = c
		}
		if i < 0 {
			return Repository{}, false
		}
		host, s = s[:i+1], s[i+1:]
		switch {
		case onGitHub && (scheme == "ssh://" || user != ""):
			host = user + "github.com:"
		case onGitHub:
			host = "https://github.com/"
		default:
			host = scheme + user + host
		}
	}
	repo, dir, ok := splitRepository(s, scheme == "file://")
	if first, _, _ := strings.Cut(path.Clean(strings.TrimPrefix(dir, "/")), "/"); !ok || repo == "" || first == ".." {
		return Repository{}, false
	}
	r := Repository{URL: host + repo, Path: strings.TrimPrefix(dir, "/"), Submodules: true}
	if q, err := url.ParseQuery(query); err == nil {
		if r.Ref = q.Get("ref"); r.Ref == "" {
			r.Ref = q.Get("version")
		}
		if on, err := strconv.ParseBool(q.Get("submodules")); err == nil {
			r.Submodules = on
		}
	}
	return r, true
}

func splitRepository(s string, whole bool) (repo, dir string, ok bool) {
	if i := strings.Index(s, "_git/"); i >= 0 {
		name, rest, _ := strings.Cut(s[i+len("_git/"):], "/")
		return s[:i] + "_git/" + name, rest, true
	}
	if i := strings.Index(s, "//"); i >= 0 {
		return s[:i], s[i+2:], true
	}
	if i := strings.Index(s, ".git"); i >= 0 {
		return s[:i+len(".git")], s[i+len(".git"):], true
	}
	if whole {
		return s, "", true
	}
	parts := strings.SplitN(s, "/", 3)
	if len(parts) < 2 {
		return "", "", false
	}
	return parts[0] + "/" + parts[1], strings.Join(parts[2:], ""), true
}

// nextRemote names a place below remoteDir.
func (b *build) nextRemote() string {
	b.remotes++
	return path.Join(remoteDir, strconv.Itoa(b.remotes))
}

// admit decides about one more reference to another host, before any connection.
func (b *build) admit(entry string) error {
	if b.opts.NoRemoteBases {
		return fmt.Errorf("%s: %w", redact(entry), errRefused)
	}
	if b.remotes >= b.limits.Remotes {
		return fmt.Errorf("%s: the build fetches more than %d remote files and repositories", redact(entry), b.limits.Remotes)
	}
	return nil
}

// remoteBase fetches an entry that is a file, or a directory in a Git repository, in kustomize's order: what can be
// downloaded and read as objects is a file. It returns the path of either.
func (b *build) remoteBase(entry string) (string, error) {
	if p, ok := b.fetched[entry]; ok {
		return p, nil
	}
	repo, isRepo := parseRepository(entry)
	if isURL(entry) {
		target, err := b.remoteFile(entry)
		if err == nil {
			_, err = b.parse(b.fs.files[target])
		}
		if err == nil {
			return target, nil
		}
		if !isRepo || errors.Is(err, errRefused) || b.ctx.Err() != nil {
			return "", err
		}
		delete(b.fetched, entry)
	}
	if err := b.admit(entry); err != nil {
		return "", err
	}
	if strings.HasPrefix(repo.URL, "file://") {
		return "", fmt.Errorf("%s: a base cannot be a repository on the disk of the controller", redact(entry))
	}
	if b.opts.Git == nil {
		return "", fmt.Errorf("%s: bases in Git repositories are not supported; "+
			"make the repository a GitRepository and include it in the source, or name the files by their https URL", redact(entry))
	}
	ctx, cancel := context.WithTimeout(b.ctx, b.limits.RemoteTimeout)
	defer cancel()
	dir, release, err := b.opts.Git.Fetch(ctx, repo)
	if err != nil {
		return "", fmt.Errorf("fetch the base %s: %w", redact(entry), err)
	}
	b.releases = append(b.releases, release)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", fmt.Errorf("open the base %s: %w", redact(entry), cause(err))
	}
	b.releases = append(b.releases, func() { _ = root.Close() })
	mount := b.nextRemote()
	b.fs.mounts[mount] = root.FS()
	b.fetched[entry] = path.Join(mount, repo.Path)
	return b.fetched[entry], nil
}

// remoteFile downloads one file into memory and returns its path.
func (b *build) remoteFile(entry string) (string, error) {
	if p, ok := b.fetched[entry]; ok {
		return p, nil
	}
	if err := b.admit(entry); err != nil {
		return "", err
	}
	content, err := b.download(entry)
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", redact(entry), err)
	}
	if err := b.limits.guard(content); err != nil {
		return "", fmt.Errorf("read %s: %w", redact(entry), err)
	}
	name := "remote.yaml"
	if u, err := url.Parse(entry); err == nil && path.Ext(u.Path) != "" && !isKustomizationFile(u.Path) {
		name = path.Base(u.Path)
	}
	target := path.Join(b.nextRemote(), name)
	b.fs.files[target] = content
	b.fetched[entry] = target
	return target, nil
}

func (b *build) download(entry string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(b.ctx, b.limits.RemoteTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, entry, nil)
	if err != nil {
		return nil, withoutURL(err)
	}
	resp, err := b.client().Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, fmt.Errorf("HTTP Error: status code %d (%s)", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, b.limits.FileBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > b.limits.FileBytes {
		return nil, fmt.Errorf("the file has more than %d bytes", b.limits.FileBytes)
	}
	if b.fs.read += int64(len(content)); b.fs.read > b.limits.TotalBytes {
		return nil, fmt.Errorf("the build reads more than %d bytes in all", b.limits.TotalBytes)
	}
	return content, nil
}

// client is the one for remote files; its own transport shares neither credentials nor connections with the process.
func (b *build) client() *http.Client {
	if b.opts.HTTP != nil {
		return b.opts.HTTP
	}
	if b.http == nil {
		transport := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
		b.http = &http.Client{Transport: transport}
		b.releases = append(b.releases, transport.CloseIdleConnections)
	}
	return b.http
}

// withoutURL drops the URL that net/http puts into its errors: it may hold credentials.
func withoutURL(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
