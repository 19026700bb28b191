package helmchart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/helmchart/build"
	"github.com/seed-79636ae9/flux/internal/source/helmrepo"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// Files gives artifacts as they are stored; artifact.Opener does.
type Files interface {
	File(ctx context.Context, a *meta.Artifact) (*os.File, error)
}

// NewHTTP returns the HTTP of a process: Secrets are read live through the reader, and the charts of a repository share
// its parsed index.
func NewHTTP(reader client.Reader, files Files, indexes *helmrepo.Cache, limits helmrepo.Limits) HTTP {
	return &web{reader: reader, files: files, indexes: indexes, limits: limits}
}

type web struct {
	reader  client.Reader
	files   Files
	indexes *helmrepo.Cache
	limits  helmrepo.Limits
}

// Open implements HTTP (helmchart 59).
func (w *web) Open(ctx context.Context, obj *sourcev1.HelmRepository) (build.Repository, error) {
	o, err := helmrepo.ClientOptionsFor(ctx, w.reader, obj, w.limits)
	if err != nil {
		return nil, connectFailed(err)
	}
	c, err := helmrepo.NewClient(o)
	if err != nil {
		return nil, connectFailed(err)
	}
	return &webRepository{web: w, client: c, object: client.ObjectKeyFromObject(obj), artifact: obj.Status.Artifact}, nil
}

// connectFailed judges what is wrong with the spec or the Secrets of a HelmRepository (helmchart 59).
func connectFailed(err error) error {
	if errors.Is(err, helmrepo.ErrURL) {
		return loop.Stall(sourcev1.URLInvalidReason, err).On(sourcev1.FetchFailedCondition)
	}
	return refused(err)
}

// webRepository is a HelmRepository of type default.
type webRepository struct {
	web      *web
	client   *helmrepo.Client
	object   types.NamespacedName
	artifact *meta.Artifact
	// fetched is the index of a repository that has no artifact.
	fetched *helmrepo.Index
}

// Find implements build.Repository (helmchart 11, 12).
func (r *webRepository) Find(ctx context.Context, chart, version string) (*build.Found, error) {
	index, err := r.index(ctx)
	if err != nil {
		return nil, err
	}
	v, err := index.Find(chart, version)
	if errors.Is(err, helmrepo.ErrNotFound) || errors.Is(err, helmrepo.ErrInvalidRange) {
		return nil, property{err, build.ErrNotFound}
	}
	if err != nil {
		return nil, err
	}
	return &build.Found{Name: v.Chart, Version: v.Version, URL: v.URL, Digest: v.Digest}, nil
}

// index returns the stored index, or that of the server where none is stored (helmchart 37, 64).
func (r *webRepository) index(ctx context.Context) (*helmrepo.Index, error) {
	if r.fetched != nil {
		return r.fetched, nil
	}
	if r.artifact != nil {
		index, err := r.web.indexes.Index(ctx, r.object, r.artifact.Digest, func(ctx context.Context) (io.ReadCloser, error) {
			return r.web.files.File(ctx, r.artifact)
		})
		if err != nil {
			return nil, fmt.Errorf("could not load repository index: %w", err)
		}
		return index, nil
	}
	answer, err := r.client.Index(ctx, helmrepo.Tag{})
	if err != nil {
		return nil, fmt.Errorf("could not load repository index: %w", answered(err))
	}
	defer answer.Body.Close()
	if r.fetched, err = helmrepo.Parse(ctx, answer.Body, r.web.limits); err != nil {
		return nil, fmt.Errorf("could not load repository index: %w", err)
	}
	return r.fetched, nil
}

// Download implements build.Repository. The size is bounded by the client, which says which flag.
func (r *webRepository) Download(ctx context.Context, f *build.Found, _ int64) ([]byte, error) {
	var b bytes.Buffer
	if _, err := r.client.Chart(ctx, &helmrepo.Version{Chart: f.Name, Version: f.Version, URL: f.URL, Digest: f.Digest}, &b); err != nil {
		return nil, answered(err)
	}
	return b.Bytes(), nil
}

// Close implements build.Repository.
func (r *webRepository) Close() { r.client.Close() }

// answered gives an answer of a server the property of the build.
func answered(err error) error {
	if errors.Is(err, helmrepo.ErrUnauthorized) {
		return property{err, build.ErrUnauthorized}
	}
	return err
}
