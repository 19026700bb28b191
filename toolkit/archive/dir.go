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
	return d.walk(ctx, root, ".", fn)
}

func (d dirSource) walk(ctx context.Context, root *os.Root, dir string, fn func(Entry) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := fs.ReadDir(root.FS(), dir)
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
			entry.Open = func() (io.ReadCloser, error) { return os.OpenInRoot(string(d), p) }
		}
		if err := fn(entry); err != nil {
			return err
		}
		if !info.IsDir() {
			continue
		}
		if err := d.walk(ctx, root, p, fn); err != nil {
			return err
		}
	}
	return nil
}
