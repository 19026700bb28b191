package helm

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/chartfile"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/helm/values"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// lab is a namespace of a real API server with a HelmChart, and a controller that runs when told and whose requests on releases are counted.
type lab struct {
	*looptest.Bench
	t      *testing.T
	ns     string
	client client.Client
	helm   *storage.Storage
	store  *artifact.Store
	r      *Releaser
	clock  *shifted

	mu       sync.Mutex // guards requests
	requests []string
}

// shifted is the real clock, shifted.
type shifted struct {
	clock.RealClock
	by time.Duration
}

func (s *shifted) Now() time.Time                  { return s.RealClock.Now().Add(s.by) }
func (s *shifted) Since(t time.Time) time.Duration { return s.Now().Sub(t) }

var _ clock.WithTicker = (*shifted)(nil)

func newLab(t *testing.T) *lab {
	t.Helper()
	config := kube.Config(testkit.Cluster(t), "helm-test")
	testkit.InstallCRDs(t, config)
	l := &lab{t: t, ns: testkit.Namespace(t, config), clock: &shifted{}}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, sourcev1.AddToScheme, helmv2.AddToScheme} {
		must(t, add(scheme))
	}
	var err error
	l.client, err = client.New(config, client.Options{Scheme: scheme})
	must(t, err)
	set, err := kubernetes.NewForConfig(config)
	must(t, err)
	l.helm = storage.Init(driver.NewSecrets(set.CoreV1().Secrets(l.ns)))
	counted := rest.CopyConfig(config)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper { return counter{l, next} })
	clusters, err := kube.NewClients(kube.ClientsOptions{Config: counted})
	must(t, err)
	l.r = &Releaser{
		Options: Options{HTTPTimeout: 10 * time.Second, DigestAlgorithm: "sha256", ValuesLimits: values.DefaultLimits(), ChartLimits: chartfile.DefaultLimits()},
		Client:  l.client, Reader: l.client, Artifacts: l.openArtifacts(), Graph: depend.NewGraph(), Clock: l.clock,
		Sources: &sourceref.Resolver{Reader: l.client}, names: newChartNames(), seen: newDigests(),
	}
	host := &component.Host{Client: l.client, Reader: l.client, Clusters: clusters, Log: logr.Discard()}
	remote := component.RemoteFlags{}
	watches := watcherOptions{fullEvery: time.Hour, log: logr.Discard(), onTouched: func(kube.Owner, time.Duration) {}}
	l.r.Clusters = cluster.New(t.Context(), remote.Clusters(host, helmv2.HelmReleaseKind), func(c *kube.Client) *watcher { return newWatcher(c, watches) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = l.r.Clusters.Home().Watch.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	l.Bench = looptest.New(t, l.r.controller(nil), loop.Options{Client: l.client, Reader: l.client, Concurrent: 1, MaxParked: 1})
	t.Cleanup(func() {
		obj := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "app"}}
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
		if err := l.client.Patch(context.Background(), obj, patch); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// counter counts requests that are no watches.
type counter struct {
	l    *lab
	next http.RoundTripper
}

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Get("watch") == "" {
		c.l.mu.Lock()
		c.l.requests = append(c.l.requests, r.Method+" "+strings.ReplaceAll(r.URL.Path, c.l.ns, "NS"))
		c.l.mu.Unlock()
	}
	return c.next.RoundTrip(r)
}

// took returns the requests since the last call.
func (l *lab) took() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.requests
	l.requests = nil
	return out
}

// listed counts the lists of records of the namespace among requests.
func listed(requests []string) int {
	n := 0
	for _, r := range requests {
		if r == "GET /api/v1/namespaces/NS/secrets" {
			n++
		}
	}
	return n
}

func (l *lab) openArtifacts() *artifact.Opener {
	l.t.Helper()
	server := httptest.NewUnstartedServer(nil)
	var err error
	l.store, err = artifact.OpenStore(l.t.TempDir(), artifact.StoreOptions{AdvertisedAddr: server.Listener.Addr().String(), RetentionTTL: time.Hour, RetentionRecords: 100})
	must(l.t, err)
	server.Config.Handler = l.store.Handler()
	server.Start()
	opener, err := artifact.NewOpener(nil, l.t.TempDir(), artifact.OpenerOptions{})
	must(l.t, err)
	l.t.Cleanup(func() {
		server.Close()
		if err := opener.Close(); err != nil {
			l.t.Error(err)
		}
		if err := l.store.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return opener
}

// offer makes a version of a chart with one ConfigMap the artifact of the HelmChart "demo".
func (l *lab) offer(version string) {
	l.t.Helper()
	ctx := l.t.Context()
	data, err := charts.Chart{Name: "demo", Version: version, Files: map[string]string{
		"Chart.yaml":         "apiVersion: v2\nname: demo\nversion: " + version + "\n",
		"templates/map.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  message: {{ .Values.message | quote }}\n",
	}}.Archive()
	must(l.t, err)
	hc := &sourcev1.HelmChart{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "demo"}}
	if err := l.client.Get(ctx, client.ObjectKeyFromObject(hc), hc); err != nil {
		hc.Spec = sourcev1.HelmChartSpec{Chart: "demo", Interval: "1h", SourceRef: sourcev1.HelmChartSourceReference{Kind: sourcev1.HelmRepositoryKind, Name: "repo"}}
		must(l.t, l.client.Create(ctx, hc))
	}
	a, err := l.store.Put(ctx, artifact.Name{Kind: sourcev1.HelmChartKind, Namespace: l.ns, Object: "demo", File: "demo-" + version + ".tgz"},
		func(w io.Writer) error { _, err := io.Copy(w, bytes.NewReader(data)); return err })
	must(l.t, err)
	a.Revision = version
	hc.Status.Artifact, hc.Status.ObservedGeneration = a, hc.Generation
	must(l.t, l.client.Status().Update(ctx, hc))
}

// create creates the HelmRelease "app" of the HelmChart.
func (l *lab) create(spec string) {
	l.t.Helper()
	obj := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "app"}}
	must(l.t, yaml.UnmarshalStrict([]byte("interval: 10m\nchartRef: {kind: HelmChart, name: demo}\nvalues: {message: hello}\n"+spec), &obj.Spec))
	must(l.t, l.client.Create(l.t.Context(), obj))
}

func (l *lab) get() *helmv2.HelmRelease {
	l.t.Helper()
	obj := &helmv2.HelmRelease{}
	must(l.t, l.client.Get(l.t.Context(), types.NamespacedName{Namespace: l.ns, Name: "app"}, obj))
	return obj
}

// step runs once, and fails unless the release is as it should be then, in the version. It returns the requests.
func (l *lab) step(version int) []string {
	l.t.Helper()
	l.took()
	_, err := l.Run(l.t.Context(), types.NamespacedName{Namespace: l.ns, Name: "app"})
	must(l.t, err)
	obj := l.get()
	if !status.IsTrue(obj.Status.Conditions, meta.ReadyCondition) || len(obj.Status.History) == 0 || obj.Status.History[0].Version != version {
		l.t.Fatalf("it is not ready with version %d: %+v", version, obj.Status)
	}
	return l.took()
}

// await waits until the watch shows the newest record as the API server has it.
func (l *lab) await() {
	l.t.Helper()
	shared := l.r.Clusters.Home().Watch.shared
	for {
		var all metav1.PartialObjectMetadataList
		all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
		must(l.t, l.client.List(l.t.Context(), &all, client.InNamespace(l.ns), client.MatchingLabels{"owner": "helm", "name": "app"}))
		want, highest := "", ""
		for _, m := range all.Items {
			if v := m.Labels["version"]; v > highest {
				want, highest = m.ResourceVersion, v
			}
		}
		if shown, ok := shared.Newest(l.ns, "app"); ok && shown == want {
			return
		}
	}
}

// One list is enough for an action, and none for a release that nobody has touched, which writes nothing either. What others do to its
// records shows in the next run (helmrelease 39).
func TestUnchangedRelease(t *testing.T) {
	t.Parallel()
	for name, spec := range map[string]string{
		"plain":                "",
		"with drift detection": "driftDetection: {mode: enabled}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.offer("1.0.0")
			l.create(spec)
			if r := l.step(1); listed(r) != 1 {
				t.Errorf("an installation listed the records %d times:\n%s", listed(r), strings.Join(r, "\n"))
			}
			quiet := func(version int) {
				t.Helper()
				l.await()
				for spec != "" && len(l.step(version)) > 0 {
					// The watch of the objects is still to show what was applied.
				}
				before := l.get().ResourceVersion
				if r := l.step(version); len(r) > 0 {
					t.Errorf("a run without news made requests:\n%s", strings.Join(r, "\n"))
				}
				if l.get().ResourceVersion != before {
					t.Error("a run without news wrote")
				}
			}
			quiet(1)
			l.offer("1.1.0")
			if r := l.step(2); listed(r) != 1 {
				t.Errorf("an upgrade listed the records %d times:\n%s", listed(r), strings.Join(r, "\n"))
			}
			quiet(2)

			// Once in a while storage is read all the same.
			l.clock.by += trustWatch
			if r := l.step(2); listed(r) != 1 {
				t.Errorf("after %s there were the requests:\n%s", trustWatch, strings.Join(r, "\n"))
			}
			quiet(2)

			if spec != "" {
				// Somebody changes an object.
				changed := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "app"}}
				must(t, l.client.Get(t.Context(), client.ObjectKeyFromObject(changed), changed))
				changed.Data["message"] = "theirs"
				must(t, l.client.Update(t.Context(), changed))
				for changed.Data["message"] == "theirs" {
					l.step(2)
					must(t, l.client.Get(t.Context(), client.ObjectKeyFromObject(changed), changed))
				}
				quiet(2)
			}

			// Somebody goes back with helm.
			first, err := l.helm.Get("app", 1)
			must(t, err)
			theirs := *first.(*release.Release)
			theirs.Version = 3
			must(t, l.helm.Create(&theirs))
			l.await()
			l.step(4)
			if got := l.get().Status.History; got[0].ChartVersion != "1.1.0" {
				t.Errorf("the chart is %s", got[0].ChartVersion)
			}
			quiet(4)

			// Somebody deletes the newest record: what is there then is not what was last seen.
			_, err = l.helm.Delete("app", 4)
			must(t, err)
			l.await()
			l.step(4)

			// Somebody deletes all records.
			all, err := l.helm.History("app")
			must(t, err)
			for _, r := range all {
				_, err := l.helm.Delete("app", r.(*release.Release).Version)
				must(t, err)
			}
			l.await()
			l.step(1)
		})
	}
}

// What the watch shows counts only for who has read that very record: another spec may mean another release, or act with other rights, and
// an object whose status was written by somebody else has read nothing (reliability 034).
func TestWatchConfirmsOnlyWhatWasRead(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.offer("1.0.0")
	l.create("")
	l.step(1)
	l.await()
	own := owner(l.get())
	memory := &l.r.Clusters.Home().Watch.settled
	for name, change := range map[string]func(){
		"another spec": func() {
			obj := l.get()
			obj.Spec.Timeout = "1m"
			must(t, l.client.Update(t.Context(), obj))
		},
		"a process that has just started": func() { memory.forget(own) },
		"another digest": func() {
			found, _ := memory.get(own)
			found.digest = "sha256:other"
			memory.put(own, found)
		},
		"another record": func() {
			found, _ := memory.get(own)
			found.record = "1"
			memory.put(own, found)
		},
	} {
		if r := l.step(1); len(r) > 0 {
			t.Fatalf("before the change of %s there were the requests:\n%s", name, strings.Join(r, "\n"))
		}
		change()
		if r := l.step(1); !slices.Equal(r, []string{"GET /api/v1/namespaces/NS/secrets"}) {
			t.Errorf("after %s there were the requests:\n%s", name, strings.Join(r, "\n"))
		}
	}
}
