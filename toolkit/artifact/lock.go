package artifact

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// errBusy is how lockFile says that somebody else holds the lock.
var errBusy = errors.New("lock is held")

const lockPoll = 100 * time.Millisecond

// lockDir makes this process the only one that works on dir (reliability 132). It waits for at most wait, then fails with ErrLocked and
// names the holder. Closing the file gives the lock back; so does the end of the process, so that nothing stale stays behind
// (reliability 128).
func lockDir(dir string, wait time.Duration) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explain("open lock", path, err)
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(lockPoll) {
		err := lockFile(f)
		if err == nil {
			break
		}
		if errors.Is(err, errBusy) && time.Now().Before(deadline) {
			continue
		}
		holder := make([]byte, 64)
		n, _ := f.ReadAt(holder, 0)
		f.Close()
		if errors.Is(err, errBusy) {
			return nil, fmt.Errorf("%w: %s is locked (%s): stop it or choose another directory", ErrLocked, dir,
				strings.TrimSpace(string(holder[:n])))
		}
		return nil, explain("take lock", path, err)
	}
	// The text is for the reader of the error above; the lock works without it.
	if f.Truncate(0) == nil {
		host, _ := os.Hostname()
		_, _ = f.WriteAt(fmt.Appendf(nil, "process %d on %s\n", os.Getpid(), host), 0)
	}
	return f, nil
}
