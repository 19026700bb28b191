package kustomize

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
)

func named(name string, change ...func(*kustomizev1.Kustomization)) *kustomizev1.Kustomization {
	obj := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name, Generation: 1}}
	obj.Spec.SourceRef = kustomizev1.SourceReference{Kind: sourcev1.GitRepositoryKind, Name: "repo"}
	for _, f := range change {
		f(obj)
	}
	return obj
}

func withReady(s metav1.ConditionStatus, revision string) func(*kustomizev1.Kustomization) {
	return func(o *kustomizev1.Kustomization) {
		o.Status.LastAttemptedRevision = revision
		o.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: s}}
	}
}

func repository(revision string) *sourcev1.GitRepository {
	obj := &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "repo"}}
	if revision != "" {
		obj.Status.Artifact = &meta.Artifact{Revision: revision, Digest: "sha256:" + revision}
	}
	return obj
}

func names(keys []types.NamespacedName) []string {
	var out []string
	for _, key := range keys {
		out = append(out, key.Name)
	}
	slices.Sort(out)
	return out
}

// Which events of sources wake whom.
func TestSourceEvents(t *testing.T) {
	objects := map[string]*kustomizev1.Kustomization{}
	k := &Kustomizer{Graph: depend.NewGraph()}
	for _, obj := range []*kustomizev1.Kustomization{
		named("new"), named("well", withReady(metav1.ConditionTrue, "2")), named("failed", withReady(metav1.ConditionFalse, "2")),
		named("behind", withReady(metav1.ConditionTrue, "1")),
		named("at-work", func(o *kustomizev1.Kustomization) {
			o.Status.LastAttemptedRevision = "2"
			o.Status.Conditions = []metav1.Condition{{Type: meta.ReconcilingCondition, Status: metav1.ConditionTrue}}
		}),
		named("elsewhere", func(o *kustomizev1.Kustomization) { o.Spec.SourceRef.Namespace = "other" }),
		named("bucket", func(o *kustomizev1.Kustomization) { o.Spec.SourceRef.Kind = sourcev1.BucketKind }),
	} {
		objects[obj.Name] = obj
		k.Graph.Set(keyOf(obj), edges(obj))
	}
	on := k.onSource(sourcev1.GitRepositoryKind, func(key types.NamespacedName) *kustomizev1.Kustomization { return objects[key.Name] })
	for name, test := range map[string]struct {
		before, after client.Object
		want          []string
	}{
		"kustomization 2, 3: a new revision; a failed one tries again":      {repository("1"), repository("2"), []string{"behind", "failed", "new"}},
		"kustomization 2: the first artifact":                               {repository(""), repository("2"), []string{"behind", "failed", "new"}},
		"kustomization 2: a source seen for the first time":                 {nil, repository("2"), []string{"behind", "failed", "new"}},
		"kustomization 2: no artifact yet":                                  {nil, repository(""), nil},
		"kustomization 2: nothing new":                                      {repository("2"), repository("2"), nil},
		"kustomization 2: a deleted source; what was applied stays applied": {repository("2"), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, names(on(test.before, test.after))); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
		})
	}
}

// kustomization 4: dependents of one event come in the order of their dependencies; those of a cycle are not kept back.
func TestSourceEventOrder(t *testing.T) {
	k := &Kustomizer{Graph: depend.NewGraph()}
	dependsOn := func(name string) func(*kustomizev1.Kustomization) {
		return func(o *kustomizev1.Kustomization) { o.Spec.DependsOn = []meta.DependencyReference{{Name: name}} }
	}
	for _, obj := range []*kustomizev1.Kustomization{named("a", dependsOn("b")), named("b", dependsOn("c")), named("c")} {
		k.Graph.Set(keyOf(obj), edges(obj))
	}
	on := k.onSource(sourcev1.GitRepositoryKind, func(types.NamespacedName) *kustomizev1.Kustomization { return nil })
	var got []string
	for _, key := range on(nil, repository("1")) {
		got = append(got, key.Name)
	}
	if diff := cmp.Diff([]string{"c", "b", "a"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	k.Graph.Set(keyOf(named("c")), edges(named("c", dependsOn("a"))))
	if got := names(on(nil, repository("2"))); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("woken in a cycle: %v", got)
	}
}

// kustomization 6, the way it is here: dependents do not poll, each transition of a dependency that a check can see wakes them.
func TestDependencyEvents(t *testing.T) {
	k := &Kustomizer{Graph: depend.NewGraph()}
	dependent := named("app", func(o *kustomizev1.Kustomization) {
		o.Spec.DependsOn = []meta.DependencyReference{{Name: "base"}}
	})
	k.Graph.Set(keyOf(dependent), edges(dependent))
	k.Graph.Set(keyOf(named("bystander")), edges(named("bystander")))
	base := func(change ...func(*kustomizev1.Kustomization)) client.Object { return named("base", change...) }
	applied := func(o *kustomizev1.Kustomization) { o.Status.LastAppliedRevision = "2" }
	labelled := func(o *kustomizev1.Kustomization) { o.Labels = map[string]string{"a": "b"} }
	for name, test := range map[string]struct {
		before, after client.Object
		wakes         bool
	}{
		"created":           {nil, base(), true},
		"deleted":           {base(), nil, true},
		"becomes ready":     {base(), base(withReady(metav1.ConditionTrue, "")), true},
		"fails":             {base(withReady(metav1.ConditionTrue, "")), base(withReady(metav1.ConditionFalse, "")), true},
		"applies another":   {base(), base(applied), true},
		"other generation":  {base(), base(func(o *kustomizev1.Kustomization) { o.Generation = 2 }), true},
		"observed":          {base(), base(func(o *kustomizev1.Kustomization) { o.Status.ObservedGeneration = 1 }), true},
		"only gets a label": {base(), base(labelled), false},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			if test.wakes {
				want = []string{"app"}
			}
			if diff := cmp.Diff(want, names(k.onDependency(test.before, test.after))); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
		})
	}
}

// kustomization 5; _common 51: the ConfigMaps and Secrets with variables wake who takes them.
func TestConfigEvents(t *testing.T) {
	k := &Kustomizer{Graph: depend.NewGraph()}
	obj := named("app", func(o *kustomizev1.Kustomization) {
		o.Spec.PostBuild = &kustomizev1.PostBuild{SubstituteFrom: []kustomizev1.SubstituteReference{{Kind: "Secret", Name: "vars"}}}
	})
	k.Graph.Set(keyOf(obj), edges(obj))
	vars := func(version string) client.Object {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "vars", ResourceVersion: version}}
	}
	for name, test := range map[string]struct {
		kind          string
		before, after client.Object
		want          []string
	}{
		"changed":                       {"Secret", vars("1"), vars("2"), []string{"app"}},
		"created or labelled":           {"Secret", nil, vars("1"), []string{"app"}},
		"deleted or no longer labelled": {"Secret", vars("1"), nil, []string{"app"}},
		"seen again":                    {"Secret", vars("1"), vars("1"), nil},
		"another kind":                  {"ConfigMap", vars("1"), vars("2"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, names(k.onConfig(test.kind)(test.before, test.after))); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
		})
	}
}

// kustomization 14: sources come from the cache, with the gate DirectSourceFetch from the API server.
func TestDirectSourceFetch(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := sourcev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	with := func(revision string) client.WithWatch {
		return fake.NewClientBuilder().WithScheme(scheme).WithObjects(repository(revision)).Build()
	}
	for direct, want := range map[bool]string{false: "cached", true: "live"} {
		host := &component.Host{Client: with("cached"), Reader: with("live"), Common: component.Common{Gates: map[string]bool{"DirectSourceFetch": direct}}}
		source, err := resolver(host).Resolve(t.Context(), named("app"), sourceref.Reference{Kind: sourcev1.GitRepositoryKind, Name: "repo"})
		if err != nil {
			t.Fatal(err)
		}
		if source.Revision != want {
			t.Errorf("DirectSourceFetch=%t reads %q, want %q", direct, source.Revision, want)
		}
	}
}

// kustomization 15; _common 12, 13: a dependency that the process does not watch, since it is in another shard or namespace, is read
// live; one that it watches is not.
func TestDependencyOutsideTheCache(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := kustomizev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	with := func(objects ...client.Object) client.Reader {
		return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
	}
	applied := func(revision string) func(*kustomizev1.Kustomization) {
		return func(o *kustomizev1.Kustomization) { o.Status.LastAppliedRevision = revision }
	}
	reader := dependencyReader{
		Reader: with(named("ours", applied("cached"))), live: with(named("ours", applied("live")), named("theirs", applied("live"))),
	}
	for name, want := range map[string]string{"ours": "cached", "theirs": "live"} {
		found := &unstructured.Unstructured{}
		found.SetGroupVersionKind(kustomizev1.GroupVersion.WithKind(kustomizev1.KustomizationKind))
		if err := reader.Get(t.Context(), types.NamespacedName{Namespace: "apps", Name: name}, found); err != nil {
			t.Fatal(err)
		}
		if got, _, _ := unstructured.NestedString(found.Object, "status", "lastAppliedRevision"); got != want {
			t.Errorf("%s: revision %q, want %q", name, got, want)
		}
	}
	err := reader.Get(t.Context(), types.NamespacedName{Namespace: "apps", Name: "none"}, &unstructured.Unstructured{})
	if !apierrors.IsNotFound(err) || err.Error() != `kustomizations.kustomize.toolkit.fluxcd.io "none" not found` {
		t.Errorf("error = %v", err)
	}
}
