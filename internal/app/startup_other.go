//go:build !linux

package app

import "runtime/debug"

// releaseStartup gives memory back that only the start has needed.
func releaseStartup() { debug.FreeOSMemory() }
