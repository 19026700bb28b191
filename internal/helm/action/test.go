package action

import (
	"context"

	"helm.sh/helm/v4/pkg/action"
	release "helm.sh/helm/v4/pkg/release/v1"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// Test runs the tests of a release (helmrelease 77). It returns the release with their results, also when one failed.
func (a *Actions) Test(ctx context.Context, obj *helmv2.HelmRelease, name string) (*release.Release, error) {
	last, err := a.Latest(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := a.begin(ctx, method{serverSide: serverSideAs(helmv2.ServerSideApplyAuto, last), wait: waitForAll})
	if err != nil {
		return nil, err
	}
	answer, err := contained(func() (any, error) {
		rel, shutdown, err := a.test(s, obj).Run(name)
		if end := shutdown(); err == nil {
			err = end
		}
		return rel, err
	})
	return v1(answer), s.ended(err)
}

// test maps the spec to what Helm calls it.
func (a *Actions) test(s *session, obj *helmv2.HelmRelease) *action.ReleaseTesting {
	spec := orZero(obj.Spec.Test)
	t := action.NewReleaseTesting(s.config)
	t.Namespace = a.o.ReleaseNamespace
	t.Timeout = timeoutOf(obj, spec.Timeout)
	for _, f := range orZero(spec.Filters) {
		filter := action.IncludeNameFilter
		if f.Exclude {
			filter = action.ExcludeNameFilter
		}
		t.Filters[filter] = append(t.Filters[filter], f.Name)
	}
	return t
}
