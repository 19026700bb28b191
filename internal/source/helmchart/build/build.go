package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/chartfile"
)

// Request says what to make of a chart.
type Request struct {
	// Revision is build metadata for the revision of the source; empty: none (helmchart 24, 25).
	Revision string
	// Values files to merge.
	Values Values
	// Generation of the HelmChart, which is part of the version when values files are merged (helmchart 26).
	Generation int64
}

// Local is a chart in the tree of a GitRepository or Bucket.
type Local struct {
	tree    fs.FS
	path    string
	packed  bool
	request Request
	limits  chartfile.Limits
	// Name is the name in the chart's metadata, Version the one the built chart will have.
	Name, Version string
}

// OpenLocal looks at the chart at a path, a directory or an archive, of the tree of a source, which is read until the
// chart is built. Its errors are of type *Error.
func OpenLocal(ctx context.Context, tree fs.FS, chartPath string, request Request, limits chartfile.Limits) (*Local, error) {
	l := &Local{tree: tree, path: path.Clean(filepath.ToSlash(chartPath)), request: request, limits: limits}
	if !filepath.IsLocal(l.path) {
		return nil, &Error{Reason: sourcev1.InvalidChartReferenceReason,
			Err: fmt.Errorf("chart path '%s' is absolute or leaves the source", shorten(chartPath))}
	}
	m, err := l.metadata(ctx)
	if err != nil {
		return nil, failed(sourcev1.InvalidChartReferenceReason, err)
	}
	l.Name = m.Name
	if l.Version, err = Version(m.Version, request.Revision, request.Values, request.Generation); err != nil {
		return nil, err
	}
	return l, nil
}

// metadata reads no more of a directory than it has to: it is asked for at every interval.
func (l *Local) metadata(ctx context.Context) (*chart.Metadata, error) {
	info, err := fs.Stat(l.tree, l.path)
	if err != nil {
		return nil, relative(err)
	}
	if info.IsDir() {
		data, err := readFile(chartfile.NewBudget(l.limits), l.tree, path.Join(l.path, chartFile))
		if err != nil {
			return nil, err
		}
		return metadata(data)
	}
	l.packed = true
	data, err := l.archive(l.path)
	if err != nil {
		return nil, err
	}
	m, _, err := archiveMetadata(ctx, bytes.NewReader(data), l.limits)
	return m, err
}

// archive reads a chart archive of the source (helmchart 72).
func (l *Local) archive(name string) ([]byte, error) {
	info, err := fs.Stat(l.tree, name)
	if err != nil {
		return nil, relative(err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("'%s' is neither a directory nor a file", name)
	}
	f, err := l.tree.Open(name)
	if err != nil {
		return nil, relative(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, l.limits.ArchiveBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading '%s': %w", name, err)
	}
	if int64(len(data)) > l.limits.ArchiveBytes {
		return nil, fmt.Errorf("size of chart '%s' exceeds %d bytes (--helm-chart-max-size): %w", name, l.limits.ArchiveBytes, chartfile.ErrTooLarge)
	}
	return data, nil
}

// files reads a chart, directory or archive, of the source.
func (l *Local) files(ctx context.Context, name string) ([]*archive.BufferedFile, error) {
	if !filepath.IsLocal(name) {
		return nil, fmt.Errorf("path '%s' leaves the source", name)
	}
	info, err := fs.Stat(l.tree, name)
	if err != nil {
		return nil, relative(err)
	}
	if info.IsDir() {
		return readDirectory(ctx, chartfile.NewBudget(l.limits), l.tree, name)
	}
	data, err := l.archive(name)
	if err != nil {
		return nil, err
	}
	return chartfile.NewBudget(l.limits).Archive(ctx, bytes.NewReader(data))
}

// Build makes the archive below dir. Its errors are of type *Error.
func (l *Local) Build(ctx context.Context, repositories Repositories, dir string) (*Result, error) {
	result := &Result{Name: l.Name, Version: l.Version}
	if l.packed && l.request.Revision == "" && !l.request.Values.merges() {
		data, err := l.archive(l.path)
		if err != nil {
			return nil, failed(sourcev1.InvalidChartReferenceReason, err)
		}
		result.Path, err = keep(dir, data)
		return result, err
	}
	files, err := l.files(ctx, l.path)
	if err != nil {
		return nil, failed(sourcev1.InvalidChartReferenceReason, err)
	}
	c, err := chartfile.Load(files, l.limits)
	if err != nil {
		return nil, failed(sourcev1.InvalidChartReferenceReason, err)
	}
	if result.ValuesFiles, err = l.request.Values.mergeInto(c, l.valuesFile); err != nil {
		return nil, err
	}
	if !l.packed {
		if result.Resolved, err = l.resolve(ctx, c, repositories); err != nil {
			return nil, err
		}
	}
	c.Metadata.Version = l.Version
	result.Packaged = true
	result.Path, err = pack(c, dir)
	return result, err
}

// valuesFile reads a values file of the source (helmchart 30).
func (l *Local) valuesFile(name string) ([]byte, error) {
	clean := path.Clean(filepath.ToSlash(name))
	if !filepath.IsLocal(clean) {
		return nil, errors.New("the path is absolute or leaves the source")
	}
	data, err := readFile(chartfile.NewBudget(l.limits), l.tree, clean)
	return []byte(strings.TrimPrefix(string(data), chartfile.BOM)), err
}

// Remote makes an archive below dir of one that was downloaded as this version of a repository. The version is that of
// the built chart; see Version. Its errors are of type *Error.
func Remote(ctx context.Context, data []byte, version string, request Request, limits chartfile.Limits, dir string) (*Result, error) {
	if int64(len(data)) > limits.ArchiveBytes {
		return nil, &Error{Reason: sourcev1.ChartPullErrorReason,
			Err: fmt.Errorf("size of chart exceeds %d bytes (--helm-chart-max-size): %w", limits.ArchiveBytes, chartfile.ErrTooLarge)}
	}
	m, files, err := archiveMetadata(ctx, bytes.NewReader(data), limits)
	if err != nil {
		return nil, failed(sourcev1.ChartPullErrorReason, err)
	}
	result := &Result{Name: m.Name, Version: version}
	if !request.Values.merges() {
		result.Path, err = keep(dir, data)
		return result, err
	}
	c, err := chartfile.Load(files, limits)
	if err != nil {
		return nil, failed(sourcev1.ChartPullErrorReason, err)
	}
	if result.ValuesFiles, err = request.Values.mergeInto(c, fromChart(c)); err != nil {
		return nil, err
	}
	c.Metadata.Version = version
	result.Packaged = true
	result.Path, err = pack(c, dir)
	return result, err
}

// keep writes an archive that is offered as it is (helmchart 16, 21).
func keep(dir string, data []byte) (string, error) {
	name := filepath.Join(dir, "chart.tgz")
	if err := os.WriteFile(name, data, fs.FileMode(0o600)); err != nil {
		return "", &Error{Reason: sourcev1.ChartPullErrorReason, Err: fmt.Errorf("keeping the chart: %w", err)}
	}
	return name, nil
}
