package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
)

// maxSingleFiles is how many files are asked for by their names, before all
// files are the better request.
const maxSingleFiles = 20_000

// errInVain says that the server does not do what would have saved bytes.
var errInVain = errors.New("not possible with this server")

// fetchSparse downloads the commit without files, and then the files of the
// selection. It fails with errInVain where that saves nothing.
func (c *Client) fetchSparse(ctx context.Context, t *transfer) (*Checkout, error) {
	l, ok := t.conn.(v2Conversation)
	if !ok || len(t.selection.Sparse) == 0 || !t.wants.shallow || !t.refs.supports(capability.Filter) {
		return nil, errInVain
	}
	w := t.wants
	w.filter = "blob:none"
	p, err := c.download(ctx, t.conn, t.refs, w, t.dir)
	if err != nil {
		return nil, err
	}
	checkout, err := t.selector.pick(ctx, p, t.found)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	err = checkout.narrow(ctx, t.selection.Sparse)
	if err == nil {
		err = c.addFiles(ctx, l, checkout, t)
	}
	if err == nil {
		err = checkout.measure(ctx, c.limits)
	}
	if err != nil {
		return nil, errors.Join(err, checkout.Close())
	}
	return checkout, nil
}

// addFiles downloads the files that the checkout has not.
func (c *Client) addFiles(ctx context.Context, l v2Conversation, checkout *Checkout, t *transfer) error {
	checkout.missing = map[plumbing.Hash]struct{}{}
	err := checkout.measure(ctx, c.limits)
	if err == nil && t.selection.Submodules {
		err = checkout.missModules(ctx)
	}
	hashes := slices.Collect(maps.Keys(checkout.missing))
	checkout.missing = nil
	switch {
	case err != nil || len(hashes) == 0:
		return err
	case len(hashes) > maxSingleFiles:
		return errInVain
	}
	plumbing.HashesSort(hashes)
	content, err := l.requestV2(ctx, fetchRequest(hashes))
	if err == nil {
		content, err = fetchResponse(content)
	}
	if err != nil {
		return errors.Join(errInVain, cause(ctx, err))
	}
	checkout.blobs, err = readPack(ctx, content, t.dir, checkout.pack.spend(c.limits))
	return cause(ctx, err)
}

// missModules asks for .gitmodules too, wherever the selection is.
func (c *Checkout) missModules(ctx context.Context) error {
	e, err := c.lookup(ctx, modulesFile)
	if errors.Is(err, errObjectNotFound) {
		return nil
	}
	if err == nil && e.kind() == modeRegular {
		_, err = c.measureFile(e)
	}
	return err
}

// fetchRequest asks for objects by name (gitprotocol-v2, fetch). Version 2 is
// the one in which servers give out files by themselves.
func fetchRequest(hashes []plumbing.Hash) []byte {
	var b bytes.Buffer
	e := pktline.NewEncoder(&b)
	// Writing to a buffer does not fail, and every line is short.
	_ = e.EncodeString("command=fetch\n", "agent="+userAgent+"\n")
	b.WriteString("0001")
	_ = e.EncodeString("ofs-delta\n", "no-progress\n")
	for _, h := range hashes {
		_ = e.EncodeString("want " + h.String() + "\n")
	}
	_ = e.EncodeString("done\n")
	_ = e.Flush()
	return b.Bytes()
}

// fetchResponse reads up to the pack and returns the pack's stream.
func fetchResponse(r io.Reader) (io.Reader, error) {
	lines := pktline.NewScanner(r)
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return nil, protocolError("answer to the pack request", err)
		}
		return nil, fmt.Errorf("read the answer to the pack request: %w", io.ErrUnexpectedEOF)
	}
	if line := string(lines.Bytes()); line != "packfile\n" {
		return nil, fmt.Errorf("%w answer to the pack request: unexpected line %q", ErrMalformed, shorten(line))
	}
	return &packStream{sideband.NewDemuxer(sideband.Sideband64k, r)}, nil
}
