package action

import (
	"errors"
	"net/http"
	"strings"

	helmkube "helm.sh/helm/v4/pkg/kube"
	release "helm.sh/helm/v4/pkg/release/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/resource"
)

// Annotations by which Helm marks the objects of a release (helmrelease 73).
const (
	releaseNameAnnotation      = "meta.helm.sh/release-name"
	releaseNamespaceAnnotation = "meta.helm.sh/release-namespace"
)

// leftovers deletes what attempts have left behind that came to no good: objects of releases newer than the newest deployed one, which an
// upgrade or rollback that follows knows nothing of, since Helm compares with a single release. An object that now is another release's, or
// nobody's, stays.
func (c *client) leftovers(originals, targets helmkube.ResourceList, res *helmkube.Result) error {
	if c.undeployed == nil {
		return nil
	}
	releases, err := c.undeployed()
	if err != nil {
		return err
	}
	var failed []error
	seen := append(append(helmkube.ResourceList{}, originals...), targets...)
	for _, rel := range releases {
		list, err := c.Build(strings.NewReader(rel.Manifest), false)
		if err != nil {
			// A kind that is served no longer has no objects.
			c.log.Debug("unable to look for what a failed release has left", "error", err)
			continue
		}
		for _, info := range list.Difference(seen) {
			seen = append(seen, info)
			if err := c.removeOwn(rel, info, res); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}

// removeOwn is remove for an object that must carry the marks of the release.
func (c *client) removeOwn(rel *release.Release, info *resource.Info, res *helmkube.Result) error {
	live, _, err := c.o.Requests.metadata(c.o.Requests.of(http.MethodGet, info))
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if live.Annotations[releaseNameAnnotation] != rel.Name || live.Annotations[releaseNamespaceAnnotation] != rel.Namespace {
		return nil
	}
	return c.remove(info, res)
}

// undeployedReleases returns the releases that are newer than the newest deployed one.
func (d *storeDriver) undeployedReleases() ([]*release.Release, error) {
	d.mu.Lock()
	names := append([]string(nil), d.undeployed...)
	d.mu.Unlock()
	var out []*release.Release
	for _, name := range names {
		rec, _, err := d.load(d.ctx, name)
		if isNotFound(err) || errors.Is(err, ErrCorrupt) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, rec.release)
	}
	return out, nil
}
