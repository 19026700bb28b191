package helm

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/depend"
)

func TestEdges(t *testing.T) {
	obj := app(t, `chart: {spec: {chart: demo, sourceRef: {kind: HelmRepository, name: repo, namespace: infra}}}
dependsOn: [{name: base}, {name: other, namespace: infra}]
kubeConfig: {secretRef: {name: fleet}}
valuesFrom: [{kind: ConfigMap, name: a}, {kind: Secret, name: b}]`)
	expect(t, "edges", []depend.Key{
		{Kind: "HelmChart", Namespace: "infra", Name: "apps-app"}, {Kind: "HelmRelease", Namespace: "apps", Name: "base"},
		{Kind: "HelmRelease", Namespace: "infra", Name: "other"}, {Kind: "Secret", Namespace: "apps", Name: "fleet"},
		{Kind: "ConfigMap", Namespace: "apps", Name: "a"}, {Kind: "Secret", Namespace: "apps", Name: "b"},
	}, edges(obj))
	obj = app(t, "chartRef: {kind: OCIRepository, name: demo}\nkubeConfig: {configMapRef: {name: fleet}}")
	expect(t, "edges", []depend.Key{{Kind: "OCIRepository", Namespace: "apps", Name: "demo"}, {Kind: "ConfigMap", Namespace: "apps", Name: "fleet"}}, edges(obj))
}

func wokenNames(keys []types.NamespacedName) []string {
	var out []string
	for _, key := range keys {
		out = append(out, key.Name)
	}
	slices.Sort(out)
	return out
}

// tried gives a HelmRelease a revision that it has tried.
func tried(revision, digest string) func(*helmv2.HelmRelease) {
	return func(o *helmv2.HelmRelease) {
		o.Status.LastAttemptedRevision, o.Status.LastAttemptedRevisionDigest = revision, digest
	}
}

// from makes a HelmRelease one of a source.
func from(kind string) func(*helmv2.HelmRelease) {
	return func(o *helmv2.HelmRelease) {
		o.Spec.Chart, o.Spec.ChartRef = nil, &helmv2.ChartReference{Kind: kind, Name: "demo"}
	}
}

// Which events of a HelmChart wake whom.
func TestChartEvents(t *testing.T) {
	const kind = sourcev1.HelmChartKind
	objects := map[string]*helmv2.HelmRelease{}
	r := &Releaser{Graph: depend.NewGraph()}
	for _, obj := range []*helmv2.HelmRelease{
		helmRelease("new", from(kind)), helmRelease("well", from(kind), tried("2.0.0", ""), in("Ready", "True")),
		helmRelease("at-work", from(kind), tried("2.0.0", ""), in("Reconciling", "True")), helmRelease("failed", from(kind), tried("2.0.0", ""), in("Ready", "False")),
		helmRelease("behind", from(kind), tried("1.0.0", ""), in("Ready", "True")),
		helmRelease("new-spec", from(kind), tried("2.0.0", ""), in("Ready", "True"), func(o *helmv2.HelmRelease) { o.Generation = 2 }),
		helmRelease("elsewhere", from(kind), func(o *helmv2.HelmRelease) { o.Spec.ChartRef.Namespace = "other" }),
		helmRelease("other-kind", from(sourcev1.OCIRepositoryKind)),
	} {
		objects[obj.Name] = obj
		r.Graph.Set(keyOf(obj), edges(obj))
	}
	chart := func(revision string, change ...func(*sourcev1.HelmChart)) *sourcev1.HelmChart {
		c := &sourcev1.HelmChart{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "demo", Generation: 1}}
		c.Status.ObservedGeneration = 1
		if revision != "" {
			c.Status.Artifact = &meta.Artifact{Revision: revision, Digest: "sha256:" + revision}
		}
		c.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue}}
		for _, f := range change {
			f(c)
		}
		return c
	}
	failing := func(c *sourcev1.HelmChart) { c.Status.Conditions[0].Status = metav1.ConditionFalse }
	newSpec := func(c *sourcev1.HelmChart) { c.Generation = 2 }
	observed := func(c *sourcev1.HelmChart) { c.Generation, c.Status.ObservedGeneration = 2, 2 }
	on := r.onSource(kind, func(key types.NamespacedName) *helmv2.HelmRelease { return objects[key.Name] })
	needy := []string{"behind", "failed", "new", "new-spec"}
	for _, tc := range []struct {
		name          string
		before, after client.Object
		want          []string
	}{
		{"helmrelease 2, 3: a new version; a failed one tries again", chart("1.0.0"), chart("2.0.0"), needy},
		{"helmrelease 2: the first artifact", chart("", failing), chart("2.0.0"), needy},
		{"helmrelease 2: it turns Ready", chart("2.0.0", failing), chart("2.0.0"), needy},
		{"helmrelease 2: it has caught up with its spec", chart("2.0.0", newSpec), chart("2.0.0", observed), needy},
		{"helmrelease 2: it fails", chart("2.0.0"), chart("2.0.0", failing), nil},
		{"helmrelease 2: a new spec", chart("2.0.0"), chart("2.0.0", newSpec), nil},
		{"helmrelease 2: nothing new", chart("2.0.0"), chart("2.0.0"), nil},
		{"helmrelease 2: created without an artifact", nil, chart(""), nil},
		{"helmrelease 2: deleted", chart("2.0.0"), nil, nil},
		{"the artifact is lost", chart("2.0.0"), chart("", failing), nil},
	} {
		t.Run(tc.name, func(t *testing.T) { expect(t, "woken", tc.want, wokenNames(on(tc.before, tc.after))) })
	}
}

// Whether a HelmRelease has a revision is a question of digests where there are some (helmrelease 3).
func TestHas(t *testing.T) {
	for _, tc := range []struct {
		name, kind, revision string
		obj                  *helmv2.HelmRelease
		want                 bool
	}{
		{"OCI, the same", "OCIRepository", "1.0.0@sha256:a", helmRelease("a", tried("1.0.0+a", "sha256:a"), in("Ready", "True")), true},
		{"OCI, another tag of the same", "OCIRepository", "latest@sha256:a", helmRelease("a", tried("1.0.0+a", "sha256:a"), in("Ready", "True")), true},
		{"OCI, a digest alone", "OCIRepository", "sha256:a", helmRelease("a", tried("1.0.0+a", "sha256:a"), in("Ready", "True")), true},
		{"OCI, another", "OCIRepository", "1.0.0@sha256:b", helmRelease("a", tried("1.0.0+a", "sha256:a"), in("Ready", "True")), false},
		{"external, with a digest", "ExternalArtifact", "latest@sha256:a", helmRelease("a", tried("1.0.0+a", "sha256:a"), in("Ready", "True")), true},
		{"external, without one", "ExternalArtifact", "1.0.0", helmRelease("a", tried("1.0.0", ""), in("Ready", "True")), true},
		{"nothing yet", "HelmChart", "", helmRelease("a", in("Ready", "True")), false},
		{"neither ready nor at work", "HelmChart", "1.0.0", helmRelease("a", tried("1.0.0", "")), false},
	} {
		t.Run(tc.name, func(t *testing.T) { expect(t, "has", tc.want, has(tc.obj, tc.kind, tc.revision)) })
	}
}

// Dependents do not poll: each transition of a dependency that a check can see wakes them (helmrelease 16).
func TestDependencyEvents(t *testing.T) {
	r := &Releaser{Graph: depend.NewGraph()}
	obj := helmRelease("app", func(o *helmv2.HelmRelease) { o.Spec.DependsOn = []meta.DependencyReference{{Name: "base"}} })
	r.Graph.Set(keyOf(obj), edges(obj))
	at := func(change ...func(*helmv2.HelmRelease)) *helmv2.HelmRelease { return helmRelease("base", change...) }
	released := func(digest string) func(*helmv2.HelmRelease) {
		return func(o *helmv2.HelmRelease) { o.Status.History = []helmv2.Snapshot{{Digest: digest}} }
	}
	for _, tc := range []struct {
		name          string
		before, after client.Object
		wakes         bool
	}{
		{"ready", at(in("Ready", "False")), at(in("Ready", "True")), true},
		{"no longer ready", at(in("Ready", "True")), at(in("Ready", "False")), true},
		{"a new generation", at(), at(func(o *helmv2.HelmRelease) { o.Generation = 2 }), true},
		{"observed", at(func(o *helmv2.HelmRelease) { o.Status.ObservedGeneration = -1 }), at(), true},
		{"released", at(), at(released("a")), true},
		{"released again", at(released("a")), at(released("b")), true},
		{"created", nil, at(), true},
		{"deleted", at(), nil, true},
		{"at work", at(in("Reconciling", "False")), at(in("Reconciling", "True")), false},
		{"labelled", at(), at(func(o *helmv2.HelmRelease) { o.Labels = map[string]string{"a": "b"} }), false},
	} {
		t.Run(tc.name, func(t *testing.T) { expect(t, "wakes", tc.wakes, len(r.onDependency(tc.before, tc.after)) == 1) })
	}
}

// Watched ConfigMaps and Secrets wake whom they concern (helmrelease 4, _common 51).
func TestConfigEvents(t *testing.T) {
	r := &Releaser{Graph: depend.NewGraph()}
	for _, obj := range []*helmv2.HelmRelease{
		helmRelease("values", func(o *helmv2.HelmRelease) {
			o.Spec.ValuesFrom = []helmv2.ValuesReference{{Kind: "Secret", Name: "a"}}
		}),
		helmRelease("kubeconfig", func(o *helmv2.HelmRelease) {
			o.Spec.KubeConfig = &meta.KubeConfigReference{SecretRef: &meta.SecretKeyReference{Name: "a"}}
		}),
		helmRelease("config-map", func(o *helmv2.HelmRelease) {
			o.Spec.ValuesFrom = []helmv2.ValuesReference{{Kind: "ConfigMap", Name: "a"}}
		}),
	} {
		r.Graph.Set(keyOf(obj), edges(obj))
	}
	object := func(version string) client.Object {
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "a", ResourceVersion: version}}
	}
	both := []string{"kubeconfig", "values"}
	on := r.onConfig("Secret")
	expect(t, "changed", both, wokenNames(on(object("1"), object("2"))))
	expect(t, "created, or labelled", both, wokenNames(on(nil, object("1"))))
	expect(t, "deleted", both, wokenNames(on(object("1"), nil)))
	expect(t, "seen again", []string(nil), wokenNames(on(object("1"), object("1"))))
	expect(t, "the other kind", []string{"config-map"}, wokenNames(r.onConfig("ConfigMap")(object("1"), object("2"))))
}
