package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// ErrUnchanged: the files have the content that the commit gives them already.
var ErrUnchanged = errors.New("nothing to commit")

// DraftOptions describe a new commit.
type DraftOptions struct {
	// Files are the new contents of files by their paths. The files exist, and keep their modes.
	Files map[string][]byte
	// Author is the committer too.
	Author Signature
	// Message is written as it is, but for what no commit may hold.
	Message string
	// Signer signs the commit; nil: nobody does.
	Signer Signer
}

// Draft is a commit that the server does not have yet.
type Draft struct {
	// Hash and Parent are the names of the commit and of the one it builds on.
	Hash, Parent string
	// Tree is the name of the new tree.
	Tree string
	// Message is the text of the commit.
	Message string

	objects []packable
}

// packable is what a pack is made of.
type packable struct {
	kind    plumbing.ObjectType
	content []byte
}

func (o packable) hash() plumbing.Hash { return plumbing.ComputeHash(o.kind, o.content) }

// Draft makes a commit with other contents of some files on top of the one that was checked out. Nothing is written to disk:
// the new objects are few, the files and the directories above them. It fails with ErrUnchanged, with a *PathError where there
// is no such file, or with what the signer says. Symbolic links and submodules are no files.
func (c *Checkout) Draft(ctx context.Context, o DraftOptions) (*Draft, error) {
	d := &Draft{Parent: c.Commit.Hash, Message: cleanMessage(o.Message)}
	root := &edits{}
	for name, content := range o.Files {
		root.add(strings.Split(name, "/"), content)
	}
	tree, err := d.rewrite(ctx, c.pack, c.Commit.tree, root, "")
	if err != nil {
		return nil, err
	}
	if tree == c.Commit.tree {
		return nil, ErrUnchanged
	}
	d.Tree = tree.String()
	who := identity(o.Author)
	head := fmt.Sprintf("tree %s\nparent %s\nauthor %s\ncommitter %s\n", tree, d.Parent, who, who)
	signature := ""
	if o.Signer != nil {
		armored, err := o.Signer.Sign([]byte(head + "\n" + d.Message))
		if err != nil {
			return nil, fmt.Errorf("sign the commit: %w", err)
		}
		signature = signatureHeader + " " + strings.ReplaceAll(strings.TrimRight(string(armored), "\n"), "\n", "\n ") + "\n"
	}
	d.Hash = d.put(plumbing.CommitObject, []byte(head+signature+"\n"+d.Message)).String()
	return d, nil
}

func (d *Draft) put(kind plumbing.ObjectType, content []byte) plumbing.Hash {
	o := packable{kind, content}
	d.objects = append(d.objects, o)
	return o.hash()
}

// edits are the new contents of files in a directory, or of a file.
type edits struct {
	below   map[string]*edits
	content []byte // of a file: a directory has something below
}

func (e *edits) add(path []string, content []byte) {
	if len(path) == 0 {
		e.content = content
		return
	}
	if e.below == nil {
		e.below = map[string]*edits{}
	}
	next := e.below[path[0]]
	if next == nil {
		next = &edits{}
		e.below[path[0]] = next
	}
	next.add(path[1:], content)
}

// rewrite returns the name of a directory after the edits. It changes nothing in the tree object but the names of what is below,
// so that the order and the modes are what they were.
func (d *Draft) rewrite(ctx context.Context, p *pack, h plumbing.Hash, e *edits, dir string) (plumbing.Hash, error) {
	if err := ctx.Err(); err != nil {
		return h, err
	}
	entries, err := readTree(p, h)
	if err != nil {
		return h, err
	}
	byName := make(map[string]treeEntry, len(entries))
	for _, entry := range entries {
		byName[entry.name] = entry
	}
	for name := range e.below {
		if _, ok := byName[name]; !ok {
			return h, &PathError{dir + name}
		}
	}
	raw, err := p.bytes(h, plumbing.TreeObject)
	if err != nil {
		return h, err
	}
	// The object was read without an error: it consists of entries "<mode> <name>\x00<hash>".
	for at := 0; at < len(raw); {
		begin := at + bytes.IndexByte(raw[at:], ' ') + 1
		end := begin + bytes.IndexByte(raw[begin:], 0)
		at = end + 1 + len(h)
		name := string(raw[begin:end])
		if edit := e.below[name]; edit != nil {
			next, err := d.replace(ctx, p, byName[name], edit, dir+name)
			if err != nil {
				return h, err
			}
			copy(raw[end+1:at], next[:])
		}
	}
	if next := (packable{plumbing.TreeObject, raw}); next.hash() != h {
		return d.put(next.kind, next.content), nil
	}
	return h, nil
}

func (d *Draft) replace(ctx context.Context, p *pack, entry treeEntry, e *edits, name string) (plumbing.Hash, error) {
	switch {
	case entry.kind() == modeDir && e.below != nil:
		return d.rewrite(ctx, p, entry.hash, e, name+"/")
	case entry.kind() != modeRegular || e.below != nil:
		return entry.hash, &PathError{name}
	}
	if next := (packable{plumbing.BlobObject, e.content}); next.hash() != entry.hash {
		return d.put(next.kind, next.content), nil
	}
	return entry.hash, nil
}

// identity writes who did something, and when, as commits hold it. What would begin another field is left out.
func identity(s Signature) string {
	clean := func(text string) string {
		return strings.TrimSpace(strings.Map(func(r rune) rune {
			if r < ' ' || r == '<' || r == '>' {
				return -1
			}
			return r
		}, strings.ToValidUTF8(text, "")))
	}
	return fmt.Sprintf("%s <%s> %d %s", clean(s.Name), clean(s.Email), s.When.Unix(), s.When.Format("-0700"))
}

// cleanMessage ends a message with a line end, and takes from it what Git refuses in commits.
func cleanMessage(text string) string {
	text = strings.TrimRight(strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", ""), "\n")
	return text + "\n"
}

// Tree is the name of the tree of the commit: equal content has equal trees.
func (c Commit) Tree() string { return c.tree.String() }

// Parents are the names of the commits that this one builds on.
func (c Commit) Parents() []string {
	var out []string
	head, _, _ := bytes.Cut(c.Raw, []byte("\n\n"))
	for line := range bytes.Lines(head) {
		if parent, ok := bytes.CutPrefix(line, []byte("parent ")); ok {
			out = append(out, strings.TrimSpace(string(parent)))
		}
	}
	return out
}
