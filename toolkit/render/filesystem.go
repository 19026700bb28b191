package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Root is the path under which a build sees the tree. Error texts carry it instead of the directory on disk, so that
// they do not change from build to build and say nothing about the machine.
const Root = "/tree"

// remoteDir holds what was fetched from other hosts, as files in memory or mounted directories.
const remoteDir = Root + "/.flux-remote"

const maxSymlinks = 255

// fileSystem is what kustomize sees: one tree, read-only and closed at its root, with files in memory on top.
// It belongs to one build and is not safe for concurrent use.
type fileSystem struct {
	ctx            context.Context
	base           fs.FS
	mounts         map[string]fs.FS  // directories below remoteDir
	files          map[string][]byte // files in memory, by path below Root
	virtual        map[string]bool   // directories in memory
	real           map[string]bool   // directories known to be reached without a symbolic link
	limits         Limits
	read           int64 // bytes read so far
	kustomizations int   // kustomization files read so far
	listed         int   // directory entries seen by the generator

	// transform may replace what is read from the tree. An error is final.
	transform func(name string, content []byte) ([]byte, error)
	// ignore is Options.Ignore.
	ignore func(name string, dir bool) bool
	// failure ends the build: kustomize takes an unreadable file for a missing one in several places, so whoever
	// called it must look here first.
	failure error
}

var _ filesys.FileSystem = (*fileSystem)(nil)

// ErrReadOnly is returned for every attempt to write to the tree.
var ErrReadOnly = errors.New("the tree is read-only")

func newFileSystem(ctx context.Context, tree fs.FS, limits Limits) *fileSystem {
	return &fileSystem{
		ctx: ctx, base: tree, limits: limits,
		files: map[string][]byte{}, mounts: map[string]fs.FS{}, virtual: map[string]bool{}, real: map[string]bool{Root: true},
	}
}

// fail remembers the first error that must end the build and returns it.
func (f *fileSystem) fail(err error) error {
	if f.failure == nil {
		f.failure = err
	}
	return f.failure
}

// cause strips the path from an error of a file system: it has another root than the build.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func constraint(op, name string) error {
	return fmt.Errorf("fs-security-constraint %s %s: path '%s' is not in or below '%s'", op, name, name, Root)
}

// within reports whether a clean absolute path is dir or below it.
func within(dir, name string) bool {
	return name == dir || strings.HasPrefix(name, dir+"/")
}

// absolute cleans a path; relative ones are taken from the root of the tree.
func absolute(name string) string {
	if !path.IsAbs(name) {
		return path.Join(Root, name)
	}
	return path.Clean(name)
}

// locate finds the file system a path belongs to and its name in there.
func (f *fileSystem) locate(op, name string) (fs.FS, string, error) {
	if !within(Root, name) {
		return nil, "", constraint(op, name)
	}
	for dir, m := range f.mounts {
		if within(dir, name) {
			return m, relative(dir, name), nil
		}
	}
	return f.base, relative(Root, name), nil
}

func relative(dir, name string) string {
	if name == dir {
		return "."
	}
	return name[len(dir)+1:]
}

func pathError(op, name string, err error) error {
	if err = cause(err); isEscape(err) {
		return fmt.Errorf("%s %s: a symbolic link leads out of the tree", op, name)
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// isEscape recognises the refusal of os.Root, which has no exported error.
func isEscape(err error) bool {
	return err != nil && strings.Contains(err.Error(), "escapes from parent")
}

func (f *fileSystem) stat(name string) (fs.FileInfo, error) {
	fsys, rel, err := f.locate("stat", name)
	if err != nil {
		return nil, err
	}
	info, err := fs.Stat(fsys, rel)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return info, nil
}

// CleanedAbs resolves symbolic links and splits a path into its directory and, for files, its name.
func (f *fileSystem) CleanedAbs(name string) (filesys.ConfirmedDir, string, error) {
	abs := absolute(name)
	if !within(Root, abs) {
		return "", "", constraint("abs", abs)
	}
	if f.virtual[abs] {
		return filesys.ConfirmedDir(abs), "", nil
	}
	resolved, err := f.resolve(abs)
	if err != nil {
		return "", "", fmt.Errorf("evalsymlink failure on '%s' : %w", name, err)
	}
	info, err := f.stat(resolved)
	if err != nil {
		return "", "", err
	}
	if info.IsDir() {
		return filesys.ConfirmedDir(resolved), "", nil
	}
	dir, file := path.Split(resolved)
	return filesys.ConfirmedDir(path.Clean(dir)), file, nil
}

// resolve follows the symbolic links of an absolute path below Root.
func (f *fileSystem) resolve(name string) (string, error) {
	if f.real[name] {
		return name, nil
	}
	done, todo := Root, strings.Split(relative(Root, name), "/")
	for links := 0; len(todo) > 0; {
		next := todo[0]
		todo = todo[1:]
		if next == "" || next == "." {
			continue
		}
		done = path.Join(done, next)
		if !within(Root, done) {
			return "", constraint("abs", done)
		}
		if f.real[done] || f.isMount(done) || done == remoteDir {
			continue
		}
		fsys, rel, err := f.locate("lstat", done)
		if err != nil {
			return "", err
		}
		info, err := fs.Lstat(fsys, rel)
		if err != nil {
			return "", pathError("lstat", done, err)
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if info.IsDir() {
				f.real[done] = true
			}
			continue
		}
		if links++; links > maxSymlinks {
			return "", &fs.PathError{Op: "lstat", Path: name, Err: syscall.ELOOP}
		}
		target, err := fs.ReadLink(fsys, rel)
		if err != nil {
			return "", pathError("readlink", done, err)
		}
		if filepath.IsAbs(target) {
			return "", fmt.Errorf("lstat %s: a symbolic link leads out of the tree", done)
		}
		done = path.Dir(done)
		todo = append(strings.Split(filepath.ToSlash(target), "/"), todo...)
	}
	return done, nil
}

func (f *fileSystem) isMount(name string) bool {
	_, ok := f.mounts[name]
	return ok
}

// ReadFile returns the content of a regular file, within the limits of the build.
func (f *fileSystem) ReadFile(name string) ([]byte, error) {
	if f.failure != nil {
		return nil, f.failure
	}
	if err := context.Cause(f.ctx); err != nil {
		return nil, f.fail(err)
	}
	abs := absolute(name)
	content, inMemory := f.files[abs]
	if !inMemory {
		var err error
		if content, err = f.readTree(abs); err != nil {
			return nil, err
		}
	}
	if isKustomizationFile(abs) {
		if f.kustomizations++; f.kustomizations > f.limits.Kustomizations {
			return nil, f.fail(fmt.Errorf("read %s: the build reads more than %d kustomization files", abs, f.limits.Kustomizations))
		}
	}
	if inMemory || f.transform == nil {
		return content, nil
	}
	content, err := f.transform(abs, content)
	if err != nil {
		return nil, f.fail(err)
	}
	return content, nil
}

func (f *fileSystem) readTree(name string) ([]byte, error) {
	fsys, rel, err := f.locate("read", name)
	if err != nil {
		return nil, err
	}
	// Look before reading: opening a pipe would block.
	info, err := fs.Stat(fsys, rel)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	switch {
	case info.IsDir():
		return nil, &fs.PathError{Op: "read", Path: name, Err: syscall.EISDIR}
	case !info.Mode().IsRegular():
		return nil, f.fail(fmt.Errorf("read %s: not a regular file", name))
	case info.Size() > f.limits.FileBytes:
		return nil, f.fail(fmt.Errorf("read %s: the file has %d bytes, the limit is %d", name, info.Size(), f.limits.FileBytes))
	}
	if f.read += info.Size(); f.read > f.limits.TotalBytes {
		return nil, f.fail(fmt.Errorf("read %s: the build reads more than %d bytes in all", name, f.limits.TotalBytes))
	}
	content, err := fs.ReadFile(fsys, rel)
	if err != nil {
		return nil, pathError("read", name, err)
	}
	return content, nil
}

// Exists reports whether the path can be reached.
func (f *fileSystem) Exists(name string) bool {
	abs := absolute(name)
	if _, ok := f.files[abs]; ok {
		return true
	}
	_, err := f.stat(abs)
	return err == nil
}

// IsDir reports whether the path is a directory.
func (f *fileSystem) IsDir(name string) bool {
	info, err := f.stat(absolute(name))
	return err == nil && info.IsDir()
}

// entries lists a directory of the tree, sorted by name.
func (f *fileSystem) entries(name string) ([]fs.DirEntry, error) {
	fsys, rel, err := f.locate("open", name)
	if err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(fsys, rel)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return entries, nil
}

// ReadDir lists the names in a directory.
func (f *fileSystem) ReadDir(name string) ([]string, error) {
	entries, err := f.entries(absolute(name))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Glob matches names in one directory; a pattern in the directory part matches nothing.
func (f *fileSystem) Glob(pattern string) ([]string, error) {
	dir, file := path.Split(absolute(pattern))
	names, err := f.ReadDir(dir)
	if err != nil {
		return nil, nil
	}
	var matches []string
	for _, n := range names {
		ok, err := path.Match(file, n)
		if err != nil {
			return nil, err
		}
		if ok && !strings.HasPrefix(n, ".") {
			matches = append(matches, path.Join(dir, n))
		}
	}
	return matches, nil
}

// Walk visits a directory in lexical order without following symbolic links.
func (f *fileSystem) Walk(name string, fn filepath.WalkFunc) error {
	dir := absolute(name)
	fsys, rel, err := f.locate("walk", dir)
	if err != nil {
		return err
	}
	top := strings.TrimSuffix(dir, "/"+rel)
	return fs.WalkDir(fsys, rel, func(p string, d fs.DirEntry, err error) error {
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		return fn(path.Join(top, p), info, err)
	})
}

type memoryFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (memoryFile) Write([]byte) (int, error)              { return 0, ErrReadOnly }
func (memoryFile) Close() error                           { return nil }
func (m memoryFile) Stat() (fs.FileInfo, error)           { return m.info, nil }
func (f *fileSystem) Create(string) (filesys.File, error) { return nil, ErrReadOnly }
func (f *fileSystem) Mkdir(string) error                  { return ErrReadOnly }
func (f *fileSystem) MkdirAll(string) error               { return ErrReadOnly }
func (f *fileSystem) RemoveAll(string) error              { return ErrReadOnly }
func (f *fileSystem) WriteFile(string, []byte) error      { return ErrReadOnly }

// Open returns a file of the tree, read completely.
func (f *fileSystem) Open(name string) (filesys.File, error) {
	info, err := f.stat(absolute(name))
	if err != nil {
		return nil, err
	}
	content, err := f.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return memoryFile{Reader: bytes.NewReader(content), info: info}, nil
}

// kustomizationFiles returns the recognised names present in a directory (kustomization 28).
func (f *fileSystem) kustomizationFiles(dir string) []string {
	var found []string
	for _, n := range konfig.RecognizedKustomizationFileNames() {
		if info, err := f.stat(path.Join(dir, n)); err == nil && !info.IsDir() {
			found = append(found, path.Join(dir, n))
		}
	}
	return found
}

func isKustomizationFile(name string) bool {
	return slices.Contains(konfig.RecognizedKustomizationFileNames(), path.Base(name))
}
