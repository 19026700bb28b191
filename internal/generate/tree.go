package generate

import (
	"context"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

// node is a file or a directory of a tree. Trees of sources are read once and shared by all artifacts of a run: they do
// not change.
type node struct {
	// file is nil for a directory.
	file *file
	// entries of a directory, by name.
	entries map[string]*node
}

// file is content that stays where it is: a tree only refers to it.
type file struct {
	mode fs.FileMode
	size int64
	open func() (io.ReadCloser, error)
	// checksum reads the content once, however many artifacts hold the file.
	checksum func() (uint32, error)
}

const copyBuffer = 32 << 10

func newDir() *node { return &node{entries: map[string]*node{}} }

func newFile(mode fs.FileMode, size int64, open func() (io.ReadCloser, error)) *node {
	return &node{file: &file{mode: mode, size: size, open: open, checksum: sync.OnceValues(func() (uint32, error) { return checksum(open, size) })}}
}

func checksum(open func() (io.ReadCloser, error), size int64) (uint32, error) {
	r, err := open()
	if err != nil {
		return 0, err
	}
	h := adler32.New()
	// Most files are small: a buffer of the usual size for each would be most of the memory of a run. A file's own WriteTo
	// would make one, too.
	_, err = io.CopyBuffer(h, struct{ io.Reader }{r}, make([]byte, min(size+1, copyBuffer)))
	return h.Sum32(), errors.Join(err, r.Close())
}

func (n *node) isDir() bool { return n.file == nil }

// at returns what is at a clean path below the directory, nil when there is nothing.
func (n *node) at(p string) *node {
	if p == "." {
		return n
	}
	for name := range strings.SplitSeq(p, "/") {
		if n = n.entries[name]; n == nil {
			return nil
		}
	}
	return n
}

// names returns the names of the entries in their order.
func (n *node) names() []string { return slices.Sorted(maps.Keys(n.entries)) }

// walk calls fn for everything below the directory, each directory before its entries. at is the path of the directory
// itself; the error fs.SkipDir leaves out what is below an entry.
func (n *node) walk(at string, fn func(p string, n *node) error) error {
	for _, name := range n.names() {
		child, p := n.entries[name], path.Join(at, name)
		err := fn(p, child)
		if errors.Is(err, fs.SkipDir) {
			continue
		}
		if err != nil {
			return err
		}
		if err := child.walk(p, fn); err != nil {
			return err
		}
	}
	return nil
}

// readTree lists a file system, whose files are opened when they are needed. Links and special files have no place in an
// artifact and are refused: what unpacked it has dropped them already (artifactgenerator 41).
func readTree(ctx context.Context, fsys fs.FS) (*node, error) {
	root := newDir()
	if err := root.list(ctx, fsys, "."); err != nil {
		return nil, err
	}
	return root, nil
}

func (n *node) list(ctx context.Context, fsys fs.FS, at string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(fsys, at)
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := path.Join(at, e.Name())
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch {
		case info.IsDir():
			child := newDir()
			n.entries[e.Name()] = child
			if err := child.list(ctx, fsys, p); err != nil {
				return err
			}
		case info.Mode().IsRegular():
			n.entries[e.Name()] = newFile(info.Mode(), info.Size(), func() (io.ReadCloser, error) { return fsys.Open(p) })
		default:
			return fmt.Errorf("'%s' is neither a file nor a directory", p)
		}
	}
	return nil
}
