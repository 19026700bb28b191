package artifact

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Tree is an unpacked artifact that others read too. It is read-only.
type Tree struct {
	dir   string
	close func() error
}

// Dir returns the path of the directory. It is valid until Close.
func (t *Tree) Dir() string { return t.dir }

// Close gives the tree back. Calls after the first do nothing.
func (t *Tree) Close() error { return t.close() }

// treeCache unpacks each digest once, counts the users of each tree, and keeps unused ones, the last used first, up to a size.
type treeCache struct {
	dir     string
	limit   int64
	clock   clock.PassiveClock
	flights flights

	mu    sync.Mutex // guards all below and the fields of the trees
	trees map[Digest]*sharedTree
	idle  *list.List // of *sharedTree without users, the least recently used first
	bytes int64      // of the idle ones
}

type sharedTree struct {
	digest Digest
	dir    string
	size   int64
	users  int
	idle   *list.Element // nil while there are users
	since  time.Time     // when the last user left
}

// openTreeCache removes the trees of a former process: what it was unpacking when it ended cannot be told from what was finished.
func openTreeCache(dir string, limit int64, c clock.PassiveClock) (*treeCache, error) {
	if err := removeTree(dir); err != nil {
		return nil, explain("remove unpacked artifacts of an earlier run", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, explain("create directory", dir, err)
	}
	return &treeCache{dir: dir, limit: limit, clock: c, trees: map[Digest]*sharedTree{}, idle: list.New()}, nil
}

// open returns the tree of the digest, after unpack has filled a directory if there was none. Callers with the same key share the work.
func (c *treeCache) open(ctx context.Context, key string, d Digest, unpack func(ctx context.Context, dir string) error) (*Tree, error) {
	for {
		if t := c.use(d); t != nil {
			return t, nil
		}
		if err := c.flights.do(ctx, key, func(ctx context.Context) error { return c.fill(ctx, d, unpack) }); err != nil {
			return nil, err
		}
		// With a small limit others may have pushed the tree out again before this caller got here; then it is unpacked anew.
	}
}

func (c *treeCache) fill(ctx context.Context, d Digest, unpack func(ctx context.Context, dir string) error) error {
	if t := c.use(d); t != nil {
		// The caller looked just before an earlier flight landed.
		return t.Close()
	}
	dir, err := os.MkdirTemp(c.dir, d.Hex[:12]+"-")
	if err != nil {
		return explain("create directory", c.dir, err)
	}
	if err := unpack(ctx, dir); err != nil {
		return errors.Join(err, removeTree(dir))
	}
	size, err := seal(dir)
	if err != nil {
		return errors.Join(explain("protect unpacked artifact", dir, err), removeTree(dir))
	}
	c.mu.Lock()
	if c.trees[d] != nil {
		// The same content came from another URL meanwhile.
		c.mu.Unlock()
		return removeTree(dir)
	}
	t := &sharedTree{digest: d, dir: dir, size: size}
	c.trees[d] = t
	c.rest(t)
	victims := c.overflow(t)
	c.mu.Unlock()
	return removeAll(victims)
}

// use takes the tree if it is there.
func (c *treeCache) use(d Digest) *Tree {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.trees[d]
	if t == nil {
		return nil
	}
	if t.idle != nil {
		c.idle.Remove(t.idle)
		t.idle = nil
		c.bytes -= t.size
	}
	t.users++
	var once sync.Once
	return &Tree{dir: t.dir, close: func() (err error) {
		once.Do(func() { err = c.leave(t) })
		return err
	}}
}

func (c *treeCache) leave(t *sharedTree) error {
	c.mu.Lock()
	var victims []*sharedTree
	if t.users--; t.users == 0 {
		c.rest(t)
		victims = c.overflow(nil)
	}
	c.mu.Unlock()
	return removeAll(victims)
}

// rest makes a tree idle. The caller holds mu.
func (c *treeCache) rest(t *sharedTree) {
	t.since = c.clock.Now()
	t.idle = c.idle.PushBack(t)
	c.bytes += t.size
}

// overflow takes out what exceeds the limit, sparing the tree that somebody waits for. The caller holds mu, and removes the directories
// after it let go of it.
func (c *treeCache) overflow(spare *sharedTree) []*sharedTree {
	return c.takeOut(func(t *sharedTree) bool { return c.bytes > max(c.limit, 0) && t != spare })
}

// takeOut takes out idle trees, the least recently used first, as long as the condition holds. The caller holds mu.
func (c *treeCache) takeOut(while func(*sharedTree) bool) (out []*sharedTree) {
	for e := c.idle.Front(); e != nil; e = c.idle.Front() {
		t := e.Value.(*sharedTree)
		if !while(t) {
			break
		}
		c.idle.Remove(e)
		c.bytes -= t.size
		delete(c.trees, t.digest)
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
		if err := removeTree(t.dir); err != nil {
			errs = append(errs, fmt.Errorf("remove unpacked artifact %s: %w", t.digest, err))
		}
	}
	return errors.Join(errs...)
}
