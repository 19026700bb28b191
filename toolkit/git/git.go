// Package git reads remote Git repositories: it resolves references from the
// server's advertisement, fetches a single commit, or a part of it, into a bare
// object store on disk, whose tree is archived without a checkout, and verifies
// signatures of commits and tags.
//
// Servers are not trusted: everything they send is bounded by Limits, and
// credentials go only to the scheme, host and port they were given for.
package git

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Options describe a repository and how to reach it.
type Options struct {
	// URL has the scheme http, https or ssh. Credentials in it are used for
	// HTTP when Auth has none (contract: gitrepository 12, 16).
	URL string
	// Auth is usually what AuthFromSecret returns.
	Auth Auth
	// Proxy is an http, https or socks5 proxy with its credentials; nil leaves
	// the choice to the environment (contract: gitrepository 25).
	Proxy *url.URL
	// KexAlgos and HostKeyAlgos replace what the SSH client offers (contract:
	// gitrepository 19).
	KexAlgos, HostKeyAlgos []string
	// Limits bound what the server may send; zero fields take the default.
	Limits Limits
}

// Limits bound what is read from a server.
type Limits struct {
	// AdvertisementBytes is the size of the list of references.
	AdvertisementBytes int64
	// PackBytes is the size of a pack on the wire and on disk.
	PackBytes int64
	// Objects is the number of objects in a pack.
	Objects int64
	// ObjectBytes is the size of one object, unpacked.
	ObjectBytes int64
	// TreeEntries is the number of paths of a commit, directories included.
	TreeEntries int64
	// TreeBytes is the size of all files of a commit, unpacked.
	TreeBytes int64
	// TreeDepth is the number of directories above a file.
	TreeDepth int64
	// PathBytes is the length of a path.
	PathBytes int64
	// Submodules is the number of submodules, those of submodules included. The
	// limits of packs and trees hold for a commit and its submodules together.
	Submodules int64
	// SubmoduleDepth is how deep submodules are nested.
	SubmoduleDepth int64
}

// DefaultLimits admits every repository that can sensibly be reconciled.
func DefaultLimits() Limits {
	return Limits{
		AdvertisementBytes: 32 << 20,
		PackBytes:          2 << 30,
		Objects:            4_000_000,
		ObjectBytes:        512 << 20,
		TreeEntries:        500_000,
		TreeBytes:          2 << 30,
		TreeDepth:          128,
		PathBytes:          4096,
		Submodules:         100,
		SubmoduleDepth:     8,
	}
}

func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	return Limits{
		AdvertisementBytes: cmp.Or(l.AdvertisementBytes, d.AdvertisementBytes),
		PackBytes:          cmp.Or(l.PackBytes, d.PackBytes),
		Objects:            cmp.Or(l.Objects, d.Objects),
		ObjectBytes:        cmp.Or(l.ObjectBytes, d.ObjectBytes),
		TreeEntries:        cmp.Or(l.TreeEntries, d.TreeEntries),
		TreeBytes:          cmp.Or(l.TreeBytes, d.TreeBytes),
		TreeDepth:          cmp.Or(l.TreeDepth, d.TreeDepth),
		PathBytes:          cmp.Or(l.PathBytes, d.PathBytes),
		Submodules:         cmp.Or(l.Submodules, d.Submodules),
		SubmoduleDepth:     cmp.Or(l.SubmoduleDepth, d.SubmoduleDepth),
	}
}

// Reference selects a commit. The first field set of Commit, Name, SemVer, Tag
// and Branch decides; none means the branch master (contract: gitrepository 26).
type Reference struct {
	Branch string
	Tag    string
	// SemVer is a range; the highest tag within it is taken.
	SemVer string
	// Name is a full reference name such as refs/pull/1/head.
	Name string
	// Commit is a full hash. With Branch it has to be in that branch.
	Commit string
}

// Revision is a commit and the reference it was found by.
type Revision struct {
	// Ref is the branch, the tag or the full reference name; "" for a commit
	// asked for by its hash.
	Ref string
	// Commit is the hash.
	Commit string
}

// String returns the revision as artifacts carry it: <ref>@sha1:<commit>, or
// sha1:<commit> without a reference (contract: wire 8).
func (r Revision) String() string {
	if r.Ref == "" {
		return "sha1:" + r.Commit
	}
	return r.Ref + "@sha1:" + r.Commit
}

// Client reads one repository. It shares neither connections nor settings with
// any other client and may be used by several goroutines.
type Client struct {
	url     string // for messages, without credentials
	options Options
	secrets []string
	limits  Limits
	remote  remote
}

// New checks the options and returns a client; it does not connect. The errors
// have the property ErrInvalidURL or ErrInvalidAuth.
func New(o Options) (*Client, error) {
	u, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if err := o.Auth.validate(u); err != nil {
		return nil, err
	}
	c := &Client{url: secret.RedactURL(o.URL), options: o, secrets: o.secrets(u), limits: o.Limits.orDefault()}
	if u.Scheme == "ssh" {
		c.remote, err = newSSHRemote(u, o)
	} else {
		c.remote, err = newHTTPRemote(u, o)
	}
	if err != nil {
		return nil, c.redact(err)
	}
	return c, nil
}

func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		// The cause quotes the URL with its password.
		var cause *url.Error
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, fmt.Errorf("%w '%s': %w", ErrInvalidURL, secret.RedactURL(raw), err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ssh":
		return nil, fmt.Errorf("%w '%s': scheme '%s' is not one of http, https and ssh", ErrInvalidURL, secret.RedactURL(raw), u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%w '%s': the host is missing", ErrInvalidURL, secret.RedactURL(raw))
	}
	return u, nil
}

func (o Options) secrets(u *url.URL) []string {
	values := []string{o.Auth.Bearer}
	if o.Auth.Basic != nil {
		values = append(values, secret.Login(o.Auth.Basic.Username, o.Auth.Basic.Password)...)
	}
	if o.Auth.SSH != nil {
		values = append(values, string(o.Auth.SSH.Password))
	}
	for _, withUser := range []*url.URL{u, o.Proxy} {
		if withUser != nil {
			password, _ := withUser.User.Password()
			values = append(values, secret.Login(withUser.User.Username(), password)...)
		}
	}
	return values
}

// Close gives up idle connections.
func (c *Client) Close() { c.remote.close() }

// Resolve returns the revision a reference stands for now, from the list of
// references alone (contract: gitrepository 37). A commit is not looked for:
// its revision is returned when the server answers and has the branch. A semver
// range with several equal best versions fails with ErrAmbiguous, because only
// the commits tell them apart.
func (c *Client) Resolve(ctx context.Context, ref Reference) (Revision, error) {
	s, err := newSelector(ref)
	if err != nil {
		return Revision{}, err
	}
	conn, refs, err := c.connect(ctx, s)
	if err != nil {
		return Revision{}, c.fail("unable to list remote for", err)
	}
	defer conn.close()
	found, err := s.find(refs)
	if err != nil {
		return Revision{}, c.fail("unable to list remote for", err)
	}
	if len(found) > 1 {
		return Revision{}, fmt.Errorf("%w: %d tags", ErrAmbiguous, len(found))
	}
	return Revision{Ref: found[0].label, Commit: found[0].commit.String()}, nil
}

// Selection says what of a commit is wanted besides its own files.
type Selection struct {
	// Sparse are directories, or files, relative to the root; only what is in
	// them belongs to the tree. None: everything (contract: gitrepository 70).
	Sparse []string
	// Submodules fetches submodules and theirs too (contract: gitrepository 72).
	Submodules bool
}

// Fetch downloads the commit a reference stands for, and nothing else, into a
// file below dir that vanishes with the Checkout. A commit asked for by hash
// has to be in the history of its branch, or of any branch (contract:
// gitrepository 27). The deadline of ctx covers all of it.
func (c *Client) Fetch(ctx context.Context, ref Reference, dir string) (*Checkout, error) {
	return c.FetchSelected(ctx, ref, Selection{}, dir)
}

// FetchSelected is Fetch for a part of the commit, or for more than it. A
// directory that does not exist fails with a *PathError.
func (c *Client) FetchSelected(ctx context.Context, ref Reference, selection Selection, dir string) (*Checkout, error) {
	s, err := newSelector(ref)
	if err != nil {
		return nil, err
	}
	checkout, err := c.fetch(ctx, s, selection, dir)
	if err != nil || !selection.Submodules {
		return checkout, err
	}
	m := &moduleFetch{dir: dir, limits: c.limits}
	m.spend(checkout)
	if err := c.addModules(ctx, checkout, m, 1); err != nil {
		return nil, c.redact(errors.Join(err, checkout.Close()))
	}
	return checkout, nil
}

func (c *Client) fetch(ctx context.Context, s *selector, selection Selection, dir string) (*Checkout, error) {
	checkout, err := c.tryFetch(ctx, s, selection, dir)
	if err != nil {
		return nil, c.fail("unable to clone", err)
	}
	return checkout, nil
}

func (c *Client) tryFetch(ctx context.Context, s *selector, selection Selection, dir string) (*Checkout, error) {
	conn, refs, err := c.connect(ctx, s)
	if err != nil {
		return nil, err
	}
	defer func() { conn.close() }()
	found, err := s.find(refs)
	if err != nil {
		return nil, err
	}
	w := wanted(s, refs, found)
	if w.confirm != nil {
		if err := c.confirm(ctx, conn, refs, w, dir); err != nil {
			return nil, err
		}
		// A conversation over SSH ends with the pack.
		conn.close()
		next, again, err := c.connect(ctx, s)
		if err != nil {
			return nil, err
		}
		conn, refs = next, again
	}
	t := &transfer{conn, refs, s, found, w, selection, dir}
	if checkout, err := c.fetchSparse(ctx, t); !errors.Is(err, errInVain) {
		return checkout, err
	}
	return c.fetchWhole(ctx, t)
}

// transfer is what is fetched, and where from and to.
type transfer struct {
	conn      conversation
	refs      *advertisement
	selector  *selector
	found     []candidate
	wants     wants
	selection Selection
	dir       string
}

func (c *Client) fetchWhole(ctx context.Context, t *transfer) (*Checkout, error) {
	p, err := c.download(ctx, t.conn, t.refs, t.wants, t.dir)
	if err != nil {
		return nil, err
	}
	checkout, err := t.selector.pick(ctx, p, t.found)
	if err == nil {
		err = checkout.narrow(ctx, t.selection.Sparse)
	}
	if err == nil {
		err = checkout.measure(ctx, c.limits)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return checkout, nil
}

// confirm fails unless the commit is in the history of the branches, which is
// read without the files.
func (c *Client) confirm(ctx context.Context, conn conversation, refs *advertisement, w wants, dir string) error {
	history, err := c.download(ctx, conn, refs, wants{hashes: w.confirm, filter: "tree:0"}, dir)
	if err != nil {
		return err
	}
	_, _, err = history.find(w.hashes[0])
	if err != nil {
		err = missingCommit(w.hashes[0], err)
	}
	return errors.Join(err, history.close())
}

func (c *Client) connect(ctx context.Context, s *selector) (conversation, *advertisement, error) {
	conn, err := c.remote.open(ctx, uploadPack)
	if err != nil {
		return nil, nil, cause(ctx, err)
	}
	refs, err := c.references(ctx, conn, s)
	if err == nil {
		return conn, refs, nil
	}
	err = conn.explain(err)
	conn.close()
	return nil, nil, cause(ctx, err)
}

func (c *Client) download(ctx context.Context, conn conversation, refs *advertisement, w wants, dir string) (*pack, error) {
	r, err := conn.request(ctx, w.encode(refs))
	if err != nil {
		return nil, cause(ctx, err)
	}
	content, err := w.response(r, refs)
	if err != nil {
		return nil, cause(ctx, conn.explain(err))
	}
	p, err := readPack(ctx, content, dir, c.limits)
	if err != nil {
		return nil, cause(ctx, err)
	}
	return p, nil
}

// cause prefers the reason why the context ended over what the closed
// connection made of it.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// fail words an error as 2.9 does: what concerns the repository as a whole
// names its URL, what concerns the reference does not.
func (c *Client) fail(operation string, err error) error {
	var about *referenceError
	switch {
	case errors.Is(err, ErrEmptyRepository):
		return ErrEmptyRepository
	case errors.As(err, &about):
		return c.redact(about)
	}
	return c.redact(fmt.Errorf("%s '%s': %w", operation, c.url, err))
}

func (c *Client) redact(err error) error {
	return &redactedError{err: err, secrets: c.secrets}
}

// Signature says who did something, and when.
type Signature struct {
	Name, Email string
	When        time.Time
}
