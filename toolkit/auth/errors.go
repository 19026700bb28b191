package auth

import (
	"errors"
	"fmt"
	"strings"

	"github.com/seed-79636ae9/flux/toolkit/auth/internal/rest"
	"github.com/seed-79636ae9/flux/toolkit/secret"
)

// Properties of the errors of this package, for errors.Is.
var (
	// ErrFeatureGate: the object names a ServiceAccount, and the process does not allow that (contract: _common 47).
	ErrFeatureGate = errors.New("the feature gate ObjectLevelWorkloadIdentity is off")
	// ErrServiceAccount: the ServiceAccount is not there, or its annotations do not say whom the cloud shall take it for.
	ErrServiceAccount = errors.New("the service account cannot be used")
	// ErrUnsupported: the provider does not do this, or not for this server.
	ErrUnsupported = errors.New("not supported")
	// ErrAppData: the Secret does not describe a GitHub App.
	ErrAppData = errors.New("invalid github app data")
	// ErrLimit: an answer is larger than Limits allow.
	ErrLimit = rest.ErrLimit
	// ErrRegion: AWS needs a region, and neither the object nor the environment names one.
	ErrRegion = errors.New("no region")
)

// errNone is the answer of a process that was made without clouds.
var errNone = fmt.Errorf("%w: this process obtains no credentials from clouds or Git hosts", ErrUnsupported)

// redactedError is an error whose text shows no credentials.
type redactedError struct {
	err     error
	secrets []string
}

// Error is one line: some SDKs print whole answers.
func (e *redactedError) Error() string {
	return strings.Join(strings.Fields(secret.Redact(e.err.Error(), e.secrets...)), " ")
}

func (e *redactedError) Unwrap() error { return e.err }
