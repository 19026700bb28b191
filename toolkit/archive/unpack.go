package archive

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

const (
	// maxName is what file systems allow for one name, and with it Extract.
	maxName = 255
	// sealed are the permission bits that nothing unpacked has.
	sealed = 0o222

	firstNames, mostNames = 1 << 10, 64 << 10
)

// Unpack reads the gzipped tar r as Extract does, with the same errors, but
// makes no files: it writes their contents to w, one after another, and returns
// what lies where. After an error w is to be thrown away.
func Unpack(ctx context.Context, r io.Reader, w io.Writer, l Limits) (*Index, error) {
	x := newUnpacking(w, l)
	defer x.release()
	if err := read(ctx, r, l, x); err != nil {
		return nil, err
	}
	if err := x.out.Flush(); err != nil {
		return nil, fmt.Errorf("extract: %w", err)
	}
	return x.index(), nil
}

// unpacking makes an Index.
type unpacking struct {
	limits Limits
	out    *bufio.Writer
	offset int64
	nodes  []unpacked
	find   map[place]int32
	names  strings.Builder // of the last nodes
	memory int64           // of all names
	last   string          // the directory that was found last
	lastAt int32
}

// unpacked is a node on its way into an Index. The size of a directory is the
// number of its entries.
type unpacked struct {
	node
	dir int32
}

// place is a name in a directory.
type place struct {
	dir  int32
	name string
}

var contentWriters = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, readBuffer) }}

func newUnpacking(w io.Writer, l Limits) *unpacking {
	x := &unpacking{limits: l, find: map[place]int32{}, last: "."}
	x.out = contentWriters.Get().(*bufio.Writer)
	x.out.Reset(contentWriter{w})
	x.nodes = append(x.nodes, unpacked{node: node{name: ".", mode: fs.ModeDir | dirMode&^sealed}})
	return x
}

// contentWriter keeps the name of a file out of errors: a temporary one is another with each try, and so would be the
// message of a failure that repeats. It also hides the file's own ReadFrom, which would allocate a buffer each time.
type contentWriter struct{ w io.Writer }

func (c contentWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return n, err
}

func (x *unpacking) release() {
	x.out.Reset(nil)
	contentWriters.Put(x.out)
}

func (x *unpacking) mkdir(name string) error {
	_, err := x.directory(name)
	return err
}

// directory finds the node of a directory, made if need be with those above it.
func (x *unpacking) directory(name string) (int32, error) {
	if name == x.last {
		return x.lastAt, nil
	}
	at := int32(0)
	for end := 0; name != "." && end < len(name); end++ {
		start := end
		if n := strings.IndexByte(name[start:], '/'); n >= 0 {
			end = start + n
		} else {
			end = len(name)
		}
		next, there, err := x.entry(at, name[start:end])
		switch {
		case err != nil:
		case !there:
			x.nodes[next].mode = fs.ModeDir | dirMode&^sealed
		case !x.nodes[next].mode.IsDir() && end < len(name):
			err = &fs.PathError{Op: "openat", Path: name[start:end], Err: syscall.ENOTDIR}
		case !x.nodes[next].mode.IsDir():
			err = &fs.PathError{Op: "mkdirat", Path: name[start:end], Err: syscall.EEXIST}
		}
		if err != nil {
			return 0, fmt.Errorf("extract directory '%s': %w", name, err)
		}
		at = next
	}
	x.last, x.lastAt = strings.Clone(name), at
	return at, nil
}

// entry finds the node of a name in a directory, made if it is not there.
func (x *unpacking) entry(dir int32, name string) (at int32, there bool, err error) {
	if at, there := x.find[place{dir, name}]; there {
		return at, true, nil
	}
	if len(name) > maxName {
		return 0, false, &fs.PathError{Op: "openat", Path: name, Err: syscall.ENAMETOOLONG}
	}
	if exceeds(int64(len(x.nodes)), x.limits.Entries) {
		return 0, false, tooManyEntries(x.limits)
	}
	at, name = int32(len(x.nodes)), x.keep(name)
	x.find[place{dir, name}] = at
	x.nodes = append(x.nodes, unpacked{node: node{name: name}, dir: dir})
	x.nodes[dir].size++
	return at, false, nil
}

// keep copies a name to where many lie together: the path it is a part of
// needs more memory, and so would an allocation of its own.
func (x *unpacking) keep(name string) string {
	if x.names.Cap()-x.names.Len() < len(name) {
		size := min(max(2*x.names.Cap(), firstNames), mostNames)
		x.names = strings.Builder{}
		x.names.Grow(size)
		x.memory += int64(size)
	}
	start := x.names.Len()
	x.names.WriteString(name)
	return x.names.String()[start:]
}

func (x *unpacking) file(name string, mode fs.FileMode, size int64, content io.Reader) error {
	dir, err := x.directory(path.Dir(name))
	if err != nil {
		return err
	}
	at, there, err := int32(0), true, error(nil)
	if name != "." {
		at, there, err = x.entry(dir, path.Base(name))
	}
	switch {
	case err != nil:
		return fmt.Errorf("extract '%s': %w", name, err)
	case !there:
		x.nodes[at].mode = mode &^ sealed
	case x.nodes[at].mode.IsDir():
		return fmt.Errorf("extract '%s': %w", name, &fs.PathError{Op: "openat", Path: path.Base(name), Err: syscall.EISDIR})
	}
	// One that is there already keeps its mode, as a file that is written again.
	x.nodes[at].offset, x.nodes[at].size = x.offset, size
	n, err := x.out.ReadFrom(content)
	if x.offset += n; err != nil {
		return fmt.Errorf("extract '%s': %w", name, err)
	}
	return nil
}

// index puts the entries of each directory side by side, in their order.
func (x *unpacking) index() *Index {
	index := &Index{nodes: make([]node, len(x.nodes)), content: x.offset, names: x.memory}
	// The entries of a directory follow those of the directories made before it.
	next := make([]int64, len(x.nodes))
	free := int64(1)
	for i := range x.nodes {
		if n := &x.nodes[i]; n.mode.IsDir() {
			n.offset, next[i] = free, free
			free += n.size
		}
	}
	index.nodes[0] = x.nodes[0].node
	for _, n := range x.nodes[1:] {
		index.nodes[next[n.dir]] = n.node
		next[n.dir]++
	}
	for i := range index.nodes {
		if n := &index.nodes[i]; n.mode.IsDir() {
			// These come after the directory: none of them was looked at yet.
			slices.SortFunc(index.entries(n), func(a, b node) int { return cmp.Compare(a.name, b.name) })
		}
	}
	return index
}
