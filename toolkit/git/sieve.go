package git

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
)

// sieve passes on of a list of references what a selector looks at. A server
// may send as many as the limit allows and let the client wait then: many such
// servers at once must not fill the memory (reliability 006).
type sieve struct {
	lines    *pktline.Scanner
	prefixes []string
	// begun is set when the first reference has passed, whatever its name: it
	// carries the capabilities.
	begun bool
	left  []byte
	err   error
}

func newSieve(r io.Reader, prefixes []string) *sieve {
	return &sieve{lines: pktline.NewScanner(r), prefixes: prefixes}
}

// Read implements io.Reader.
func (s *sieve) Read(p []byte) (int, error) {
	for len(s.left) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		if !s.lines.Scan() {
			s.err = io.EOF
			if err := s.lines.Err(); err != nil {
				// The decoder takes a bare io.ErrUnexpectedEOF for a broken length.
				s.err = fmt.Errorf("%w", err)
			}
			continue
		}
		if line := s.lines.Bytes(); s.passes(line) {
			s.left = packet(line)
		}
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// passes drops well-formed references alone: the decoder is to judge the rest.
func (s *sieve) passes(line []byte) bool {
	const hashSize = 40
	if !s.begun {
		s.begun = bytes.IndexByte(line, 0) >= 0
		return true
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	if len(line) < hashSize+2 || line[hashSize] != ' ' || !plumbing.IsHash(string(line[:hashSize])) {
		return true
	}
	name := line[hashSize+1:]
	if bytes.ContainsAny(name, " \x00") {
		return true
	}
	return hasPrefix(string(name), s.prefixes)
}

func hasPrefix(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// packet is the line as it was sent.
func packet(line []byte) []byte {
	if len(line) == 0 {
		return []byte("0000")
	}
	return append(fmt.Appendf(nil, "%04x", len(line)+4), line...)
}
