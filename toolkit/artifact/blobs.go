package artifact

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// identity tells one content of a file from another without reading it.
type identity struct {
	//lint:ignore U1000 set where there are no inodes, on Windows
	path          string
	device, inode uint64
	size          int64
	modified      int64
}

// maxVerified bounds the memory of what was verified; forgetting costs reading a file again.
const maxVerified = 1 << 16

// blobs is a directory of immutable files named by the digest of their content, "<algorithm>/<hex>", with a place for files that are
// not finished.
type blobs struct {
	dir, tmp string

	mu       sync.Mutex // guards verified
	verified map[identity]Digest
}

// openBlobs creates the directories below root and removes files a former process has not finished.
func openBlobs(root string) (*blobs, error) {
	b := &blobs{dir: filepath.Join(root, blobsDir), tmp: filepath.Join(root, tmpDir), verified: map[identity]Digest{}}
	if err := removeTree(b.tmp); err != nil {
		return nil, explain("remove unfinished files", b.tmp, err)
	}
	for _, dir := range []string{b.dir, b.tmp} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, explain("create directory", dir, err)
		}
	}
	return b, nil
}

func (b *blobs) path(d Digest) string { return filepath.Join(b.dir, string(d.Algo), d.Hex) }

// draft is a file on its way to become a blob.
type draft struct {
	path   string
	digest Digest
	size   int64
}

// write puts what fill writes into a finished, synced file outside of every name. The caller moves or removes it.
func (b *blobs) write(algo Algo, fill func(io.Writer) error) (_ *draft, err error) {
	f, err := os.CreateTemp(b.tmp, "draft-*")
	if err != nil {
		return nil, explain("create file", b.tmp, err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	h := algo.New()
	counter := &countingWriter{w: io.MultiWriter(f, h)}
	if err := fill(counter); err != nil {
		return nil, explain("write content", b.tmp, err)
	}
	if err := f.Sync(); err != nil {
		return nil, explain("sync content", b.tmp, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, explain("examine content", b.tmp, err)
	}
	d := &draft{path: f.Name(), digest: sum(algo, h), size: counter.n}
	b.remember(identify(d.path, info), d.digest)
	return d, nil
}

// keep makes the draft the blob of its digest. A blob that exists stays if its content is right, so that its names go on sharing it.
func (b *blobs) keep(d *draft) error {
	path := b.path(d.digest)
	if b.check(path, d.digest) == nil {
		return b.remove(d.path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return explain("create directory", filepath.Dir(path), err)
	}
	return explain("store content", b.dir, os.Rename(d.path, path))
}

// check reads the file once in a process, and again when it was touched. It returns ErrNotFound when it is not there and ErrMismatch
// when the content is not what d says.
func (b *blobs) check(path string, d Digest) error {
	f, err := b.open(path, d)
	if err != nil {
		return err
	}
	return f.Close()
}

// open is check, and hands out the file that was checked.
func (b *blobs) open(path string, d Digest) (_ *os.File, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, path)
	}
	if err != nil {
		return nil, explain("open artifact", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	got, err := b.digest(f, path, d.Algo)
	if err != nil {
		return nil, err
	}
	if got != d {
		return nil, fmt.Errorf("%w: %s has digest %s, not %s", ErrMismatch, path, got, d)
	}
	return f, nil
}

// digest returns the digest of an open file, from memory when the file was read before. The offset of f is at the start afterwards.
func (b *blobs) digest(f *os.File, path string, algo Algo) (Digest, error) {
	info, err := f.Stat()
	if err != nil {
		return Digest{}, explain("examine artifact", path, err)
	}
	if !info.Mode().IsRegular() {
		return Digest{}, fmt.Errorf("%w: %s is not a file", ErrNotFound, path)
	}
	id := identify(path, info)
	if known, ok := b.recall(id); ok && known.Algo == algo {
		return known, nil
	}
	got, _, err := digestOf(algo, f)
	if err != nil {
		return Digest{}, explain("read artifact", path, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Digest{}, explain("read artifact", path, err)
	}
	// Only what did not change while it was read may be remembered.
	if info, err = f.Stat(); err == nil && identify(path, info) == id {
		b.remember(id, got)
	}
	return got, nil
}

func (b *blobs) recall(id identity) (Digest, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, ok := b.verified[id]
	return d, ok
}

func (b *blobs) remember(id identity, d Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.verified) >= maxVerified {
		clear(b.verified)
	}
	b.verified[id] = d
}

// remove removes one name of a file, and with the last one what is known of its content: the inode may come back with another. A file
// that is not there is fine.
func (b *blobs) remove(path string) error {
	info, err := os.Lstat(path)
	if err == nil && links(info) <= 1 {
		b.mu.Lock()
		delete(b.verified, identify(path, info))
		b.mu.Unlock()
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explain("remove artifact", path, err)
	}
	return nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// removeTree removes a directory whose own directories may be read-only. A directory that is not there is fine.
func removeTree(dir string) error {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}
