// Package charts turns what sources offer into charts to release.
package charts

import (
	"context"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
	chart "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/chartfile"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
)

// Limits bound what is read of a chart.
type Limits = chartfile.Limits

// Load reads the chart that an artifact is the archive of. The chart is the caller's: Helm changes it while it renders.
//
// Errors are those of Opener.File, chartfile.ErrTooLarge, the context's, or about an archive that is no chart.
func Load(ctx context.Context, artifacts *artifact.Opener, a *meta.Artifact, limits Limits) (*chart.Chart, error) {
	f, err := artifacts.File(ctx, a)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the chart '%s': %w", a.Path, err)
	}
	if size := info.Size(); size > limits.ArchiveBytes {
		return nil, fmt.Errorf("the chart '%s' is an archive of %d bytes, more than %d (--helm-chart-max-size): %w",
			a.Path, size, limits.ArchiveBytes, chartfile.ErrTooLarge)
	}
	files, err := chartfile.NewBudget(limits).Archive(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("reading the chart '%s': %w", a.Path, err)
	}
	c, err := chartfile.Load(files, limits)
	if err != nil {
		return nil, fmt.Errorf("reading the chart '%s': %w", a.Path, err)
	}
	return c, nil
}

// Name is what a chart is called.
type Name struct {
	Name, Version, AppVersion string
	// OCIDigest is the digest that the source's revision names, "" for a source whose revision is the version (helmrelease 25).
	OCIDigest string
}

// shortDigest is how much of a digest goes into a version (helmrelease 23).
const shortDigest = 12

// Mutate returns what the chart of a source is called. With tracking, the version of a chart from an OCIRepository, or from an
// ExternalArtifact whose revision names a digest, gets the digest as build metadata, in the chart as well: another content under the same
// version is then another version. A tag that is a version has to be that of the chart (helmrelease 23-25).
func Mutate(c *chart.Chart, source *sourceref.Source, tracking bool) (Name, error) {
	name := Name{Name: c.Metadata.Name, Version: c.Metadata.Version, AppVersion: c.Metadata.AppVersion}
	switch source.Kind {
	case sourcev1.OCIRepositoryKind:
	case sourcev1.ExternalArtifactKind:
		if !strings.Contains(source.Revision, ":") {
			return name, nil
		}
	default:
		return name, nil
	}
	version, err := semver.NewVersion(name.Version)
	if err != nil {
		return name, fmt.Errorf("chart version %s is not a semantic version: %w", name.Version, err)
	}
	tag, digest, tagged := strings.Cut(source.Revision, "@")
	if !tagged {
		tag, digest = "", source.Revision
	}
	// A tag cannot hold a plus.
	if tagVersion, err := semver.NewVersion(strings.ReplaceAll(tag, "_", "+")); err == nil && !tagVersion.Equal(version) {
		return name, fmt.Errorf("artifact revision %s does not match chart version %s", tag, name.Version)
	}
	algo, hex, ok := strings.Cut(digest, ":")
	if !ok || algo == "" || len(hex) < shortDigest {
		return name, fmt.Errorf("artifact revision %s names no digest", source.Revision)
	}
	name.OCIDigest = digest
	if !tracking {
		return name, nil
	}
	mutated, err := version.SetMetadata(hex[:shortDigest])
	if err != nil {
		return name, fmt.Errorf("artifact revision %s names no digest: %w", source.Revision, err)
	}
	name.Version = mutated.String()
	c.Metadata.Version = name.Version
	return name, nil
}
