package update

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/seed-79636ae9/flux/internal/image/update/setters"
	"github.com/seed-79636ae9/flux/toolkit/archive"
)

// maxEditedBytes bounds the files that one commit changes.
const maxEditedBytes = 128 << 20

// treeRoot stands for the root of the repository in messages: there is no checkout.
const treeRoot = "/tree"

// edits are the files that a commit changes.
type edits struct {
	files   map[string][]byte
	changes []fileChange
}

// fileChange is a change and the file it is in, relative to the path of the update.
type fileChange struct {
	file string
	setters.Change
}

// edit sets the images in the files below a path, a directory or a file (imageupdateautomation 19, 20, 56). Symbolic links are not
// followed, whatever they point to: the file itself is found where it is.
func edit(ctx context.Context, tree archive.Source, at string, images map[string]setters.Image, maxFileBytes int64) (*edits, error) {
	out := &edits{files: map[string][]byte{}}
	found := at == ""
	edited := int64(0)
	err := tree.Walk(ctx, func(e archive.Entry) error {
		below, ok := relative(e.Path, at)
		if !ok {
			return nil
		}
		found = true
		if e.Path == at && e.Mode&fs.ModeSymlink != 0 {
			return fmt.Errorf("update path '%s' is a symbolic link: name what it points to", at)
		}
		if !e.Mode.IsRegular() || !scanned(e.Path) {
			return nil
		}
		content, err := read(e, maxFileBytes)
		if err != nil || content == nil {
			return err
		}
		after, changes, err := setters.Edit(content, images)
		switch {
		case errors.Is(err, setters.ErrUnparseable):
			return nil
		case err != nil:
			return fmt.Errorf("file '%s': %w", e.Path, err)
		case len(changes) == 0:
			return nil
		}
		if edited += int64(len(after)); edited > maxEditedBytes {
			return fmt.Errorf("the files to change have more than %d bytes: divide them among several objects with spec.update.path", maxEditedBytes)
		}
		out.files[e.Path] = after
		for _, c := range changes {
			out.changes = append(out.changes, fileChange{below, c})
		}
		return nil
	})
	if err == nil && !found {
		err = missingPath(at)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func missingPath(at string) error {
	return fmt.Errorf("walking path for files: lstat %s: no such file or directory", path.Join(treeRoot, at))
}

// relative tells a path from what is edited: of the file itself, its name.
func relative(name, at string) (string, bool) {
	if at == "" {
		return name, true
	}
	if name == at {
		return path.Base(name), true
	}
	return strings.CutPrefix(name, at+"/")
}

func scanned(name string) bool {
	base := path.Base(name)
	return path.Ext(base) == ".yaml" || path.Ext(base) == ".yml" || base == "Kustomization"
}

// read returns the content of a file with a marker, nil for any other.
func read(e archive.Entry, maxBytes int64) ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return nil, fmt.Errorf("file '%s': %w", e.Path, err)
	}
	defer func() { _ = r.Close() }()
	if e.Size > maxBytes {
		has, err := contains(r, []byte(setters.Token))
		if has {
			err = fmt.Errorf("it has markers and %d bytes, more than %d: divide it, or raise --update-limit-file-size", e.Size, maxBytes)
		}
		if err != nil {
			return nil, fmt.Errorf("file '%s': %w", e.Path, err)
		}
		return nil, nil
	}
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("file '%s': %w", e.Path, err)
	}
	if !bytes.Contains(content, []byte(setters.Token)) {
		return nil, nil
	}
	return content, nil
}

// contains looks for a word in a text of any size.
func contains(r io.Reader, word []byte) (bool, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		window, err := in.Peek(64 << 10)
		if bytes.Contains(window, word) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if _, err := in.Discard(len(window) - len(word) + 1); err != nil {
			return false, err
		}
	}
}
