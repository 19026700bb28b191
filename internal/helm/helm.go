package helm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/opencontainers/go-digest"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/helm/action"
	"github.com/seed-79636ae9/flux/internal/helm/charts"
	"github.com/seed-79636ae9/flux/internal/helm/values"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// Name is the upstream name of the component: event source and field manager.
const Name = "helm-controller"

// Component describes helm-controller.
func Component() component.Component {
	group, sources := helmv2.GroupVersion.Group, sourcev1.GroupVersion.Group
	return component.Component{
		Manifest: component.Manifest{
			Name: Name, Group: group,
			CRDs: []string{"helmreleases." + group},
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}},
				{APIGroups: []string{sources}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"}},
				{APIGroups: []string{sources}, Resources: []string{"helmcharts"}, Verbs: []string{"create", "update", "patch", "delete"}},
			},
			Applies: true, Critical: true, GraceSeconds: 600, CPURequest: "100m",
		},
		Short:            "helm",
		Concurrent:       4,
		GracefulShutdown: 10 * time.Minute,
		Kinds:            []kind.Kind{Kind()},
		Requires: []schema.GroupVersionKind{
			helmv2.GroupVersion.WithKind(helmv2.HelmReleaseKind),
			sourcev1.GroupVersion.WithKind(sourcev1.HelmChartKind),
			sourcev1.GroupVersion.WithKind(sourcev1.OCIRepositoryKind),
		},
		FeatureGates: map[string]bool{
			"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false, "DisableConfigWatchers": false,
			"AdditiveCELDependencyCheck": false, "ExternalArtifact": false, "DirectSourceFetch": false,
			"CancelHealthCheckOnNewRevision": false, "DetectDrift": false, "CorrectDrift": false, "AllowDNSLookups": false,
			"OOMWatch": false, "AdoptLegacyReleases": false, "DisableChartDigestTracking": false, "UseHelm3Defaults": false,
			"DefaultToRetryOnFailure": false,
		},
		New: func() component.Instance { return &instance{} },
	}
}

// Options are what the flags of the component say.
type Options struct {
	RequeueDependency    time.Duration
	NoCrossNamespaceRefs bool
	AdditiveReadyExpr    bool
	// DigestAlgorithm of snapshots and values (--snapshot-digest-algo).
	DigestAlgorithm string
	// TrackDigests gives charts of OCI sources their digest as build metadata.
	TrackDigests bool
	// AllowDNS lets templates look up names.
	AllowDNS bool
	// Helm3Defaults applies objects client-side and renders hooks as Helm 3 did.
	Helm3Defaults bool
	// RetryByDefault repeats failed attempts where no strategy is given.
	RetryByDefault bool
	// HTTPTimeout bounds fetching a chart (--http-timeout).
	HTTPTimeout time.Duration
	// DisableFailFast waits for the other objects when one has failed.
	DisableFailFast  bool
	OverrideManagers []string
	ValuesLimits     values.Limits
	ChartLimits      charts.Limits
}

// Values of --correct-drift.
const (
	driftOnWatch    = "watch"
	driftOnInterval = "interval"
)

type instance struct {
	overrideManagers []string
	correctDrift     string
	fullEvery        time.Duration
	digestAlgorithm  string
	httpTimeout      time.Duration
	remote           component.RemoteFlags
	oom              oomOptions
	values           values.Limits
	charts           charts.Limits
}

// BindFlags implements component.Instance (wire.md 14).
func (i *instance) BindFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&i.overrideManagers, "override-manager", nil, "A field manager whose fields are taken over when drift is corrected; may be repeated.")
	fs.StringVar(&i.correctDrift, "correct-drift", driftOnWatch, "When a changed object is put right: 'watch' at once, 'interval' with the next reconciliation.")
	fs.DurationVar(&i.fullEvery, "full-dry-run-interval", ssa.DefaultFullEvery, "How often every object is dry-run though nothing seems to have changed.")
	fs.StringVar(&i.digestAlgorithm, "snapshot-digest-algo", string(digest.Canonical), "The algorithm of the digests of releases and values.")
	fs.DurationVar(&i.httpTimeout, "http-timeout", 30*time.Second, "How long fetching a chart may take.")
	i.remote.BindFlags(fs)
	i.oom.bind(fs)
	i.values.Bind(fs)
	i.charts.Bind(fs)
}

// AddToScheme implements component.Instance.
func (i *instance) AddToScheme(s *runtime.Scheme) error {
	if err := sourcev1.AddToScheme(s); err != nil {
		return err
	}
	return helmv2.AddToScheme(s)
}

// Setup implements component.Instance.
func (i *instance) Setup(ctx context.Context, host *component.Host) error {
	if _, err := artifact.ParseAlgo(i.digestAlgorithm); err != nil {
		return fmt.Errorf("--snapshot-digest-algo: %w", err)
	}
	if !slices.Contains([]string{driftOnWatch, driftOnInterval}, i.correctDrift) {
		return fmt.Errorf("--correct-drift=%s: want %s or %s", i.correctDrift, driftOnWatch, driftOnInterval)
	}
	common := host.Common
	gates := common.Gates
	r := &Releaser{
		Options: Options{
			RequeueDependency: common.RequeueDependency, NoCrossNamespaceRefs: common.NoCrossNamespaceRefs,
			AdditiveReadyExpr: gates["AdditiveCELDependencyCheck"], DigestAlgorithm: i.digestAlgorithm,
			TrackDigests: !gates["DisableChartDigestTracking"], AllowDNS: gates["AllowDNSLookups"], Helm3Defaults: gates["UseHelm3Defaults"],
			RetryByDefault: gates["DefaultToRetryOnFailure"], OverrideManagers: i.overrideManagers, HTTPTimeout: i.httpTimeout,
			ValuesLimits: i.values, ChartLimits: i.charts,
		},
		Client: host.Client, Reader: host.Reader, Artifacts: host.Artifacts, Graph: depend.NewGraph(), Clock: clock.RealClock{},
		Sources: &sourceref.Resolver{
			Reader: host.Client, NoCrossNamespaceRefs: common.NoCrossNamespaceRefs, ExternalArtifact: gates["ExternalArtifact"],
		},
		names: newChartNames(), seen: newDigests(),
	}
	if gates["DirectSourceFetch"] {
		r.Sources.Reader = host.Reader
	}
	var handle *loop.Handle
	watches := watcherOptions{overrideManagers: i.overrideManagers, fullEvery: i.fullEvery, log: host.Log.WithName("managed")}
	watches.onTouched = func(o kube.Owner, delay time.Duration) {
		if i.correctDrift == driftOnWatch && handle != nil {
			handle.EnqueueAfter(o.Key(), delay)
		}
	}
	r.Clusters = cluster.New(ctx, i.remote.Clusters(host, helmv2.HelmReleaseKind), func(c *kube.Client) *watcher { return newWatcher(c, watches) })
	if err := i.oom.watch(host); err != nil {
		return err
	}
	controller := r.controller(i.watches(ctx, r, host))
	var err error
	if handle, err = controller.SetupWithManager(host.Manager, host.LoopOptions()); err != nil {
		return err
	}
	return host.Manager.Add(manager.RunnableFunc(r.Clusters.Home().Watch.Run))
}

func (r *Releaser) controller(watches []loop.Watch) *loop.Controller[*helmv2.HelmRelease] {
	return &loop.Controller[*helmv2.HelmRelease]{
		Name: Name, Kind: helmv2.HelmReleaseKind,
		New:        func() *helmv2.HelmRelease { return &helmv2.HelmRelease{} },
		Reconciler: r,
		Conditions: status.Table{
			Sticky: []string{
				helmv2.ReleasedCondition, helmv2.TestSuccessCondition, helmv2.RemediatedCondition, helmv2.DriftedCondition, cluster.Condition,
			},
			ReadyReason: meta.ReconciliationSucceededReason,
		},
		FailReason: helmv2.ReconcileErrorReason,
		Policy: loop.Policy{
			WaitKeepsReconciling: true, KeepsProgress: true, TokensWait: true, SuspendObserves: loop.Always, SuspendRestampsAll: true,
		},
		Watches: watches,
	}
}

// watches are the edges into the controller: charts, dependencies, and watched configuration (helmrelease 2-4).
func (i *instance) watches(ctx context.Context, r *Releaser, host *component.Host) []loop.Watch {
	cached := func(key types.NamespacedName) *helmv2.HelmRelease {
		var found helmv2.HelmRelease
		if err := host.Client.Get(ctx, key, &found); err != nil {
			return nil
		}
		return &found
	}
	out := []loop.Watch{
		{Object: &helmv2.HelmRelease{}, Map: r.onDependency},
		{Object: &sourcev1.HelmChart{}, Map: r.onChartGone},
	}
	kinds := map[string]client.Object{
		sourcev1.HelmChartKind: &sourcev1.HelmChart{}, sourcev1.OCIRepositoryKind: &sourcev1.OCIRepository{},
	}
	if host.Common.Gates["ExternalArtifact"] {
		kinds[sourcev1.ExternalArtifactKind] = &sourcev1.ExternalArtifact{}
	}
	for name, obj := range kinds {
		if _, err := host.Clusters.Mapper().Resource(ctx, sourcev1.GroupVersion.WithKind(name)); err != nil {
			host.Log.Info("sources of this kind are not watched: their CRD is not installed; restart after installing it", "kind", name)
			continue
		}
		out = append(out, loop.Watch{Object: obj, Map: r.onSource(name, cached), Interrupts: true}, loop.Watch{Object: obj, Map: r.onComplaint(name, cached)})
	}
	if host.Common.WatchConfigs != nil && !host.Common.Gates["DisableConfigWatchers"] {
		for _, name := range []string{"ConfigMap", "Secret"} {
			obj := &metav1.PartialObjectMetadata{}
			obj.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(name))
			out = append(out, loop.Watch{Object: obj, Map: r.onConfig(name), Interrupts: true})
		}
	}
	return out
}

// chartNames remembers what charts are called, so that an unchanged release opens none.
type chartNames struct {
	mu    sync.Mutex // guards what follows
	names map[string]charts.Name
}

// maxChartNames bounds the memory. What is forgotten is read again.
const maxChartNames = 4096

func newChartNames() *chartNames { return &chartNames{names: map[string]charts.Name{}} }

func (c *chartNames) get(key string) (charts.Name, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name, ok := c.names[key]
	return name, ok
}

func (c *chartNames) put(key string, name charts.Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.names) >= maxChartNames {
		clear(c.names)
	}
	c.names[key] = name
}

// digests remembers which digests of releases this process has computed, by object.
type digests struct {
	mu   sync.Mutex // guards what follows
	seen map[types.UID][]string
}

func newDigests() *digests { return &digests{seen: map[types.UID][]string{}} }

func (d *digests) has(uid types.UID, digest string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.seen[uid], digest)
}

// set replaces what is remembered of an object.
func (d *digests) set(uid types.UID, digests []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[uid] = digests
}

func (d *digests) forget(uid types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.seen, uid)
}

// watcher is what HelmReleases watch and remember of a cluster.
type watcher struct {
	*kube.Managed
	// memory is how the objects of releases were when they were last compared.
	memory *ssa.Memory
	// shared is what all actions on the cluster have in common.
	shared *action.Shared
	// settled is how releases were found in order.
	settled settledReleases
	log     logr.Logger
}

// Run implements cluster.Watcher.
func (w *watcher) Run(ctx context.Context) error {
	records := make(chan error, 1)
	go func() { records <- w.shared.Watch(ctx, w.log) }()
	err := w.Managed.Run(ctx)
	return errors.Join(err, <-records)
}

// Forget implements cluster.Watcher.
func (w *watcher) Forget(o kube.Owner) {
	w.Track(o, nil)
	w.memory.Forget(o)
	w.settled.forget(o)
}

type watcherOptions struct {
	overrideManagers []string
	// fullEvery is when objects are compared though nobody seems to have touched them.
	fullEvery time.Duration
	// onTouched hears of owners of objects that somebody else has touched.
	onTouched func(kube.Owner, time.Duration)
	log       logr.Logger
}

// newWatcher watches the objects of releases on a cluster, by the labels that name their HelmReleases.
func newWatcher(c *kube.Client, o watcherOptions) *watcher {
	w := &watcher{shared: action.NewShared(c, nil), log: o.log}
	w.Managed = kube.NewManaged(kube.ManagedOptions{
		Client: c, Lens: kube.NewLens(Ownership(o.overrideManagers)), Log: o.log, OnChange: func(c kube.Change) { w.memory.Observe(c) },
	})
	w.memory = ssa.NewMemory(ssa.MemoryOptions{Managed: w.Managed, FullEvery: o.fullEvery, OnTouched: o.onTouched})
	return w
}

// Ownership is how objects of releases name their HelmRelease.
func Ownership(overrideManagers []string) kube.Ownership {
	return kube.Ownership{Group: helmv2.GroupName, Manager: Name, Overrides: overrideManagers}
}
