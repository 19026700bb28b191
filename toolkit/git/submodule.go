package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/config"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

const (
	modulesFile     = ".gitmodules"
	maxModulesBytes = 1 << 20
)

// submodule is a repository that a commit refers to.
type submodule struct {
	path   string
	url    string
	commit plumbing.Hash
}

// moduleFetch is what is left of the limits while submodules are fetched: they
// hold for a commit with everything below it.
type moduleFetch struct {
	dir    string
	limits Limits
	count  int64
}

// spend takes what a checkout has used off the limits.
func (m *moduleFetch) spend(c *Checkout) {
	m.limits.TreeEntries = left(m.limits.TreeEntries, c.total.entries)
	m.limits.TreeBytes = left(m.limits.TreeBytes, c.total.bytes)
	m.limits = c.pack.spend(m.limits)
	if c.blobs != nil {
		m.limits = c.blobs.spend(m.limits)
	}
}

// left stays above zero, which would mean no limit.
func left(limit, used int64) int64 {
	if limit <= 0 {
		return limit
	}
	return max(limit-used, 1)
}

// spend takes what a pack has used off the limits of a later one.
func (p *pack) spend(l Limits) Limits {
	l.PackBytes = left(l.PackBytes, p.size)
	l.Objects = left(l.Objects, int64(len(p.objects)))
	return l
}

// addModules fetches the submodules of a checkout and, depth first, theirs. A
// link without an entry in .gitmodules stays the empty directory it is.
func (c *Client) addModules(ctx context.Context, co *Checkout, m *moduleFetch, depth int64) error {
	modules, err := co.submodules(ctx)
	if err != nil {
		return err
	}
	if len(modules) == 0 {
		return nil
	}
	if exceeds(depth, m.limits.SubmoduleDepth) {
		return limitError("depth of submodules", depth, m.limits.SubmoduleDepth)
	}
	for _, module := range modules {
		if m.count++; exceeds(m.count, m.limits.Submodules) {
			return limitError("number of submodules", m.count, m.limits.Submodules)
		}
		if err := c.addModule(ctx, co, m, module, depth); err != nil {
			return fmt.Errorf("submodule '%s': %w", module.path, err)
		}
	}
	return nil
}

func (c *Client) addModule(ctx context.Context, co *Checkout, m *moduleFetch, module submodule, depth int64) error {
	limits := m.limits
	limits.TreeDepth = left(c.limits.TreeDepth, int64(strings.Count(module.path, "/")+1))
	limits.PathBytes = left(c.limits.PathBytes, int64(len(module.path)+1))
	child, err := c.moduleClient(module.url, limits)
	if err != nil {
		return err
	}
	defer child.Close()
	s := &selector{commit: module.commit, anywhere: true, prefixes: []string{branchPrefix, tagPrefix}, find: func(*advertisement) ([]candidate, error) {
		return []candidate{{object: module.commit, commit: module.commit}}, nil
	}}
	below, err := child.fetch(ctx, s, Selection{}, m.dir)
	if err != nil {
		return err
	}
	if co.modules == nil {
		co.modules = map[string]*Checkout{}
	}
	co.modules[module.path] = below
	m.spend(below)
	return child.addModules(ctx, below, m, depth+1)
}

// moduleClient returns a client for a submodule. Only a repository of the same
// scheme, host and port gets the credentials.
func (c *Client) moduleClient(raw string, limits Limits) (*Client, error) {
	target, err := moduleURL(c.options.URL, raw)
	if err != nil {
		return nil, err
	}
	o := c.options
	o.URL, o.Limits, o.Auth = target.String(), limits, Auth{}
	parent, err := parseURL(c.options.URL)
	if err != nil {
		return nil, err
	}
	if origin(parent) == origin(target) {
		o.Auth = c.options.Auth
		if target.User == nil && parent.User != nil && parent.Scheme != "ssh" {
			target.User = parent.User
			o.URL = target.String()
		}
	} else if target.Scheme == "ssh" {
		return nil, fmt.Errorf("%w: the SSH key for %s is not presented to %s; refer to submodules of other hosts by https", ErrInvalidAuth, origin(parent), origin(target))
	} else if tls := c.options.Auth.TLS; tls != nil {
		o.Auth.TLS = &secret.TLSMaterial{CA: tls.CA}
	}
	return New(o)
}

// scpLike is the short form of an SSH URL, user@host:path.
var scpLike = regexp.MustCompile(`^(?:([^@/:]+)@)?([^@/:]+):([^:].*)$`)

// moduleURL resolves the URL of a submodule, which is relative to that of its
// parent when it begins with ./ or ../.
func moduleURL(parent, raw string) (*url.URL, error) {
	if !strings.HasPrefix(raw, "./") && !strings.HasPrefix(raw, "../") {
		if !strings.Contains(raw, "://") {
			parts := scpLike.FindStringSubmatch(raw)
			if parts == nil {
				return nil, fmt.Errorf("%w '%s': it is neither relative nor has a scheme", ErrInvalidURL, secret.RedactURL(raw))
			}
			u := &url.URL{Scheme: "ssh", Host: parts[2], Path: "/" + strings.TrimPrefix(parts[3], "/")}
			if parts[1] != "" {
				u.User = url.User(parts[1])
			}
			raw = u.String()
		}
		return parseURL(raw)
	}
	u, err := parseURL(parent)
	if err != nil {
		return nil, err
	}
	base, rest := strings.TrimRight(u.Path, "/"), raw
	for {
		if next, ok := strings.CutPrefix(rest, "./"); ok {
			rest = next
		} else if next, ok := strings.CutPrefix(rest, "../"); ok {
			if base == "" {
				return nil, fmt.Errorf("%w '%s': it leaves the server of its parent", ErrInvalidURL, raw)
			}
			base, rest = base[:strings.LastIndexByte(base, '/')], next
		} else {
			break
		}
	}
	u.Path, u.RawPath, u.RawQuery, u.Fragment = base+"/"+rest, "", "", ""
	return parseURL(u.String())
}

// submodules returns those that are part of the checkout, sorted by path.
func (c *Checkout) submodules(ctx context.Context) ([]submodule, error) {
	urls, err := c.moduleURLs()
	if err != nil || len(urls) == 0 {
		return nil, err
	}
	var found []submodule
	for name := range urls {
		e, err := c.lookup(ctx, name)
		if err != nil && !errors.Is(err, errObjectNotFound) {
			return nil, err
		}
		if err == nil && e.kind() == modeSubmodule && c.covers(name) {
			found = append(found, submodule{path: name, url: urls[name], commit: e.hash})
		}
	}
	slices.SortFunc(found, func(a, b submodule) int { return strings.Compare(a.path, b.path) })
	return found, nil
}

// moduleURLs reads .gitmodules: the URLs by path.
func (c *Checkout) moduleURLs() (map[string]string, error) {
	entries, err := readTree(c.pack, c.Commit.tree)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.name != modulesFile {
			continue
		}
		if e.kind() != modeRegular {
			return nil, fmt.Errorf("%w %s: it is no file", ErrMalformed, modulesFile)
		}
		p, o, err := c.blob(e.hash)
		if err != nil {
			return nil, fmt.Errorf("file '%s': %w", modulesFile, err)
		}
		if o.size > maxModulesBytes {
			return nil, limitError("size of "+modulesFile, o.size, maxModulesBytes)
		}
		raw, err := p.bytes(e.hash, plumbing.BlobObject)
		if err != nil {
			return nil, err
		}
		return parseModules(bytes.NewReader(raw))
	}
	return nil, nil
}

// parseModules refuses what Git refuses: names and paths that leave their
// directory. Everything is refused rather than left out: an artifact without a
// part of its content would look complete.
func parseModules(r io.Reader) (map[string]string, error) {
	parsed := config.New()
	if err := config.NewDecoder(r).Decode(parsed); err != nil {
		return nil, fmt.Errorf("%w %s: %s", ErrMalformed, modulesFile, shorten(err.Error()))
	}
	urls := map[string]string{}
	for _, section := range parsed.Section("submodule").Subsections {
		at, from := section.Option("path"), section.Option("url")
		switch {
		case slices.Contains(strings.FieldsFunc(section.Name, func(r rune) bool { return r == '/' || r == '\\' }), ".."):
			return nil, fmt.Errorf("%w %s: the name %q of a submodule leaves its directory", ErrMalformed, modulesFile, section.Name)
		case at == "" && from == "":
			continue
		case !filepath.IsLocal(at) || path.Clean(at) != strings.TrimSuffix(at, "/") || at == ".":
			return nil, fmt.Errorf("%w %s: the path %q of submodule %q leaves its directory", ErrMalformed, modulesFile, at, section.Name)
		case from == "":
			return nil, fmt.Errorf("%w %s: submodule %q has no url", ErrMalformed, modulesFile, section.Name)
		}
		at = path.Clean(at)
		if _, twice := urls[at]; twice {
			return nil, fmt.Errorf("%w %s: two submodules at %q", ErrMalformed, modulesFile, at)
		}
		urls[at] = from
	}
	return urls, nil
}
