//go:build unix

package local

import (
	"errors"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// supported tells whether this system can run environments.
func supported() error { return nil }

func flock(file *os.File, how int) error {
	for {
		err := unix.Flock(int(file.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// tryLock takes the lock on file if it is free.
func tryLock(file *os.File) (free bool, err error) {
	err = flock(file, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// probeLock tells whether the lock is free, in a way that two readers do not take each other for an owner.
func probeLock(file *os.File) (free bool, err error) {
	err = flock(file, unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// waitLock returns when it has the lock.
func waitLock(file *os.File) error { return flock(file, unix.LOCK_EX) }

func freeBytes(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}

func interrupt(pid int) error {
	if pid <= 0 {
		return errors.New("the marker names no process")
	}
	err := unix.Kill(pid, unix.SIGTERM)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// detach makes cmd outlive the terminal: a session of its own has no controlling terminal to hang up.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
}

// privately keeps an inherited descriptor from the children of this process.
func privately(file *os.File) { unix.CloseOnExec(int(file.Fd())) }
