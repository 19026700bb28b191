// Package chartfile reads the files of Helm charts that strangers have made, under limits, for those who package charts and those who
// release them: what the one lets through the other can read.
package chartfile

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

// ErrTooLarge is the property of errors about a chart that exceeds the limits.
var ErrTooLarge = errors.New("chart exceeds a limit")

// Limits bound what is read of a chart.
type Limits struct {
	// ArchiveBytes is the size of a chart archive (--helm-chart-max-size; helmchart 17, 72).
	ArchiveBytes int64
	// FileBytes is the size of one file of a chart (--helm-chart-file-max-size; helmchart 17, 73).
	FileBytes int64
	// Bytes is the size of all files of a chart, those of vendored charts included.
	Bytes int64
	// Entries is the number of files and directories, those of vendored charts included.
	Entries int
	// PathBytes is the length of a file's path in its archive or directory.
	PathBytes int
	// Depth is the number of elements of such a path.
	Depth int
	// Nesting is how deep vendored archives lie in each other.
	Nesting int
	// Dependencies is how many dependencies a chart may ask for.
	Dependencies int
}

// DefaultLimits admit every chart that can sensibly be installed: a release has to fit into a Secret of 1 MiB.
func DefaultLimits() Limits {
	return Limits{
		ArchiveBytes: 10 << 20, FileBytes: 5 << 20, Bytes: 100 << 20, Entries: 10_000, PathBytes: 1024, Depth: 32, Nesting: 8,
		Dependencies: 100,
	}
}

// Bind binds the limits to flags, with the defaults as their values. The first two are flags of 2.9 (wire.md 14).
func (l *Limits) Bind(fs *pflag.FlagSet) {
	d := DefaultLimits()
	fs.Int64Var(&l.ArchiveBytes, "helm-chart-max-size", d.ArchiveBytes, "The largest archive of a Helm chart, in bytes.")
	fs.Int64Var(&l.FileBytes, "helm-chart-file-max-size", d.FileBytes, "The largest file in a Helm chart, in bytes.")
	fs.Int64Var(&l.Bytes, "helm-limit-chart-files-size", d.Bytes, "The size of all files of a chart, in bytes.")
	fs.IntVar(&l.Entries, "helm-limit-chart-files", d.Entries, "How many files and directories a chart may hold.")
	fs.IntVar(&l.PathBytes, "helm-limit-chart-path-length", d.PathBytes, "The length of a path in a chart, in bytes.")
	fs.IntVar(&l.Depth, "helm-limit-chart-depth", d.Depth, "How many elements a path in a chart may have.")
	fs.IntVar(&l.Nesting, "helm-limit-chart-nesting", d.Nesting, "How deep charts may lie in each other.")
	fs.IntVar(&l.Dependencies, "helm-limit-chart-dependencies", d.Dependencies, "How many dependencies a chart may ask for.")
}

// Load makes a chart of its files. Errors are ErrTooLarge, or Helm's about a chart that is none.
func Load(files []*archive.BufferedFile, l Limits) (*chart.Chart, error) {
	c, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("loading the chart: %w", err)
	}
	if n := len(c.Metadata.Dependencies); n > l.Dependencies {
		return nil, tooLarge("the chart has %d dependencies, more than %d", n, l.Dependencies)
	}
	return c, nil
}
