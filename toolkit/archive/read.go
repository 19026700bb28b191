package archive

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

// ErrUnsafe is the property of every error about an archive that tries to
// write outside its directory or holds more than the limits allow.
var ErrUnsafe = errors.New("unsafe archive")

// Limits bound what Extract and Unpack accept. A limit of zero or less means
// none.
type Limits struct {
	// Bytes is the total size of all entries, headers included.
	Bytes int64
	// FileBytes is the size of one file.
	FileBytes int64
	// Entries is the number of entries of any type. Unpack, which keeps them in
	// memory, also counts directories without an entry of their own.
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

const (
	ratioFloor = 64 << 20
	// readBuffer is the size of reads of the compressed and of the
	// decompressed stream: headers are read in small pieces.
	readBuffer = 32 << 10
)

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

// receiver takes what an archive holds. Names are clean, have slashes, and
// stay inside.
type receiver interface {
	mkdir(name string) error
	// file takes a file with its permission bits, which let the owner read and
	// write. The size is that of the content.
	file(name string, mode fs.FileMode, size int64, content io.Reader) error
}

// read hands all files and directories of the gzipped tar r to a receiver, and
// refuses what nothing honest holds.
func read(ctx context.Context, r io.Reader, l Limits, to receiver) error {
	d := decoders.Get().(*decoder)
	defer d.release()
	compressed := &countingReader{r: r}
	if err := d.reset(compressed); err != nil {
		return fmt.Errorf("requires gzip-compressed body: %w", err)
	}
	content := &boundedReader{ctx: ctx, r: &d.gzip, compressed: compressed, limits: l}
	d.out.Reset(content)
	e := entryReader{limits: l, to: to}
	tr := tar.NewReader(&d.out)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := e.entry(h, tr); err != nil {
			return err
		}
	}
	// What follows the end of the tar still has to pass the checksum of gzip.
	if _, err := io.Copy(io.Discard, content); err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	return d.gzip.Close()
}

// decoder is what it takes to decompress: more memory than most archives have
// bytes.
type decoder struct {
	in, out bufio.Reader
	gzip    gzip.Reader
}

var decoders = sync.Pool{New: func() any {
	d := &decoder{}
	d.in = *bufio.NewReaderSize(nil, readBuffer)
	d.out = *bufio.NewReaderSize(nil, readBuffer)
	return d
}}

func (d *decoder) reset(r io.Reader) error {
	d.in.Reset(r)
	return d.gzip.Reset(&d.in)
}

// release gives the decoder back, without the readers of its last user.
func (d *decoder) release() {
	d.in.Reset(nil)
	d.out.Reset(nil)
	decoders.Put(d)
}

type entryReader struct {
	limits  Limits
	to      receiver
	entries int64
	bytes   int64
}

func (e *entryReader) entry(h *tar.Header, content io.Reader) error {
	if e.entries++; exceeds(e.entries, e.limits.Entries) {
		return tooManyEntries(e.limits)
	}
	name, err := e.checkPath(h.Name)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeXGlobalHeader, tar.TypeSymlink:
		return nil
	case tar.TypeDir:
		return e.to.mkdir(name)
	case tar.TypeReg:
		return e.file(name, h, content)
	}
	return fmt.Errorf("%w: '%s' is neither a file nor a directory (type %q)", ErrUnsafe, h.Name, h.Typeflag)
}

func tooManyEntries(l Limits) error {
	return fmt.Errorf("%w: more than %d entries", ErrUnsafe, l.Entries)
}

func (e *entryReader) checkPath(name string) (string, error) {
	if exceeds(int64(len(name)), e.limits.PathBytes) {
		return "", fmt.Errorf("%w: path of %d bytes exceeds the limit of %d", ErrUnsafe, len(name), e.limits.PathBytes)
	}
	clean := path.Clean(name)
	if name == "" || path.IsAbs(name) || !filepath.IsLocal(filepath.FromSlash(clean)) || hasDotDot(name) {
		return "", fmt.Errorf("%w: path %q leaves the directory", ErrUnsafe, name)
	}
	if depth := int64(strings.Count(clean, "/") + 1); exceeds(depth, e.limits.Depth) {
		return "", fmt.Errorf("%w: path of %d elements exceeds the limit of %d", ErrUnsafe, depth, e.limits.Depth)
	}
	return clean, nil
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

func (e *entryReader) file(name string, h *tar.Header, content io.Reader) error {
	if exceeds(h.Size, e.limits.FileBytes) {
		return fmt.Errorf("%w: '%s' has %d bytes, the limit is %d", ErrUnsafe, h.Name, h.Size, e.limits.FileBytes)
	}
	// The holes of a sparse file take no bytes of the stream.
	if e.bytes += h.Size; exceeds(e.bytes, e.limits.Bytes) {
		return fmt.Errorf("%w: content exceeds the limit of %d bytes", ErrUnsafe, e.limits.Bytes)
	}
	return e.to.file(name, fs.FileMode(h.Mode)&0o777|fileMode, h.Size, content)
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
