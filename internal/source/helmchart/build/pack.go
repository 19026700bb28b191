package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/util"
	"sigs.k8s.io/yaml"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/chartfile"
)

// metadata parses Chart.yaml.
func metadata(data []byte) (*chart.Metadata, error) {
	var m chart.Metadata
	if err := yaml.Unmarshal([]byte(strings.TrimPrefix(string(data), chartfile.BOM)), &m); err != nil {
		return nil, fmt.Errorf("parsing %s: %w", chartFile, err)
	}
	if m.APIVersion == "" {
		// Helm takes a chart without one for an old one.
		m.APIVersion = chart.APIVersionV1
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", chartFile, err)
	}
	return &m, nil
}

// archiveMetadata returns the metadata of a chart archive after a look at all of it.
func archiveMetadata(ctx context.Context, r io.Reader, l chartfile.Limits) (*chart.Metadata, []*archive.BufferedFile, error) {
	files, err := chartfile.NewBudget(l).Archive(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		if f.Name == chartFile {
			m, err := metadata(f.Data)
			return m, files, err
		}
	}
	return nil, nil, errors.New("Chart.yaml file is missing")
}

// pack writes the chart as an archive below dir and returns its path. Equal charts give equal bytes: times are those of
// the epoch, and dependencies are in the order of their names.
func pack(c *chart.Chart, dir string) (string, error) {
	settle(c)
	path, err := util.Save(c, dir)
	if err != nil {
		return "", &Error{Reason: sourcev1.ChartPackageErrorReason, Err: fmt.Errorf("failed to package chart: %w", err)}
	}
	return path, nil
}

func settle(c *chart.Chart) {
	epoch := time.Unix(0, 0).UTC()
	c.ModTime, c.SchemaModTime = epoch, epoch
	if c.Lock != nil && c.Lock.Generated.IsZero() {
		c.Lock.Generated = epoch
	}
	for _, files := range [][]*common.File{c.Raw, c.Templates, c.Files} {
		for _, f := range files {
			f.ModTime = epoch
		}
	}
	dependencies := slices.Clone(c.Dependencies())
	slices.SortStableFunc(dependencies, func(a, b *chart.Chart) int {
		if n := strings.Compare(a.Name(), b.Name()); n != 0 {
			return n
		}
		return strings.Compare(a.Metadata.Version, b.Metadata.Version)
	})
	c.SetDependencies(dependencies...)
	for _, d := range dependencies {
		settle(d)
	}
}
