package git

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/seed-79636ae9/flux/toolkit/archive"
)

const (
	modeDir        = 0o040000
	modeSymlink    = 0o120000
	modeSubmodule  = 0o160000
	modeTypeMask   = 0o170000
	modeRegular    = 0o100000
	modeExecutable = 0o100
)

type treeEntry struct {
	name string
	mode uint32
	hash plumbing.Hash
}

func (e treeEntry) kind() uint32 { return e.mode & modeTypeMask }

// readTree returns the entries of a tree object, sorted by name as a directory
// listing is; Git sorts directories as if their names ended with a slash.
func readTree(p *pack, h plumbing.Hash) ([]treeEntry, error) {
	raw, err := p.bytes(h, plumbing.TreeObject)
	if err != nil {
		return nil, fmt.Errorf("tree %s: %w", h, err)
	}
	var entries []treeEntry
	for len(raw) > 0 {
		mode, rest, ok := bytes.Cut(raw, []byte(" "))
		name, rest, ok2 := bytes.Cut(rest, []byte{0})
		m, err := strconv.ParseUint(string(mode), 8, 32)
		if !ok || !ok2 || err != nil || len(mode) > 6 || len(rest) < len(plumbing.ZeroHash) {
			return nil, fmt.Errorf("%w tree %s", ErrMalformed, h)
		}
		e := treeEntry{name: string(name), mode: uint32(m)}
		copy(e.hash[:], rest)
		raw = rest[len(e.hash):]
		if err := checkName(e.name); err != nil {
			return nil, fmt.Errorf("tree %s: %w", h, err)
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b treeEntry) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(entries); i++ {
		if entries[i].name == entries[i-1].name {
			return nil, fmt.Errorf("%w tree %s: two entries %q", ErrMalformed, h, entries[i].name)
		}
	}
	return entries, nil
}

// checkName refuses the names that Git refuses to check out: those that leave
// the directory, and .git in all the spellings that some file system takes for
// it (NTFS short names and streams, trailing dots and spaces, characters that
// HFS+ ignores).
func checkName(name string) error {
	if name == "" || strings.ContainsRune(name, '/') {
		return fmt.Errorf("%w path %q", ErrMalformed, name)
	}
	for part := range strings.SplitSeq(name, `\`) {
		if part == "." || part == ".." || isDotGit(part) {
			return fmt.Errorf("%w path: the name %q is refused", ErrMalformed, name)
		}
	}
	return nil
}

func isDotGit(name string) bool {
	name, _, _ = strings.Cut(name, ":")
	name = strings.TrimRight(name, " .")
	name = strings.Map(func(r rune) rune {
		switch {
		case 0x200c <= r && r <= 0x200f, 0x202a <= r && r <= 0x202e, 0x206a <= r && r <= 0x206f, r == 0xfeff:
			return -1
		}
		return r
	}, name)
	return strings.EqualFold(name, ".git") || strings.EqualFold(name, "git~1")
}

// extent is what a tree holds, everything below it included. Leaves are the
// entries that are not directories.
type extent struct {
	entries, leaves, bytes, depth, path int64
}

// measure checks the tree against the limits before anything walks it. Trees
// that occur many times are counted many times but read once: a handful of
// objects can stand for billions of paths.
func (c *Checkout) measure(ctx context.Context, l Limits) (err error) {
	c.trees = map[plumbing.Hash]extent{}
	c.total, err = c.measureTree(ctx, c.Commit.tree, "", 0, l)
	return err
}

// measureTree measures a directory. Only those that belong to the tree with
// all they hold are the same wherever they occur.
func (c *Checkout) measureTree(ctx context.Context, h plumbing.Hash, dir string, depth int64, l Limits) (extent, error) {
	whole := c.covers(dir)
	if e, ok := c.trees[h]; ok && whole {
		return e, nil
	}
	if err := ctx.Err(); err != nil {
		return extent{}, err
	}
	if exceeds(depth, l.TreeDepth) {
		return extent{}, limitError("depth of the tree", depth, l.TreeDepth)
	}
	entries, err := readTree(c.pack, h)
	if err != nil {
		return extent{}, err
	}
	var sum extent
	for _, e := range entries {
		at := path.Join(dir, e.name)
		if !whole && !c.covers(at) && !(e.kind() == modeDir && c.leads(at)) {
			continue
		}
		below := extent{leaves: 1}
		switch e.kind() {
		case modeDir:
			below, err = c.measureTree(ctx, e.hash, at, depth+1, l)
		case modeRegular:
			below, err = c.measureFile(e)
		}
		if err != nil {
			return extent{}, err
		}
		sum.entries += 1 + below.entries
		sum.leaves += below.leaves
		sum.bytes += below.bytes
		sum.depth = max(sum.depth, 1+below.depth)
		sum.path = max(sum.path, int64(len(e.name))+1+below.path)
		// Checked at every step: the sums must not overflow.
		if err := sum.check(l); err != nil {
			return extent{}, err
		}
	}
	if whole {
		c.trees[h] = sum
	}
	return sum, nil
}

func (c *Checkout) measureFile(e treeEntry) (extent, error) {
	_, o, err := c.blob(e.hash)
	if err != nil && c.missing != nil {
		c.missing[e.hash] = struct{}{}
		return extent{leaves: 1}, nil
	}
	if err != nil {
		return extent{}, fmt.Errorf("file '%s': %w", e.name, err)
	}
	if o.kind != plumbing.BlobObject {
		return extent{}, fmt.Errorf("%w tree: '%s' is a %s and not a file", ErrMalformed, e.name, o.kind)
	}
	return extent{leaves: 1, bytes: o.size}, nil
}

func (e extent) check(l Limits) error {
	switch {
	case exceeds(e.entries, l.TreeEntries):
		return limitError("number of paths in the tree", e.entries, l.TreeEntries)
	case exceeds(e.bytes, l.TreeBytes):
		return limitError("size of the files in the tree", e.bytes, l.TreeBytes)
	case exceeds(e.depth, l.TreeDepth):
		return limitError("depth of the tree", e.depth, l.TreeDepth)
	case exceeds(e.path, l.PathBytes):
		return limitError("length of a path", e.path, l.PathBytes)
	}
	return nil
}

// Tree returns the files of the commit, read from the object store as they are
// asked for. It looks like a fresh checkout: a submodule that was not fetched
// is an empty directory, and a directory without anything in it does not exist.
func (c *Checkout) Tree() archive.Source { return treeSource{c} }

type treeSource struct{ checkout *Checkout }

func (s treeSource) Walk(ctx context.Context, fn func(archive.Entry) error) error {
	return s.walk(ctx, s.checkout.Commit.tree, "", fn)
}

// narrow limits the tree to directories, which all have to exist (contract:
// gitrepository 70).
func (c *Checkout) narrow(ctx context.Context, dirs []string) error {
	var clean []string
	for _, dir := range dirs {
		name := path.Clean(strings.TrimLeft(dir, "/"))
		if name == "." {
			continue
		}
		if _, err := c.lookup(ctx, name); errors.Is(err, errObjectNotFound) {
			return &PathError{name}
		} else if err != nil {
			return err
		}
		clean = append(clean, name)
	}
	if len(clean) == len(dirs) {
		c.sparse = clean
	}
	return nil
}

// lookup finds the entry of a path.
func (c *Checkout) lookup(ctx context.Context, name string) (treeEntry, error) {
	found := treeEntry{mode: modeDir, hash: c.Commit.tree}
	for part := range strings.SplitSeq(name, "/") {
		if err := ctx.Err(); err != nil {
			return treeEntry{}, err
		}
		if found.kind() != modeDir {
			return treeEntry{}, errObjectNotFound
		}
		entries, err := readTree(c.pack, found.hash)
		if err != nil {
			return treeEntry{}, err
		}
		i := slices.IndexFunc(entries, func(e treeEntry) bool { return e.name == part })
		if i < 0 {
			return treeEntry{}, errObjectNotFound
		}
		found = entries[i]
	}
	return found, nil
}

// covers reports whether a path belongs to the tree.
func (c *Checkout) covers(name string) bool {
	return len(c.sparse) == 0 || slices.ContainsFunc(c.sparse, func(dir string) bool {
		return name == dir || strings.HasPrefix(name, dir+"/")
	})
}

// leads reports whether a directory is above one that belongs to the tree.
func (c *Checkout) leads(name string) bool {
	return slices.ContainsFunc(c.sparse, func(dir string) bool { return strings.HasPrefix(dir, name+"/") })
}

func (s treeSource) walk(ctx context.Context, h plumbing.Hash, dir string, fn func(archive.Entry) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := readTree(s.checkout.pack, h)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.entry(ctx, e, dir+e.name, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s treeSource) entry(ctx context.Context, e treeEntry, path string, fn func(archive.Entry) error) error {
	if !s.checkout.covers(path) && !(e.kind() == modeDir && s.checkout.leads(path)) {
		return nil
	}
	switch e.kind() {
	case modeDir:
		if s.checkout.covers(path) && s.checkout.trees[e.hash].leaves == 0 {
			return nil
		}
		if err := fn(archive.Entry{Path: path, Mode: fs.ModeDir | 0o755}); err != nil {
			return err
		}
		return s.walk(ctx, e.hash, path+"/", fn)
	case modeSubmodule:
		err := fn(archive.Entry{Path: path, Mode: fs.ModeDir | 0o755})
		if module := s.checkout.modules[path]; module != nil && err == nil {
			err = module.Tree().Walk(ctx, func(e archive.Entry) error {
				e.Path = path + "/" + e.Path
				return fn(e)
			})
		}
		return err
	case modeSymlink:
		return fn(archive.Entry{Path: path, Mode: fs.ModeSymlink | 0o777})
	case modeRegular:
		p, o, err := s.checkout.blob(e.hash)
		if err != nil {
			return fmt.Errorf("file '%s': %w", path, err)
		}
		mode := fs.FileMode(0o644)
		if e.mode&modeExecutable != 0 {
			mode = 0o755
		}
		open := func() (io.ReadCloser, error) { return p.open(e.hash) }
		return fn(archive.Entry{Path: path, Mode: mode, Size: o.size, Open: open})
	}
	return fmt.Errorf("%w tree: '%s' has mode %o", ErrMalformed, path, e.mode)
}
