//go:build !unix

package app

// noCoreDumps does nothing: there are none.
func noCoreDumps() error { return nil }
