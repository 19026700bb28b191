package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

// manyRefsBytes is how much of a list of references is read before the client
// asks for less. Most repositories have fewer, and then one request is all it
// takes.
const manyRefsBytes = 256 << 10

var errManyRefs = errors.New("many references")

// v2Conversation is a conversation whose requests may be of version 2 of the protocol.
type v2Conversation interface {
	// requestV2 sends one and returns the stream of its answer.
	requestV2(ctx context.Context, body []byte) (io.Reader, error)
}

// references reads what a selector needs of the server's references.
func (c *Client) references(ctx context.Context, conn conversation, s *selector) (*advertisement, error) {
	r, err := conn.advertisement(ctx)
	if err != nil {
		return nil, err
	}
	l, ok := conn.(v2Conversation)
	if !ok || manyRefsBytes >= c.limits.AdvertisementBytes {
		return readAdvertisement(r, c.limits.AdvertisementBytes, s.prefixes)
	}
	seen := &headBuffer{max: manyRefsBytes}
	refs, err := readAdvertisement(io.TeeReader(&cutReader{r, manyRefsBytes}, seen), c.limits.AdvertisementBytes, s.prefixes)
	if !errors.Is(err, errManyRefs) {
		return refs, err
	}
	if refs, err := c.list(ctx, l, seen.content, s); err == nil || errors.Is(err, ErrLimit) || ctx.Err() != nil {
		return refs, err
	}
	// The server does not know version 2.
	return readAdvertisement(io.MultiReader(bytes.NewReader(seen.content), r), c.limits.AdvertisementBytes, s.prefixes)
}

// cutReader fails with errManyRefs when left bytes were read and there are more.
type cutReader struct {
	r    io.Reader
	left int
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errManyRefs
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// list asks for the references a selector looks at. What the server can do
// besides stands in the begin of the long list.
func (c *Client) list(ctx context.Context, l v2Conversation, head []byte, s *selector) (*advertisement, error) {
	refs := packp.NewAdvRefs()
	if err := readCapabilities(refs, head); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := pktline.NewEncoder(&b)
	// Writing to a buffer does not fail, and every line is short.
	_ = e.EncodeString("command=ls-refs\n", "agent="+userAgent+"\n")
	b.WriteString("0001")
	_ = e.EncodeString("peel\n")
	for _, prefix := range s.prefixes {
		_ = e.EncodeString("ref-prefix " + prefix + "\n")
	}
	_ = e.Flush()
	r, err := l.requestV2(ctx, b.Bytes())
	if err != nil {
		return nil, err
	}
	bounded := &boundedReader{r: r, limit: c.limits.AdvertisementBytes, what: "size of the list of references"}
	if err := readList(refs, bounded, s.prefixes); err != nil {
		return nil, err
	}
	return &advertisement{refs}, nil
}

// readCapabilities reads them from the begin of a list of references.
func readCapabilities(refs *packp.AdvRefs, head []byte) error {
	for lines := pktline.NewScanner(bytes.NewReader(head)); lines.Scan(); {
		if _, capabilities, ok := bytes.Cut(lines.Bytes(), []byte{0}); ok {
			return refs.Capabilities.Decode(bytes.TrimSpace(capabilities))
		}
	}
	return fmt.Errorf("%w list of references: it has no capabilities", ErrMalformed)
}

// readList reads, of references that begin with one of the prefixes, the answer to ls-refs (gitprotocol-v2).
func readList(refs *packp.AdvRefs, r io.Reader, prefixes []string) error {
	lines := pktline.NewScanner(r)
	for lines.Scan() {
		line := string(bytes.TrimSuffix(lines.Bytes(), []byte("\n")))
		if line == "" {
			return nil
		}
		fields := strings.Split(line, " ")
		if len(fields) < 2 || !plumbing.IsHash(fields[0]) {
			return fmt.Errorf("%w list of references: unexpected line %q", ErrMalformed, shorten(line))
		}
		if !hasPrefix(fields[1], prefixes) {
			continue // the server need not heed what it was asked for
		}
		hash := plumbing.NewHash(fields[0])
		refs.References[fields[1]] = hash
		if fields[1] == "HEAD" {
			refs.Head = &hash
		}
		for _, attribute := range fields[2:] {
			if peeled, ok := strings.CutPrefix(attribute, "peeled:"); ok && plumbing.IsHash(peeled) {
				refs.Peeled[fields[1]] = plumbing.NewHash(peeled)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return protocolError("list of references", err)
	}
	return fmt.Errorf("read the list of references: %w", io.ErrUnexpectedEOF)
}
