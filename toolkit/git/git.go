// Package git reads remote Git repositories: it resolves references from the
// server's advertisement and fetches a single commit into a bare object store
// on disk, whose tree is archived without a checkout.
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
	c := &Client{url: secret.RedactURL(o.URL), secrets: o.secrets(u), limits: o.Limits.orDefault()}
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
		values = append(values, o.Auth.Basic.Password)
	}
	if o.Auth.SSH != nil {
		values = append(values, string(o.Auth.SSH.Password))
	}
	for _, withUser := range []*url.URL{u, o.Proxy} {
		if withUser != nil {
			password, _ := withUser.User.Password()
			values = append(values, password)
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
	conn, refs, err := c.connect(ctx)
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

// Fetch downloads the commit a reference stands for, and nothing else, into a
// file below dir that vanishes with the Checkout. A commit asked for by hash
// needs the history of its branch, or of all branches (contract: gitrepository
// 27). The deadline of ctx covers all of it.
func (c *Client) Fetch(ctx context.Context, ref Reference, dir string) (*Checkout, error) {
	s, err := newSelector(ref)
	if err != nil {
		return nil, err
	}
	conn, refs, err := c.connect(ctx)
	if err != nil {
		return nil, c.fail("unable to clone", err)
	}
	defer conn.close()
	found, err := s.find(refs)
	if err != nil {
		return nil, c.fail("unable to clone", err)
	}
	p, err := c.download(ctx, conn, refs, wanted(s, refs, found), dir)
	if err != nil {
		return nil, c.fail("unable to clone", err)
	}
	checkout, err := s.checkout(ctx, p, found, c.limits)
	if err != nil {
		_ = p.close()
		return nil, c.fail("unable to clone", err)
	}
	return checkout, nil
}

func (c *Client) connect(ctx context.Context) (conversation, *advertisement, error) {
	conn, err := c.remote.open(ctx)
	if err != nil {
		return nil, nil, cause(ctx, err)
	}
	r, err := conn.advertisement(ctx)
	if err == nil {
		var refs *advertisement
		if refs, err = readAdvertisement(r, c.limits.AdvertisementBytes); err == nil {
			return conn, refs, nil
		}
		err = conn.explain(err)
	}
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
