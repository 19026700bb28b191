//go:build unix

package artifact

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// identify returns what tells this content of a file from another: a write changes size or time, a replacement the inode. A new hard
// link changes nothing.
func identify(_ string, info fs.FileInfo) identity {
	id := identity{size: info.Size(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.device, id.inode = uint64(st.Dev), st.Ino
	}
	return id
}

// links returns how many names the file has.
func links(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink)
	}
	return 0
}

// lockFile takes the lock or returns errBusy. The kernel gives it back when the process ends, however it ends.
func lockFile(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return errBusy
	}
	return err
}

// canLink tells whether files below dir can have several names and we can count them.
func canLink(dir string) bool {
	f, err := os.CreateTemp(dir, "probe-*")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	second := f.Name() + ".link"
	if os.Link(f.Name(), second) != nil {
		return false
	}
	defer os.Remove(second)
	info, err := f.Stat()
	return err == nil && links(info) == 2
}

// syncDir makes the entries of a directory survive a power failure.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
