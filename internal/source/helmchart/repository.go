package helmchart

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/chartfile"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/internal/source/helmchart/build"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/oci"
)

// connectRepository opens the HelmRepository of the chart.
func (s *Source) connectRepository(ctx context.Context, obj *sourcev1.HelmChart, run *loop.Run) (frame.Upstream[*sourcev1.HelmChart], error) {
	var source sourcev1.HelmRepository
	if err := s.source(ctx, obj, &source); err != nil {
		return nil, err
	}
	u := &repositoryUpstream{name: obj.Spec.Chart, version: obj.Spec.Version, request: request(obj, ""), limits: s.limits, run: run, host: hostOf(source.Spec.URL)}
	if source.Spec.Type == sourcev1.HelmRepositoryTypeOCI {
		obj.Status.ObservedSourceArtifactRevision = ""
		if err := build.CheckName(obj.Spec.Chart); err != nil {
			return nil, failed(err)
		}
		registry, err := s.openRegistry(ctx, &source, run)
		if err != nil {
			return nil, err
		}
		u.repository = within(registry, source.GetTimeout())
		if obj.Spec.Verify == nil {
			return u, nil
		}
		return s.verified(ctx, obj, u, registry)
	}
	if obj.Spec.Verify != nil {
		return nil, unverifiable(run, "spec.verify is only supported for HelmRepositories of type oci")
	}
	if source.Status.Artifact == nil {
		return nil, noArtifact(obj)
	}
	obj.Status.ObservedSourceArtifactRevision = source.Status.Artifact.Revision
	if err := build.CheckName(obj.Spec.Chart); err != nil {
		return nil, failed(err)
	}
	repository, err := s.options.HTTP.Open(ctx, &source)
	if err != nil {
		return nil, refused(err)
	}
	u.repository = within(repository, source.GetTimeout())
	u.gone = func() error { return noArtifact(obj) }
	return u, nil
}

// refused judges what kept a client from being made (helmchart 59).
func refused(err error) error {
	if loop.Judged(err) {
		return err
	}
	return loop.Fail(sourcev1.AuthenticationFailedReason, err).On(sourcev1.FetchFailedCondition)
}

// repositoryUpstream is a chart in a Helm repository.
type repositoryUpstream struct {
	repository    build.Repository
	name, version string
	request       build.Request
	limits        chartfile.Limits
	run           *loop.Run
	host          string
	// gone is the verdict on an index that has left the storage; nil where there is no index.
	gone   func() error
	found  *build.Found
	result *build.Result
}

// Host implements frame.Hosted.
func (u *repositoryUpstream) Host() string { return u.host }

// Settled implements frame.Upstream. The name of the chart is that of the spec, so that its generation tells.
func (u *repositoryUpstream) Settled(obj *sourcev1.HelmChart) bool { return settled(obj) }

// Settle implements frame.Upstream.
func (u *repositoryUpstream) Settle(obj *sourcev1.HelmChart) { settle(obj, u.run, u.result) }

// Observe implements frame.Upstream: the version that the built chart has is known before anything is downloaded.
func (u *repositoryUpstream) Observe(ctx context.Context) (string, error) {
	if err := u.find(ctx); err != nil {
		return "", err
	}
	version, err := build.Version(u.found.Version, u.request.Revision, u.request.Values, u.request.Generation)
	return version, failed(err)
}

// find looks the version up, once in a run (helmchart 11-13).
func (u *repositoryUpstream) find(ctx context.Context) error {
	if u.found != nil {
		return nil
	}
	found, err := u.repository.Find(ctx, u.name, u.version)
	switch {
	case err == nil:
		u.found = found
		return nil
	case u.gone != nil && errors.Is(err, artifact.ErrNotFound):
		return u.gone()
	case errors.Is(err, build.ErrNotFound):
		return failed(&build.Error{Reason: sourcev1.InvalidChartReferenceReason, Err: fmt.Errorf("failed to get chart version for remote reference: %w", err)})
	}
	return pullFailed(fmt.Errorf("failed to get chart version for remote reference: %w", err))
}

// Fetch implements frame.Upstream.
func (u *repositoryUpstream) Fetch(ctx context.Context, dir string) (*frame.Content, error) {
	version, err := u.Observe(ctx)
	if err != nil {
		return nil, err
	}
	data, err := u.repository.Download(ctx, u.found, u.limits.ArchiveBytes)
	if err != nil {
		return nil, pullFailed(fmt.Errorf("failed to download chart for remote reference: %w", err))
	}
	if u.result, err = build.Remote(ctx, data, version, u.request, u.limits, dir); err != nil {
		return nil, failed(err)
	}
	return content(u.result), nil
}

// Close implements frame.Upstream.
func (u *repositoryUpstream) Close() { u.repository.Close() }

// pullFailed judges what a repository answered (helmchart 15).
func pullFailed(err error) error {
	e := &build.Error{Reason: sourcev1.ChartPullErrorReason, Err: err}
	if unauthorized(err) {
		return loop.Fail(sourcev1.AuthenticationFailedReason, e).On(sourcev1.FetchFailedCondition)
	}
	return failed(e)
}

func unauthorized(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		record      tls.RecordHeaderError
		alert       tls.AlertError
	)
	return errors.Is(err, build.ErrUnauthorized) || errors.As(err, &certificate) || errors.As(err, &authority) ||
		errors.As(err, &record) || errors.As(err, &alert)
}

// bounded gives each request of a repository a time.
type bounded struct {
	build.Repository
	timeout time.Duration
}

func within(r build.Repository, timeout time.Duration) build.Repository { return bounded{r, timeout} }

// Find implements build.Repository.
func (b bounded) Find(ctx context.Context, name, version string) (*build.Found, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return b.Repository.Find(ctx, name, version)
}

// Download implements build.Repository.
func (b bounded) Download(ctx context.Context, f *build.Found, maxBytes int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return b.Repository.Download(ctx, f, maxBytes)
}

// repositories are those that the dependencies of a chart come from, for one run.
type repositories struct {
	source    *Source
	namespace string
	run       *loop.Run

	mu   sync.Mutex // guards open
	open map[string]build.Repository
}

func (s *Source) repositories(obj *sourcev1.HelmChart, run *loop.Run) *repositories {
	return &repositories{source: s, namespace: obj.Namespace, run: run, open: map[string]build.Repository{}}
}

// Repository implements build.Repositories: a HelmRepository of the chart's namespace with the same URL gives index and
// credentials; without one the repository is read as anybody (helmchart 37, 61, 64).
func (r *repositories) Repository(ctx context.Context, raw string) (build.Repository, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	url := normalise(raw)
	if known := r.open[url]; known != nil {
		return known, nil
	}
	obj, err := r.find(ctx, url)
	if err != nil {
		return nil, err
	}
	var opened build.Repository
	if obj.Spec.Type == sourcev1.HelmRepositoryTypeOCI {
		opened, err = r.source.openRegistry(ctx, obj, r.run)
	} else {
		opened, err = r.source.options.HTTP.Open(ctx, obj)
	}
	if err != nil {
		return nil, fmt.Errorf("failed to open the repository of a dependency: %w", err)
	}
	r.open[url] = within(opened, obj.GetTimeout())
	return r.open[url], nil
}

// close ends the connections of the run.
func (r *repositories) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, opened := range r.open {
		opened.Close()
	}
}

func (r *repositories) find(ctx context.Context, url string) (*sourcev1.HelmRepository, error) {
	var list sourcev1.HelmRepositoryList
	if err := r.source.options.Cached.List(ctx, &list, client.InNamespace(r.namespace)); err != nil {
		return nil, fmt.Errorf("listing the HelmRepositories of the namespace: %w", err)
	}
	for i := range list.Items {
		if normalise(list.Items[i].Spec.URL) == url {
			return &list.Items[i], nil
		}
	}
	obj := &sourcev1.HelmRepository{Spec: sourcev1.HelmRepositorySpec{URL: url, Type: sourcev1.HelmRepositoryTypeDefault, Timeout: meta.DurationOf(anonymousTimeout)}}
	if strings.HasPrefix(url, oci.URLPrefix) {
		obj.Spec.Type = sourcev1.HelmRepositoryTypeOCI
	}
	obj.Namespace = r.namespace
	return obj, nil
}

// anonymousTimeout bounds a request to a repository that no HelmRepository stands for (helmchart 37).
const anonymousTimeout = time.Minute

// normalise makes equal URLs of repositories equal strings (helmrepository 9, 41).
func normalise(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || raw == "" {
		return raw
	}
	u.Host = strings.ToLower(u.Host)
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	if u.Scheme != "oci" {
		u.Path += "/"
		if u.RawPath != "" {
			u.RawPath += "/"
		}
	}
	return u.String()
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}
