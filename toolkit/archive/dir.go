package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
)

// Dir is the tree below a directory of the local file system. Links are
// reported, never followed: a file swapped for a link between listing and
// opening cannot lead out of the directory. Files can be opened as long as the
// directory exists.
func Dir(dir string) Source { return dirSource(dir) }

type dirSource string

func (d dirSource) Walk(ctx context.Context, fn func(Entry) error) (err error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	return walk(ctx, root.FS(), ".", ".", func(p string) (io.ReadCloser, error) { return os.OpenInRoot(string(d), p) }, fn)
}

// FS is the tree below a directory of a file system. Links are reported, not
// followed. Files can be opened as long as the file system can be read.
func FS(fsys fs.FS, dir string) Source { return fsSource{fsys, dir} }

type fsSource struct {
	fsys fs.FS
	dir  string
}

func (s fsSource) Walk(ctx context.Context, fn func(Entry) error) error {
	return walk(ctx, s.fsys, s.dir, ".", func(p string) (io.ReadCloser, error) { return s.fsys.Open(path.Join(s.dir, p)) }, fn)
}

// walk lists what is below a directory of a root. Paths are relative to the
// root.
func walk(ctx context.Context, fsys fs.FS, root, dir string, open func(p string) (io.ReadCloser, error), fn func(Entry) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(fsys, path.Join(root, dir))
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		p := path.Join(dir, e.Name())
		entry := Entry{Path: p, Mode: info.Mode()}
		if info.Mode().IsRegular() {
			entry.Size = info.Size()
			entry.Open = func() (io.ReadCloser, error) { return open(p) }
		}
		if err := fn(entry); err != nil {
			return err
		}
		if !info.IsDir() {
			continue
		}
		if err := walk(ctx, fsys, root, p, open, fn); err != nil {
			return err
		}
	}
	return nil
}
