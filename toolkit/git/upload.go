package git

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
)

// wants is a request for a pack.
type wants struct {
	hashes []plumbing.Hash
	// shallow leaves out the history behind the hashes.
	shallow bool
}

// wanted decides what to download for the candidates. A commit asked for by
// hash is downloaded alone only when it is the tip of a branch: any other way
// to get it by its hash would also hand out commits that are in no branch, such
// as those of a fork that shares the server's storage.
func wanted(s *selector, refs *advertisement, found []candidate) wants {
	canShallow := refs.supports(capability.Shallow)
	if s.commit.IsZero() {
		w := wants{shallow: canShallow}
		for _, c := range found {
			w.hashes = append(w.hashes, c.object)
		}
		return w
	}
	var tips []plumbing.Hash
	for name, hash := range refs.References {
		if s.branch == "" && strings.HasPrefix(name, branchPrefix) || name == branchPrefix+s.branch {
			tips = append(tips, hash)
		}
	}
	if slices.Contains(tips, s.commit) {
		return wants{hashes: []plumbing.Hash{s.commit}, shallow: canShallow}
	}
	plumbing.HashesSort(tips)
	return wants{hashes: slices.Compact(tips)}
}

func (w wants) encode(refs *advertisement) []byte {
	var b bytes.Buffer
	e := pktline.NewEncoder(&b)
	// Writing to a buffer does not fail, and every line is short.
	capabilities := " " + strings.Join(w.capabilities(refs), " ")
	for _, h := range w.hashes {
		_ = e.EncodeString("want " + h.String() + capabilities + "\n")
		capabilities = ""
	}
	if w.shallow {
		_ = e.EncodeString("deepen 1\n")
	}
	_ = e.Flush()
	_ = e.EncodeString("done\n")
	return b.Bytes()
}

func (w wants) capabilities(refs *advertisement) []string {
	var list []string
	// Azure DevOps refuses clients without multi_ack; as we have nothing, one
	// NAK is the answer with or without.
	for _, c := range []capability.Capability{capability.MultiACKDetailed, capability.Sideband64k, capability.OFSDelta, capability.NoProgress} {
		if refs.supports(c) {
			list = append(list, c.String())
		}
	}
	if refs.supports(capability.Agent) {
		list = append(list, "agent="+userAgent)
	}
	return list
}

// response reads the answer up to the pack and returns the pack's stream.
func (w wants) response(r io.Reader, refs *advertisement) (io.Reader, error) {
	lines := pktline.NewScanner(r)
	for inShallow := w.shallow; ; {
		if !lines.Scan() {
			if err := lines.Err(); err != nil {
				return nil, protocolError("answer to the pack request", err)
			}
			return nil, fmt.Errorf("read the answer to the pack request: %w", io.ErrUnexpectedEOF)
		}
		line := string(bytes.TrimSuffix(lines.Bytes(), []byte("\n")))
		switch {
		case inShallow && line == "":
			inShallow = false
		case inShallow && (strings.HasPrefix(line, "shallow ") || strings.HasPrefix(line, "unshallow ")):
		case !inShallow && line == "NAK":
			if refs.supports(capability.Sideband64k) {
				return &packStream{sideband.NewDemuxer(sideband.Sideband64k, r)}, nil
			}
			return r, nil
		default:
			return nil, fmt.Errorf("%w answer to the pack request: unexpected line %q", ErrMalformed, shorten(line))
		}
	}
}

// packStream words the errors of a side-band.
type packStream struct{ r io.Reader }

func (s *packStream) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		if text, ok := strings.CutPrefix(err.Error(), "unexpected error: "); ok {
			err = serverError(text)
		}
	}
	return n, err
}
