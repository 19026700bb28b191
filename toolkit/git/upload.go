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
	// filter leaves out objects (git-rev-list, --filter).
	filter string
	// confirm are the tips in whose history the hash has to be.
	confirm []plumbing.Hash
}

// byHash are capabilities of servers that send commits which no reference
// points to.
var byHash = []capability.Capability{capability.AllowReachableSHA1InWant, "allow-any-sha1-in-want"}

// wanted decides what to download for the candidates. A commit asked for by
// hash is downloaded alone where the server can do that; but it has to be in a
// branch, or anybody could have it taken for one of the repository who can push
// to a fork that shares the server's storage. Servers that can leave out files
// tell that cheaply, others send the whole history.
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
		switch {
		case s.branch != "" && name == branchPrefix+s.branch,
			s.branch == "" && strings.HasPrefix(name, branchPrefix),
			s.anywhere && strings.HasPrefix(name, tagPrefix):
			tips = append(tips, hash)
		}
	}
	plumbing.HashesSort(tips)
	tips = slices.Compact(tips)
	alone := wants{hashes: []plumbing.Hash{s.commit}, shallow: canShallow}
	canByHash := canShallow && slices.ContainsFunc(byHash, refs.supports)
	switch {
	case slices.Contains(tips, s.commit), s.anywhere && canByHash:
		return alone
	case canByHash && refs.supports(capability.Filter):
		alone.confirm = tips
		return alone
	}
	return wants{hashes: tips}
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
	if w.filter != "" {
		_ = e.EncodeString("filter " + w.filter + "\n")
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
	if w.filter != "" {
		list = append(list, capability.Filter.String())
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
