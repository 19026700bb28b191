package kustomize

import (
	"context"
	"fmt"
	"slices"
	"time"

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

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// Name is the upstream name of the component: event source and apply field manager.
const Name = "kustomize-controller"

// fieldManager writes status and finalizers (wire.md 4).
const fieldManager = "gotk-kustomize-controller"

// Values of --correct-drift.
const (
	driftOnWatch    = "watch"
	driftOnInterval = "interval"
)

// Component describes kustomize-controller.
func Component() component.Component {
	group := kustomizev1.GroupVersion.Group
	return component.Component{
		Manifest: component.Manifest{
			Name: Name, Group: group,
			CRDs: []string{"kustomizations." + group},
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}},
				{APIGroups: []string{sourcev1.GroupVersion.Group}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"}},
			},
			Applies: true, Critical: true, GraceSeconds: 60, CPURequest: "100m",
		},
		Short:      "kustomize",
		Concurrent: 4,
		Kinds:      []kind.Kind{Kind()},
		Requires: []schema.GroupVersionKind{
			kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind),
			sourcev1.GroupVersion.WithKind(sourcev1.GitRepositoryKind),
		},
		FeatureGates: map[string]bool{
			"ObjectLevelWorkloadIdentity": false, "CacheSecretsAndConfigMaps": false, "DisableConfigWatchers": false,
			"AdditiveCELDependencyCheck": false, "ExternalArtifact": false, "DirectSourceFetch": false,
			"CancelHealthCheckOnNewRevision": false, "DisableStatusPollerCache": true, "StrictPostBuildSubstitutions": true,
			"DisableFailFastBehavior": false, "GroupChangeLog": false, "MigrateAPIVersion": false,
		},
		New: func() component.Instance { return &instance{} },
	}
}

// Options are what the flags of the component say.
type Options struct {
	RequeueDependency    time.Duration
	ConcurrentSSA        int
	NoRemoteBases        bool
	StageKinds           []schema.GroupKind
	StrictSubstitutions  bool
	DisableFailFast      bool
	AdditiveReadyExpr    bool
	NoCrossNamespaceRefs bool
	MigrateAPIVersion    bool
	Budget               Budget
	Decryption           DecryptionOptions
	// MaxInventory is how many bytes of status an inventory may take.
	MaxInventory int
}

type instance struct {
	concurrentSSA    int
	noRemoteBases    bool
	stageKinds       string
	overrideManagers []string
	correctDrift     string
	fullEvery        time.Duration
	pruneLimit       string
	pruneProtect     string
	decryption       DecryptionOptions
	remote           component.RemoteFlags
}

// BindFlags implements component.Instance (wire.md 14).
func (i *instance) BindFlags(fs *pflag.FlagSet) {
	fs.IntVar(&i.concurrentSSA, "concurrent-ssa", ssa.DefaultConcurrency, "The number of parallel dry-runs of one Kustomization.")
	fs.BoolVar(&i.noRemoteBases, "no-remote-bases", false, "Refuse bases that are not part of the artifact.")
	fs.StringVar(&i.stageKinds, "custom-apply-stage-kinds", "", "Comma separated kinds, as Group/Kind, applied in a stage before all others.")
	fs.StringSliceVar(&i.overrideManagers, "override-manager", nil, "A field manager whose fields are taken over; may be repeated.")
	fs.StringVar(&i.pruneLimit, "prune-limit", "", "How much a revision may delete without approval: a number of objects, a percentage of the inventory, or both, as in '10,25%'. Empty: any.")
	fs.StringVar(&i.pruneProtect, "prune-protect", "", "Comma separated kinds of which nothing is deleted without approval.")
	fs.StringVar(&i.correctDrift, "correct-drift", driftOnWatch, "When a changed object is put right: 'watch' at once, 'interval' with the next reconciliation.")
	fs.DurationVar(&i.fullEvery, "full-dry-run-interval", ssa.DefaultFullEvery, "How often every object is dry-run though nothing seems to have changed.")
	i.decryption.bind(fs)
	i.remote.BindFlags(fs)
}

// AddToScheme implements component.Instance.
func (i *instance) AddToScheme(s *runtime.Scheme) error {
	if err := sourcev1.AddToScheme(s); err != nil {
		return err
	}
	return kustomizev1.AddToScheme(s)
}

// Setup implements component.Instance.
func (i *instance) Setup(ctx context.Context, host *component.Host) error {
	if !slices.Contains([]string{driftOnWatch, driftOnInterval}, i.correctDrift) {
		return fmt.Errorf("--correct-drift=%s: want %s or %s", i.correctDrift, driftOnWatch, driftOnInterval)
	}
	budget, err := ParseBudget(i.pruneLimit, i.pruneProtect)
	if err != nil {
		return fmt.Errorf("--prune-limit: %w", err)
	}
	common := host.Common
	gates := common.Gates
	i.decryption.ObjectLevel = gates["ObjectLevelWorkloadIdentity"]
	accounts, err := newAccounts(host.Config)
	if err != nil {
		return err
	}
	k := &Kustomizer{
		Options: Options{
			RequeueDependency: common.RequeueDependency, ConcurrentSSA: i.concurrentSSA, NoRemoteBases: i.noRemoteBases, StageKinds: ssa.ParseStageKinds(i.stageKinds),
			StrictSubstitutions: gates["StrictPostBuildSubstitutions"], DisableFailFast: gates["DisableFailFastBehavior"],
			AdditiveReadyExpr: gates["AdditiveCELDependencyCheck"], MigrateAPIVersion: gates["MigrateAPIVersion"], NoCrossNamespaceRefs: common.NoCrossNamespaceRefs,
			Budget: budget, MaxInventory: maxInventory, Decryption: i.decryption,
		},
		Auth: host.Auth, Accounts: accounts,
		Cached: host.Client, Reader: host.Reader, Artifacts: host.Artifacts, Graph: depend.NewGraph(),
		Namespace: host.Namespace, Clock: clock.RealClock{}, touched: newOwnerSet(),
		yielding: newOwnerSet(), conflicts: newBulletin(), drifts: newBulletin(),
	}
	k.Sources = resolver(host)
	if k.Claims, err = indexClaims(ctx, host.Manager.GetFieldIndexer(), host.Client); err != nil {
		return err
	}
	var handle *loop.Handle
	k.wake = func(o kube.Owner) {
		if handle != nil {
			handle.Enqueue(o.Key())
		}
	}
	i.watchManaged(ctx, k, host, func(o kube.Owner, delay time.Duration) {
		if i.correctDrift == driftOnWatch && handle != nil {
			k.touched.add(o)
			handle.EnqueueAfter(o.Key(), delay)
		}
	})
	controller := k.controller(host, i.watches(ctx, k, host))
	if handle, err = controller.SetupWithManager(host.Manager, host.LoopOptions()); err != nil {
		return err
	}
	return host.Manager.Add(manager.RunnableFunc(k.Clusters.Home().Watch.Run))
}

// resolver reads sources from the cache, or live when a feature gate asks for it (kustomization 14).
func resolver(host *component.Host) *sourceref.Resolver {
	gates := host.Common.Gates
	out := &sourceref.Resolver{
		Reader: host.Client, NoCrossNamespaceRefs: host.Common.NoCrossNamespaceRefs, ExternalArtifact: gates["ExternalArtifact"],
	}
	if gates["DirectSourceFetch"] {
		out.Reader = host.Reader
	}
	return out
}

// watchManaged connects the watches of managed objects with the memories of what was applied: one of each for every cluster.
func (i *instance) watchManaged(ctx context.Context, k *Kustomizer, host *component.Host, onTouched func(kube.Owner, time.Duration)) {
	options := i.remote.Clusters(host, kustomizev1.KustomizationKind)
	options.Clock = k.Clock
	k.Clusters = cluster.New(ctx, options, func(c *kube.Client) *watch {
		w := &watch{}
		w.Managed = kube.NewManaged(kube.ManagedOptions{
			Client: c, Lens: kube.NewLens(Ownership(i.overrideManagers)), Log: options.Log,
			OnChange: func(c kube.Change) {
				w.memory.Observe(c)
				k.taken(c)
			},
		})
		w.memory = ssa.NewMemory(ssa.MemoryOptions{Managed: w.Managed, FullEvery: i.fullEvery, OnTouched: onTouched})
		return w
	})
}

func (k *Kustomizer) controller(_ *component.Host, watches []loop.Watch) *loop.Controller[*kustomizev1.Kustomization] {
	return &loop.Controller[*kustomizev1.Kustomization]{
		Name: Name, FieldManager: fieldManager, Kind: kustomizev1.KustomizationKind,
		New:        func() *kustomizev1.Kustomization { return &kustomizev1.Kustomization{} },
		Reconciler: k,
		Conditions: status.Table{Sticky: []string{meta.HealthyCondition, cluster.Condition, driftedCondition}, ReadyReason: meta.ReconciliationSucceededReason},
		FailReason: meta.ReconciliationFailedReason,
		Retry:      func(o *kustomizev1.Kustomization) time.Duration { return o.GetRetryInterval() },
		Policy:     loop.Policy{SuspendObserves: loop.WhenReadyTrue},
		Watches:    watches,
	}
}

// watches are the edges into the controller: sources, dependencies, and watched configuration.
func (i *instance) watches(ctx context.Context, k *Kustomizer, host *component.Host) []loop.Watch {
	cached := func(key types.NamespacedName) *kustomizev1.Kustomization {
		var found kustomizev1.Kustomization
		if err := host.Client.Get(ctx, key, &found); err != nil {
			return nil
		}
		return &found
	}
	out := []loop.Watch{
		{Object: &kustomizev1.Kustomization{}, Map: k.onDependency},
		{Object: &kustomizev1.Kustomization{}, Map: onDeparture(cached)},
		{Object: &kustomizev1.Kustomization{}, Map: k.onClaim},
		{Object: &kustomizev1.Kustomization{}, Map: onSteering},
	}
	for kindName, obj := range i.sourceKinds(host) {
		if _, err := host.Clusters.Mapper().Resource(ctx, sourcev1.GroupVersion.WithKind(kindName)); err != nil {
			host.Log.Info("sources of this kind are not watched: their CRD is not installed; restart after installing it", "kind", kindName)
			continue
		}
		out = append(out, loop.Watch{Object: obj, Map: k.onSource(kindName, cached), Interrupts: true})
	}
	if host.Common.WatchConfigs != nil && !host.Common.Gates["DisableConfigWatchers"] {
		for _, name := range []string{"ConfigMap", "Secret"} {
			obj := &metav1.PartialObjectMetadata{}
			obj.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(name))
			out = append(out, loop.Watch{Object: obj, Map: k.onConfig(name), Interrupts: true})
		}
	}
	return out
}

func (i *instance) sourceKinds(host *component.Host) map[string]client.Object {
	kinds := map[string]client.Object{
		sourcev1.GitRepositoryKind: &sourcev1.GitRepository{},
		sourcev1.OCIRepositoryKind: &sourcev1.OCIRepository{},
		sourcev1.BucketKind:        &sourcev1.Bucket{},
	}
	if host.Common.Gates["ExternalArtifact"] {
		kinds[sourcev1.ExternalArtifactKind] = &sourcev1.ExternalArtifact{}
	}
	return kinds
}
