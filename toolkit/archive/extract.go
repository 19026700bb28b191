package archive

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// ErrUnsafe is the property of every error about an archive that tries to
// write outside its directory or holds more than the limits allow.
var ErrUnsafe = errors.New("unsafe archive")

// Limits bound what Extract accepts. A limit of zero or less means none.
type Limits struct {
	// Bytes is the total size of all entries, headers included.
	Bytes int64
	// FileBytes is the size of one file.
	FileBytes int64
	// Entries is the number of entries of any type.
	Entries int64
	// PathBytes is the length of an entry's path.
	PathBytes int64
	// Depth is the number of elements of an entry's path.
	Depth int64
	// Ratio is how many times larger than the compressed input the content may
	// be. It is judged from 64 MiB of content on: small trees of similar files
	// compress well and harm nobody.
	Ratio int64
}

const ratioFloor = 64 << 20

// DefaultLimits admits every tree that can sensibly be reconciled and keeps an
// attack below what a node's ephemeral storage can take.
func DefaultLimits() Limits {
	return Limits{
		Bytes:     2 << 30,
		FileBytes: 1 << 30,
		Entries:   500_000,
		PathBytes: 4096,
		Depth:     128,
		Ratio:     1000,
	}
}

// Extract unpacks the gzipped tar r below dir, which must exist. Files keep
// their permission bits but not their owners and times; the owner may always
// read and write. Symbolic links are dropped (contract: kustomization 23).
// Absolute paths, paths that leave dir, hard links, devices and everything
// beyond the limits fail with ErrUnsafe; files written until then remain, so
// dir is to be one that the caller can throw away. Links that already exist
// below dir are never followed out of it.
func Extract(ctx context.Context, r io.Reader, dir string, l Limits) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()

	compressed := &countingReader{r: r}
	zr, err := gzip.NewReader(compressed)
	if err != nil {
		return fmt.Errorf("requires gzip-compressed body: %w", err)
	}
	content := &boundedReader{ctx: ctx, r: zr, compressed: compressed, limits: l}
	x := extraction{root: root, limits: l, buffer: make([]byte, copyBuffer)}
	tr := tar.NewReader(content)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := x.entry(h, tr); err != nil {
			return err
		}
	}
	// What follows the end of the tar still has to pass the checksum of gzip.
	if _, err := io.Copy(io.Discard, content); err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	return zr.Close()
}

type extraction struct {
	root    *os.Root
	limits  Limits
	entries int64
	bytes   int64
	dir     string // the directory made last
	buffer  []byte
}

func (x *extraction) entry(h *tar.Header, content io.Reader) error {
	if x.entries++; exceeds(x.entries, x.limits.Entries) {
		return fmt.Errorf("%w: more than %d entries", ErrUnsafe, x.limits.Entries)
	}
	name, err := x.checkPath(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader, tar.TypeSymlink:
		return nil
	case tar.TypeDir:
		return x.mkdir(name)
	case tar.TypeReg:
		return x.file(name, h, content)
	}
	return fmt.Errorf("%w: '%s' is neither a file nor a directory (type %q)", ErrUnsafe, h.Name, h.Typeflag)
}

func (x *extraction) checkPath(name string) (string, error) {
	if exceeds(int64(len(name)), x.limits.PathBytes) {
		return "", fmt.Errorf("%w: path of %d bytes exceeds the limit of %d", ErrUnsafe, len(name), x.limits.PathBytes)
	}
	clean := path.Clean(name)
	if name == "" || path.IsAbs(name) || !filepath.IsLocal(filepath.FromSlash(clean)) || hasDotDot(name) {
		return "", fmt.Errorf("%w: path %q leaves the directory", ErrUnsafe, name)
	}
	if depth := int64(strings.Count(clean, "/") + 1); exceeds(depth, x.limits.Depth) {
		return "", fmt.Errorf("%w: path of %d elements exceeds the limit of %d", ErrUnsafe, depth, x.limits.Depth)
	}
	return filepath.FromSlash(clean), nil
}

// hasDotDot refuses ".." even where the cleaned path stays inside: nothing
// that writes honest archives emits it.
func hasDotDot(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

func (x *extraction) mkdir(name string) error {
	if name == "." || name == x.dir {
		return nil
	}
	if err := x.root.MkdirAll(name, dirMode); err != nil {
		return fmt.Errorf("extract directory '%s': %w", name, err)
	}
	x.dir = name
	return nil
}

func (x *extraction) file(name string, h *tar.Header, content io.Reader) error {
	if exceeds(h.Size, x.limits.FileBytes) {
		return fmt.Errorf("%w: '%s' has %d bytes, the limit is %d", ErrUnsafe, h.Name, h.Size, x.limits.FileBytes)
	}
	// The holes of a sparse file take no bytes of the stream.
	if x.bytes += h.Size; exceeds(x.bytes, x.limits.Bytes) {
		return fmt.Errorf("%w: content exceeds the limit of %d bytes", ErrUnsafe, x.limits.Bytes)
	}
	if err := x.mkdir(filepath.Dir(name)); err != nil {
		return err
	}
	mode := fs.FileMode(h.Mode)&0o777 | fileMode
	f, err := x.root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("extract '%s': %w", name, err)
	}
	// A file's own ReadFrom would allocate a buffer each time.
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, content, x.buffer)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("extract '%s': %w", name, err)
	}
	return nil
}

func exceeds(n, limit int64) bool { return limit > 0 && n > limit }

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// boundedReader fails once the decompressed stream is larger than the limits
// allow, so that headers and padding count too.
type boundedReader struct {
	ctx        context.Context
	r          io.Reader
	compressed *countingReader
	limits     Limits
	n          int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	b.n += int64(n)
	if exceeds(b.n, b.limits.Bytes) {
		return 0, fmt.Errorf("%w: content exceeds the limit of %d bytes", ErrUnsafe, b.limits.Bytes)
	}
	if b.limits.Ratio > 0 && b.n > ratioFloor && b.n/b.limits.Ratio > b.compressed.n {
		return 0, fmt.Errorf("%w: content is more than %d times larger than the archive", ErrUnsafe, b.limits.Ratio)
	}
	return n, err
}
