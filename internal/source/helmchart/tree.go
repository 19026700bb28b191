package helmchart

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/internal/source/helmchart/build"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// connectTree opens the artifact of a GitRepository or Bucket and looks at the chart in it.
func (s *Source) connectTree(ctx context.Context, obj *sourcev1.HelmChart, run *loop.Run, a *meta.Artifact) (frame.Upstream[*sourcev1.HelmChart], error) {
	if obj.Spec.Verify != nil {
		return nil, unverifiable(run, "spec.verify is only supported for charts of a HelmRepository of type oci")
	}
	if a == nil {
		return nil, noArtifact(obj)
	}
	tree, err := s.options.Artifacts.Open(ctx, a)
	switch {
	case errors.Is(err, artifact.ErrNotFound):
		return nil, noArtifact(obj)
	case err != nil:
		return nil, failed(&build.Error{Reason: sourcev1.ChartPullErrorReason, Err: fmt.Errorf("failed to open the artifact of the source: %w", err)})
	}
	// What was really read, whatever the source says by the end of the run (helmchart 9, 71).
	obj.Status.ObservedSourceArtifactRevision = a.Revision
	revision := ""
	if obj.Spec.ReconcileStrategy == sourcev1.ReconcileStrategyRevision {
		revision = build.RevisionMetadata(a.Revision)
	}
	chart, err := build.OpenLocal(ctx, tree.FS(), obj.Spec.Chart, request(obj, revision), s.limits)
	if err != nil {
		return nil, errors.Join(failed(err), tree.Close())
	}
	return &treeUpstream{tree: tree, chart: chart, run: run, dependencies: s.repositories(obj, run)}, nil
}

// treeUpstream is a chart in a source tree.
type treeUpstream struct {
	tree         *artifact.Tree
	chart        *build.Local
	run          *loop.Run
	dependencies *repositories
	result       *build.Result
}

// Settled implements frame.Upstream (helmchart 41).
func (u *treeUpstream) Settled(obj *sourcev1.HelmChart) bool {
	return settled(obj) && obj.Status.ObservedChartName == u.chart.Name
}

// Settle implements frame.Upstream.
func (u *treeUpstream) Settle(obj *sourcev1.HelmChart) { settle(obj, u.run, u.result) }

// Observe implements frame.Upstream: without a new version there is nothing to build (helmchart 24).
func (u *treeUpstream) Observe(context.Context) (string, error) { return u.chart.Version, nil }

// Fetch implements frame.Upstream.
func (u *treeUpstream) Fetch(ctx context.Context, dir string) (*frame.Content, error) {
	result, err := u.chart.Build(ctx, u.dependencies, dir)
	if err != nil {
		return nil, failed(err)
	}
	u.result = result
	return content(result), nil
}

// Close implements frame.Upstream.
func (u *treeUpstream) Close() {
	u.dependencies.close()
	// Nothing was written, and nothing is left to be done about it.
	_ = u.tree.Close()
}
