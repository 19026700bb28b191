package generate

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/depend"
)

// artifactgenerator 2, 4: who is woken by what happens to a source. The edges stem from the spec, whether the object is
// paused or has ever run.
func TestWakes(t *testing.T) {
	g := &Generator{Graph: depend.NewGraph()}
	obj := generator()
	obj.Annotations = map[string]string{v1beta1.ReconcileAnnotation: v1beta1.DisabledValue}
	obj.Spec.Sources = append(obj.Spec.Sources, v1beta1.SourceReference{Alias: "lib", Kind: sourcev1.OCIRepositoryKind, Name: "lib", Namespace: "shared"})
	if woken := g.onSelf(nil, obj); woken != nil {
		t.Errorf("an object wakes %v", woken)
	}
	repo := func(namespace, name, revision, digest string) client.Object {
		r := &sourcev1.GitRepository{}
		r.Namespace, r.Name = namespace, name
		if revision != "" {
			r.Status.Artifact = &meta.Artifact{Revision: revision, Digest: digest}
		}
		return r
	}
	gen := []types.NamespacedName{{Namespace: "apps", Name: "gen"}}
	for name, test := range map[string]struct {
		kind          string
		before, after client.Object
		want          []types.NamespacedName
	}{
		"a first artifact":            {sourcev1.GitRepositoryKind, repo("apps", "app", "", ""), repo("apps", "app", "r1", "d1"), gen},
		"another revision":            {sourcev1.GitRepositoryKind, repo("apps", "app", "r1", "d1"), repo("apps", "app", "r2", "d1"), gen},
		"another digest alone":        {sourcev1.GitRepositoryKind, repo("apps", "app", "r1", "d1"), repo("apps", "app", "r1", "d2"), nil},
		"a creation":                  {sourcev1.GitRepositoryKind, nil, repo("apps", "app", "r1", "d1"), gen},
		"a creation without artifact": {sourcev1.GitRepositoryKind, nil, repo("apps", "app", "", ""), nil},
		"a deletion":                  {sourcev1.GitRepositoryKind, repo("apps", "app", "r1", "d1"), nil, nil},
		"another name":                {sourcev1.GitRepositoryKind, nil, repo("apps", "other", "r1", "d1"), nil},
		"another namespace":           {sourcev1.GitRepositoryKind, nil, repo("shared", "app", "r1", "d1"), nil},
		"another kind":                {sourcev1.BucketKind, nil, repo("apps", "app", "r1", "d1"), nil},
		"the second source":           {sourcev1.OCIRepositoryKind, nil, repo("shared", "lib", "r1", "d1"), gen},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, g.onSource(test.kind)(test.before, test.after)); diff != "" {
				t.Errorf("woken (-want +got):\n%s", diff)
			}
		})
	}
	// An event that comes after the run that looked at its revision already is late.
	source := depend.Key{Kind: sourcev1.GitRepositoryKind, Namespace: "apps", Name: "app"}
	g.seen.note(keyOf(obj), source, "r2")
	for revision, want := range map[string][]types.NamespacedName{"r2": nil, "r3": gen} {
		if diff := cmp.Diff(want, g.onSource(sourcev1.GitRepositoryKind)(repo("apps", "app", "r1", "d1"), repo("apps", "app", revision, "d2"))); diff != "" {
			t.Errorf("woken by %s (-want +got):\n%s", revision, diff)
		}
	}
	g.onSelf(obj, nil)
	if g.seen.has(keyOf(obj), source, "r2") {
		t.Error("what was seen outlives the object")
	}
	if woken := g.onSource(sourcev1.GitRepositoryKind)(nil, repo("apps", "app", "r1", "d1")); woken != nil {
		t.Errorf("after the deletion %v are woken", woken)
	}
}

// artifactgenerator 14: a feature gate decides where sources are read.
func TestResolver(t *testing.T) {
	cached, live := struct{ client.Client }{}, struct{ client.Reader }{}
	for gate, want := range map[bool]client.Reader{false: cached, true: live} {
		host := &component.Host{Client: cached, Reader: live, Common: component.Common{Gates: map[string]bool{"DirectSourceFetch": gate}, NoCrossNamespaceRefs: true}}
		r := resolver(host)
		if r.Reader != want || !r.ExternalArtifact || !r.NoCrossNamespaceRefs {
			t.Errorf("gate %t: %+v", gate, r)
		}
	}
}

func TestPrepare(t *testing.T) {
	for _, bad := range []string{"0s", "-1m"} {
		i := &instance{}
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		i.BindFlags(fs)
		if err := fs.Parse([]string{"--reconciliation-timeout=" + bad, "--storage-path=" + t.TempDir()}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(i.Prepare(&component.Host{}), i.Release()); err == nil {
			t.Errorf("--reconciliation-timeout=%s is taken", bad)
		}
	}
}

// thousand is a source of a thousand manifests in a hundred directories.
func thousand(b *testing.B) string {
	b.Helper()
	content := files{}
	for i := range 1000 {
		content[fmt.Sprintf("apps/app-%02d/file-%d.yaml", i%100, i)] = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c-%d\ndata:\n  key: value\n", i)
	}
	return dirOf(b, content)
}

// BenchmarkBuild makes one artifact of a thousand files: stage, name, archive, store.
func BenchmarkBuild(b *testing.B) {
	source := diskFS(b, thousand(b))
	store, err := artifact.OpenStore(b.TempDir(), artifact.StoreOptions{AdvertisedAddr: "test"})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	b.ReportAllocs()
	for b.Loop() {
		tree, err := readTree(b.Context(), source)
		if err != nil {
			b.Fatal(err)
		}
		w := &workshop{Generator: &Generator{Limits: DefaultLimits(), Store: store, URL: store.URL}, obj: generator(), trees: map[string]*node{"repo": tree}}
		o := output{OutputArtifact: v1beta1.OutputArtifact{Name: "one", Copy: []v1beta1.CopyOperation{op("@repo/apps/**", "@artifact/", "*.md")}}}
		if _, err := w.make(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPlan stages a hundred artifacts of a path pattern over a thousand files, without reading any.
func BenchmarkPlan(b *testing.B) {
	source := treeOf(b, thousand(b))
	spec := &v1beta1.ArtifactGeneratorSpec{PathPattern: "@repo/apps/{app}", Artifacts: []v1beta1.OutputArtifact{
		{Name: "{app}", Copy: []v1beta1.CopyOperation{op("@repo/apps/{app}/**", "@artifact/", "*.md", "**/tests/**")}},
	}}
	trees := map[string]*node{"repo": source}
	w := &workshop{Generator: &Generator{Limits: DefaultLimits()}, trees: trees}
	b.ReportAllocs()
	for b.Loop() {
		outputs, err := expand(spec, trees, 1000)
		if err != nil {
			b.Fatal(err)
		}
		for _, o := range outputs {
			s := &stage{root: newDir(), limits: w.Limits}
			if err := w.apply(b.Context(), s, o.Copy[0]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkWrite is the archive of a thousand files alone, for comparison.
func BenchmarkWrite(b *testing.B) {
	s, err := staged(b, treeOf(b, thousand(b)), op("@repo/apps/**", "@artifact/"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.write(b.Context(), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNoDrift is the decision of a run that finds nothing new, with a thousand artifacts.
func BenchmarkNoDrift(b *testing.B) {
	store, err := artifact.OpenStore(b.TempDir(), artifact.StoreOptions{AdvertisedAddr: "test"})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	g := &Generator{Store: store}
	obj := generator()
	obj.Spec.PathPattern = "@repo/{x}"
	obj.Status.Conditions = settledConditions()
	var made []sourcev1.ExternalArtifact
	for i := range 1000 {
		object := fmt.Sprintf("one-%d", i)
		a, err := store.Put(b.Context(), name("apps", object, "1.tar.gz"), func(w io.Writer) error { _, err := io.WriteString(w, object); return err })
		if err != nil {
			b.Fatal(err)
		}
		obj.Status.Inventory = append(obj.Status.Inventory, v1beta1.ArtifactReference{Namespace: "apps", Name: object, Digest: a.Digest, Filename: "1.tar.gz"})
		ea := sourcev1.ExternalArtifact{}
		ea.Status.Artifact = a
		made = append(made, ea)
	}
	b.ReportAllocs()
	for b.Loop() {
		if why := drift(obj, "", g.stored, made); why != "" {
			b.Fatal(why)
		}
	}
	b.ReportMetric(float64(b.Elapsed()/time.Duration(b.N))/1000/float64(time.Microsecond), "µs/artifact")
}
