package archive

import (
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Index says what an archive holds and where Unpack has written it. It does
// not change.
type Index struct {
	// nodes begin with the root. The entries of a directory lie side by side,
	// sorted by name.
	nodes   []node
	content int64
	names   int64
}

// node is a file, whose content begins at an offset, or a directory, whose
// entries do. As it holds all there is to know, it is its own fs.DirEntry and
// fs.FileInfo.
type node struct {
	name   string
	offset int64
	size   int64 // bytes of a file, entries of a directory
	mode   fs.FileMode
}

// ContentBytes is how many bytes Unpack has written.
func (x *Index) ContentBytes() int64 { return x.content }

// MemoryBytes is about how much memory the index takes.
func (x *Index) MemoryBytes() int64 {
	return int64(len(x.nodes))*int64(reflect.TypeFor[node]().Size()) + x.names
}

// FS is the files whose contents are in content, which is what Unpack has
// written. Nothing can be written; permission bits are those of the archive
// without the right to write, and directories have 0550. There are no links,
// and times are zero. Errors are those of the file system of an operating
// system. It is safe for concurrent use.
func (x *Index) FS(content io.ReaderAt) fs.FS { return &indexFS{x, content} }

func (x *Index) entries(dir *node) []node { return x.nodes[dir.offset : dir.offset+dir.size] }

// lookup finds what is at a path.
func (x *Index) lookup(op, name string) (*node, error) {
	at := &x.nodes[0]
	if name == "." {
		return at, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !at.mode.IsDir() {
			return nil, &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
		below := x.entries(at)
		i, found := slices.BinarySearchFunc(below, part, func(n node, name string) int { return strings.Compare(n.name, name) })
		if !found {
			// Only paths that lead nowhere are judged: names of files need not be UTF-8.
			if !fs.ValidPath(name) {
				return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
			}
			return nil, &fs.PathError{Op: op, Path: name, Err: syscall.ENOENT}
		}
		at = &below[i]
	}
	return at, nil
}

// Name implements fs.DirEntry and fs.FileInfo, as all below do.
func (n *node) Name() string               { return n.name }
func (n *node) IsDir() bool                { return n.mode.IsDir() }
func (n *node) Type() fs.FileMode          { return n.mode.Type() }
func (n *node) Info() (fs.FileInfo, error) { return n, nil }
func (n *node) Mode() fs.FileMode          { return n.mode }
func (n *node) ModTime() time.Time         { return time.Time{} }
func (n *node) Sys() any                   { return nil }
func (n *node) String() string             { return fs.FormatFileInfo(n) }

// Size is 0 for a directory.
func (n *node) Size() int64 {
	if n.IsDir() {
		return 0
	}
	return n.size
}

// indexFS also answers what fs would have to open files for.
type indexFS struct {
	index   *Index
	content io.ReaderAt
}

var (
	_ fs.StatFS     = (*indexFS)(nil)
	_ fs.ReadFileFS = (*indexFS)(nil)
	_ fs.ReadDirFS  = (*indexFS)(nil)
)

// Open implements fs.FS. Files are io.ReaderAt and io.Seeker.
func (f *indexFS) Open(name string) (fs.File, error) {
	n, err := f.index.lookup("open", name)
	if err != nil {
		return nil, err
	}
	if n.IsDir() {
		return &openDir{node: n, path: name, left: f.index.entries(n)}, nil
	}
	return &openFile{io.NewSectionReader(f.content, n.offset, n.size), n}, nil
}

// Stat implements fs.StatFS.
func (f *indexFS) Stat(name string) (fs.FileInfo, error) {
	n, err := f.index.lookup("stat", name)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// ReadDir implements fs.ReadDirFS.
func (f *indexFS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.index.lookup("open", name)
	if err == nil && !n.IsDir() {
		err = &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, err
	}
	return dirEntries(f.index.entries(n)), nil
}

// ReadFile implements fs.ReadFileFS.
func (f *indexFS) ReadFile(name string) ([]byte, error) {
	n, err := f.index.lookup("open", name)
	if err == nil && n.IsDir() {
		err = &fs.PathError{Op: "read", Path: name, Err: syscall.EISDIR}
	}
	if err != nil {
		return nil, err
	}
	data := make([]byte, n.size)
	if read, err := f.content.ReadAt(data, n.offset); read < len(data) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, nil
}

func dirEntries(nodes []node) []fs.DirEntry {
	entries := make([]fs.DirEntry, len(nodes))
	for i := range nodes {
		entries[i] = &nodes[i]
	}
	return entries
}

type openFile struct {
	*io.SectionReader
	node *node
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.node, nil }
func (f *openFile) Close() error               { return nil }

type openDir struct {
	node *node
	path string
	left []node
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.node, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.path, Err: syscall.EISDIR}
}

// ReadDir implements fs.ReadDirFile.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.left)
	} else if len(d.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.left))
	out := d.left[:n]
	d.left = d.left[n:]
	return dirEntries(out), nil
}
