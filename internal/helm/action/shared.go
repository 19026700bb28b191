package action

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"helm.sh/helm/v4/pkg/chart/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// knownVersion is how long the version of an API server is believed.
const knownVersion = 5 * time.Minute

// Shared is what the actions on one cluster share: what templates may ask about it, and the releases that were read from its storage. Make
// one per cluster.
type Shared struct {
	client  *kube.Client
	clock   clock.Clock
	records *recordCache
	watch   *recordWatch

	mu      sync.Mutex // guards what follows
	version *common.KubeVersion
	asked   time.Time
	apis    *kube.APIs
	served  common.VersionSet
	all     omnipotent
}

// NewShared makes the Shared of a cluster. The client is one of the controller's own identity there.
func NewShared(client *kube.Client, c clock.Clock) *Shared {
	if c == nil {
		c = clock.RealClock{}
	}
	return &Shared{client: client, clock: c, records: newRecordCache(DefaultCacheBytes), watch: newRecordWatch(client)}
}

// Watch watches the records of the cluster, from the first question of Newest until ctx ends.
func (s *Shared) Watch(ctx context.Context, log logr.Logger) error {
	return s.watch.run(ctx, s.clock, log)
}

// Newest returns the resource version of the newest record of a release as the controller's own identity sees it, without a request. It is
// empty if there is none. It returns false if the watch of the records cannot tell. The answer may be behind: it is good for finding that
// nothing has happened, and not for acting upon; and it must be told to nobody who cannot read the record.
func (s *Shared) Newest(namespace, release string) (resourceVersion string, ok bool) {
	return s.watch.newest(namespace, release)
}

// capabilities is what templates see as .Capabilities. It costs no request while nothing has changed.
func (s *Shared) capabilities(ctx context.Context) (*common.Capabilities, error) {
	apis, err := s.client.Mapper.APIs(ctx)
	if err != nil {
		return nil, fmt.Errorf("could not get apiVersions from Kubernetes: %w", err)
	}
	v, err := s.kubeVersion(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apis != apis {
		s.apis, s.served = apis, versionSet(apis)
	}
	return &common.Capabilities{KubeVersion: *v, APIVersions: s.served, HelmVersion: common.DefaultCapabilities.HelmVersion}, nil
}

func versionSet(apis *kube.APIs) common.VersionSet {
	set := make(common.VersionSet, 0, len(apis.Versions)+len(apis.Kinds))
	for _, gv := range apis.Versions {
		set = append(set, gv.String())
	}
	for _, gvk := range apis.Kinds {
		set = append(set, gvk.GroupVersion().String()+"/"+gvk.Kind)
	}
	return set
}

func (s *Shared) kubeVersion(ctx context.Context) (*common.KubeVersion, error) {
	s.mu.Lock()
	known, fresh := s.version, s.clock.Since(s.asked) < knownVersion
	s.mu.Unlock()
	if known != nil && fresh {
		return known, nil
	}
	r, err := newRequests(s.client)
	if err != nil {
		return nil, err
	}
	var info version.Info
	if _, err := r.within(ctx).get("/version", &info); err != nil {
		return nil, fmt.Errorf("could not get server version from Kubernetes: %w", err)
	}
	v := &common.KubeVersion{Version: info.GitVersion, Major: info.Major, Minor: info.Minor}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version, s.asked = v, s.clock.Now()
	return v, nil
}

// Recorded returns a version of a release of which the record, with the resource version, was read or written before, if it is still
// remembered; else nil.
func (s *Shared) Recorded(namespace, name string, version int, resourceVersion string) *release.Release {
	return s.records.get(namespace, key(name, version), resourceVersion)
}
