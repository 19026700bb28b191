package action

import (
	"context"
	"time"

	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	release "helm.sh/helm/v4/pkg/release/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
)

// timeoutOf is the timeout of an action (helmrelease 65).
func timeoutOf(obj *helmv2.HelmRelease, own meta.Duration) time.Duration {
	return own.Or(obj.GetTimeout())
}

// waitFor is the strategy to wait by (helmrelease 75).
func waitFor(obj *helmv2.HelmRelease, disabled bool) waitStrategy {
	switch {
	case disabled:
		return waitForHooks
	case obj.Spec.WaitStrategy != nil && obj.Spec.WaitStrategy.Name == helmv2.WaitStrategyLegacy:
		return waitAsHelm3
	}
	return waitForAll
}

// Install installs a chart (helmrelease 66). It returns the release if there is one, also with an error.
func (a *Actions) Install(ctx context.Context, obj *helmv2.HelmRelease, c *chart.Chart, values map[string]any) (*release.Release, error) {
	spec := orZero(obj.Spec.Install)
	serverSide := isEnabled(spec.ServerSideApply, !a.o.Helm3Defaults)
	s, err := a.begin(ctx, method{
		serverSide: serverSide, takesOver: a.takesOver(ctx, serverSide, !spec.DisableTakeOwnership), merge: !spec.DisableTakeOwnership, lenient: spec.DisableOpenAPIValidation, wait: waitFor(obj, spec.DisableWait),
	})
	if err != nil {
		return nil, err
	}
	p, err := s.prepare(ctx, obj, inputs{
		chart: c, values: values, crds: crdPolicy(spec.CRDs, spec.SkipCRDs), anyValues: spec.DisableSchemaValidation, timeout: timeoutOf(obj, spec.Timeout),
	})
	if err != nil {
		return nil, s.ended(err)
	}
	defer p.done()
	install := a.install(s, obj)
	install.PostRenderer = p.postRenderer
	answer, err := contained(func() (any, error) {
		// Helm gives up waiting for itself when its context ends, and goes on behind our back.
		return install.RunWithContext(context.WithoutCancel(ctx), p.chart, values)
	})
	return v1(answer), s.ended(err)
}

// install maps the spec to what Helm calls it.
func (a *Actions) install(s *session, obj *helmv2.HelmRelease) *action.Install {
	spec := orZero(obj.Spec.Install)
	i := action.NewInstall(s.config)
	i.ReleaseName, i.Namespace = obj.GetReleaseName(), a.o.ReleaseNamespace
	i.Timeout = timeoutOf(obj, spec.Timeout)
	i.CreateNamespace = spec.CreateNamespace && obj.Spec.TargetNamespace != ""
	i.DisableHooks = spec.DisableHooks
	i.DisableOpenAPIValidation = spec.DisableOpenAPIValidation
	i.SkipSchemaValidation = spec.DisableSchemaValidation
	i.TakeOwnership = !spec.DisableTakeOwnership
	i.Replace = spec.Replace
	i.WaitForJobs = !spec.DisableWaitForJobs
	i.WaitStrategy = helmStrategy
	i.ServerSideApply = s.client.o.Method.serverSide
	i.ForceConflicts = i.ServerSideApply
	i.SkipCRDs = true // prepare has applied them
	i.EnableDNS = a.o.AllowDNS
	i.PostRenderStrategy = strategy(obj, a.o.Helm3Defaults)
	return i
}

// helmStrategy is what Helm is told; the waiter knows better.
const helmStrategy = "watcher"

// orZero returns what a pointer points to, or the zero value.
func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
