package app

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// releaseMemory gives memory back that is not needed now: garbage, and the pages of the program, most of which hold the initialisation of
// libraries or what only a rollout runs. The kernel maps a page again when it is needed after all.
func releaseMemory() {
	debug.FreeOSMemory()
	program, err := os.Executable()
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		if start, length, ok := readOnlyMapping(lines.Text(), program); ok {
			// Advice: nothing depends on whether it is taken.
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, start, length, unix.MADV_DONTNEED)
		}
	}
}

// readOnlyMapping reads a line of /proc/PID/maps (proc_pid_maps(5)). It reports whether the line is a part of the program that nobody
// writes to: only such a part is on the disk as it is in memory.
func readOnlyMapping(line, program string) (start, length uintptr, ok bool) {
	fields := strings.Fields(line)
	if len(fields) != 6 || fields[5] != program || (fields[1] != "r-xp" && fields[1] != "r--p") {
		return 0, 0, false
	}
	from, to, found := strings.Cut(fields[0], "-")
	first, err := strconv.ParseUint(from, 16, 64)
	last, otherErr := strconv.ParseUint(to, 16, 64)
	if !found || err != nil || otherErr != nil || last <= first {
		return 0, 0, false
	}
	return uintptr(first), uintptr(last - first), true
}
