package oci

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Properties of the errors of this package, for errors.Is.
var (
	// ErrInvalidURL: the URL names no repository; only another URL helps.
	ErrInvalidURL = errors.New("invalid URL")
	// ErrSelect: the tag to look at could not be chosen, be it that the tags could
	// not be listed.
	ErrSelect = errors.New("no tag chosen")
	// ErrInvalidReference: the range, pattern or digest of the reference cannot be
	// used.
	ErrInvalidReference = errors.New("invalid reference")
	// ErrNoMatch: no tag is a version within the range.
	ErrNoMatch = errors.New("no match found")
	// ErrUnauthorized: the registry wants credentials, or other ones.
	ErrUnauthorized = errors.New("not authorized")
	// ErrNotFound: the registry has no such repository, tag, manifest or layer, or
	// hides it.
	ErrNotFound = errors.New("not found")
	// ErrLimit: the registry sent more than Limits allow.
	ErrLimit = errors.New("limit exceeded")
	// ErrMalformed: what the registry sent is not a valid answer.
	ErrMalformed = errors.New("malformed")
	// ErrRedirect: the registry sent the client where it must not go.
	ErrRedirect = errors.New("redirect refused")
)

const (
	unauthorized = http.StatusUnauthorized
	forbidden    = http.StatusForbidden
	notFound     = http.StatusNotFound

	// maxText bounds the text of an error: registries may answer with whole pages.
	maxText = 1024
)

// propertyError has the text of err and the property too.
type propertyError struct {
	property error
	err      error
}

func (e *propertyError) Error() string { return e.err.Error() }

func (e *propertyError) Unwrap() []error { return []error{e.property, e.err} }

// boundedError is an error whose text is short and shows no credentials.
type boundedError struct {
	err     error
	secrets []string
}

func (e *boundedError) Error() string {
	text := secret.Redact(e.err.Error(), e.secrets...)
	if len(text) > maxText {
		return text[:maxText] + "..."
	}
	return text
}

func (e *boundedError) Unwrap() error { return e.err }

func limitError(what string, limit int64, unit string) error {
	return fmt.Errorf("%w: %s: more than %d %s", ErrLimit, what, limit, unit)
}

func malformed(format string, args ...any) error {
	return &propertyError{ErrMalformed, fmt.Errorf(format, args...)}
}

// statusOf is the status of the answer that err is about, zero when there was
// none.
func statusOf(err error) int {
	var answer *transport.Error
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}
