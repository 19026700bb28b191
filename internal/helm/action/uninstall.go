package action

import (
	"context"
	"errors"
	"fmt"

	"helm.sh/helm/v4/pkg/action"
	rcommon "helm.sh/helm/v4/pkg/release/common"
	"helm.sh/helm/v4/pkg/storage/driver"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// Uninstall deletes the objects of a release, and its records unless the spec keeps them (helmrelease 69). The error is ErrNotFound when
// there is no release, and ErrAlreadyDeleted when it was uninstalled before and only its records are there, and stay.
func (a *Actions) Uninstall(ctx context.Context, obj *helmv2.HelmRelease, name string) error {
	spec := orZero(obj.Spec.Uninstall)
	last, err := a.Latest(ctx, name)
	if err != nil {
		return err
	}
	if spec.KeepHistory && last.Info.Status == rcommon.StatusUninstalled {
		return fmt.Errorf("%w: %s", ErrAlreadyDeleted, name)
	}
	// Helm runs hooks of uninstalls server-side, and changes nothing else.
	s, err := a.begin(ctx, method{serverSide: true, wait: waitFor(obj, spec.DisableWait)})
	if err != nil {
		return err
	}
	_, err = contained(func() (any, error) { return a.uninstall(s, obj).Run(name) })
	switch {
	case errors.Is(err, driver.ErrReleaseNotFound):
		return fmt.Errorf("%w: %s in namespace %s", ErrNotFound, name, a.o.StorageNamespace)
	case err != nil && s.client.undeleted() != nil:
		err = fmt.Errorf("%w: %w", err, s.client.undeleted())
	}
	return s.ended(err)
}

// UninstallRemediation is Uninstall to undo what failed.
func (a *Actions) UninstallRemediation(ctx context.Context, obj *helmv2.HelmRelease, name string) error {
	return a.Uninstall(ctx, obj, name)
}

// uninstall maps the spec to what Helm calls it.
func (a *Actions) uninstall(s *session, obj *helmv2.HelmRelease) *action.Uninstall {
	spec := orZero(obj.Spec.Uninstall)
	u := action.NewUninstall(s.config)
	u.Timeout = timeoutOf(obj, spec.Timeout)
	u.DisableHooks = spec.DisableHooks
	u.KeepHistory = spec.KeepHistory
	u.WaitStrategy = helmStrategy
	if spec.DeletionPropagation != nil {
		u.DeletionPropagation = *spec.DeletionPropagation
	} else {
		u.DeletionPropagation = "background"
	}
	return u
}
