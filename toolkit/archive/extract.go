package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Extract unpacks the gzipped tar r below dir, which must exist. Files keep
// their permission bits but not their owners and times; the owner may always
// read and write. Symbolic links are dropped (contract: kustomization 23).
// Absolute paths, paths that leave dir, hard links, devices and everything
// beyond the limits fail with ErrUnsafe; files written until then remain, so
// dir is to be one that the caller can throw away. Links that already exist
// below dir are never followed out of it. Where nothing has to be a file of
// the operating system, Unpack is many times quicker.
func Extract(ctx context.Context, r io.Reader, dir string, l Limits) (err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	buffer := copyBuffers.Get().(*[copyBuffer]byte)
	defer copyBuffers.Put(buffer)
	return read(ctx, r, l, &extraction{root: root, buffer: buffer[:]})
}

// extraction makes files and directories.
type extraction struct {
	root   *os.Root
	dir    string // the directory made last
	buffer []byte
}

func (x *extraction) mkdir(name string) error {
	if name == "." || name == x.dir {
		return nil
	}
	if err := x.root.MkdirAll(filepath.FromSlash(name), dirMode); err != nil {
		return fmt.Errorf("extract directory '%s': %w", name, err)
	}
	x.dir = name
	return nil
}

func (x *extraction) file(name string, mode fs.FileMode, _ int64, content io.Reader) error {
	if err := x.mkdir(path.Dir(name)); err != nil {
		return err
	}
	f, err := x.root.OpenFile(filepath.FromSlash(name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return fmt.Errorf("extract '%s': %w", name, err)
	}
	// A file's own ReadFrom would allocate a buffer each time.
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, content, x.buffer)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("extract '%s': %w", name, err)
	}
	return nil
}
