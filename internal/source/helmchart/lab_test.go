package helmchart

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	ociTypes "github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore-go/pkg/root"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/helmchart/build"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// lab is a HelmChart with a real store and opener; the API server and the Helm repositories of type default are not real.
type lab struct {
	*looptest.Bench
	t          testing.TB
	client     client.Client
	clock      *testclock.FakeClock
	store      *artifact.Store
	opener     *artifact.Opener
	controller *loop.Controller[*sourcev1.HelmChart]
	shop       *shop
	root       func(context.Context) (root.TrustedMaterial, error)
	// addr is where the store is served.
	addr, temp string
}

func key() types.NamespacedName { return types.NamespacedName{Namespace: "apps", Name: "demo"} }

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)), temp: t.TempDir(), shop: &shop{charts: map[string][]byte{}}}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{sourcev1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	l.client = fake.NewClientBuilder().WithScheme(scheme).
		WithStatusSubresource(&sourcev1.HelmChart{}, &sourcev1.HelmRepository{}, &sourcev1.GitRepository{}, &sourcev1.Bucket{}).Build()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.store.Handler().ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	l.addr = server.Listener.Addr().String()
	var err error
	if l.store, err = artifact.OpenStore(t.TempDir(), artifact.StoreOptions{AdvertisedAddr: l.addr, RetentionTTL: time.Minute, RetentionRecords: 2, Clock: l.clock}); err != nil {
		t.Fatal(err)
	}
	if l.opener, err = artifact.NewOpener(l.store, t.TempDir(), artifact.OpenerOptions{Clock: l.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, end := range []func() error{l.opener.Close, l.store.Close} {
			if err := end(); err != nil {
				t.Error(err)
			}
		}
		if entries, err := os.ReadDir(l.temp); err != nil || len(entries) > 0 {
			t.Errorf("left in the temporary directory: %v, %v", entries, err)
		}
	})
	l.start()
	return l
}

// start makes a new controller, as a start of the process does.
func (l *lab) start() {
	l.controller = Controller("source-controller", l.store, Options{Cached: l.client, Reader: l.client, Artifacts: l.opener, HTTP: l.shop, TempDir: l.temp, PublicRoot: l.root, Pool: oci.NewPool(&hasty{})})
	l.Bench = looptest.New(l.t, l.controller, loop.Options{Client: l.client, Reader: l.client, Clock: l.clock, Concurrent: 1})
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// chart creates the object; a chart "demo" of the HelmRepository "repo" unless changed.
func (l *lab) chart(change ...func(*sourcev1.HelmChart)) {
	l.t.Helper()
	obj := &sourcev1.HelmChart{
		ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: key().Name, Generation: 1, UID: "uid"},
		Spec: sourcev1.HelmChartSpec{
			Chart: "demo", Version: "*", Interval: meta.DurationOf(10 * time.Minute),
			SourceRef: sourcev1.HelmChartSourceReference{Kind: sourcev1.HelmRepositoryKind, Name: "repo"},
		},
	}
	obj.SetObservedGeneration(-1)
	for _, f := range change {
		f(obj)
	}
	l.must(l.client.Create(l.t.Context(), obj))
}

func of(kind, name, chart string) func(*sourcev1.HelmChart) {
	return func(obj *sourcev1.HelmChart) {
		obj.Spec.Chart, obj.Spec.SourceRef = chart, sourcev1.HelmChartSourceReference{Kind: kind, Name: name}
	}
}

func (l *lab) edit(f func(*sourcev1.HelmChart)) {
	l.t.Helper()
	obj := l.get()
	f(obj)
	obj.Generation++
	l.must(l.client.Update(l.t.Context(), obj))
}

// request asks for a run.
func (l *lab) request(token string) {
	l.t.Helper()
	obj := l.get()
	obj.Annotations = map[string]string{meta.ReconcileRequestAnnotation: token}
	l.must(l.client.Update(l.t.Context(), obj))
}

func (l *lab) get() *sourcev1.HelmChart {
	l.t.Helper()
	obj := &sourcev1.HelmChart{}
	l.must(l.client.Get(l.t.Context(), key(), obj))
	return obj
}

// step runs once, however that ends.
func (l *lab) step() reconcile.Result {
	l.t.Helper()
	result, _ := l.Run(l.t.Context(), key())
	return result
}

// condition returns "Status Reason: message", "-" when there is none.
func (l *lab) condition(conditionType string) string {
	l.t.Helper()
	c := status.Find(l.get().Status.Conditions, conditionType)
	if c == nil {
		return "-"
	}
	return string(c.Status) + " " + c.Reason + ": " + c.Message
}

func (l *lab) ready(want string) {
	l.t.Helper()
	expect(l.t, "Ready", want, l.condition(meta.ReadyCondition))
}

// tree makes files the artifact of a GitRepository or Bucket, which is created where it does not exist.
func (l *lab) tree(obj interface {
	client.Object
	meta.ArtifactHolder
	SetArtifact(*meta.Artifact)
}, kind, revision string, files map[string]string) {
	l.t.Helper()
	dir := l.t.TempDir()
	write(l.t, dir, files)
	a, err := l.store.Put(l.t.Context(), artifact.Name{Kind: kind, Namespace: "apps", Object: "app", File: revision[len(revision)-12:] + ".tar.gz"}, func(w io.Writer) error {
		return archive.Write(l.t.Context(), w, archive.Dir(dir), archive.Matcher{})
	})
	l.must(err)
	a.Revision = revision
	obj.SetNamespace("apps")
	obj.SetName("app")
	if err := l.client.Get(l.t.Context(), types.NamespacedName{Namespace: "apps", Name: "app"}, obj); err != nil {
		l.must(l.client.Create(l.t.Context(), obj))
	}
	obj.SetArtifact(a)
	l.must(l.client.Status().Update(l.t.Context(), obj))
}

func (l *lab) git(commit string, files map[string]string) {
	l.t.Helper()
	l.tree(&sourcev1.GitRepository{}, sourcev1.GitRepositoryKind, "main@sha1:"+commit, files)
}

// repository creates a HelmRepository of type default, with an artifact.
func (l *lab) repository(name, url string) {
	l.t.Helper()
	obj := &sourcev1.HelmRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name}, Spec: sourcev1.HelmRepositorySpec{URL: url}}
	l.must(l.client.Create(l.t.Context(), obj))
	obj.Status.Artifact = &meta.Artifact{Path: "x", Revision: "sha256:index", Digest: "sha256:index"}
	l.must(l.client.Status().Update(l.t.Context(), obj))
}

// artifact returns the files of the chart's artifact.
func (l *lab) artifact() map[string]string {
	l.t.Helper()
	a := l.get().Status.Artifact
	if a == nil {
		l.t.Fatalf("no artifact: %s", l.condition(meta.ReadyCondition))
	}
	f, err := l.opener.File(l.t.Context(), a)
	l.must(err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	l.must(err)
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		l.must(err)
		data, err := io.ReadAll(r)
		l.must(err)
		files[h.Name] = string(data)
	}
}

// shop is the Helm repositories of type default: charts by "<url> <name> <version>".
type shop struct {
	charts map[string][]byte
	log    []string
	fail   error
}

func (s *shop) Open(_ context.Context, obj *sourcev1.HelmRepository) (build.Repository, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	known := "index"
	if obj.Status.Artifact == nil {
		known = "nothing"
	}
	s.log = append(s.log, "open "+obj.Name+" "+obj.Spec.URL+" with "+known)
	return &counter{s, normalise(obj.Spec.URL)}, nil
}

type counter struct {
	shop *shop
	url  string
}

func (c *counter) Find(ctx context.Context, name, version string) (*build.Found, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, fmt.Errorf("no deadline")
	}
	var versions []string
	for key := range c.shop.charts {
		if v, ok := strings.CutPrefix(key, c.url+" "+name+" "); ok && (v == version || version == "*") {
			versions = append(versions, v)
		}
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("no '%s' chart with version matching '%s' found: %w", name, version, build.ErrNotFound)
	}
	slices.Sort(versions)
	v := versions[len(versions)-1]
	return &build.Found{Version: v, URL: c.url + " " + name + " " + v}, nil
}

func (c *counter) Download(_ context.Context, f *build.Found, _ int64) ([]byte, error) {
	c.shop.log = append(c.shop.log, "download "+f.URL)
	if data := c.shop.charts[f.URL]; data != nil {
		return data, nil
	}
	return nil, fmt.Errorf("failed to fetch %s : 404 Not Found", f.URL)
}

func (c *counter) Close() {}

// files are those of a chart.
func files(dir, chart, version string, more map[string]string) map[string]string {
	out := map[string]string{
		dir + "/Chart.yaml":          "apiVersion: v2\nname: " + chart + "\nversion: " + version + "\n",
		dir + "/values.yaml":         "replicas: 1\n",
		dir + "/templates/some.yaml": "kind: ConfigMap\n",
	}
	for name, content := range more {
		out[name] = content
	}
	return out
}

func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// packed is the archive of a chart.
func packed(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []func() error{w.Close, z.Close} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// push uploads a chart as Helm does.
func push(t testing.TB, repository, version string, data []byte) name.Digest {
	t.Helper()
	image, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, ociTypes.OCIManifestSchema1), "application/vnd.cncf.helm.config.v1+json"),
		mutate.Addendum{Layer: static.NewLayer(data, oci.HelmChartLayer)})
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(repository+":"+strings.ReplaceAll(version, "+", "_"), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image); err != nil {
		t.Fatal(err)
	}
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return tag.Digest(digest.String())
}

func expect(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
