// Package artifact stores, serves, fetches and unpacks the files that sources hand to their consumers.
//
// A Store keeps each file once, by digest, and gives it names: "<kind>/<namespace>/<name>/<file>" below the storage path are hard links
// to the blobs, which is the layout Flux 2.9 has (wire contract 8). An Opener turns an artifact into a file system to read: from a
// store in the same process or over HTTP, verified either way, unpacked once per digest however many ask.
package artifact

import "errors"

// Errors of this package carry one of these properties where a caller has to tell cases apart; test with errors.Is.
var (
	// ErrNotFound says that the artifact is not there: never stored, collected, or replaced since.
	ErrNotFound = errors.New("artifact not found")
	// ErrMismatch says that content and digest disagree, or that the artifact has no digest that can be checked.
	ErrMismatch = errors.New("artifact digest mismatch")
	// ErrLocked says that another process works on the directory.
	ErrLocked = errors.New("directory is in use by another process")
	// ErrTooLarge says that a remote artifact is larger than announced or allowed.
	ErrTooLarge = errors.New("artifact is too large")
	// ErrHostDenied says that the artifact's URL names a host that is not allowed.
	ErrHostDenied = errors.New("artifact host is not allowed")
)
