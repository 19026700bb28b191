package artifact

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/archive"
)

// idleIndexBytes bounds the memory for the indexes of trees that nobody uses. It is room for a million files.
const idleIndexBytes = 64 << 20

// Tree is an unpacked artifact that others read too.
type Tree struct {
	fsys  fs.FS
	close func() error
}

// FS returns the files of the artifact, as archive.Index.FS describes them. They can be read until Close.
func (t *Tree) FS() fs.FS { return t.fsys }

// Close gives the tree back. Calls after the first do nothing.
func (t *Tree) Close() error { return t.close() }

// unpacker writes the contents of an artifact's files to w and returns where they lie.
type unpacker func(ctx context.Context, w io.Writer) (*archive.Index, error)

// treeCache unpacks each digest once, counts the users of each tree, and keeps unused ones, the last used first, up to a size. A tree is
// an index in memory and one file, which is open while the tree has users.
type treeCache struct {
	dir        string
	limit      int64
	indexLimit int64
	clock      clock.PassiveClock
	flights    flights

	mu    sync.Mutex // guards all below and the fields of the trees
	trees map[Digest]*sharedTree
	idle  *list.List // of *sharedTree without users, the least recently used first
	bytes int64      // of the idle ones, on disk and in memory
	index int64      // of these, those in memory
}

type sharedTree struct {
	digest  Digest
	path    string // of the file that holds the contents
	index   *archive.Index
	size    int64
	content *os.File // nil while there are no users
	users   int
	idle    *list.Element // nil while there are users
	since   time.Time     // when the last user left
}

// openTreeCache removes the trees of a former process, whose indexes are lost. An earlier version kept directories there.
func openTreeCache(dir string, limit int64, c clock.PassiveClock) (*treeCache, error) {
	if err := removeTree(dir); err != nil {
		return nil, explain("remove unpacked artifacts of an earlier run", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, explain("create directory", dir, err)
	}
	return &treeCache{dir: dir, limit: limit, indexLimit: idleIndexBytes, clock: c, trees: map[Digest]*sharedTree{}, idle: list.New()}, nil
}

// open returns the tree of the digest, which is unpacked if it is not there. Callers with the same key share the work.
func (c *treeCache) open(ctx context.Context, key string, d Digest, unpack unpacker) (*Tree, error) {
	for {
		if t, err := c.use(d); t != nil || err != nil {
			return t, err
		}
		if err := c.flights.do(ctx, key, func(ctx context.Context) error { return c.fill(ctx, d, unpack) }); err != nil {
			return nil, err
		}
		// With a small limit others may have pushed the tree out again before this caller got here; then it is unpacked anew.
	}
}

func (c *treeCache) fill(ctx context.Context, d Digest, unpack unpacker) error {
	if c.has(d) {
		// The caller looked just before an earlier flight landed.
		return nil
	}
	t, err := c.newTree(ctx, d, unpack)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if c.trees[d] != nil {
		// The same content came from another URL meanwhile.
		c.mu.Unlock()
		return removeAll([]*sharedTree{t})
	}
	c.trees[d] = t
	c.rest(t)
	victims := c.overflow(t)
	c.mu.Unlock()
	return removeAll(victims)
}

// newTree unpacks a tree.
func (c *treeCache) newTree(ctx context.Context, d Digest, unpack unpacker) (*sharedTree, error) {
	f, err := os.CreateTemp(c.dir, d.Hex[:12]+"-")
	if err != nil {
		return nil, explain("create a file", c.dir, withoutPath(err))
	}
	index, err := unpack(ctx, f)
	if err = errors.Join(err, withoutPath(f.Close())); err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	const block = 4096
	size := (index.ContentBytes()+block-1)&^(block-1) + index.MemoryBytes()
	return &sharedTree{digest: d, path: f.Name(), index: index, size: size}, nil
}

// withoutPath keeps the name of a file out of an error: it is another with each try, and so would be the message of a failure that
// repeats.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}

func (c *treeCache) has(d Digest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trees[d] != nil
}

// use takes the tree if it is there.
func (c *treeCache) use(d Digest) (*Tree, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.trees[d]
	if t == nil {
		return nil, nil
	}
	if t.content == nil {
		var err error
		t.content, err = os.Open(t.path)
		if errors.Is(err, fs.ErrNotExist) {
			// Somebody has cleaned up.
			c.forget(t)
			return nil, nil
		}
		if err != nil {
			return nil, explain("open unpacked artifact", c.dir, withoutPath(err))
		}
	}
	if t.idle != nil {
		c.wake(t)
	}
	t.users++
	var once sync.Once
	return &Tree{fsys: t.index.FS(t.content), close: func() (err error) {
		once.Do(func() { err = c.leave(t) })
		return err
	}}, nil
}

func (c *treeCache) leave(t *sharedTree) error {
	c.mu.Lock()
	var victims []*sharedTree
	var unused *os.File
	if t.users--; t.users == 0 {
		unused, t.content = t.content, nil
		c.rest(t)
		victims = c.overflow(nil)
	}
	c.mu.Unlock()
	if unused == nil {
		return nil
	}
	return errors.Join(unused.Close(), removeAll(victims))
}

// rest makes a tree idle. The caller holds mu.
func (c *treeCache) rest(t *sharedTree) {
	t.since = c.clock.Now()
	t.idle = c.idle.PushBack(t)
	c.bytes += t.size
	c.index += t.index.MemoryBytes()
}

// wake ends what rest began. The caller holds mu.
func (c *treeCache) wake(t *sharedTree) {
	c.idle.Remove(t.idle)
	t.idle = nil
	c.bytes -= t.size
	c.index -= t.index.MemoryBytes()
}

// forget takes an idle tree out. The caller holds mu.
func (c *treeCache) forget(t *sharedTree) {
	c.wake(t)
	delete(c.trees, t.digest)
}

// overflow takes out what exceeds the limits, sparing the tree that somebody waits for. The caller holds mu, and removes the files after it
// let go of it.
func (c *treeCache) overflow(spare *sharedTree) []*sharedTree {
	return c.takeOut(func(t *sharedTree) bool {
		return (c.bytes > max(c.limit, 0) || c.index > c.indexLimit) && t != spare
	})
}

// takeOut takes out idle trees, the least recently used first, as long as the condition holds. The caller holds mu.
func (c *treeCache) takeOut(while func(*sharedTree) bool) (out []*sharedTree) {
	for e := c.idle.Front(); e != nil; e = c.idle.Front() {
		t := e.Value.(*sharedTree)
		if !while(t) {
			break
		}
		c.forget(t)
		out = append(out, t)
	}
	return out
}

// trim removes trees idle since before the given time and returns the bytes freed.
func (c *treeCache) trim(before time.Time) (freed int64, err error) {
	c.mu.Lock()
	victims := c.takeOut(func(t *sharedTree) bool { return t.since.Before(before) })
	c.mu.Unlock()
	for _, t := range victims {
		freed += t.size
	}
	return freed, removeAll(victims)
}

func removeAll(trees []*sharedTree) error {
	var errs []error
	for _, t := range trees {
		if err := os.Remove(t.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove unpacked artifact %s: %w", t.digest, err))
		}
	}
	return errors.Join(errs...)
}
