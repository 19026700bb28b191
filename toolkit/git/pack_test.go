package git

import (
	"bytes"
	"compress/zlib"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"

	"github.com/seed-79636ae9/flux/toolkit/archive"
)

// packBuilder writes packs as a hostile server would.
type packBuilder struct {
	body    bytes.Buffer
	count   uint32
	offsets []int64
	z       *zlib.Writer
}

func (b *packBuilder) header(kind plumbing.ObjectType, size int) {
	b.offsets = append(b.offsets, int64(12+b.body.Len()))
	b.count++
	first := byte(kind)<<4 | byte(size&15)
	for size >>= 4; size > 0; size >>= 7 {
		b.body.WriteByte(first | 0x80)
		first = byte(size & 0x7f)
	}
	b.body.WriteByte(first)
}

func (b *packBuilder) deflate(content []byte) {
	if b.z == nil {
		b.z = zlib.NewWriter(&b.body)
	}
	b.z.Reset(&b.body)
	_, _ = b.z.Write(content)
	_ = b.z.Close()
}

// object adds an object and returns its name.
func (b *packBuilder) object(kind plumbing.ObjectType, content string) plumbing.Hash {
	b.header(kind, len(content))
	b.deflate([]byte(content))
	return plumbing.ComputeHash(kind, []byte(content))
}

func (b *packBuilder) ofsDelta(back int64, delta string) {
	b.header(plumbing.OFSDeltaObject, len(delta))
	encoded := []byte{byte(back & 0x7f)}
	for back >>= 7; back > 0; back >>= 7 {
		back--
		encoded = append([]byte{byte(back&0x7f) | 0x80}, encoded...)
	}
	b.body.Write(encoded)
	b.deflate([]byte(delta))
}

func (b *packBuilder) refDelta(base plumbing.Hash, delta string) {
	b.header(plumbing.REFDeltaObject, len(delta))
	b.body.Write(base[:])
	b.deflate([]byte(delta))
}

func (b *packBuilder) bytes() []byte {
	out := []byte("PACK\x00\x00\x00\x02")
	out = binary.BigEndian.AppendUint32(out, b.count)
	out = append(out, b.body.Bytes()...)
	sum := sha1.Sum(out)
	return append(out, sum[:]...)
}

func entry(mode, name string, h plumbing.Hash) string {
	return mode + " " + name + "\x00" + string(h[:])
}

func (b *packBuilder) commit(tree plumbing.Hash) plumbing.Hash {
	return b.object(plumbing.CommitObject, "tree "+tree.String()+"\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n")
}

// varint is a size as deltas spell it.
func varint(n uint64) string { return string(binary.AppendUvarint(nil, n)) }

// TestDeltas: chains in any order, with bases before and after, and objects
// large enough to be rebuilt on disk.
func TestDeltas(t *testing.T) {
	insert := func(base, target string) string {
		d := varint(uint64(len(base))) + varint(uint64(len(target)))
		for rest := target; rest != ""; {
			n := min(127, len(rest))
			d += string(rune(n)) + rest[:n]
			rest = rest[n:]
		}
		return d
	}
	hashOf := func(s string) plumbing.Hash { return plumbing.ComputeHash(plumbing.BlobObject, []byte(s)) }
	var b packBuilder
	b.refDelta(hashOf("two"), insert("two", "three")) // its base comes later, as a delta
	b.object(plumbing.BlobObject, "one")
	one := b.offsets[1]
	here := int64(12 + b.body.Len())
	b.ofsDelta(here-one, insert("one", "two"))
	large := strings.Repeat("0123456789abcdef", spillBytes/16+1)
	b.object(plumbing.BlobObject, large)
	// Copies the first 4 bytes of the large object, then 16 MiB - 1 from there.
	copyAll := varint(uint64(len(large))) + varint(uint64(4+1<<24-1)) + "\x90\x04" + "\xf1\x04\xff\xff\xff"
	b.refDelta(hashOf(large), copyAll)
	copied := large[:4] + large[4:4+1<<24-1]
	b.refDelta(hashOf(copied), insert(copied, "small again"))

	want := map[string]string{"a": "one", "b": "two", "c": "three", "d": large, "e": copied, "f": "small again"}
	var content string
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		content += entry("100644", name, hashOf(want[name]))
	}
	tip := b.commit(b.object(plumbing.TreeObject, content))
	c := hostile(t, advertise(testCaps, tip.String()+" refs/heads/main"), sidebandPack(b.bytes()))
	dir := t.TempDir()
	checkout, err := c.Fetch(t.Context(), Reference{Branch: "main"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer checkout.Close()
	err = checkout.Tree().Walk(t.Context(), func(e archive.Entry) error {
		r, err := e.Open()
		if err != nil {
			return err
		}
		defer r.Close()
		got, err := io.ReadAll(r)
		if string(got) != want[e.Path] || e.Size != int64(len(got)) {
			t.Errorf("%s has %d bytes, announced %d, want %d", e.Path, len(got), e.Size, len(want[e.Path]))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%d files are left in the work directory", len(left))
	}
}

func TestLongChains(t *testing.T) {
	build := func(deltas int) []byte {
		var b packBuilder
		b.object(plumbing.BlobObject, "x")
		for range deltas {
			b.ofsDelta(int64(12+b.body.Len())-b.offsets[len(b.offsets)-1], varint(1)+varint(1)+"\x90\x01")
		}
		return b.bytes()
	}
	if _, err := fetchPackDirect(t, build(maxChain)); err != nil {
		t.Errorf("chain of %d deltas: %v", maxChain, err)
	}
	if _, err := fetchPackDirect(t, build(maxChain+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("chain of %d deltas: %v, want ErrMalformed", maxChain+1, err)
	}
}

func FuzzReadPack(f *testing.F) {
	var b packBuilder
	base := b.object(plumbing.BlobObject, "hello world")
	b.refDelta(base, varint(11)+varint(6)+"\x90\x05\x01!")
	b.commit(b.object(plumbing.TreeObject, entry("100644", "a", base)))
	f.Add(b.bytes())
	limits := Limits{PackBytes: 1 << 20, Objects: 100, ObjectBytes: 1 << 20}.orDefault()
	f.Fuzz(func(t *testing.T, content []byte) {
		// The checksum is made right, or nothing but it would be tested.
		if len(content) > 20 {
			sum := sha1.Sum(content[:len(content)-20])
			content = append(slices.Clone(content[:len(content)-20]), sum[:]...)
		}
		p, err := readPack(t.Context(), bytes.NewReader(content), t.TempDir(), limits)
		if err != nil {
			return
		}
		defer p.close()
		for h := range p.index {
			o, _, _ := p.find(h)
			content, err := p.bytes(h, o.kind)
			if err != nil || plumbing.ComputeHash(o.kind, content) != h || int64(len(content)) != o.size {
				t.Errorf("object %s: %d bytes of %d, %v", h, len(content), o.size, err)
			}
		}
	})
}
