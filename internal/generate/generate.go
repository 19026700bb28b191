package generate

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// Name is the upstream name of the component: event source and field manager.
const Name = "source-watcher"

// Defaults of the component's own flags (wire.md 14).
const (
	DefaultRequeueDependency = 5 * time.Second
	DefaultTimeout           = 10 * time.Minute
)

// Component describes source-watcher.
func Component() component.Component {
	group, sources := v1beta1.GroupVersion.Group, sourcev1.GroupVersion.Group
	return component.Component{
		Manifest: component.Manifest{
			Name: Name, Group: group,
			CRDs: []string{"artifactgenerators." + group},
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{group}, Resources: []string{"*"}, Verbs: []string{"*"}},
				{APIGroups: []string{sources}, Resources: []string{"*"}, Verbs: []string{"get", "list", "watch"}},
				{APIGroups: []string{sources}, Resources: []string{"externalartifacts", "externalartifacts/status"}, Verbs: []string{"*"}},
			},
			Artifacts: true, Critical: true, GraceSeconds: 10,
			Gates: map[string]string{"kustomize-controller": "ExternalArtifact", "helm-controller": "ExternalArtifact"},
		},
		Short:             "watcher",
		Concurrent:        10,
		RequeueDependency: DefaultRequeueDependency,
		Kinds:             []kind.Kind{Kind()},
		Requires: []schema.GroupVersionKind{
			v1beta1.GroupVersion.WithKind(v1beta1.ArtifactGeneratorKind),
			sourcev1.GroupVersion.WithKind(sourcev1.ExternalArtifactKind),
		},
		FeatureGates: map[string]bool{"DirectSourceFetch": false},
		New:          func() component.Instance { return &instance{} },
	}
}

type instance struct {
	storage component.Storage
	timeout time.Duration
	limits  Limits
}

// BindFlags implements component.Instance (wire.md 14).
func (i *instance) BindFlags(fs *pflag.FlagSet) {
	i.storage.BindFlags(fs)
	fs.DurationVar(&i.timeout, "reconciliation-timeout", DefaultTimeout, "How long one run of an ArtifactGenerator may take.")
	l, d := &i.limits, DefaultLimits()
	fs.IntVar(&l.Artifacts, "generator-limit-artifacts", d.Artifacts, "How many artifacts one ArtifactGenerator may make.")
	fs.Int64Var(&l.Files, "generator-limit-files", d.Files, "How many files and directories a generated artifact may hold.")
	fs.Int64Var(&l.Bytes, "generator-limit-files-size", d.Bytes, "The size of the files of a generated artifact, in bytes.")
	fs.IntVar(&l.PathBytes, "generator-limit-path-length", d.PathBytes, "The length of a path in a generated artifact, in bytes.")
	fs.IntVar(&l.Depth, "generator-limit-depth", d.Depth, "How many elements a path in a generated artifact may have.")
	fs.Int64Var(&l.MergeBytes, "generator-limit-merge-size", d.MergeBytes, "The size of a YAML file to merge, in bytes.")
}

// AddToScheme implements component.Instance.
func (i *instance) AddToScheme(s *runtime.Scheme) error {
	if err := sourcev1.AddToScheme(s); err != nil {
		return err
	}
	return v1beta1.AddToScheme(s)
}

// Prepare implements component.Preparer.
func (i *instance) Prepare(host *component.Host) error {
	if i.timeout <= 0 {
		return fmt.Errorf("--reconciliation-timeout=%s: want a positive duration", i.timeout)
	}
	return i.storage.Open(host)
}

// Release implements component.Preparer.
func (i *instance) Release() error { return i.storage.Close() }

// Serving implements component.Server.
func (i *instance) Serving() []component.Endpoint { return i.storage.Serving() }

// Setup implements component.Instance.
func (i *instance) Setup(ctx context.Context, host *component.Host) error {
	g := &Generator{
		Client: host.Client, Reader: host.Reader, Sources: resolver(host), Artifacts: host.Artifacts,
		Store: i.storage.Store(), URL: i.storage.URL, Graph: depend.NewGraph(),
		RequeueDependency: host.Common.RequeueDependency, Timeout: i.timeout, Limits: i.limits, Clock: clock.RealClock{},
	}
	_, err := g.controller(g.watches(ctx, host)).SetupWithManager(host.Manager, host.LoopOptions())
	return err
}

// resolver reads sources from the cache, or live when a feature gate asks for it (artifactgenerator 14). The gate for
// ExternalArtifacts is one of the appliers.
func resolver(host *component.Host) *sourceref.Resolver {
	out := &sourceref.Resolver{Reader: host.Client, NoCrossNamespaceRefs: host.Common.NoCrossNamespaceRefs, ExternalArtifact: true}
	if host.Common.Gates["DirectSourceFetch"] {
		out.Reader = host.Reader
	}
	return out
}

func (g *Generator) controller(watches []loop.Watch) *loop.Controller[*v1beta1.ArtifactGenerator] {
	return &loop.Controller[*v1beta1.ArtifactGenerator]{
		Name: Name, Kind: v1beta1.ArtifactGeneratorKind, Finalizer: v1beta1.Finalizer,
		New:        func() *v1beta1.ArtifactGenerator { return &v1beta1.ArtifactGenerator{} },
		Reconciler: g,
		Conditions: status.Table{ReadyReason: meta.SucceededReason},
		FailReason: meta.ReconciliationFailedReason,
		Policy: loop.Policy{
			WaitKeepsReconciling: true,
			SuspendReady:         &metav1.Condition{Reason: v1beta1.ReconciliationDisabledReason, Message: "Initialized with reconciliation suspended"},
			SuspendEvent:         &event.Event{Severity: event.Trace, Reason: v1beta1.ReconciliationDisabledReason, Message: "Reconciliation is disabled"},
		},
		Watches: watches,
	}
}

// watches are the edges into the controller (artifactgenerator 2). Those of an object are taken from its spec whenever it
// is seen, also while it is paused: the next trigger after that counts.
func (g *Generator) watches(ctx context.Context, host *component.Host) []loop.Watch {
	out := []loop.Watch{{Object: &v1beta1.ArtifactGenerator{}, Map: g.onSelf}}
	for kindName, obj := range map[string]client.Object{
		sourcev1.GitRepositoryKind:    &sourcev1.GitRepository{},
		sourcev1.OCIRepositoryKind:    &sourcev1.OCIRepository{},
		sourcev1.BucketKind:           &sourcev1.Bucket{},
		sourcev1.HelmChartKind:        &sourcev1.HelmChart{},
		sourcev1.ExternalArtifactKind: &sourcev1.ExternalArtifact{},
	} {
		if _, err := host.Clusters.Mapper().Resource(ctx, sourcev1.GroupVersion.WithKind(kindName)); err != nil {
			host.Log.Info("sources of this kind are not watched: their CRD is not installed; restart after installing it", "kind", kindName)
			continue
		}
		out = append(out, loop.Watch{Object: obj, Map: g.onSource(kindName)})
	}
	return out
}

func keyOf(obj client.Object) depend.Key {
	return depend.Key{Kind: v1beta1.ArtifactGeneratorKind, Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// onSelf keeps the edges of an object; it wakes nobody.
func (g *Generator) onSelf(before, after client.Object) []types.NamespacedName {
	if obj, ok := after.(*v1beta1.ArtifactGenerator); ok {
		g.Graph.Set(keyOf(obj), edges(obj))
		return nil
	}
	g.Graph.Remove(keyOf(before))
	g.seen.forget(keyOf(before))
	return nil
}

func edges(obj *v1beta1.ArtifactGenerator) []depend.Key {
	var keys []depend.Key
	for _, s := range obj.Spec.Sources {
		keys = append(keys, depend.Key{Kind: s.Kind, Namespace: namespaceOf(obj, s), Name: s.Name})
	}
	return keys
}

// onSource wakes the objects that use a source whose revision changed.
func (g *Generator) onSource(kindName string) func(before, after client.Object) []types.NamespacedName {
	return func(before, after client.Object) []types.NamespacedName {
		if !sourceref.RevisionChanged(before, after) {
			return nil
		}
		source := depend.Key{Kind: kindName, Namespace: after.GetNamespace(), Name: after.GetName()}
		revision := after.(meta.ArtifactHolder).GetArtifact().Revision
		var woken []types.NamespacedName
		for _, key := range g.Graph.Dependents(source) {
			if g.seen.has(key, source, revision) {
				continue
			}
			woken = append(woken, types.NamespacedName{Namespace: key.Namespace, Name: key.Name})
		}
		return woken
	}
}
