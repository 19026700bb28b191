package artifact

import (
	"fmt"
	"path"
	"strings"

	"github.com/seed-79636ae9/flux/api/meta"
)

// Directories of a store and a cache that are not kinds, and so never part of a name.
const (
	blobsDir   = "blobs"
	tmpDir     = "tmp"
	recordsDir = "records"
	treesDir   = "trees"
)

const lockSuffix = ".lock"

// Name is where a file is offered: "<lower-case kind>/<namespace>/<object>/<file>".
type Name struct {
	Kind, Namespace, Object string
	// File is the last element: "<commit>.tar.gz", "<chart>-<version>.tgz".
	File string
}

// Path returns the slash-separated path of the name. It does not check the parts.
func (n Name) Path() string { return path.Join(n.dir(), n.File) }

func (n Name) dir() string { return path.Join(strings.ToLower(n.Kind), n.Namespace, n.Object) }

// object drops the file.
func (n Name) object() Name {
	return Name{Kind: strings.ToLower(n.Kind), Namespace: n.Namespace, Object: n.Object}
}

// checkObject makes sure that the directory of the object is inside the store and outside its own directories.
func (n Name) checkObject() error {
	for _, part := range []struct{ field, value string }{{"kind", n.Kind}, {"namespace", n.Namespace}, {"name", n.Object}} {
		if !validPart(part.value) {
			return fmt.Errorf("%s %q cannot be part of an artifact path", part.field, part.value)
		}
	}
	switch strings.ToLower(n.Kind) {
	case blobsDir, tmpDir, recordsDir, treesDir:
		return fmt.Errorf("kind %q: the name is reserved in the artifact storage", n.Kind)
	}
	return nil
}

func (n Name) check() error {
	if err := n.checkObject(); err != nil {
		return err
	}
	if !validPart(n.File) || strings.HasSuffix(n.File, lockSuffix) {
		return fmt.Errorf("file name %q cannot be used for an artifact: want one path element that does not start with a dot or end with %s",
			n.File, lockSuffix)
	}
	return nil
}

// validPart accepts one visible path element. Backslash, and colon after a drive letter, would mean something to Windows.
func validPart(s string) bool {
	return s != "" && len(s) <= 255 && s[0] != '.' && !strings.ContainsAny(s, "/\\\x00")
}

// parseName is the reverse of Name.Path; it accepts valid names only.
func parseName(p string) (Name, bool) {
	parts := strings.Split(p, "/")
	if len(parts) != 4 {
		return Name{}, false
	}
	n := Name{Kind: parts[0], Namespace: parts[1], Object: parts[2], File: parts[3]}
	return n, n.check() == nil && n.Kind == strings.ToLower(n.Kind)
}

// nameOf returns the name an artifact claims to have.
func nameOf(a *meta.Artifact) (Name, error) {
	if a == nil {
		return Name{}, fmt.Errorf("%w: there is none", ErrNotFound)
	}
	n, ok := parseName(a.Path)
	if !ok {
		return Name{}, fmt.Errorf("%w: path %q is not of the form <kind>/<namespace>/<name>/<file>", ErrNotFound, a.Path)
	}
	return n, nil
}
