package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// File is a tree with one file of the local file system in it.
func File(name string) Source { return fileSource(name) }

type fileSource string

func (f fileSource) Walk(_ context.Context, fn func(Entry) error) error {
	name := string(f)
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("'%s' is not a regular file", name)
	}
	return fn(Entry{
		Path: filepath.Base(name), Mode: info.Mode(), Size: info.Size(),
		Open: func() (io.ReadCloser, error) { return os.Open(name) },
	})
}

// Linked is Dir for a directory of the caller's own: a link stands for what it leads to, wherever that is (contract: cli
// 35). A link that leads to a directory above it is an error, and so is one that leads nowhere.
func Linked(dir string) Source { return linkedSource(dir) }

type linkedSource string

func (l linkedSource) Walk(ctx context.Context, fn func(Entry) error) error {
	return l.walk(ctx, ".", nil, fn)
}

// walk lists the directory at p; above are the real paths of the directories it was reached through.
func (l linkedSource) walk(ctx context.Context, p string, above []string, fn func(Entry) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := filepath.Join(string(l), filepath.FromSlash(p))
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if slices.Contains(above, real) {
		return fmt.Errorf("the link '%s' leads to a directory above it", dir)
	}
	above = append(above[:len(above):len(above)], real)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(p, e.Name())
		file := filepath.Join(dir, e.Name())
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("the link '%s' leads nowhere", file)
		}
		if err != nil {
			return err
		}
		entry := Entry{Path: name, Mode: info.Mode()}
		if info.Mode().IsRegular() {
			entry.Size = info.Size()
			entry.Open = func() (io.ReadCloser, error) { return os.Open(file) }
		}
		if err := fn(entry); err != nil {
			return err
		}
		if !info.IsDir() {
			continue
		}
		if err := l.walk(ctx, name, above, fn); err != nil {
			return err
		}
	}
	return nil
}

// Bytes is a tree with one file of the given content in it.
func Bytes(name string, content []byte) Source { return bytesSource{name, content} }

type bytesSource struct {
	name    string
	content []byte
}

func (b bytesSource) Walk(_ context.Context, fn func(Entry) error) error {
	return fn(Entry{
		Path: b.name, Mode: 0o600, Size: int64(len(b.content)),
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.content)), nil },
	})
}
