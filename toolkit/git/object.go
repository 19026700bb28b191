package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

const (
	maxTagChain    = 8
	maxHeaderBytes = 1 << 20
)

// Commit is what a commit object says.
type Commit struct {
	Hash              string
	Author, Committer Signature
	Message           string
	// Raw is the object as it is named by Hash, for checking its signature.
	Raw []byte

	tree plumbing.Hash
}

// Subject returns the first line of the message.
func (c Commit) Subject() string {
	subject, _, _ := strings.Cut(strings.TrimLeft(c.Message, "\n"), "\n")
	return strings.TrimRight(subject, "\r")
}

// Tag is the tag a checkout was found by.
type Tag struct {
	// Name is the tag without refs/tags/.
	Name string
	// Hash names the tag object; it is empty for a lightweight tag.
	Hash    string
	Tagger  Signature
	Message string
	// Raw is the tag object, for checking its signature.
	Raw []byte

	signedName string // the name that the object gives itself
}

// Annotated reports whether the tag has an object of its own.
func (t Tag) Annotated() bool { return t.Hash != "" }

// Checkout is one commit of a repository with its tree. Close gives its disk
// space back; its Tree cannot be read afterwards.
type Checkout struct {
	Revision Revision
	Commit   Commit
	// Tag is set when the reference was a tag or a range of tags.
	Tag *Tag

	pack    *pack
	blobs   *pack // files that were fetched on their own; may be nil
	trees   map[plumbing.Hash]extent
	total   extent
	missing map[plumbing.Hash]struct{} // collects files that are to be fetched; nil: none may be missing
	sparse  []string                   // clean paths; none: everything
	modules map[string]*Checkout       // by path
}

// Close removes the objects of the checkout and of its submodules.
func (c *Checkout) Close() error {
	err := c.pack.close()
	if c.blobs != nil {
		err = errors.Join(err, c.blobs.close())
	}
	for _, module := range c.modules {
		err = errors.Join(err, module.Close())
	}
	return err
}

// blob finds a file and the pack that holds it.
func (c *Checkout) blob(h plumbing.Hash) (*pack, packed, error) {
	if c.blobs != nil {
		if o, _, err := c.blobs.find(h); err == nil {
			return c.blobs, o, nil
		}
	}
	o, _, err := c.pack.find(h)
	return c.pack, o, err
}

func newCheckout(ctx context.Context, p *pack, found candidate) (*Checkout, error) {
	c := &Checkout{pack: p}
	if found.tag != "" {
		c.Tag = &Tag{Name: found.tag}
	}
	at := found.object
	for range maxTagChain {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		o, _, err := p.find(at)
		if err != nil {
			return nil, err
		}
		switch o.kind {
		case plumbing.TagObject:
			if at, err = c.readTag(at); err != nil {
				return nil, err
			}
			continue
		case plumbing.CommitObject:
			if c.Commit, err = readCommit(p, at); err != nil {
				return nil, err
			}
			c.Revision = Revision{Ref: found.label, Commit: at.String()}
			return c, nil
		}
		return nil, fmt.Errorf("%w object: '%s' is a %s and not a commit", ErrMalformed, found.label, o.kind)
	}
	return nil, fmt.Errorf("%w tag '%s': more than %d tags in a row", ErrMalformed, found.label, maxTagChain)
}

// readTag records the tag object, the outermost if tags are nested, and returns
// what it points to.
func (c *Checkout) readTag(h plumbing.Hash) (plumbing.Hash, error) {
	raw, err := c.pack.bytes(h, plumbing.TagObject)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	headers, message, err := parseHeaders(raw, "tag", "object", "type", "tag")
	if err != nil {
		return plumbing.ZeroHash, err
	}
	if c.Tag != nil && c.Tag.Hash == "" {
		c.Tag.Hash, c.Tag.Raw, c.Tag.Message = h.String(), raw, message
		c.Tag.Tagger, c.Tag.signedName = signature(headers["tagger"]), headers["tag"]
	}
	return hashHeader(headers, "object")
}

func readCommit(p *pack, h plumbing.Hash) (Commit, error) {
	raw, err := p.bytes(h, plumbing.CommitObject)
	if err != nil {
		return Commit{}, err
	}
	headers, message, err := parseHeaders(raw, "commit", "tree", "author", "committer")
	if err != nil {
		return Commit{}, err
	}
	tree, err := hashHeader(headers, "tree")
	if err != nil {
		return Commit{}, err
	}
	return Commit{
		Hash:      h.String(),
		Author:    signature(headers["author"]),
		Committer: signature(headers["committer"]),
		Message:   message,
		Raw:       raw,
		tree:      tree,
	}, nil
}

// parseHeaders reads the headers of a commit or tag and its message. The
// headers named in once have to be there exactly once and the first of them
// first: what a signature covers and what is read must be the same.
func parseHeaders(raw []byte, kind string, once ...string) (map[string]string, string, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w %s object: %s", ErrMalformed, kind, fmt.Sprintf(format, args...))
	}
	head, message, _ := bytes.Cut(raw, []byte("\n\n"))
	if len(head) > maxHeaderBytes {
		return nil, "", bad("headers of %d bytes", len(head))
	}
	if bytes.IndexByte(head, 0) >= 0 {
		return nil, "", bad("NUL in the headers")
	}
	counts, headers := map[string]int{}, map[string]string{}
	for i, line := range strings.Split(string(head), "\n") {
		if strings.HasPrefix(line, " ") {
			continue
		}
		key, value, _ := strings.Cut(line, " ")
		if i == 0 && key != once[0] {
			return nil, "", bad("it does not begin with '%s'", once[0])
		}
		counts[key]++
		headers[key] = value
	}
	for _, key := range append(once, "tagger", signatureHeader) {
		optional := key == "tagger" || key == signatureHeader
		if n := counts[key]; n > 1 || n == 0 && !optional {
			return nil, "", bad("%d headers '%s'", n, key)
		}
	}
	return headers, string(message), nil
}

func hashHeader(headers map[string]string, key string) (plumbing.Hash, error) {
	value := headers[key]
	if !plumbing.IsHash(value) {
		return plumbing.ZeroHash, fmt.Errorf("%w object: header '%s' is not a hash", ErrMalformed, key)
	}
	return plumbing.NewHash(value), nil
}

func signature(line string) Signature {
	var s object.Signature
	s.Decode([]byte(line))
	return Signature{Name: s.Name, Email: s.Email, When: s.When}
}
