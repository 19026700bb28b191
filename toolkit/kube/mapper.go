package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/restmapper"
	"k8s.io/utils/clock"
)

// DefaultDamping is how long a Mapper answers "no such kind" from its last look before it looks again.
const DefaultDamping = 5 * time.Second

// Resource is one served kind: where its objects live and what they can do.
type Resource struct {
	schema.GroupVersionKind
	Plural     string
	Namespaced bool
	Verbs      []string
}

// GVR is the resource's group, version and plural.
func (r Resource) GVR() schema.GroupVersionResource { return r.GroupVersion().WithResource(r.Plural) }

// Discoverer is the part of a discovery client that a Mapper needs.
type Discoverer interface {
	ServerGroupsAndResourcesWithContext(ctx context.Context) ([]*metav1.APIGroup, []*metav1.APIResourceList, error)
}

// Mapper knows the kinds an API server serves. It is shared by all clients of one cluster, asks the server at first use, and
// asks again when a kind is missing and either Invalidate was called (a CRD changed) or the last look is older than the damping;
// so an apply of known kinds makes no discovery call, and an unknown kind cannot cause one per attempt.
type Mapper struct {
	discover Discoverer
	clock    clock.PassiveClock
	damping  time.Duration

	load sync.Mutex // serialises looks at the server, so that waiting callers share one

	mu    sync.RWMutex // guards the fields below
	seen  *snapshot
	stale bool
}

type snapshot struct {
	started time.Time
	byKind  map[schema.GroupVersionKind]Resource
	served  map[schema.GroupKind][]Resource // in the server's order of preference
	failed  map[schema.GroupVersion]error   // groups whose server did not answer
	mapper  meta.RESTMapper
	apis    *APIs
}

// APIs is all that an API server serves, in no order; kinds of subresources are among the kinds.
type APIs struct {
	Versions []schema.GroupVersion
	Kinds    []schema.GroupVersionKind
}

// errNoCore: discovery takes the plain 404 of a web server, or of a proxy that has lost its way, for an API without kinds. Then
// every kind would be gone, and with it every object (design rule 4).
var errNoCore = errors.New("failed to discover the kinds of the API server: what answers does not even have the core kinds")

// NewMapper makes a Mapper; damping 0 means DefaultDamping.
func NewMapper(d Discoverer, damping time.Duration, c clock.PassiveClock) *Mapper {
	if damping == 0 {
		damping = DefaultDamping
	}
	return &Mapper{discover: d, clock: c, damping: damping}
}

// Invalidate says that kinds came or went: the next missing kind is looked up afresh, without damping.
func (m *Mapper) Invalidate() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stale = true
}

// Resource returns the served resource of a kind in exactly that version. An unserved kind is a *meta.NoKindMatchError
// (meta.IsNoMatchError); if the group's server did not answer discovery, the error is that failure instead.
func (m *Mapper) Resource(ctx context.Context, gvk schema.GroupVersionKind) (Resource, error) {
	var res Resource
	err := m.lookup(ctx, false, func(s *snapshot) error {
		var ok bool
		if res, ok = s.byKind[gvk]; ok {
			return nil
		}
		return s.missing(gvk.GroupKind(), gvk.Version)
	})
	return res, err
}

// Served returns the resource of a kind in the given version if it is served, else in the version the server prefers
// (reliability 121: an inventory may name a version that was retired).
func (m *Mapper) Served(ctx context.Context, gk schema.GroupKind, version string) (Resource, error) {
	return m.served(ctx, gk, version, false)
}

// ServedNow is Served, but not answered from memory: it confirms by asking the server.
func (m *Mapper) ServedNow(ctx context.Context, gk schema.GroupKind, version string) (Resource, error) {
	return m.served(ctx, gk, version, true)
}

func (m *Mapper) served(ctx context.Context, gk schema.GroupKind, version string, fresh bool) (Resource, error) {
	var res Resource
	err := m.lookup(ctx, fresh, func(s *snapshot) error {
		if r, ok := s.byKind[gk.WithVersion(version)]; ok {
			res = r
			return nil
		}
		if all := s.served[gk]; len(all) > 0 {
			res = all[0]
			return nil
		}
		return s.missing(gk, version)
	})
	return res, err
}

// APIs returns what the server serves, as of the last look, or of a new one after Invalidate. The result is shared, and the same until the
// next look.
func (m *Mapper) APIs(ctx context.Context) (*APIs, error) {
	m.mu.RLock()
	seen, stale := m.seen, m.stale
	m.mu.RUnlock()
	if seen == nil || stale {
		var err error
		if seen, err = m.refresh(ctx, m.clock.Now(), stale); err != nil {
			return nil, err
		}
	}
	return seen.apis, nil
}

// lookup runs find against the last snapshot and, if it misses, against a newer one when there may be news.
func (m *Mapper) lookup(ctx context.Context, fresh bool, find func(*snapshot) error) error {
	asked := m.clock.Now()
	m.mu.RLock()
	seen, stale := m.seen, m.stale
	m.mu.RUnlock()
	if seen != nil && !fresh {
		err := find(seen)
		if err == nil {
			return nil
		}
		if !stale && asked.Sub(seen.started) < m.damping {
			return err
		}
	}
	seen, err := m.refresh(ctx, asked, fresh)
	if err != nil {
		return err
	}
	return find(seen)
}

// refresh returns a snapshot that is newer than the caller's question, sharing the look of a caller who went before.
func (m *Mapper) refresh(ctx context.Context, asked time.Time, fresh bool) (*snapshot, error) {
	m.load.Lock()
	defer m.load.Unlock()
	m.mu.Lock()
	if s := m.seen; s != nil && !m.stale {
		age := asked.Sub(s.started)
		if age <= 0 || !fresh && age < m.damping {
			m.mu.Unlock()
			return s, nil
		}
	}
	m.stale = false
	m.mu.Unlock()

	started := m.clock.Now()
	groups, lists, err := m.discover.ServerGroupsAndResourcesWithContext(ctx)
	failed, partial := discovery.GroupDiscoveryFailedErrorGroups(err)
	if err != nil && !partial {
		m.Invalidate()
		return nil, fmt.Errorf("failed to discover the kinds of the API server: %w", err)
	}
	if !partial && !slices.ContainsFunc(lists, func(l *metav1.APIResourceList) bool { return l.GroupVersion == "v1" }) {
		m.Invalidate()
		return nil, errNoCore
	}
	s := newSnapshot(started, groups, lists, failed)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = s
	return s, nil
}

func newSnapshot(started time.Time, groups []*metav1.APIGroup, lists []*metav1.APIResourceList, failed map[schema.GroupVersion]error) *snapshot {
	s := &snapshot{started: started, byKind: map[schema.GroupVersionKind]Resource{}, served: map[schema.GroupKind][]Resource{}, failed: failed, apis: &APIs{}}
	kinds := map[schema.GroupVersionKind]struct{}{}
	byVersion := make(map[string][]metav1.APIResource, len(lists))
	for _, l := range lists {
		byVersion[l.GroupVersion] = l.APIResources
	}
	var mapped []*restmapper.APIGroupResources
	for _, g := range groups {
		mg := &restmapper.APIGroupResources{Group: *g, VersionedResources: map[string][]metav1.APIResource{}}
		mapped = append(mapped, mg)
		versions := slices.Clone(g.Versions)
		// The server lists versions by priority; its preferred one goes first whatever the order.
		slices.SortStableFunc(versions, func(a, b metav1.GroupVersionForDiscovery) int {
			return boolOrder(a.Version == g.PreferredVersion.Version, b.Version == g.PreferredVersion.Version)
		})
		for _, v := range versions {
			resources := byVersion[v.GroupVersion]
			mg.VersionedResources[v.Version] = resources
			gv := schema.GroupVersion{Group: g.Name, Version: v.Version}
			s.apis.Versions = append(s.apis.Versions, gv)
			for _, r := range resources {
				kinds[gv.WithKind(r.Kind)] = struct{}{}
				if isSubresource(r.Name) {
					continue
				}
				res := Resource{
					GroupVersionKind: gv.WithKind(r.Kind),
					Plural:           r.Name, Namespaced: r.Namespaced, Verbs: r.Verbs,
				}
				if _, dup := s.byKind[res.GroupVersionKind]; dup {
					continue
				}
				s.byKind[res.GroupVersionKind] = res
				s.served[res.GroupKind()] = append(s.served[res.GroupKind()], res)
			}
		}
	}
	s.apis.Kinds = slices.Collect(maps.Keys(kinds))
	s.mapper = restmapper.NewDiscoveryRESTMapper(mapped)
	return s
}

// boolOrder sorts true before false.
func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func isSubresource(name string) bool { return strings.Contains(name, "/") }

// missing is the error for a kind that is not in the snapshot. A group whose server did not answer may well have the kind:
// only a complete answer proves absence (design rule 4).
func (s *snapshot) missing(gk schema.GroupKind, version string) error {
	for gv, err := range s.failed {
		if gv.Group == gk.Group {
			return fmt.Errorf("failed to discover the kinds of %s: %w", gv, err)
		}
	}
	return &meta.NoKindMatchError{GroupKind: gk, SearchedVersions: []string{version}}
}

// RESTMapper adapts the Mapper to the interface of apimachinery, for controller-runtime and for commands.
func (m *Mapper) RESTMapper() meta.RESTMapper { return sharedMapper{m} }

type sharedMapper struct{ m *Mapper }

// ask runs f on the current snapshot's mapper and once more on a newer one if there is no match.
func ask[T any](s sharedMapper, f func(meta.RESTMapper) (T, error)) (T, error) {
	var out T
	// The interface has no context; discovery requests are bounded by the client's own timeout.
	err := s.m.lookup(context.Background(), false, func(seen *snapshot) error {
		var err error
		out, err = f(seen.mapper)
		return err
	})
	return out, err
}

func (s sharedMapper) KindFor(r schema.GroupVersionResource) (schema.GroupVersionKind, error) {
	return ask(s, func(m meta.RESTMapper) (schema.GroupVersionKind, error) { return m.KindFor(r) })
}

func (s sharedMapper) KindsFor(r schema.GroupVersionResource) ([]schema.GroupVersionKind, error) {
	return ask(s, func(m meta.RESTMapper) ([]schema.GroupVersionKind, error) { return m.KindsFor(r) })
}

func (s sharedMapper) ResourceFor(r schema.GroupVersionResource) (schema.GroupVersionResource, error) {
	return ask(s, func(m meta.RESTMapper) (schema.GroupVersionResource, error) { return m.ResourceFor(r) })
}

func (s sharedMapper) ResourcesFor(r schema.GroupVersionResource) ([]schema.GroupVersionResource, error) {
	return ask(s, func(m meta.RESTMapper) ([]schema.GroupVersionResource, error) { return m.ResourcesFor(r) })
}

func (s sharedMapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	return ask(s, func(m meta.RESTMapper) (*meta.RESTMapping, error) { return m.RESTMapping(gk, versions...) })
}

func (s sharedMapper) RESTMappings(gk schema.GroupKind, versions ...string) ([]*meta.RESTMapping, error) {
	return ask(s, func(m meta.RESTMapper) ([]*meta.RESTMapping, error) { return m.RESTMappings(gk, versions...) })
}

func (s sharedMapper) ResourceSingularizer(resource string) (string, error) {
	return ask(s, func(m meta.RESTMapper) (string, error) { return m.ResourceSingularizer(resource) })
}
