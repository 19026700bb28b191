package git

import (
	"errors"
	"fmt"

	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Properties of the errors of this package, for errors.Is.
var (
	// ErrInvalidURL: the URL cannot be used; only another URL helps.
	ErrInvalidURL = errors.New("invalid URL")
	// ErrInvalidAuth: the credentials cannot be used with the URL.
	ErrInvalidAuth = errors.New("invalid credentials")
	// ErrAuthentication: the server wants credentials, or other ones.
	ErrAuthentication = errors.New("authentication required")
	// ErrAuthorization: the credentials do not suffice.
	ErrAuthorization = errors.New("authorization failed")
	// ErrNotFound: the server has no such repository, or hides it.
	ErrNotFound = errors.New("repository not found")
	// ErrReferenceNotFound: the repository has no such reference or commit.
	ErrReferenceNotFound = errors.New("reference not found")
	// ErrEmptyRepository: the repository has no commit.
	ErrEmptyRepository = errors.New("git repository is empty")
	// ErrAmbiguous: several tags match equally well.
	ErrAmbiguous = errors.New("several tags are the highest version")
	// ErrHostKey: the SSH server is not the one that known_hosts describes.
	ErrHostKey = errors.New("host key not trusted")
	// ErrLimit: the server sent more than Limits allow.
	ErrLimit = errors.New("limit exceeded")
	// ErrUnsupported: the repository uses a feature this client has not.
	ErrUnsupported = errors.New("unsupported")
	// ErrSignature: an object is not signed by any of the keys that count.
	ErrSignature = errors.New("unable to verify the signature")
	// ErrInvalidKeys: there is no public key to verify signatures with.
	ErrInvalidKeys = errors.New("no usable public keys")
	// ErrMalformed: what the server sent is not a valid answer, pack or object.
	ErrMalformed = errors.New("malformed")
)

// PathError says that a commit has no such directory or file.
type PathError struct{ Path string }

func (e *PathError) Error() string { return fmt.Sprintf("there is no '%s' in the repository", e.Path) }

// redactedError is an error whose text shows no credentials.
type redactedError struct {
	err     error
	secrets []string
}

func (e *redactedError) Error() string { return secret.Redact(e.err.Error(), e.secrets...) }

func (e *redactedError) Unwrap() error { return e.err }

// propertyError has the text of err and the property too.
type propertyError struct {
	property error
	err      error
}

func (e *propertyError) Error() string { return e.err.Error() }

func (e *propertyError) Unwrap() []error { return []error{e.property, e.err} }

// referenceError is about the reference alone; its text stands without the URL
// of the repository.
type referenceError struct{ err error }

func (e *referenceError) Error() string { return e.err.Error() }

func (e *referenceError) Unwrap() error { return e.err }

func aboutReference(property error, format string, args ...any) error {
	return &referenceError{&propertyError{property, fmt.Errorf(format, args...)}}
}

func limitError(what string, got, limit int64) error {
	return fmt.Errorf("%w: %s %d is more than %d", ErrLimit, what, got, limit)
}

func exceeds(n, limit int64) bool { return limit > 0 && n > limit }
