package git

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"

	"github.com/go-git/go-git/v5/plumbing/hash"
)

// encodePack writes objects as a pack (gitformat-pack), each whole.
func encodePack(objects []packable) []byte {
	var b bytes.Buffer
	b.WriteString("PACK")
	// Writing to a buffer does not fail.
	_ = binary.Write(&b, binary.BigEndian, []uint32{2, uint32(len(objects))})
	for _, o := range objects {
		size := len(o.content)
		first := byte(o.kind)<<4 | byte(size&0x0f)
		for size >>= 4; size > 0; size >>= 7 {
			b.WriteByte(first | 0x80)
			first = byte(size & 0x7f)
		}
		b.WriteByte(first)
		z := zlib.NewWriter(&b)
		_, _ = z.Write(o.content)
		_ = z.Close()
	}
	sum := hash.New(hash.CryptoType)
	sum.Write(b.Bytes())
	return sum.Sum(b.Bytes())
}
