package storage

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Properties of the errors of this package, for errors.Is.
var (
	// ErrNoBucket: the bucket does not exist.
	ErrNoBucket = errors.New("bucket not found")
	// ErrNoObject: the object does not exist.
	ErrNoObject = errors.New("object not found")
	// ErrChanged: the object is another one than was listed.
	ErrChanged = errors.New("object changed")
	// ErrDenied: the server wants credentials, or other ones.
	ErrDenied = errors.New("access denied")
	// ErrLimit: the server sent more than Limits allow.
	ErrLimit = errors.New("limit exceeded")
	// ErrMalformed: what the server sent makes no sense.
	ErrMalformed = errors.New("malformed answer")
	// ErrEndpoint: the endpoint is no address; no request was made.
	ErrEndpoint = errors.New("invalid endpoint")
	// ErrCredentials: the credentials are of no known form; no request was made.
	ErrCredentials = errors.New("invalid credentials")
)

// maxText bounds the text of an error: servers may answer with whole pages.
const maxText = 1024

// storageError is an error with a property and a short text that shows neither queries of URLs nor credentials
// (bucket 27).
type storageError struct {
	property error
	err      error
	secrets  []string
}

func (e *storageError) Error() string {
	text := secret.Redact(stripQueries(e.err.Error()), e.secrets...)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}

func (e *storageError) Unwrap() []error {
	if e.property == nil {
		return []error{e.err}
	}
	return []error{e.property, e.err}
}

// stripQueries cuts the query off every URL in the text.
func stripQueries(text string) string {
	var out strings.Builder
	for {
		start := strings.Index(text, "://")
		if start < 0 {
			break
		}
		rest := text[start:]
		end := strings.IndexAny(rest, " \t\r\n\"'`<>")
		if end < 0 {
			end = len(rest)
		}
		address, _, _ := strings.Cut(rest[:end], "?")
		out.WriteString(text[:start])
		out.WriteString(address)
		text = rest[end:]
	}
	out.WriteString(text)
	return out.String()
}

func limitError(what string, limit int64, unit string) error {
	return fmt.Errorf("%w: %s has more than %d %s", ErrLimit, what, limit, unit)
}
