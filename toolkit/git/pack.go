package git

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
)

const (
	// spillBytes is the size from which an object is rebuilt from deltas on
	// disk instead of in memory.
	spillBytes = 16 << 20
	cacheBytes = 48 << 20
	// maxChain is the longest chain of deltas that git writes.
	maxChain = 4095
	noBase   = -1
)

var errObjectNotFound = errors.New("object not found")

// pack is a bare object store: the pack as the server sent it, in a file that
// has no name any more, and an index in memory. It is written here rather than
// by go-git's storage because that inflates every object into memory before
// any limit can be applied.
type pack struct {
	file    *os.File
	dir     string // where large objects are rebuilt
	limits  Limits
	size    int64 // of the file
	objects []packed
	index   map[plumbing.Hash]int32
	cache   *cache.BufferLRU // contents of objects that deltas build on, by index

	inflaters sync.Pool
}

// packed is an object in a pack. The kind and size of a delta are those of the
// object it yields.
type packed struct {
	offset int64
	size   int64
	hash   plumbing.Hash
	base   int32 // index of the object a delta builds on, or noBase
	kind   plumbing.ObjectType
	delta  bool
}

// readPack stores and indexes a pack. Every object is inflated once and its
// name computed, so that nothing later trusts what the server claims.
func readPack(ctx context.Context, r io.Reader, dir string, l Limits) (*pack, error) {
	file, err := os.CreateTemp(dir, "*.pack")
	if err != nil {
		return nil, fmt.Errorf("store the pack: %w", err)
	}
	p := &pack{file: file, dir: dir, limits: l, index: map[plumbing.Hash]int32{}, cache: cache.NewBufferLRU(cacheBytes)}
	err = os.Remove(file.Name())
	if err == nil {
		err = p.read(ctx, r)
	}
	if err != nil {
		_ = p.close()
		return nil, err
	}
	return p, nil
}

func (p *pack) close() error { return p.file.Close() }

func (p *pack) read(ctx context.Context, r io.Reader) error {
	out := bufio.NewWriterSize(p.file, 64<<10)
	bounded := &boundedReader{r: contextReader{ctx, r}, limit: p.limits.PackBytes, what: "size of the pack"}
	scanner := packfile.NewScanner(io.TeeReader(bounded, out))
	byHash, err := p.scan(scanner)
	if err != nil {
		return packError(err)
	}
	if _, err := scanner.Checksum(); err != nil {
		return packError(err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("store the pack: %w", err)
	}
	p.size = bounded.n
	return p.resolveDeltas(ctx, byHash)
}

func packError(err error) error {
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("read the pack: %w", io.ErrUnexpectedEOF)
	case errors.Is(err, ErrLimit) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return fmt.Errorf("read the pack: %w", err)
}

// scan lists the objects of the pack. It returns the deltas that name their
// base by hash: they can be linked only when all names are known.
func (p *pack) scan(scanner *packfile.Scanner) (map[plumbing.Hash][]int32, error) {
	_, count, err := scanner.Header()
	if err != nil {
		return nil, err
	}
	if limit := min(p.limits.Objects, math.MaxInt32); int64(count) > limit {
		return nil, limitError("number of objects in the pack", int64(count), limit)
	}
	byHash := map[plumbing.Hash][]int32{}
	for i := range int32(count) {
		h, err := scanner.NextObjectHeader()
		if err != nil {
			return nil, err
		}
		if exceeds(h.Length, p.limits.ObjectBytes) {
			return nil, limitError("size of an object", h.Length, p.limits.ObjectBytes)
		}
		o := packed{offset: h.Offset, size: h.Length, base: noBase, kind: h.Type}
		var w io.Writer = io.Discard
		var name plumbing.Hasher
		switch h.Type {
		case plumbing.OFSDeltaObject:
			base, ok := p.at(h.OffsetReference)
			if !ok {
				return nil, fmt.Errorf("%w pack: delta at %d refers to no object", ErrMalformed, h.Offset)
			}
			o.delta, o.base = true, base
		case plumbing.REFDeltaObject:
			o.delta = true
			byHash[h.Reference] = append(byHash[h.Reference], i)
		case plumbing.CommitObject, plumbing.TreeObject, plumbing.BlobObject, plumbing.TagObject:
			name = plumbing.NewHasher(h.Type, h.Length)
			w = name
		default:
			return nil, fmt.Errorf("%w pack: object at %d has type %d", ErrMalformed, h.Offset, h.Type)
		}
		n, _, err := scanner.NextObject(w)
		if err != nil {
			return nil, err
		}
		if n != h.Length {
			return nil, fmt.Errorf("%w pack: object at %d has %d bytes instead of %d", ErrMalformed, h.Offset, n, h.Length)
		}
		if !o.delta {
			o.hash = name.Sum()
			p.index[o.hash] = i
		}
		p.objects = append(p.objects, o)
	}
	return byHash, nil
}

// at finds the object at an offset; the list grows in the order of the pack.
func (p *pack) at(offset int64) (int32, bool) {
	i, ok := slices.BinarySearchFunc(p.objects, offset, func(o packed, offset int64) int { return int(o.offset - offset) })
	return int32(i), ok
}

// resolveDeltas computes the names of the objects stored as deltas, from each
// base to what builds on it: the base of a chain is then still in the cache,
// and deltas that refer to each other in a circle are never reached.
func (p *pack) resolveDeltas(ctx context.Context, byHash map[plumbing.Hash][]int32) error {
	children := map[int32][]int32{}
	deltas := 0
	for i, o := range p.objects {
		if o.delta {
			deltas++
		}
		if o.base != noBase {
			children[o.base] = append(children[o.base], int32(i))
		}
	}
	if deltas == 0 {
		return nil
	}
	type step struct {
		object int32
		depth  int
	}
	var stack []step
	buffer := make([]byte, 32<<10)
	for i, o := range p.objects {
		if !o.delta {
			stack = append(stack, step{int32(i), 0})
		}
	}
	for len(stack) > 0 {
		s := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if err := ctx.Err(); err != nil {
			return err
		}
		o := &p.objects[s.object]
		if o.delta {
			if err := p.resolve(s.object, buffer); err != nil {
				return err
			}
			deltas--
		}
		if s.depth++; s.depth > maxChain+1 {
			return fmt.Errorf("%w pack: chain of more than %d deltas", ErrMalformed, maxChain)
		}
		for _, child := range byHash[o.hash] {
			p.objects[child].base = s.object
			stack = append(stack, step{child, s.depth})
		}
		delete(byHash, o.hash)
		for _, child := range children[s.object] {
			stack = append(stack, step{child, s.depth})
		}
	}
	if deltas > 0 {
		return fmt.Errorf("%w pack: %d deltas without their base", ErrMalformed, deltas)
	}
	return nil
}

func (p *pack) resolve(i int32, buffer []byte) error {
	o := &p.objects[i]
	o.kind = p.objects[o.base].kind
	c, err := p.rebuild(i)
	if err != nil {
		return err
	}
	defer c.close()
	o.size = c.size
	name := plumbing.NewHasher(o.kind, o.size)
	if _, err := io.CopyBuffer(name, io.NewSectionReader(c, 0, c.size), buffer); err != nil {
		return fmt.Errorf("read the pack: %w", err)
	}
	o.hash = name.Sum()
	p.index[o.hash] = i
	return nil
}

func (p *pack) find(h plumbing.Hash) (packed, int32, error) {
	i, ok := p.index[h]
	if !ok {
		return packed{}, 0, errObjectNotFound
	}
	return p.objects[i], i, nil
}

// bytes returns the content of an object of the given kind.
func (p *pack) bytes(h plumbing.Hash, kind plumbing.ObjectType) ([]byte, error) {
	o, _, err := p.find(h)
	if err != nil {
		return nil, err
	}
	if o.kind != kind {
		return nil, fmt.Errorf("%w object %s: it is a %s and not a %s", ErrMalformed, h, o.kind, kind)
	}
	r, err := p.open(h)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	return io.ReadAll(r)
}

// open returns the content of an object.
func (p *pack) open(h plumbing.Hash) (io.ReadCloser, error) {
	o, i, err := p.find(h)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, h)
	}
	if !o.delta {
		return p.inflate(o)
	}
	c, err := p.rebuild(i)
	if err != nil {
		return nil, err
	}
	return readCloser{io.NewSectionReader(c, 0, c.size), c.close}, nil
}

// inflate returns the stored bytes of an object: its content, or its delta.
func (p *pack) inflate(o packed) (io.ReadCloser, error) {
	f, ok := p.inflaters.Get().(*inflater)
	if !ok {
		f = &inflater{in: bufio.NewReader(nil)}
	}
	f.in.Reset(io.NewSectionReader(p.file, o.offset, math.MaxInt64-o.offset))
	if err := f.start(); err != nil {
		return nil, fmt.Errorf("read the pack: %w", err)
	}
	return readCloser{f.z, func() error {
		p.inflaters.Put(f)
		return nil
	}}, nil
}

// inflater is reused: it is far larger than most objects.
type inflater struct {
	in *bufio.Reader
	z  io.ReadCloser
}

func (f *inflater) start() (err error) {
	if err := skipHeader(f.in); err != nil {
		return err
	}
	if f.z == nil {
		f.z, err = zlib.NewReader(f.in)
		return err
	}
	return f.z.(zlib.Resetter).Reset(f.in, nil)
}

// skipHeader moves to the compressed bytes of an object: past its type and
// size, and past the reference of a delta (gitformat-pack).
func skipHeader(in *bufio.Reader) error {
	first, err := in.ReadByte()
	if err != nil {
		return err
	}
	for b := first; b&0x80 != 0; {
		if b, err = in.ReadByte(); err != nil {
			return err
		}
	}
	switch plumbing.ObjectType(first >> 4 & 7) {
	case plumbing.REFDeltaObject:
		_, err = in.Discard(len(plumbing.ZeroHash))
	case plumbing.OFSDeltaObject:
		for b := byte(0x80); b&0x80 != 0 && err == nil; {
			b, err = in.ReadByte()
		}
	}
	return err
}

// content is a whole object, in memory or, if large, in a nameless file.
type content struct {
	io.ReaderAt
	size int64
	file *os.File
}

func (c content) close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

// rebuild applies the chain of deltas that yields an object. The caller closes
// the content.
func (p *pack) rebuild(i int32) (content, error) {
	var chain []int32
	var c content
	for at := i; ; at = p.objects[at].base {
		if cached, ok := p.cache.Get(int64(at)); ok {
			c = content{ReaderAt: bytes.NewReader(cached), size: int64(len(cached))}
			break
		}
		if !p.objects[at].delta {
			var err error
			if c, err = p.whole(at); err != nil {
				return content{}, err
			}
			break
		}
		chain = append(chain, at)
	}
	for _, at := range slices.Backward(chain) {
		next, err := p.apply(c, at)
		_ = c.close()
		if err != nil {
			return content{}, err
		}
		c = next
	}
	return c, nil
}

func (p *pack) whole(i int32) (content, error) {
	o := p.objects[i]
	r, err := p.inflate(o)
	if err != nil {
		return content{}, err
	}
	defer func() { _ = r.Close() }()
	return p.fill(i, o.size, func(w io.Writer) error {
		_, err := io.CopyN(w, r, o.size)
		return err
	})
}

func (p *pack) apply(base content, i int32) (content, error) {
	r, err := p.inflate(p.objects[i])
	if err != nil {
		return content{}, err
	}
	defer func() { _ = r.Close() }()
	d, err := newDelta(r, base)
	if err != nil {
		return content{}, err
	}
	if exceeds(d.size, p.limits.ObjectBytes) {
		return content{}, limitError("size of an object", d.size, p.limits.ObjectBytes)
	}
	return p.fill(i, d.size, d.apply)
}

// fill collects what write yields, exactly size bytes.
func (p *pack) fill(i int32, size int64, write func(io.Writer) error) (content, error) {
	if size > spillBytes {
		return p.spill(size, write)
	}
	var b bytes.Buffer
	b.Grow(int(size))
	if err := write(&b); err != nil {
		return content{}, fmt.Errorf("read the pack: %w", err)
	}
	p.cache.Put(int64(i), b.Bytes())
	return content{ReaderAt: bytes.NewReader(b.Bytes()), size: size}, nil
}

func (p *pack) spill(size int64, write func(io.Writer) error) (content, error) {
	file, err := os.CreateTemp(p.dir, "*.object")
	if err != nil {
		return content{}, fmt.Errorf("rebuild a large object: %w", err)
	}
	out := bufio.NewWriterSize(file, 64<<10)
	err = os.Remove(file.Name())
	if err == nil {
		err = write(out)
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		_ = file.Close()
		return content{}, fmt.Errorf("rebuild a large object: %w", err)
	}
	return content{ReaderAt: file, size: size, file: file}, nil
}

type readCloser struct {
	io.Reader
	close func() error
}

func (r readCloser) Close() error { return r.close() }

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
