package helmchart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/Masterminds/semver/v3"

	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/chartfile"
	"github.com/seed-79636ae9/flux/internal/source/helmchart/build"
	"github.com/seed-79636ae9/flux/internal/source/helmrepo"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// registry is a HelmRepository of type oci.
type registry struct {
	client *oci.Client
	url    string
}

// openRegistry makes a client of what the HelmRepository says. Its errors are verdicts (helmchart 59, 60).
func (s *Source) openRegistry(ctx context.Context, obj *sourcev1.HelmRepository, run *loop.Run) (*registry, error) {
	o, err := helmrepo.RegistryOptionsFor(ctx, s.options.Reader, s.options.Auth, obj)
	if err != nil {
		return nil, connectFailed(err)
	}
	o.Pool, o.Fresh, o.Limits = s.options.Pool, run.Requested(), s.options.Registry
	c, err := oci.New(o)
	if err != nil {
		return nil, refused(err)
	}
	return &registry{client: c, url: strings.TrimRight(obj.Spec.URL, "/")}, nil
}

// Find implements build.Repository. A version is a tag; a range is looked up in the list of tags (helmchart 13).
func (r *registry) Find(ctx context.Context, chart, version string) (*build.Found, error) {
	repo, err := r.client.Repository(r.url + "/" + chart)
	if err != nil {
		return nil, err
	}
	ref := oci.Reference{Helm: true, SemVer: version}
	switch _, err := semver.StrictNewVersion(version); {
	case err == nil:
		ref = oci.Reference{Tag: strings.ReplaceAll(version, "+", "_")}
	case version == "":
		ref.SemVer = "*"
	}
	resolved, err := r.client.Resolve(ctx, repo, ref)
	if err != nil {
		return nil, asked(err)
	}
	return &build.Found{Name: chart, Version: strings.ReplaceAll(resolved.Tag, "_", "+"), URL: r.url + "/" + chart, Digest: resolved.Digest}, nil
}

// Download implements build.Repository.
func (r *registry) Download(ctx context.Context, f *build.Found, maxBytes int64) ([]byte, error) {
	repo, err := r.client.Repository(f.URL)
	if err != nil {
		return nil, err
	}
	manifest, err := r.client.Manifest(ctx, repo, f.Digest)
	if err != nil {
		return nil, asked(err)
	}
	for _, layer := range manifest.Layers {
		if layer.MediaType != oci.HelmChartLayer {
			continue
		}
		if layer.Size > maxBytes {
			return nil, fmt.Errorf("size of chart '%s' exceeds %d bytes (--helm-chart-max-size): %w", repo, maxBytes, chartfile.ErrTooLarge)
		}
		body, err := r.client.Layer(ctx, repo, layer)
		if err != nil {
			return nil, asked(err)
		}
		defer body.Close()
		data, err := io.ReadAll(body)
		return data, asked(err)
	}
	return nil, fmt.Errorf("manifest %s of '%s' has no layer of type %s: it is no Helm chart", f.Digest, repo, oci.HelmChartLayer)
}

// Close implements build.Repository.
func (r *registry) Close() {}

// asked gives an answer of a registry the property of the build.
func asked(err error) error {
	if errors.Is(err, oci.ErrUnauthorized) {
		return property{err, build.ErrUnauthorized}
	}
	return err
}

// property is an error with a further property.
type property struct {
	error
	is error
}

// Unwrap returns the error and the property.
func (p property) Unwrap() []error { return []error{p.error, p.is} }
