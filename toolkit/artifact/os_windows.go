package artifact

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// identify has no inode to go by: the path stands for it.
func identify(path string, info fs.FileInfo) identity {
	return identity{path: path, size: info.Size(), modified: info.ModTime().UnixNano()}
}

func links(fs.FileInfo) uint64 { return 0 }

func lockFile(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0,
		new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return errBusy
	}
	return err
}

// canLink is false because links cannot be counted: every name keeps a file of its own.
func canLink(string) bool { return false }

// syncDir does nothing: directories cannot be synced there.
func syncDir(string) error { return nil }
