// Package home owns the data directory of one cluster: it decides whether the directory may be used, locks it against a second
// supervisor, records what runs in it, and removes exactly what was put there.
package home

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	markerName = ".flux-cluster"
	format     = 1

	// needBytes is what a fresh etcd log, its database and the part logs take before the first user object.
	needBytes = 128 << 20
)

// Entries below the directory. Only these are ever removed: a file that somebody else left in our directory stays.
const (
	EtcdDir    = "etcd"
	TrustDir   = "pki"
	LogDir     = "logs"
	Kubeconfig = "kubeconfig"
	StateFile  = "state.json"
	EtcdSocket = "etcd.sock"
	PeerSocket = "peer.sock"
)

var errNoMarker = errors.New("no marker file")

// ErrNotOurs says that a directory holds files but not our marker, so it is left untouched.
type ErrNotOurs struct{ Dir string }

func (e *ErrNotOurs) Error() string {
	return fmt.Sprintf("%s is not empty and was not made by flux-cluster: choose an empty or a new directory with --dir", e.Dir)
}

// ErrInUse says that another live supervisor holds the directory.
type ErrInUse struct {
	Dir string
	PID int
}

func (e *ErrInUse) Error() string {
	return fmt.Sprintf("%s is in use by flux-cluster process %d: stop it with \"flux-cluster stop --dir %s\", or choose another --dir", e.Dir, e.PID, e.Dir)
}

// ErrKept says that the directory holds a cluster whose owner asked to keep it, and the caller did not.
type ErrKept struct{ Dir string }

func (e *ErrKept) Error() string {
	return fmt.Sprintf("%s holds a cluster kept by an earlier run: continue it with --keep, or remove it with \"flux-cluster stop --dir %s --delete\"", e.Dir, e.Dir)
}

// ErrNoSpace says that the file system of the directory has too little room, in bytes.
type ErrNoSpace struct {
	Dir        string
	Free, Need uint64
}

func (e *ErrNoSpace) Error() string {
	return fmt.Sprintf("%s: %d MiB free on its disk, a cluster needs %d MiB: free some space or choose another --dir", e.Dir, e.Free>>20, e.Need>>20)
}

// ErrNoCluster says that nothing of ours is in the directory.
type ErrNoCluster struct{ Dir string }

func (e *ErrNoCluster) Error() string {
	return fmt.Sprintf("no cluster in %s", e.Dir)
}

// marker is the content of the marker file, which is also the lock file: its presence makes the directory ours, the flock on it says
// that its supervisor lives.
type marker struct {
	Format int  `json:"format"`
	PID    int  `json:"pid"`
	Keep   bool `json:"keep"`
	// MadeDir is true when the directory itself was created by us and goes away with its content.
	MadeDir bool `json:"madeDir"`
	// Kubernetes is the version that last wrote the data.
	Kubernetes string `json:"kubernetes"`
}

// Home is a locked data directory. Close releases it.
type Home struct {
	// Dir is the absolute path.
	Dir string
	// Continued is true when the directory holds the data of an earlier run.
	Continued bool

	mark marker
	file *os.File
}

// Open creates or takes over dir and locks it. With keep, the data of an earlier run that was kept is continued, and the data of this
// one survives Close. version is the Kubernetes version that is going to write the data.
//
// It returns *ErrNotOurs, *ErrInUse, *ErrKept or *ErrNoSpace where the caller's choice of directory is at fault; in these cases
// nothing in the directory has been changed.
func Open(dir string, keep bool, version string) (*Home, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("resolve data directory: %w", err)
	}
	made, err := prepare(dir)
	if err != nil {
		return nil, err
	}
	h, err := lockAndClaim(dir, made, keep, version)
	if err != nil && made {
		// Fails when somebody else has put something there meanwhile, and then it is theirs.
		_ = os.Remove(dir)
	}
	return h, err
}

// prepare makes sure that dir exists and is empty or ours, and says whether it created it.
func prepare(dir string) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, fmt.Errorf("create data directory: %w", err)
	}
	err = os.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		made = true
	case !errors.Is(err, os.ErrExist):
		return false, fmt.Errorf("create data directory: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return made, fmt.Errorf("read data directory: %w", err)
	}
	if len(entries) > 0 {
		if _, err := os.Lstat(filepath.Join(dir, markerName)); err != nil {
			return made, &ErrNotOurs{Dir: dir}
		}
	}
	return made, nil
}

func lockAndClaim(dir string, made, keep bool, version string) (*Home, error) {
	file, err := lock(dir)
	if err != nil {
		return nil, err
	}
	h := &Home{Dir: dir, file: file}
	if err := h.claim(made, keep, version); err != nil {
		_ = file.Close()
		return nil, err
	}
	return h, nil
}

// lock opens and locks the marker file. The loop covers a marker that its owner removed between our open and our lock.
func lock(dir string) (*os.File, error) {
	path := filepath.Join(dir, markerName)
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("write to data directory: %w", err)
		}
		if err := flock(file, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			mark, _ := readMarker(file)
			_ = file.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, &ErrInUse{Dir: dir, PID: mark.PID}
			}
			return nil, fmt.Errorf("lock data directory %s: %w", dir, err)
		}
		if same(file, path) {
			return file, nil
		}
		_ = file.Close()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create data directory: %w", err)
		}
	}
}

func (h *Home) claim(made, keep bool, version string) error {
	old, err := readMarker(h.file)
	fresh := errors.Is(err, errNoMarker)
	switch {
	case fresh:
	case err != nil:
		return fmt.Errorf("read %s: %w", h.file.Name(), err)
	case old.Format != format:
		return fmt.Errorf("%s was written in format %d by another flux-cluster, this one knows format %d: choose another --dir", h.Dir, old.Format, format)
	case old.Keep && !keep:
		return &ErrKept{Dir: h.Dir}
	}
	if err := checkSpace(h.Dir); err != nil {
		if fresh {
			_ = os.Remove(h.file.Name())
		}
		return err
	}
	h.mark = marker{Format: format, PID: os.Getpid(), Keep: keep, MadeDir: made || old.MadeDir, Kubernetes: version}
	if old.Keep {
		h.Continued = exists(h.Path(EtcdDir, "member"))
	} else if err := h.clear(); err != nil {
		// What a killed supervisor left was never promised to last, and was written without waiting for the disk.
		return fmt.Errorf("remove the data of an earlier run: %w", err)
	}
	if err := h.writeMarker(); err != nil {
		return err
	}
	for _, name := range []string{EtcdDir, TrustDir, LogDir} {
		if err := os.MkdirAll(h.Path(name), 0o700); err != nil {
			return fmt.Errorf("create data directory: %w", err)
		}
	}
	return nil
}

// Path joins elements to the directory.
func (h *Home) Path(elem ...string) string {
	return filepath.Join(append([]string{h.Dir}, elem...)...)
}

// Close removes the data unless it is to be kept, and releases the lock. The lock is released last, so that whoever waits for it finds
// the work done.
func (h *Home) Close() error {
	defer h.file.Close()
	if h.mark.Keep {
		return nil
	}
	return h.Remove()
}

// Remove deletes everything that Open and the parts put into the directory, and the directory itself when it was made by Open and
// nothing else is left in it.
func (h *Home) Remove() error {
	if err := h.clear(); err != nil {
		return fmt.Errorf("remove data: %w", err)
	}
	if err := os.Remove(h.file.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove data: %w", err)
	}
	if !h.mark.MadeDir {
		return nil
	}
	err := os.Remove(h.Dir)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
		return nil
	}
	return err
}

func (h *Home) clear() error {
	var errs []error
	for _, name := range []string{EtcdDir, TrustDir, LogDir, Kubeconfig, StateFile, EtcdSocket, PeerSocket} {
		errs = append(errs, os.RemoveAll(h.Path(name)))
	}
	return errors.Join(errs...)
}

func (h *Home) writeMarker() error {
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

func checkSpace(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < needBytes {
		return &ErrNoSpace{Dir: dir, Free: free, Need: needBytes}
	}
	return nil
}

func flock(file *os.File, how int) error {
	for {
		err := unix.Flock(int(file.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func same(file *os.File, path string) bool {
	here, err := os.Stat(path)
	if err != nil {
		return false
	}
	held, err := file.Stat()
	return err == nil && os.SameFile(here, held)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
