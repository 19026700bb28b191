// Package archive turns a tree of files into a reproducible gzipped tar and
// unpacks such archives without trusting them. It also holds the ignore rules
// (.sourceignore) that decide what a tree's archive leaves out.
package archive

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"
)

const (
	dirMode  = 0o750
	fileMode = 0o600
	execMode = 0o700

	copyBuffer = 32 << 10
)

// A compressor takes close to a megabyte, and an archive is written for every
// commit. What one was used for before does not change what it writes.
var (
	compressors = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	copyBuffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}
)

// Entry is one file, directory or special file of a Source.
type Entry struct {
	// Path is relative to the root of the source, with slashes.
	Path string
	// Mode holds the type bits and the permission bits.
	Mode fs.FileMode
	// Size is the length of a regular file in bytes.
	Size int64
	// Open returns the content of a regular file; nil for everything else.
	Open func() (io.ReadCloser, error)
}

// Source is a tree of files.
type Source interface {
	// Walk calls fn for every entry below the root, in the lexical order of
	// path/filepath.Walk: the entries of a directory sorted by name, each
	// directory before its children. It stops at the first error of fn.
	Walk(ctx context.Context, fn func(Entry) error) error
}

// Write writes the regular files and directories of src that ignore does not
// exclude to w as a gzipped tar. Equal content gives equal bytes: times,
// owners and names are blank and modes are reduced to 0750 for directories,
// 0700 for executables and 0600 for other files. The root is listed as ".",
// links and special files are left out. An excluded directory has no entry of
// its own, but a file below it that a later pattern includes has (contract:
// gitrepository 62, 64).
func Write(ctx context.Context, w io.Writer, src Source, ignore Matcher) error {
	zw := compressors.Get().(*gzip.Writer)
	zw.Reset(w)
	defer func() {
		zw.Reset(io.Discard) // lets go of w
		compressors.Put(zw)
	}()
	tw := tar.NewWriter(zw)
	buffer := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buffer)
	if err := writeEntry(tw, Entry{Path: ".", Mode: fs.ModeDir}, buffer[:]); err != nil {
		return err
	}
	err := src.Walk(ctx, func(e Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !e.Mode.IsRegular() && !e.Mode.IsDir() || ignore.Excludes(e.Path, e.Mode.IsDir()) {
			return nil
		}
		return writeEntry(tw, e, buffer[:])
	})
	if err != nil {
		return err
	}
	return errors.Join(tw.Close(), zw.Close())
}

func writeEntry(tw *tar.Writer, e Entry, buffer []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.Path, Mode: fileMode, Size: e.Size, ModTime: time.Time{}}
	switch {
	case e.Mode.IsDir():
		h.Typeflag, h.Mode, h.Size = tar.TypeDir, dirMode, 0
	case e.Mode&0o100 != 0:
		h.Mode = execMode
	}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("add '%s' to the archive: %w", e.Path, err)
	}
	if e.Mode.IsDir() {
		return nil
	}
	r, err := e.Open()
	if err != nil {
		return fmt.Errorf("open '%s': %w", e.Path, err)
	}
	// A file's own WriteTo would allocate a buffer each time.
	n, err := io.CopyBuffer(tw, struct{ io.Reader }{r}, buffer)
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("add '%s' to the archive: %w", e.Path, err)
	}
	if n != e.Size {
		return fmt.Errorf("add '%s' to the archive: read %d bytes of %d", e.Path, n, e.Size)
	}
	return nil
}
