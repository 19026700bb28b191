//go:build !linux

package app

import "runtime/debug"

// releaseMemory gives memory back that is not needed now.
func releaseMemory() { debug.FreeOSMemory() }
