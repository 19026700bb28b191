// Package build makes chart archives: from the archive of a repository, or from a directory or archive of a source tree.
// It knows no API server. Everything it reads was written by strangers and is bounded by chartfile.Limits; equal input gives equal
// bytes.
package build

import (
	"errors"
	"fmt"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

// ErrNotFound is the property of a repository's error about a chart or version that its index does not have
// (helmchart 12).
var ErrNotFound = errors.New("chart not found")

// ErrUnauthorized is the property of a repository's error about credentials or certificates (helmchart 15).
var ErrUnauthorized = errors.New("not authorized")

// Error is a build that failed. The reason is one of api/source/v1, such as InvalidChartReference.
type Error struct {
	Reason string
	Err    error
}

// Error returns the texts of 2.9: what kind of failure, then the cause.
func (e *Error) Error() string { return summary(e.Reason) + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Stalls reports whether only a change of the spec or of the source can help (helmchart 46).
func (e *Error) Stalls() bool {
	switch e.Reason {
	case sourcev1.InvalidChartReferenceReason, sourcev1.MetadataPatchErrorReason, sourcev1.ValuesFilesErrorReason:
		return true
	}
	return false
}

// Condition returns the failure condition of the HelmChart that the error belongs to (helmchart 45).
func (e *Error) Condition() string {
	switch e.Reason {
	case sourcev1.MetadataPatchErrorReason, sourcev1.ValuesFilesErrorReason, sourcev1.DependencyBuildErrorReason,
		sourcev1.ChartPackageErrorReason, sourcev1.ChartVerificationErrorReason:
		return sourcev1.BuildFailedCondition
	}
	return sourcev1.FetchFailedCondition
}

func summary(reason string) string {
	switch reason {
	case sourcev1.InvalidChartReferenceReason:
		return "invalid chart reference"
	case sourcev1.ChartPullErrorReason:
		return "chart pull error"
	case sourcev1.MetadataPatchErrorReason:
		return "chart metadata patch error"
	case sourcev1.ValuesFilesErrorReason:
		return "values files merge error"
	case sourcev1.DependencyBuildErrorReason:
		return "dependency build error"
	case sourcev1.ChartPackageErrorReason:
		return "chart package error"
	case sourcev1.ChartVerificationErrorReason:
		return "chart verification error"
	}
	return "chart build error"
}

func failed(reason string, err error) error {
	if known := (*Error)(nil); errors.As(err, &known) {
		return err
	}
	return &Error{Reason: reason, Err: err}
}

// Result is a chart that was built.
type Result struct {
	// Name is the name in the chart's metadata.
	Name string
	// Version includes the build metadata that was added.
	Version string
	// Path of the archive.
	Path string
	// Packaged is false when the archive is, byte for byte, that of the source.
	Packaged bool
	// ValuesFiles are those that were merged.
	ValuesFiles []string
	// Resolved is the number of dependencies that were added.
	Resolved int
}

// Reason is the reason of the good end (helmchart 50).
func (r *Result) Reason() string {
	if r.Packaged {
		return sourcev1.ChartPackageSucceededReason
	}
	return sourcev1.ChartPullSucceededReason
}

// Summary says what was done (helmchart 50).
func (r *Result) Summary() string {
	verb := "pulled"
	if r.Packaged {
		verb = "packaged"
	}
	text := fmt.Sprintf("%s '%s' chart with version '%s'", verb, r.Name, r.Version)
	if len(r.ValuesFiles) > 0 {
		text += fmt.Sprintf(" and merged values files %v", r.ValuesFiles)
	}
	return text
}
