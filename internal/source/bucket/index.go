package bucket

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seed-79636ae9/flux/internal/source/bucket/storage"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
)

// maxName is how long file systems let one element of a path be, in bytes.
const maxName = 255

// errKey is the property of an error about a key that cannot be the path of a file.
var errKey = errors.New("unusable key")

// index is what an artifact is made of: objects by key.
type index map[string]storage.Object

// ignored reports whether a key is never part of an index (bucket 18).
func ignored(key string) bool {
	return key == archive.IgnoreFile || strings.HasSuffix(key, "/")
}

// revision names the content: a digest over the keys in order, each with its ETag (bucket 16, 20).
func (x index) revision(algo artifact.Algo) string {
	h := algo.New()
	for _, key := range slices.Sorted(maps.Keys(x)) {
		// A hash takes everything.
		_, _ = io.WriteString(h, key+" "+x[key].ETag+"\n")
	}
	return string(algo) + ":" + hex.EncodeToString(h.Sum(nil))
}

// check refuses an index that cannot become a tree of files, and one that is too large to (bucket 45).
func (x index) check(l storage.Limits) error {
	var total int64
	files, dirs := map[string]string{archive.IgnoreFile: archive.IgnoreFile}, map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(x)) {
		file, err := filePath(key)
		if err != nil {
			return fmt.Errorf("object '%s': %w: rename the object, or exclude it with spec.ignore", printable(key), err)
		}
		other, taken := files[file]
		if !taken {
			other, taken = dirs[file]
		}
		for dir := path.Dir(file); dir != "." && !taken; dir = path.Dir(dir) {
			other, taken = files[dir]
			dirs[dir] = key
		}
		if taken {
			return fmt.Errorf("object '%s': %w: object '%s' takes its path: rename one of them, or exclude it with spec.ignore", printable(key), errKey, printable(other))
		}
		files[file] = key
		size := x[key].Size
		if size > l.ObjectBytes {
			return fmt.Errorf("object '%s': %w: it has %d bytes, more than the %d of --bucket-limit-object-bytes", printable(key), storage.ErrLimit, size, l.ObjectBytes)
		}
		if total += max(size, 0); total > l.Bytes {
			return fmt.Errorf("%w: the objects have more than the %d bytes of --bucket-limit-bytes: exclude some with spec.ignore, or set spec.prefix", storage.ErrLimit, l.Bytes)
		}
	}
	return nil
}

// filePath returns the path of the file that an object becomes. It refuses keys that are no paths below a directory, or
// that a program could take for another path (bucket 32, reliability 005).
func filePath(key string) (string, error) {
	if err := checkPath(key); err != nil {
		return "", err
	}
	// Who takes the path for part of a URL would see another one.
	if decoded, err := url.PathUnescape(key); err == nil && decoded != key && checkPath(decoded) != nil {
		return "", fmt.Errorf("%w: decoded as a part of a URL it is no path below a directory", errKey)
	}
	return path.Clean(key), nil
}

func checkPath(key string) error {
	switch {
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: it is not UTF-8", errKey)
	case strings.ContainsFunc(key, unicode.IsControl):
		return fmt.Errorf("%w: it has a control character", errKey)
	case strings.Contains(key, `\`):
		return fmt.Errorf("%w: it has a backslash", errKey)
	case strings.HasPrefix(key, "/"):
		return fmt.Errorf("%w: it is absolute", errKey)
	case path.Clean(key) == ".":
		return fmt.Errorf("%w: it is empty", errKey)
	}
	for element := range strings.SplitSeq(key, "/") {
		switch {
		case element == "..":
			return fmt.Errorf("%w: it has the path element '..'", errKey)
		case len(element) > maxName:
			return fmt.Errorf("%w: it has a path element of more than %d bytes", errKey, maxName)
		}
	}
	return nil
}

// maxShown is how much of a key an error shows, in bytes.
const maxShown = 256

// printable is a key for messages.
func printable(key string) string {
	cut := ""
	if len(key) > maxShown {
		key, cut = key[:maxShown], "..."
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, key) + cut
}
