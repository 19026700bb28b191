package hostile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
)

// zeroBlock is how many zeros a part of a large file has. A gzip stream may have many parts, so that large files cost what
// their first part costs.
const zeroBlock = 32 << 20

// Tar packs the entries as they are, gzipped. Regular files hold zeros.
func Tar(entries ...tar.Header) []byte {
	var out, plain bytes.Buffer
	var block []byte
	flush := func() {
		out.Write(compressed(func(w io.Writer) { _, _ = plain.WriteTo(w) }))
	}
	t := tar.NewWriter(&plain)
	for _, h := range entries {
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		size := h.Size
		// Memory takes everything; a header that tar cannot spell is missing and fails the test that needs it.
		if t.WriteHeader(&h) != nil || h.Typeflag != tar.TypeReg {
			continue
		}
		if size < zeroBlock {
			_, _ = io.CopyN(t, zeros{}, size)
			continue
		}
		if block == nil {
			block = compressed(func(w io.Writer) { _, _ = io.CopyN(w, zeros{}, zeroBlock) })
		}
		flush()
		for ; size >= zeroBlock; size -= zeroBlock {
			out.Write(block)
		}
		// The length of a block is a multiple of the records of a tar; what follows begins a tar of its own.
		_, _ = io.CopyN(&plain, zeros{}, (size+511)/512*512)
		t = tar.NewWriter(&plain)
	}
	_ = t.Close()
	flush()
	return out.Bytes()
}

// LyingTar is a gzipped tar of one file whose header promises a mebibyte more than there is.
func LyingTar() []byte {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	_ = t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 1, Mode: 0o644})
	_, _ = io.WriteString(t, "x")
	_ = t.Close()
	raw := b.Bytes()
	copy(raw[124:136], fmt.Sprintf("%011o\x00", 1<<20))
	copy(raw[148:156], "        ")
	sum := 0
	for _, c := range raw[:512] {
		sum += int(c)
	}
	copy(raw[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return compressed(func(w io.Writer) { _, _ = w.Write(raw) })
}

func compressed(fill func(io.Writer)) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	fill(z)
	_ = z.Close()
	return b.Bytes()
}
