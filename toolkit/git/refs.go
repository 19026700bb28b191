package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
)

const (
	peeledSuffix  = "^{}"
	branchPrefix  = "refs/heads/"
	tagPrefix     = "refs/tags/"
	defaultBranch = "master"
)

// advertisement is the list of references a server begins with.
type advertisement struct{ *packp.AdvRefs }

// readAdvertisement keeps the references that begin with one of the prefixes.
func readAdvertisement(r io.Reader, limit int64, prefixes []string) (*advertisement, error) {
	seen := &headBuffer{max: 4096}
	bounded := &boundedReader{r: io.TeeReader(r, seen), limit: limit, what: "size of the list of references"}
	refs := packp.NewAdvRefs()
	err := refs.Decode(newSieve(bounded, prefixes))
	switch {
	case errors.Is(err, packp.ErrEmptyAdvRefs) || err == nil && refs.IsEmpty():
		return nil, ErrEmptyRepository
	case errors.Is(err, errManyRefs):
		return nil, err
	case err != nil && bytes.Contains(seen.content, []byte("object-format=sha256")):
		// The decoder trips over the longer hashes before it meets the capability.
		return nil, fmt.Errorf("%w: the repository uses SHA-256 object names, only SHA-1 repositories can be read", ErrUnsupported)
	case err != nil:
		return nil, protocolError("list of references", err)
	}
	return &advertisement{refs}, nil
}

// protocolError shortens what may quote the server at length.
func protocolError(what string, err error) error {
	var said *pktline.ErrorLine
	var unexpected *packp.ErrUnexpectedData
	switch {
	case errors.As(err, &said):
		return serverError(said.Text)
	case errors.As(err, &unexpected):
		return fmt.Errorf("%w %s: %s", ErrMalformed, what, shorten(unexpected.Msg))
	case errors.Is(err, ErrLimit):
		return err
	case errors.Is(err, pktline.ErrInvalidPktLen):
		return fmt.Errorf("%w %s: %w", ErrMalformed, what, err)
	}
	return fmt.Errorf("read the %s: %w", what, err)
}

// serverError words what a server answers in place of data.
func serverError(text string) error {
	text = shorten(text)
	for _, part := range []string{
		"repository not found", "repository does not exist", "does not appear to be a git repository",
		"no such repository", "access denied", "the project you were looking for could not be found",
	} {
		if strings.Contains(strings.ToLower(text), part) {
			return fmt.Errorf("%w: %s", ErrNotFound, text)
		}
	}
	if strings.Contains(text, "not our ref") {
		return fmt.Errorf("%w: the server said: %s", ErrReferenceNotFound, text)
	}
	return fmt.Errorf("the server said: %s", text)
}

func shorten(text string) string {
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "")), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "..."
	}
	return text
}

func (a *advertisement) supports(c capability.Capability) bool { return a.Capabilities.Supports(c) }

// lookup returns the object a reference points to and the commit behind it,
// which differ for annotated tags.
func (a *advertisement) lookup(name string) (object, commit plumbing.Hash, ok bool) {
	if name == "HEAD" {
		if a.Head == nil {
			return plumbing.ZeroHash, plumbing.ZeroHash, false
		}
		return *a.Head, *a.Head, true
	}
	if object, ok = a.References[name]; !ok {
		return plumbing.ZeroHash, plumbing.ZeroHash, false
	}
	if commit, annotated := a.Peeled[name]; annotated {
		return object, commit, true
	}
	return object, object, true
}

// candidate is a commit that a reference may stand for.
type candidate struct {
	label  string // the reference as the revision shows it
	tag    string // the short name of the tag, if it is one
	object plumbing.Hash
	commit plumbing.Hash
}

// selector finds the candidates of a Reference.
type selector struct {
	find func(*advertisement) ([]candidate, error)
	// prefixes are the beginnings of the references that find looks at.
	prefixes []string
	// commit is the hash asked for, which takes history to confirm.
	commit plumbing.Hash
	branch string
	// anywhere takes the commit also when it is in no branch: something that is
	// trusted as much as a branch refers to it.
	anywhere bool
}

func newSelector(ref Reference) (*selector, error) {
	switch {
	case ref.Commit != "":
		return commitSelector(ref)
	case ref.Name != "":
		return nameSelector(ref.Name)
	case ref.SemVer != "":
		return semverSelector(ref.SemVer)
	case ref.Tag != "":
		return exactSelector(tagPrefix, ref.Tag, true), nil
	case ref.Branch != "":
		return exactSelector(branchPrefix, ref.Branch, false), nil
	}
	return exactSelector(branchPrefix, defaultBranch, false), nil
}

func exactSelector(prefix, name string, isTag bool) *selector {
	return &selector{prefixes: []string{prefix + name}, find: func(refs *advertisement) ([]candidate, error) {
		object, commit, ok := refs.lookup(prefix + name)
		if !ok {
			return nil, missingRef(prefix + name)
		}
		c := candidate{label: name, object: object, commit: commit}
		if isTag {
			c.tag = name
		}
		return []candidate{c}, nil
	}}
}

func missingRef(name string) error {
	return &propertyError{ErrReferenceNotFound, fmt.Errorf("couldn't find remote ref %q", name)}
}

func commitSelector(ref Reference) (*selector, error) {
	if !plumbing.IsHash(ref.Commit) {
		return nil, aboutReference(ErrReferenceNotFound, "unable to resolve commit object for '%s': not a full SHA-1 hash", ref.Commit)
	}
	hash := plumbing.NewHash(ref.Commit)
	found := []candidate{{label: ref.Branch, object: hash, commit: hash}}
	return &selector{commit: hash, branch: ref.Branch, prefixes: []string{branchPrefix + ref.Branch}, find: func(refs *advertisement) ([]candidate, error) {
		if ref.Branch != "" {
			if _, _, ok := refs.lookup(branchPrefix + ref.Branch); !ok {
				return nil, missingRef(branchPrefix + ref.Branch)
			}
		}
		return found, nil
	}}, nil
}

func nameSelector(name string) (*selector, error) {
	if strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") {
		return nil, aboutReference(ErrReferenceNotFound, "invalid reference name '%s': it must not begin or end with '/'", name)
	}
	return &selector{prefixes: []string{strings.TrimSuffix(name, peeledSuffix)}, find: func(refs *advertisement) ([]candidate, error) {
		object, commit, ok := refs.lookup(strings.TrimSuffix(name, peeledSuffix))
		if !ok {
			return nil, aboutReference(ErrReferenceNotFound, "unable to resolve ref '%s' to a specific commit", name)
		}
		return []candidate{{label: name, object: object, commit: commit}}, nil
	}}, nil
}

func semverSelector(expression string) (*selector, error) {
	constraint, err := semver.NewConstraint(expression)
	if err != nil {
		return nil, aboutReference(ErrReferenceNotFound, "semver parse error: %w", err)
	}
	return &selector{prefixes: []string{tagPrefix}, find: func(refs *advertisement) ([]candidate, error) {
		var best *semver.Version
		var found []candidate
		for name := range refs.References {
			tag, ok := strings.CutPrefix(name, tagPrefix)
			if !ok {
				continue
			}
			v, err := semver.StrictNewVersion(strings.TrimPrefix(tag, "v"))
			if err != nil || !constraint.Check(v) || best != nil && v.LessThan(best) {
				continue
			}
			if best != nil && v.GreaterThan(best) {
				found = nil
			}
			object, commit, _ := refs.lookup(name)
			best, found = v, append(found, candidate{label: tag, tag: tag, object: object, commit: commit})
		}
		if len(found) == 0 {
			return nil, aboutReference(ErrReferenceNotFound, "no match found for semver: %s", expression)
		}
		return found, nil
	}}, nil
}

// pick confirms the candidates with the objects that were fetched; of
// several the newest commit wins (contract: gitrepository 33).
func (s *selector) pick(ctx context.Context, p *pack, found []candidate) (*Checkout, error) {
	var best *Checkout
	for _, c := range found {
		checkout, err := newCheckout(ctx, p, c)
		if !s.commit.IsZero() && errors.Is(err, errObjectNotFound) {
			return nil, missingCommit(c.commit, err)
		}
		if err != nil {
			return nil, err
		}
		if best == nil || newer(checkout, best) {
			best = checkout
		}
	}
	return best, nil
}

func missingCommit(h plumbing.Hash, err error) error {
	return aboutReference(ErrReferenceNotFound, "unable to resolve commit object for '%s': %w", h, err)
}

// newer falls back to the tag's name to be deterministic.
func newer(a, b *Checkout) bool {
	if t, u := a.Commit.Committer.When, b.Commit.Committer.When; !t.Equal(u) {
		return t.After(u)
	}
	return a.Revision.Ref > b.Revision.Ref
}

// boundedReader fails when more than limit bytes are read.
type boundedReader struct {
	r     io.Reader
	limit int64
	what  string
	n     int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.n += int64(n); exceeds(b.n, b.limit) {
		return 0, limitError(b.what, b.n, b.limit)
	}
	return n, err
}

// headBuffer keeps the beginning of what is written to it.
type headBuffer struct {
	max     int
	content []byte
}

func (h *headBuffer) Write(p []byte) (int, error) {
	if room := h.max - len(h.content); room > 0 {
		h.content = append(h.content, p[:min(room, len(p))]...)
	}
	return len(p), nil
}
