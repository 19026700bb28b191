package artifact

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// fileCache keeps fetched artifacts as blobs up to a size. An open file stays readable when it is removed from the cache.
type fileCache struct {
	blobs   *blobs
	limit   int64
	clock   clock.PassiveClock
	flights flights

	mu      sync.Mutex // guards entries and bytes
	entries map[Digest]*cachedFile
	bytes   int64
}

type cachedFile struct {
	size int64
	used time.Time
}

func openFileCache(dir string, limit int64, c clock.PassiveClock) (*fileCache, error) {
	b, err := openBlobs(dir)
	if err != nil {
		return nil, err
	}
	cache := &fileCache{blobs: b, limit: limit, clock: c, entries: map[Digest]*cachedFile{}}
	err = filepath.WalkDir(b.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		d, err := ParseDigest(filepath.Base(filepath.Dir(path)) + ":" + entry.Name())
		if err != nil {
			return os.Remove(path)
		}
		used := info.ModTime()
		if now := c.Now(); used.After(now) {
			// A date in the future would never be long ago.
			used = now
		}
		cache.entries[d] = &cachedFile{size: info.Size(), used: used}
		cache.bytes += info.Size()
		return nil
	})
	if err != nil {
		return nil, explain("examine artifact cache", b.dir, err)
	}
	return cache, cache.shrink(Digest{})
}

// open returns the content of the digest, fetched if need be. Callers with the same key share the work.
func (c *fileCache) open(ctx context.Context, key string, d Digest, fetch func(context.Context) (*draft, error)) (*os.File, error) {
	for {
		f, err := c.blobs.open(c.blobs.path(d), d)
		if err == nil {
			c.touch(d)
			return f, nil
		}
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrMismatch) {
			return nil, err
		}
		if err := c.flights.do(ctx, key, func(ctx context.Context) error { return c.add(ctx, d, fetch) }); err != nil {
			return nil, err
		}
	}
}

func (c *fileCache) add(ctx context.Context, d Digest, fetch func(context.Context) (*draft, error)) error {
	if c.blobs.check(c.blobs.path(d), d) == nil {
		return nil
	}
	got, err := fetch(ctx)
	if err != nil {
		return err
	}
	if err := c.blobs.keep(got); err != nil {
		return errors.Join(err, c.blobs.remove(got.path))
	}
	c.mu.Lock()
	if old := c.entries[d]; old != nil {
		c.bytes -= old.size
	}
	c.entries[d] = &cachedFile{size: got.size, used: c.clock.Now()}
	c.bytes += got.size
	c.mu.Unlock()
	return c.shrink(d)
}

func (c *fileCache) touch(d Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.entries[d]; e != nil {
		e.used = c.clock.Now()
	}
}

// shrink removes the least recently used files beyond the limit, sparing the one that somebody waits for.
func (c *fileCache) shrink(spare Digest) error {
	_, err := c.remove(func(d Digest, _ *cachedFile) bool { return c.bytes > max(c.limit, 0) && d != spare })
	return err
}

func (c *fileCache) trim(before time.Time) (int64, error) {
	return c.remove(func(_ Digest, e *cachedFile) bool { return e.used.Before(before) })
}

func (c *fileCache) remove(condition func(Digest, *cachedFile) bool) (freed int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	order := make([]Digest, 0, len(c.entries))
	for d := range c.entries {
		order = append(order, d)
	}
	slices.SortFunc(order, func(a, b Digest) int {
		return cmp.Or(c.entries[a].used.Compare(c.entries[b].used), cmp.Compare(a.Hex, b.Hex))
	})
	for _, d := range order {
		e := c.entries[d]
		if !condition(d, e) {
			continue
		}
		if err := c.blobs.remove(c.blobs.path(d)); err != nil {
			return freed, err
		}
		delete(c.entries, d)
		c.bytes -= e.size
		freed += e.size
	}
	return freed, nil
}
