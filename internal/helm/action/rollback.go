package action

import (
	"context"

	"helm.sh/helm/v4/pkg/action"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// Rollback makes a new version of a release that is as an older one (helmrelease 68).
func (a *Actions) Rollback(ctx context.Context, obj *helmv2.HelmRelease, name string, version int) error {
	spec := orZero(obj.Spec.Rollback)
	target, err := a.Get(ctx, name, version)
	if err != nil {
		return err
	}
	serverSide := serverSideAs(spec.ServerSideApply, target)
	s, err := a.begin(ctx, method{serverSide: serverSide, replace: spec.Force && !serverSide, wait: waitFor(obj, spec.DisableWait)})
	if err != nil {
		return err
	}
	_, err = contained(func() (struct{}, error) { return struct{}{}, a.rollback(s, obj, version).Run(name) })
	return s.ended(err)
}

// rollback maps the spec to what Helm calls it.
func (a *Actions) rollback(s *session, obj *helmv2.HelmRelease, version int) *action.Rollback {
	spec := orZero(obj.Spec.Rollback)
	r := action.NewRollback(s.config)
	r.Version = version
	r.Timeout = timeoutOf(obj, spec.Timeout)
	r.WaitForJobs = !spec.DisableWaitForJobs
	r.WaitStrategy = helmStrategy
	r.DisableHooks = spec.DisableHooks
	r.ServerSideApply = boolWord(s.client.o.Method.serverSide)
	r.ForceConflicts = s.client.o.Method.serverSide
	r.ForceReplace = s.client.o.Method.replace
	r.CleanupOnFail = spec.CleanupOnFail
	r.MaxHistory = obj.GetMaxHistory()
	return r
}
