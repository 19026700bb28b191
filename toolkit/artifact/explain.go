package artifact

import (
	"errors"
	"fmt"
	"syscall"
)

// explain adds to a failed file operation what an operator can do about it. The path is named because the bare error of a write or a
// sync does not.
func explain(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	remedy := ""
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		remedy = " (no space or no inodes left: enlarge the volume, or lower --artifact-retention-ttl and --artifact-retention-records)"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		remedy = " (too many open files: raise the limit of open files of the process, or lower --concurrent)"
	case errors.Is(err, syscall.EROFS):
		remedy = " (the file system is read-only: mount a writable volume there)"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		remedy = " (no permission: the directory must belong to the user or the fsGroup of the process)"
	}
	return fmt.Errorf("%s in %s%s: %w", doing, path, remedy, err)
}

// resourceError tells failures of this machine from properties of the request.
func resourceError(err error) bool {
	for _, cause := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}
