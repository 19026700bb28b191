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
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
)

// Properties of the errors of a push, for errors.Is.
var (
	// ErrMoved: the reference is not what it was expected to be, because somebody else has pushed. Fetch, and try again.
	ErrMoved = errors.New("the reference has moved")
	// ErrNonFastForward: the reference has commits that the new one does not build on.
	ErrNonFastForward = errors.New("not a fast-forward")
	// ErrRejected: the server does not want the push.
	ErrRejected = errors.New("rejected by the server")
	// ErrInvalidRef: no reference can have this name.
	ErrInvalidRef = errors.New("invalid reference name")
)

const (
	reportStatus = capability.ReportStatus
	pushOptions  = capability.PushOptions
	// maxReport bounds what a server answers to a push, its hooks included, and maxPushOption one option.
	maxReport     = 4 << 20
	maxPushOption = 4096
)

// Update moves one reference.
type Update struct {
	// Ref is the full name of the reference.
	Ref string
	// To is the commit it shall point to, which the server has; empty: that of the draft.
	To string
	// From is what the reference has to be now, "" for one that has to be absent; nil: what it is. Compared and set at once, it
	// keeps what others push in between.
	From *string
	// Force lets go of commits that the new one does not build on.
	Force bool
	// Options are push options, key=value or words.
	Options []string
}

// Push sends a draft, nil for a commit that the server has, and moves a reference. What a search of the history takes goes into
// files below dir. A reference that is there already is left as
// it is, without an error. The errors have the properties of this package; after any other error the outcome is unknown.
func (c *Client) Push(ctx context.Context, d *Draft, u Update, dir string) error {
	if u.To == "" && d != nil {
		u.To = d.Hash
	}
	if err := c.push(ctx, d, u, dir); err != nil {
		return c.redact(fmt.Errorf("unable to push to '%s': %w", c.url, err))
	}
	return nil
}

func (c *Client) push(ctx context.Context, d *Draft, u Update, dir string) error {
	if err := u.check(); err != nil {
		return err
	}
	conn, err := c.remote.open(ctx, receivePack)
	if err != nil {
		return cause(ctx, err)
	}
	defer func() { conn.close() }()
	refs, err := c.received(ctx, conn, u.Ref)
	if err != nil {
		return cause(ctx, conn.explain(err))
	}
	old := refs.References[u.Ref]
	if old.String() == u.To {
		return nil
	}
	if u.From != nil && old != plumbing.NewHash(*u.From) {
		return fmt.Errorf("%w: '%s' is at %s, and not at %s", ErrMoved, u.Ref, place(old), place(plumbing.NewHash(*u.From)))
	}
	if !u.Force && !old.IsZero() && (d == nil || old.String() != d.Parent) {
		// Looking takes time, in which a server may lose its patience.
		conn.close()
		if err := c.mustContain(ctx, d, u, old, dir); err != nil {
			return err
		}
		expected := old.String()
		u.From, u.Force = &expected, true
		return c.push(ctx, d, u, dir)
	}
	request, err := u.encode(refs, old, d)
	if err != nil {
		return err
	}
	answer, err := conn.request(ctx, request)
	if err != nil {
		return cause(ctx, err)
	}
	return cause(ctx, report(answer, refs, u.Ref))
}

func place(h plumbing.Hash) string {
	if h.IsZero() {
		return "nothing"
	}
	return h.String()
}

// received reads the references of the service that takes packs.
func (c *Client) received(ctx context.Context, conn conversation, ref string) (*advertisement, error) {
	r, err := conn.advertisement(ctx)
	if err != nil {
		return nil, err
	}
	refs, err := readAdvertisement(r, c.limits.AdvertisementBytes, []string{ref})
	switch {
	case err != nil:
		return nil, err
	case !refs.supports(reportStatus):
		return nil, fmt.Errorf("%w: the server does not tell what becomes of a push", ErrUnsupported)
	}
	return refs, nil
}

// check refuses what no server should be asked for.
func (u Update) check() error {
	if err := checkRef(u.Ref); err != nil {
		return err
	}
	if !plumbing.IsHash(u.To) || plumbing.NewHash(u.To).IsZero() {
		return fmt.Errorf("%w: '%s' is no commit to move it to", ErrInvalidRef, u.To)
	}
	for _, o := range u.Options {
		if len(o) > maxPushOption || strings.ContainsAny(o, "\n\x00") {
			return fmt.Errorf("push option %q: it has more than %d bytes, or more than one line", shorten(o), maxPushOption)
		}
	}
	return nil
}

// checkRef holds a name to the rules of git-check-ref-format.
func checkRef(name string) error {
	bad := !strings.HasPrefix(name, "refs/") || strings.Count(name, "/") < 2 || strings.HasSuffix(name, ".") ||
		strings.Contains(name, "..") || strings.Contains(name, "@{") || strings.ContainsAny(name, " ~^:?*[\\\x7f")
	for part := range strings.SplitSeq(name, "/") {
		bad = bad || part == "" || strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".lock")
	}
	for _, r := range name {
		bad = bad || r < ' '
	}
	if bad {
		return fmt.Errorf("%w: %q", ErrInvalidRef, name)
	}
	return nil
}

// encode writes the command, the options and the pack.
func (u Update) encode(refs *advertisement, old plumbing.Hash, d *Draft) ([]byte, error) {
	capabilities := []string{reportStatus.String()}
	if refs.supports(capability.Sideband64k) {
		capabilities = append(capabilities, capability.Sideband64k.String())
	}
	if len(u.Options) > 0 {
		if !refs.supports(pushOptions) {
			return nil, fmt.Errorf("%w: the server takes no push options", ErrUnsupported)
		}
		capabilities = append(capabilities, pushOptions.String())
	}
	if refs.supports(capability.Agent) {
		capabilities = append(capabilities, "agent="+userAgent)
	}
	var b bytes.Buffer
	e := pktline.NewEncoder(&b)
	// Writing to a buffer does not fail, and every line is short.
	_ = e.EncodeString(fmt.Sprintf("%s %s %s\x00%s", old, u.To, u.Ref, strings.Join(capabilities, " ")))
	_ = e.Flush()
	if len(u.Options) > 0 {
		_ = e.EncodeString(u.Options...)
		_ = e.Flush()
	}
	var objects []packable
	if d != nil {
		objects = d.objects
	}
	b.Write(encodePack(objects))
	return b.Bytes(), nil
}

// report reads what became of the push, and then on to the end: a server runs hooks after its report, and might end them with the
// connection.
func report(r io.Reader, refs *advertisement, ref string) error {
	r = &boundedReader{r: r, limit: maxReport, what: "size of the answer to a push"}
	said := &headBuffer{max: maxReason}
	if refs.supports(capability.Sideband64k) {
		demuxer := sideband.NewDemuxer(sideband.Sideband64k, r)
		demuxer.Progress = said
		r = &packStream{demuxer}
	}
	known, err := verdict(pktline.NewScanner(r), ref, said)
	if known {
		_, _ = io.Copy(io.Discard, r)
	}
	return err
}

// verdict reads the report up to what it says of the reference.
func verdict(lines *pktline.Scanner, ref string, said *headBuffer) (known bool, err error) {
	unpacked := false
	for lines.Scan() {
		line := strings.TrimSuffix(string(lines.Bytes()), "\n")
		if status, ok := strings.CutPrefix(line, "unpack "); ok {
			if status != "ok" {
				return true, rejected(status, said)
			}
			unpacked = true
			continue
		}
		if line == "ok "+ref && unpacked {
			return true, nil
		}
		if reason, ok := strings.CutPrefix(line, "ng "+ref+" "); ok {
			return true, rejected(reason, said)
		}
	}
	if err := lines.Err(); err != nil {
		return false, protocolError("answer to the push", err)
	}
	return false, fmt.Errorf("read the answer to the push: %w", io.ErrUnexpectedEOF)
}

// rejected words a refusal, with what the hooks of the server had to say. A lost race looks like one; how it is worded
// depends on the server and on when it notices.
func rejected(reason string, said *headBuffer) error {
	property := ErrRejected
	for _, race := range []string{
		"fetch first", "non-fast-forward", "failed to update ref", "cannot lock ref", "failed to lock", "incorrect old value", "stale info",
		"reference already exists", "unable to lock",
	} {
		if strings.Contains(strings.ToLower(reason), race) {
			property = ErrMoved
		}
	}
	if text := shorten(string(said.content)); text != "" {
		return fmt.Errorf("%w: %s: %s", property, shorten(reason), text)
	}
	return fmt.Errorf("%w: %s", property, shorten(reason))
}

// mustContain fails unless the new commit builds on the old one. A draft builds on its parent, whose history is read without
// the files where the server can leave them out.
func (c *Client) mustContain(ctx context.Context, d *Draft, u Update, old plumbing.Hash, dir string) error {
	tip := plumbing.NewHash(u.To)
	if d != nil {
		tip = plumbing.NewHash(d.Parent)
	}
	conn, refs, err := c.connect(ctx, &selector{prefixes: []string{branchPrefix}})
	if err != nil {
		return err
	}
	defer conn.close()
	w := wants{hashes: []plumbing.Hash{tip}}
	if refs.supports(capability.Filter) {
		w.filter = "tree:0"
	}
	history, err := c.download(ctx, conn, refs, w, dir)
	if errors.Is(err, ErrReferenceNotFound) {
		return fmt.Errorf("%w: %w", ErrMoved, err)
	}
	if err != nil {
		return err
	}
	if _, _, err = history.find(old); errors.Is(err, errObjectNotFound) {
		err = fmt.Errorf("%w: '%s' is at %s, which %s does not build on", ErrNonFastForward, u.Ref, old, u.To)
	}
	return errors.Join(err, history.close())
}
