package generate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/toolkit/archive"
)

// ErrLimit is the property of errors about artifacts that would be larger than the Limits allow.
var ErrLimit = errors.New("limit exceeded")

// stage is an artifact in the making: a tree whose files still lie in the sources. Copying into it moves no bytes.
type stage struct {
	root   *node
	limits Limits
	files  int64
	bytes  int64
	// extract unpacks an archive of a source; the result does not change.
	extract func(ctx context.Context, f *file) (*node, error)
}

// apply executes one copy operation (artifactgenerator 30-47).
func (s *stage) apply(ctx context.Context, op operation, source *node) error {
	picks, err := op.picks(source)
	if err != nil {
		return err
	}
	for _, p := range picks {
		if err := s.copy(ctx, op, p); err != nil {
			return err
		}
	}
	return nil
}

// copy puts one pick where it belongs. Later operations meet what earlier ones have made (artifactgenerator 30).
func (s *stage) copy(ctx context.Context, op operation, p pick) error {
	to := path.Join(op.to, p.place)
	switch {
	case op.strategy == v1beta1.ExtractStrategy:
		return s.unpack(ctx, op, p)
	case p.node.isDir():
		return s.copyDir(ctx, op, p.node, p.path, to)
	case !isGlob(op.from) && !op.toDir && !s.hasDir(op.to):
		to = op.to
	}
	if op.strategy == v1beta1.MergeStrategy {
		return s.merge(ctx, to, p.node)
	}
	return s.put(ctx, to, p.node)
}

func (s *stage) hasDir(p string) bool {
	n := s.root.at(p)
	return n != nil && n.isDir()
}

// copyDir merges a directory into what is at a path, overwriting files, without what is excluded (artifactgenerator 37,
// 40, 45).
func (s *stage) copyDir(ctx context.Context, op operation, dir *node, from, to string) error {
	if _, err := s.mkdir(to); err != nil {
		return err
	}
	for _, name := range dir.names() {
		child, p := dir.entries[name], path.Join(from, name)
		if op.excludes(p) {
			continue
		}
		err := error(nil)
		if child.isDir() {
			err = s.copyDir(ctx, op, child, p, path.Join(to, name))
		} else {
			err = s.put(ctx, path.Join(to, name), child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unpack puts the content of an archive below op.to (artifactgenerator 46, 47).
func (s *stage) unpack(ctx context.Context, op operation, p pick) error {
	if p.node.isDir() || !isArchive(p.path) {
		if isGlob(op.from) {
			return nil
		}
		return fmt.Errorf("'%s' in source '%s' is not an archive: want a file with the extension .tar.gz or .tgz", p.path, op.alias)
	}
	content, err := s.extract(ctx, p.node.file)
	if err != nil {
		return fmt.Errorf("extract '%s' of source '%s': %w", p.path, op.alias, err)
	}
	return s.copyDir(ctx, operation{}, content, ".", op.to)
}

// mkdir makes a directory and those above it.
func (s *stage) mkdir(p string) (*node, error) {
	if p == "." {
		return s.root, nil
	}
	if err := s.checkPath(p); err != nil {
		return nil, err
	}
	dir := s.root
	for name := range strings.SplitSeq(p, "/") {
		next := dir.entries[name]
		if next == nil {
			if err := s.count(1, 0, p); err != nil {
				return nil, err
			}
			next = newDir()
			dir.entries[name] = next
		}
		if !next.isDir() {
			return nil, fmt.Errorf("'%s' cannot be made: '%s' is a file of the artifact", p, name)
		}
		dir = next
	}
	return dir, nil
}

// put puts a file at a path, in place of a file that is there (artifactgenerator 43).
func (s *stage) put(ctx context.Context, p string, n *node) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := s.checkPath(p); err != nil {
		return err
	}
	dir, err := s.mkdir(path.Dir(p))
	if err != nil {
		return err
	}
	name := path.Base(p)
	old := dir.entries[name]
	switch {
	case old == nil:
		err = s.count(1, n.file.size, p)
	case old.isDir():
		return fmt.Errorf("file '%s' cannot be copied: it is a directory of the artifact", p)
	default:
		err = s.count(0, n.file.size-old.file.size, p)
	}
	if err != nil {
		return err
	}
	dir.entries[name] = n
	return nil
}

// count keeps the totals within the limits.
func (s *stage) count(files, bytes int64, p string) error {
	s.files += files
	s.bytes += bytes
	switch {
	case s.files > s.limits.Files:
		return fmt.Errorf("copy '%s': %w: an artifact has at most %d files and directories", p, ErrLimit, s.limits.Files)
	case s.bytes > s.limits.Bytes:
		return fmt.Errorf("copy '%s': %w: an artifact has at most %d bytes", p, ErrLimit, s.limits.Bytes)
	}
	return nil
}

func (s *stage) checkPath(p string) error {
	switch {
	case len(p) > s.limits.PathBytes:
		return fmt.Errorf("%w: a path in an artifact has at most %d bytes", ErrLimit, s.limits.PathBytes)
	case strings.Count(p, "/") >= s.limits.Depth:
		return fmt.Errorf("%w: a path in an artifact has at most %d elements", ErrLimit, s.limits.Depth)
	}
	return nil
}

// merge merges a YAML file into the one that is there; without one it is a copy (artifactgenerator 44).
func (s *stage) merge(ctx context.Context, p string, n *node) error {
	old := s.root.at(p)
	if old == nil || old.isDir() {
		return s.put(ctx, p, n)
	}
	below, err := s.read(old.file)
	if err != nil {
		return fmt.Errorf("read '%s': %w", p, err)
	}
	above, err := s.read(n.file)
	if err != nil {
		return fmt.Errorf("read what to merge into '%s': %w", p, err)
	}
	merged, err := mergeYAML(below, above)
	if err != nil {
		return fmt.Errorf("merge into '%s': %w", p, err)
	}
	return s.put(ctx, p, newFile(mergedMode, int64(len(merged)), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(merged)), nil
	}))
}

// mergedMode is the mode of merged files.
const mergedMode = 0o644

// read returns a file that is to be merged.
func (s *stage) read(f *file) ([]byte, error) {
	if f.size > s.limits.MergeBytes {
		return nil, fmt.Errorf("%w: files to merge have at most %d bytes, this one has %d", ErrLimit, s.limits.MergeBytes, f.size)
	}
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(r, s.limits.MergeBytes))
	return data, errors.Join(err, r.Close())
}

// filename names the archive after its content (artifactgenerator 48).
func (s *stage) filename(ctx context.Context, artifact string) (string, error) {
	type entry struct {
		path string
		file *file
	}
	var files []entry
	_ = s.root.walk(artifact, func(p string, n *node) error {
		if !n.isDir() {
			files = append(files, entry{p, n.file})
		}
		return nil
	})
	slices.SortFunc(files, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	h := adler32.New()
	for _, f := range files {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		sum, err := f.file.checksum()
		if err != nil {
			return "", fmt.Errorf("read '%s': %w", f.path, err)
		}
		fmt.Fprintf(h, "%08x  %s\n", sum, f.path)
	}
	return strconv.FormatUint(uint64(h.Sum32()), 10) + ".tar.gz", nil
}

// write writes the archive (artifactgenerator 49).
func (s *stage) write(ctx context.Context, w io.Writer) error {
	ignore := archive.NewMatcher(append(archive.VCSPatterns(), archive.DefaultPatterns()...)...)
	return archive.Write(ctx, w, s, ignore)
}

// Walk implements archive.Source.
func (s *stage) Walk(_ context.Context, fn func(archive.Entry) error) error {
	return s.root.walk(".", func(p string, n *node) error {
		if n.isDir() {
			return fn(archive.Entry{Path: p, Mode: fs.ModeDir})
		}
		return fn(archive.Entry{Path: p, Mode: n.file.mode, Size: n.file.size, Open: n.file.open})
	})
}
