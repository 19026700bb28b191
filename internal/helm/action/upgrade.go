package action

import (
	"context"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	release "helm.sh/helm/v4/pkg/release/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// Upgrade upgrades a release to a chart and values (helmrelease 67). It returns the release if there is one, also with an error.
func (a *Actions) Upgrade(ctx context.Context, obj *helmv2.HelmRelease, c *chart.Chart, values map[string]any) (*release.Release, error) {
	spec := orZero(obj.Spec.Upgrade)
	name := obj.GetReleaseName()
	last, err := a.Latest(ctx, name)
	if err != nil {
		return nil, err
	}
	serverSide := serverSideAs(spec.ServerSideApply, last)
	s, err := a.begin(ctx, method{
		serverSide: serverSide, takesOver: a.takesOver(ctx, serverSide, !spec.DisableTakeOwnership),
		replace: spec.Force && !serverSide, lenient: spec.DisableOpenAPIValidation, wholeCharts: spec.PreserveValues,
		wait: waitFor(obj, spec.DisableWait),
	})
	if err != nil {
		return nil, err
	}
	values = preserved(spec, last, values)
	p, err := s.prepare(ctx, obj, inputs{
		chart: c, values: values, crds: crdPolicy(spec.CRDs, false), anyValues: spec.DisableSchemaValidation, timeout: timeoutOf(obj, spec.Timeout),
	})
	if err != nil {
		return nil, s.ended(err)
	}
	defer p.done()
	upgrade := a.upgrade(s, obj)
	upgrade.PostRenderer = p.postRenderer
	answer, err := contained(func() (any, error) {
		return upgrade.RunWithContext(context.WithoutCancel(ctx), name, p.chart, values)
	})
	return v1(answer), s.ended(err)
}

// upgrade maps the spec to what Helm calls it.
func (a *Actions) upgrade(s *session, obj *helmv2.HelmRelease) *action.Upgrade {
	spec := orZero(obj.Spec.Upgrade)
	u := action.NewUpgrade(s.config)
	u.Namespace = a.o.ReleaseNamespace
	u.Timeout = timeoutOf(obj, spec.Timeout)
	u.ResetValues, u.ReuseValues = !spec.PreserveValues, spec.PreserveValues
	u.MaxHistory = obj.GetMaxHistory()
	u.DisableHooks = spec.DisableHooks
	u.DisableOpenAPIValidation = spec.DisableOpenAPIValidation
	u.SkipSchemaValidation = spec.DisableSchemaValidation
	u.TakeOwnership = !spec.DisableTakeOwnership
	u.WaitForJobs = !spec.DisableWaitForJobs
	u.WaitStrategy = helmStrategy
	u.ServerSideApply = boolWord(s.client.o.Method.serverSide)
	u.ForceConflicts = s.client.o.Method.serverSide
	u.ForceReplace = s.client.o.Method.replace
	u.CleanupOnFail = spec.CleanupOnFail
	u.SkipCRDs = true // prepare has applied them
	u.EnableDNS = a.o.AllowDNS
	u.PostRenderStrategy = strategy(obj, a.o.Helm3Defaults)
	return u
}

// preserved adds the values of the last release, as Helm is about to, where the spec wants that.
func preserved(spec helmv2.Upgrade, last *release.Release, values map[string]any) map[string]any {
	if !spec.PreserveValues {
		return values
	}
	if values == nil {
		values = map[string]any{}
	}
	return util.CoalesceTables(values, last.Config)
}

// serverSideAs decides how to apply: as the spec says, or as a release was applied (helmrelease 67, 68).
func serverSideAs(spec string, rel *release.Release) bool {
	switch spec {
	case helmv2.ServerSideApplyEnabled:
		return true
	case helmv2.ServerSideApplyDisabled:
		return false
	}
	return rel.ApplyMethod == string(release.ApplyMethodServerSideApply)
}

// boolWord is Helm's word for a decision that it does not have to make.
func boolWord(b bool) string {
	if b {
		return "true"
	}
	return "false"
}
