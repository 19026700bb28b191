package build

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/Masterminds/semver/v3"
	chart "helm.sh/helm/v4/pkg/chart/v2"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/chartfile"
)

// Repositories finds the repositories that dependencies come from.
type Repositories interface {
	// Repository returns the repository at an http, https or oci URL, with the credentials there are for it. The same URL
	// may be asked for again within a build; what it costs to open it is to be paid once (helmchart 64).
	Repository(ctx context.Context, url string) (Repository, error)
}

// Repository offers charts.
type Repository interface {
	// Find returns the version of a chart that a version or range means (helmchart 11). Its error has the property
	// ErrNotFound when there is none, and only a change of the reference can help.
	Find(ctx context.Context, name, version string) (*Found, error)
	// Download returns the archive of what was found, at most the given number of bytes; more is an error with the
	// property ErrTooLarge.
	Download(ctx context.Context, f *Found, maxBytes int64) ([]byte, error)
	// Close ends the connection. A repository that Repositories gave is closed by them.
	Close()
}

// Found is a version of a chart in a repository.
type Found struct {
	// Name is what was asked for.
	Name string
	// Version of the chart.
	Version string
	// URL of the archive or, in a registry, of its repository.
	URL string
	// Digest of the archive or, in a registry, of the manifest: "sha256:<hex>"; empty if it is not known.
	Digest string
}

// resolve adds the dependencies that the chart asks for and does not have, and returns how many (helmchart 34-40, 62).
func (l *Local) resolve(ctx context.Context, c *chart.Chart, repositories Repositories) (int, error) {
	added := 0
	for _, d := range missing(c) {
		dependency, err := l.dependency(ctx, d, repositories)
		if err != nil {
			return 0, &Error{Reason: sourcev1.DependencyBuildErrorReason, Err: fmt.Errorf("failed to add dependency '%s': %w", d.Name, err)}
		}
		added++
		if !has(c, dependency) {
			c.AddDependency(dependency)
		}
	}
	return added, nil
}

// missing returns the dependencies that are not vendored, in the order they are asked for (helmchart 34, 35, 62).
func missing(c *chart.Chart) []*chart.Dependency {
	required := c.Metadata.Dependencies
	if c.Lock != nil {
		required = c.Lock.Dependencies
	}
	if len(c.Dependencies()) == len(required) {
		return nil
	}
	vendored := map[string]bool{}
	for _, d := range c.Dependencies() {
		vendored[d.Name()] = true
	}
	var out []*chart.Dependency
	for _, d := range required {
		if d == nil {
			continue
		}
		known := d.Alias
		if known == "" {
			known = d.Name
		}
		if !vendored[known] {
			out = append(out, d)
		}
	}
	return out
}

// has reports whether the chart has the dependency already, as where one is asked for under two aliases.
func has(c, dependency *chart.Chart) bool {
	for _, d := range c.Dependencies() {
		if d.Name() == dependency.Name() && d.Metadata.Version == dependency.Metadata.Version {
			return true
		}
	}
	return false
}

// dependency loads one dependency from where it is said to be (helmchart 36-38).
func (l *Local) dependency(ctx context.Context, d *chart.Dependency, repositories Repositories) (*chart.Chart, error) {
	if strings.HasPrefix(d.Repository, "@") || strings.HasPrefix(d.Repository, "alias:") {
		return nil, fmt.Errorf("repository '%s' is an alias, which is known to Helm's own configuration only: give the URL", d.Repository)
	}
	u, err := url.Parse(d.Repository)
	if err != nil {
		return nil, fmt.Errorf("repository URL is invalid: %w", withoutURL(err))
	}
	switch u.Scheme {
	case "", "file":
		return l.localDependency(ctx, d)
	case "http", "https", "oci":
		return l.remoteDependency(ctx, d, repositories)
	}
	return nil, fmt.Errorf("repository URL has the scheme '%s': want file, http, https or oci", u.Scheme)
}

// withoutURL drops the URL from a parse error: it may hold a password.
func withoutURL(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

func (l *Local) localDependency(ctx context.Context, d *chart.Dependency) (*chart.Chart, error) {
	dir := strings.TrimPrefix(d.Repository, "file://")
	if path.IsAbs(dir) {
		return nil, fmt.Errorf("repository '%s' is an absolute path: want one relative to the chart", d.Repository)
	}
	if dir == "" {
		dir = path.Join("charts", d.Name)
	}
	dir = path.Join(l.path, dir)
	files, err := l.files(ctx, dir)
	if err != nil {
		return nil, err
	}
	c, err := chartfile.Load(files, l.limits)
	if err != nil {
		return nil, err
	}
	return c, satisfies(c, d)
}

// satisfies checks that a local dependency is of the version that is asked for (helmchart 36).
func satisfies(c *chart.Chart, d *chart.Dependency) error {
	if d.Version == "" {
		return nil
	}
	constraint, err := semver.NewConstraint(d.Version)
	if err != nil {
		return fmt.Errorf("invalid version/constraint format '%s': %w", d.Version, err)
	}
	version, err := semver.NewVersion(c.Metadata.Version)
	if err != nil {
		return fmt.Errorf("version '%s' of the chart: %w", c.Metadata.Version, err)
	}
	if !constraint.Check(version) {
		return fmt.Errorf("can't get a valid version for constraint '%s': the chart has version '%s'", d.Version, c.Metadata.Version)
	}
	return nil
}

func (l *Local) remoteDependency(ctx context.Context, d *chart.Dependency, repositories Repositories) (*chart.Chart, error) {
	if err := CheckName(d.Name); err != nil {
		return nil, err
	}
	repository, err := repositories.Repository(ctx, d.Repository)
	if err != nil {
		return nil, err
	}
	found, err := repository.Find(ctx, d.Name, d.Version)
	if err != nil {
		return nil, fmt.Errorf("failed to get chart '%s' version '%s': %w", d.Name, d.Version, err)
	}
	data, err := repository.Download(ctx, found, l.limits.ArchiveBytes)
	if err != nil {
		return nil, fmt.Errorf("chart download of version '%s' failed: %w", found.Version, err)
	}
	files, err := chartfile.NewBudget(l.limits).Archive(ctx, strings.NewReader(string(data)))
	if err != nil {
		return nil, fmt.Errorf("version '%s': %w", found.Version, err)
	}
	return chartfile.Load(files, l.limits)
}
