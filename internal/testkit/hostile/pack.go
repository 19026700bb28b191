package hostile

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/go-git/go-git/v5/plumbing"
)

// Pack is a Git pack that says what it is told to say.
type Pack struct {
	body  bytes.Buffer
	count uint32
}

// Object adds an object and returns its name.
func (p *Pack) Object(kind plumbing.ObjectType, content string) plumbing.Hash {
	p.header(kind, int64(len(content)))
	p.deflate(bytes.NewReader([]byte(content)))
	return plumbing.ComputeHash(kind, []byte(content))
}

// Zeros adds a blob of size zero bytes and returns its name. It declares another size when told so.
func (p *Pack) Zeros(size, declared int64) plumbing.Hash {
	p.header(plumbing.BlobObject, declared)
	p.deflate(io.LimitReader(zeros{}, size))
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", size)
	// A hash takes everything.
	_, _ = io.Copy(h, io.LimitReader(zeros{}, size))
	return plumbing.Hash(h.Sum(nil))
}

// Tree adds a directory of entries, see Entry.
func (p *Pack) Tree(entries ...string) plumbing.Hash {
	var content string
	for _, e := range entries {
		content += e
	}
	return p.Object(plumbing.TreeObject, content)
}

// Commit adds a commit of the tree; headers, lines that end in a newline, come after the usual ones.
func (p *Pack) Commit(tree plumbing.Hash, headers string) plumbing.Hash {
	const who = "a <a@b> 1 +0000\n"
	return p.Object(plumbing.CommitObject, "tree "+tree.String()+"\nauthor "+who+"committer "+who+headers+"\nx\n")
}

// Entry is a line of a tree: mode is 100644, 120000 (symbolic link), 160000 (submodule) or 40000 (directory).
func Entry(mode, name string, object plumbing.Hash) string {
	return mode + " " + name + "\x00" + string(object[:])
}

// Delta adds a difference to the object of that name, which need not be part of the pack.
func (p *Pack) Delta(base plumbing.Hash, delta string) {
	p.header(plumbing.REFDeltaObject, int64(len(delta)))
	p.body.Write(base[:])
	p.deflate(bytes.NewReader([]byte(delta)))
}

// DeltaSizes begins a delta: the sizes of the base and of the result.
func DeltaSizes(base, result uint64) string {
	return string(binary.AppendUvarint(binary.AppendUvarint(nil, base), result))
}

// Copy is the operation of a delta that copies up to 16 MiB - 1 from an offset below 4 GiB of the base.
func Copy(offset, size uint32) string {
	return string([]byte{
		0xff, byte(offset), byte(offset >> 8), byte(offset >> 16), byte(offset >> 24), byte(size), byte(size >> 8), byte(size >> 16),
	})
}

// Bytes is the pack with a right checksum.
func (p *Pack) Bytes() []byte {
	out := []byte("PACK\x00\x00\x00\x02")
	out = binary.BigEndian.AppendUint32(out, p.count)
	out = append(out, p.body.Bytes()...)
	sum := sha1.Sum(out)
	return append(out, sum[:]...)
}

func (p *Pack) header(kind plumbing.ObjectType, size int64) {
	p.count++
	first := byte(kind)<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		p.body.WriteByte(first | 0x80)
		first = byte(size & 0x7f)
	}
	p.body.WriteByte(first)
}

// deflate writes to memory, which does not fail.
func (p *Pack) deflate(content io.Reader) {
	z := zlib.NewWriter(&p.body)
	_, _ = io.Copy(z, content)
	_ = z.Close()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
