//go:build unix

package app

import "golang.org/x/sys/unix"

// noCoreDumps keeps the credentials of the process out of files that a crash would leave behind (reliability 060).
func noCoreDumps() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
