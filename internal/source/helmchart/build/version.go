package build

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

// chartName is what a chart of a repository may be called (helmchart 10, 58).
var chartName = regexp.MustCompile(`^([-a-z0-9]+/?\.?)+$`)

// maxChartName bounds the name of a chart; a registry accepts no longer one.
const maxChartName = 255

// CheckName checks the name of a chart of a repository (helmchart 10, 58). Its error stalls.
func CheckName(name string) error {
	if len(name) <= maxChartName && chartName.MatchString(name) {
		return nil
	}
	return &Error{Reason: sourcev1.InvalidChartReferenceReason, Err: fmt.Errorf(
		"invalid chart name '%s': a valid name must be lower case letters and numbers and MAY be separated with dashes (-), slashes (/) or periods (.)",
		shorten(name))}
}

func shorten(name string) string {
	if len(name) > maxChartName {
		return name[:maxChartName] + "..."
	}
	return name
}

// shortRevision is how much of a source's revision goes into the version of a chart (helmchart 25).
const shortRevision = 12

// RevisionMetadata returns what of the revision of a GitRepository's or Bucket's artifact goes into the version of a
// chart whose strategy is Revision (helmchart 25).
func RevisionMetadata(revision string) string {
	hash := revision[strings.LastIndexAny(revision, ":/@")+1:]
	return hash[:min(len(hash), shortRevision)]
}

// Values tells how to merge values files.
type Values struct {
	// Files are merged in their order.
	Files []string
	// IgnoreMissing skips files that are not there (helmchart 31).
	IgnoreMissing bool
}

// merges reports whether there is anything to merge: values.yaml alone is what the chart has anyway (helmchart 26, 66).
func (v Values) merges() bool {
	switch len(v.Files) {
	case 0:
		return false
	case 1:
		return path.Clean(v.Files[0]) != valuesFile
	}
	return true
}

// Version returns the version of the built chart: that of its metadata, with build metadata for the revision of the
// source, if any, and for the generation when values files are merged. What build metadata the version had is replaced
// (helmchart 25-27). Its error stalls.
func Version(version, revision string, values Values, generation int64) (string, error) {
	var parts []string
	if revision != "" {
		parts = append(parts, revision)
	}
	if values.merges() {
		parts = append(parts, strconv.FormatInt(generation, 10))
	}
	if len(parts) == 0 {
		return version, nil
	}
	parsed, err := semver.NewVersion(version)
	if err != nil {
		return "", &Error{Reason: sourcev1.MetadataPatchErrorReason, Err: fmt.Errorf("failed to parse version '%s' from chart metadata as SemVer: %w", version, err)}
	}
	patched, err := parsed.SetMetadata(strings.Join(parts, "."))
	if err != nil {
		return "", &Error{Reason: sourcev1.MetadataPatchErrorReason, Err: fmt.Errorf("failed to set metadata on chart version '%s': %w", version, err)}
	}
	return patched.String(), nil
}
