package git

import (
	"bufio"
	"fmt"
	"io"
)

// delta builds an object from pieces of another one (gitformat-pack,
// "Deltified representation").
type delta struct {
	in   *bufio.Reader
	base content
	size int64 // of the result
}

func newDelta(r io.Reader, base content) (*delta, error) {
	d := &delta{in: bufio.NewReader(r), base: base}
	baseSize, err := d.varint()
	if err != nil {
		return nil, err
	}
	if baseSize != base.size {
		return nil, badDelta("it is for a base of %d bytes, not of %d", baseSize, base.size)
	}
	d.size, err = d.varint()
	return d, err
}

func badDelta(format string, args ...any) error {
	return fmt.Errorf("%w delta: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func (d *delta) varint() (int64, error) {
	var v int64
	for shift := 0; ; shift += 7 {
		b, err := d.in.ReadByte()
		if err != nil {
			return 0, badDelta("truncated size")
		}
		if shift > 56 {
			return 0, badDelta("size out of range")
		}
		v |= int64(b&0x7f) << shift
		if b&0x80 == 0 {
			return v, nil
		}
	}
}

func (d *delta) apply(w io.Writer) error {
	for left := d.size; ; {
		op, err := d.in.ReadByte()
		if err == io.EOF && left == 0 {
			return nil
		}
		if err != nil || left == 0 {
			return badDelta("its instructions do not yield the %d bytes announced", d.size)
		}
		n, err := d.step(op, left, w)
		if err != nil {
			return err
		}
		left -= n
	}
}

func (d *delta) step(op byte, left int64, w io.Writer) (int64, error) {
	if op == 0 {
		return 0, badDelta("reserved instruction")
	}
	if op&0x80 == 0 {
		n := int64(op)
		if n > left {
			return 0, badDelta("it yields more than the %d bytes announced", d.size)
		}
		if _, err := io.CopyN(w, d.in, n); err != nil {
			return 0, badDelta("truncated data")
		}
		return n, nil
	}
	offset, err := d.operand(op, 4)
	if err != nil {
		return 0, err
	}
	n, err := d.operand(op>>4, 3)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		n = 0x10000
	}
	if n > left || offset+n > d.base.size {
		return 0, badDelta("it copies from outside its base or more than announced")
	}
	_, err = io.Copy(w, io.NewSectionReader(d.base, offset, n))
	return n, err
}

// operand reads a number of which only the bytes marked in the low bits of
// mask are present.
func (d *delta) operand(mask byte, bytes int) (int64, error) {
	var v int64
	for i := range bytes {
		if mask>>i&1 == 0 {
			continue
		}
		b, err := d.in.ReadByte()
		if err != nil {
			return 0, badDelta("truncated copy")
		}
		v |= int64(b) << (8 * i)
	}
	return v, nil
}
