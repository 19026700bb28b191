package action

import (
	"context"
	"fmt"
	"time"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// inputs is what an action makes a release of.
type inputs struct {
	chart  *chart.Chart
	values map[string]any
	// crds is the policy for CustomResourceDefinitions.
	crds string
	// anyValues does not validate values.
	anyValues bool
	timeout   time.Duration
}

// prepared is what Helm gets to render.
type prepared struct {
	chart        *chart.Chart
	postRenderer *postRenderer
	// done is to be called when Helm has ended.
	done context.CancelFunc
}

// prepare does what comes before Helm's own work: it checks the inputs, applies CustomResourceDefinitions, tells templates about the
// cluster, and sets limits to the rendering, which begins now.
func (s *session) prepare(ctx context.Context, obj *helmv2.HelmRelease, in inputs) (*prepared, error) {
	if err := checkInputs(in); err != nil {
		return nil, err
	}
	if err := s.applyDefinitions(ctx, obj, in.chart, in.crds, in.timeout); err != nil {
		return nil, err
	}
	return s.limited(ctx, obj, in)
}

// limited tells templates about the cluster, and sets limits to the rendering.
func (s *session) limited(ctx context.Context, obj *helmv2.HelmRelease, in inputs) (*prepared, error) {
	rendering, done := context.WithTimeout(ctx, in.timeout)
	if err := s.rendering(rendering, obj); err != nil {
		done()
		return nil, err
	}
	p := &prepared{chart: guarded(in.chart), postRenderer: s.a.postRenderer(rendering, obj), done: done}
	s.driver.original(p.chart, in.chart)
	return p, nil
}

func (a *Actions) postRenderer(ctx context.Context, obj *helmv2.HelmRelease) *postRenderer {
	return &postRenderer{ctx: ctx, obj: obj, maxBytes: a.o.MaxManifest}
}

// checkInputs finds out which dependencies are enabled, and refuses schemas that would reach out.
func checkInputs(in inputs) error {
	if err := chartutil.ProcessDependencies(in.chart, in.values); err != nil {
		return fmt.Errorf("chart dependencies processing failed: %w", err)
	}
	if in.anyValues {
		return nil
	}
	return checkSchemas(in.chart)
}
