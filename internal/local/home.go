package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

const (
	markerName = ".flux-up"
	format     = 1

	// needBytes is what the control plane asks for, and a little for repositories and artifacts.
	needBytes = 192 << 20
)

// Entries of a data directory. Only these are ever removed: a file that somebody else left there stays.
const (
	clusterDir  = "cluster"
	gitDir      = "git"
	registryDir = "registry"
	workDir     = "controllers"
	kubeconfig  = "kubeconfig"
	stateFile   = "state.json"
	logFile     = "flux.log"
)

func entries() []string {
	return []string{clusterDir, gitDir, registryDir, workDir, kubeconfig, stateFile, stateFile + ".tmp", logFile}
}

// ErrNotOurs says that a directory holds files but not our marker, so it is left untouched.
type ErrNotOurs struct{ Dir string }

func (e *ErrNotOurs) Error() string {
	return fmt.Sprintf("%s is not empty and was not made by flux up: choose an empty or a new directory with --dir", e.Dir)
}

// ErrRunning says that an environment is up already.
type ErrRunning struct{ Data string }

func (e *ErrRunning) Error() string {
	return fmt.Sprintf("the environment in %s is running already", e.Data)
}

// ErrNoSpace says that the file system of the directory has too little room, in bytes.
type ErrNoSpace struct {
	Dir        string
	Free, Need uint64
}

func (e *ErrNoSpace) Error() string {
	return fmt.Sprintf("%s: %d MiB free on its disk, an environment needs %d MiB: free some space or choose another directory with --dir", e.Dir, e.Free>>20, e.Need>>20)
}

// marker is the content of the marker file, which is also the lock file: its presence makes the directory ours, the lock on it says
// that the background process lives, or that somebody is about to start it.
type marker struct {
	Format int  `json:"format"`
	PID    int  `json:"pid"`
	Keep   bool `json:"keep"`
	// MadeDir is true when the directory itself was created by us and goes away with its content.
	MadeDir bool `json:"madeDir"`
}

// home is a locked data directory.
type home struct {
	dir  string
	mark marker
	file *os.File
}

func isHome(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, markerName))
	return err == nil
}

// claim is what is asked of a data directory.
type claim struct {
	keep bool
	// need is how much room there must be, in bytes.
	need uint64
	// settle makes sure that no process of an earlier life is left.
	settle func() error
}

// openHome creates or takes over dir and locks it. Data of an earlier life that was kept stays; what a killed one left goes, once its
// processes are gone. It returns *ErrNotOurs, *ErrRunning or *ErrNoSpace where the choice of
// directory is at fault; then nothing in it has been changed.
func openHome(dir string, c claim) (*home, error) {
	made, err := prepare(dir)
	if err != nil {
		return nil, err
	}
	file, err := lock(dir)
	if err == nil {
		h := &home{dir: dir, file: file}
		if err = h.take(made, c); err == nil {
			return h, nil
		}
		_ = file.Close()
	}
	if made {
		// Fails when somebody else has put something there meanwhile, and then it is theirs.
		_ = os.Remove(dir)
	}
	return nil, err
}

// prepare makes sure that dir exists and is empty or ours, and says whether it created it.
func prepare(dir string) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, fmt.Errorf("create the data directory: %w", err)
	}
	err = os.Mkdir(dir, 0o700)
	made = err == nil
	if err != nil && !errors.Is(err, os.ErrExist) {
		return false, fmt.Errorf("create the data directory: %w", err)
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		return made, fmt.Errorf("read the data directory: %w", err)
	}
	if len(found) > 0 && !isHome(dir) {
		return made, &ErrNotOurs{Dir: dir}
	}
	return made, nil
}

// lock opens and locks the marker file. The loop covers a marker that its owner removed between our open and our lock.
func lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, markerName)
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("write to the data directory: %w", err)
		}
		free, err := tryLock(file)
		if err != nil || !free {
			_ = file.Close()
			if err == nil {
				return nil, &ErrRunning{Data: dir}
			}
			return nil, fmt.Errorf("lock the data directory: %w", err)
		}
		if sameFile(file, path) {
			return file, nil
		}
		_ = file.Close()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create the data directory: %w", err)
		}
	}
}

func (h *home) take(made bool, c claim) error {
	old, err := readMarker(h.file)
	fresh := errors.Is(err, errNoMarker)
	switch {
	case fresh:
	case err != nil:
		return fmt.Errorf("read %s: %w", h.file.Name(), err)
	case old.Format != format:
		return fmt.Errorf("%s was written in format %d by another version of flux, this one knows format %d: choose another directory with --dir", h.dir, old.Format, format)
	}
	if err := h.checkSpace(c.need); err != nil {
		if fresh {
			_ = os.Remove(h.file.Name())
		}
		return err
	}
	if !fresh {
		if err := c.settle(); err != nil {
			return err
		}
	}
	h.mark = marker{Format: format, PID: os.Getpid(), Keep: c.keep || old.Keep, MadeDir: made || old.MadeDir}
	if !old.Keep {
		if err := h.clear(); err != nil {
			return err
		}
	}
	return h.writeMarker()
}

func (h *home) checkSpace(need uint64) error {
	free, err := freeBytes(h.dir)
	if err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", h.dir, err)
	}
	if free < need {
		return &ErrNoSpace{Dir: h.dir, Free: free, Need: need}
	}
	return nil
}

func (h *home) path(elem ...string) string {
	return filepath.Join(append([]string{h.dir}, elem...)...)
}

// close releases the lock; everything stays.
func (h *home) close() { _ = h.file.Close() }

// remove deletes everything that was put into the directory, and the directory itself when it was made by us and nothing else is in
// it. The caller closes the home afterwards.
func (h *home) remove() error {
	if err := h.clear(); err != nil {
		return err
	}
	if err := os.Remove(h.file.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove data: %w", err)
	}
	if h.mark.MadeDir {
		// Refused for a directory that somebody else has put something into, which is as it should be.
		_ = os.Remove(h.dir)
	}
	return nil
}

func (h *home) clear() error {
	var errs []error
	for _, name := range entries() {
		errs = append(errs, os.RemoveAll(h.path(name)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove data: %w", err)
	}
	return nil
}

func (h *home) writeMarker() error {
	data, err := json.Marshal(h.mark)
	if err != nil {
		return err
	}
	// In place: a rename would leave the lock on the old file.
	if err := h.file.Truncate(0); err != nil {
		return fmt.Errorf("write %s: %w", h.file.Name(), err)
	}
	if _, err := h.file.WriteAt(append(data, '\n'), 0); err != nil {
		return fmt.Errorf("write %s: %w", h.file.Name(), err)
	}
	return nil
}

var errNoMarker = errors.New("no marker")

func readMarker(file *os.File) (marker, error) {
	var m marker
	data, err := io.ReadAll(io.NewSectionReader(file, 0, 1<<16))
	if err != nil {
		return m, err
	}
	if len(data) == 0 {
		return m, errNoMarker
	}
	return m, json.Unmarshal(data, &m)
}

func sameFile(file *os.File, path string) bool {
	here, err := os.Stat(path)
	if err != nil {
		return false
	}
	held, err := file.Stat()
	return err == nil && os.SameFile(here, held)
}

// terminate asks the background process of dir to end and waits until it is gone, or ctx ends.
func terminate(ctx context.Context, dir string) error {
	file, err := os.OpenFile(filepath.Join(dir, markerName), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("stop the environment: %w", err)
	}
	mark, err := readMarker(file)
	if err != nil {
		_ = file.Close()
		return fmt.Errorf("stop the environment: read %s: %w", file.Name(), err)
	}
	if free, err := tryLock(file); err != nil || free {
		_ = file.Close()
		return err
	}
	if err := interrupt(mark.PID); err != nil {
		_ = file.Close()
		return fmt.Errorf("stop the environment: signal process %d: %w", mark.PID, err)
	}
	// The lock is let go only when the last child is gone and the data removed, so waiting for it needs no polling.
	released := make(chan error, 1)
	go func() {
		err := waitLock(file)
		// Before the word is out: whoever goes on takes the lock next.
		_ = file.Close()
		released <- err
	}()
	select {
	case err := <-released:
		return err
	case <-ctx.Done():
		return fmt.Errorf("stop the environment: process %d did not end in time: %w", mark.PID, context.Cause(ctx))
	}
}
