package helm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/yaml"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
)

// desk is a Releaser that only sees to what a release needs: the HelmChart, dependencies and the source.
type desk struct {
	*looptest.Bench
	t   *testing.T
	key types.NamespacedName
	// live is the API server, cache what a process sees of it: the same, unless a test keeps it back.
	live  client.WithWatch
	cache *cache
	r     *Releaser

	mu     sync.Mutex // guards calls
	calls  []string
	refuse error // what the API server says to writes of HelmCharts
}

// cache reads what is live but for HelmCharts that a test has frozen.
type cache struct {
	client.Client
	frozen bool
	charts map[types.NamespacedName]*sourcev1.HelmChart
}

func (c *cache) Get(ctx context.Context, key client.ObjectKey, obj client.Object, o ...client.GetOption) error {
	if chart, ok := obj.(*sourcev1.HelmChart); ok && c.frozen {
		if found := c.charts[key]; found != nil {
			found.DeepCopyInto(chart)
			return nil
		}
		return apierrors.NewNotFound(sourcev1.GroupVersion.WithResource("helmcharts").GroupResource(), key.Name)
	}
	return c.Client.Get(ctx, key, obj, o...)
}

// prerequisites are the part of a run before anything is released.
type prerequisites struct{ *desk }

func (p prerequisites) Reconcile(ctx context.Context, obj *helmv2.HelmRelease, run *loop.Run) error {
	p.r.Graph.Set(keyOf(obj), edges(obj))
	run.Progress("Fulfilling prerequisites")
	if err := p.r.syncTemplate(ctx, obj, run); err != nil {
		return err
	}
	if err := p.r.dependencies(ctx, obj, run); err != nil {
		return err
	}
	source, err := p.r.resolve(ctx, obj)
	if err != nil {
		return err
	}
	return run.Ready("%s %s at %s", source.Kind, source.Key, source.Revision)
}

func (p prerequisites) Finalize(ctx context.Context, obj *helmv2.HelmRelease, run *loop.Run) error {
	return p.r.deleteTemplate(ctx, obj, run)
}

func newDesk(t *testing.T, objects ...client.Object) *desk {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{sourcev1.AddToScheme, helmv2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	live := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&helmv2.HelmRelease{}, &sourcev1.HelmChart{}).Build()
	return newDeskOn(t, live, appKey)
}

// newDeskOn is a desk on the API server of a client, for the HelmRelease with the key.
func newDeskOn(t *testing.T, live client.WithWatch, key types.NamespacedName) *desk {
	t.Helper()
	d := &desk{t: t, key: key, live: live}
	counted := func(verb string, obj any) {
		if _, ok := obj.(*helmv2.HelmRelease); !ok {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.calls = append(d.calls, verb)
		}
	}
	reader := interceptor.NewClient(d.live, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, o ...client.GetOption) error {
			counted("get", obj)
			return c.Get(ctx, key, obj, o...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, obj runtime.ApplyConfiguration, o ...client.ApplyOption) error {
			counted("apply", obj)
			if d.refuse != nil {
				return d.refuse
			}
			return c.Apply(ctx, obj, o...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, o ...client.DeleteOption) error {
			counted("delete", obj)
			if d.refuse != nil {
				return d.refuse
			}
			return c.Delete(ctx, obj, o...)
		},
	})
	writer := interceptor.NewClient(d.live, interceptor.Funcs{})
	d.cache = &cache{Client: &split{Client: writer, writes: reader}, charts: map[types.NamespacedName]*sourcev1.HelmChart{}}
	d.r = &Releaser{
		Options: Options{RequeueDependency: 5 * time.Second}, Client: d.cache, Reader: reader, Graph: depend.NewGraph(),
		Sources: &sourceref.Resolver{Reader: d.cache, ExternalArtifact: true},
	}
	c := d.r.controller(nil)
	c.Reconciler = prerequisites{d}
	d.Bench = looptest.New(t, c, loop.Options{Client: d.live, Reader: d.live, Concurrent: 1, MaxParked: 1})
	return d
}

// split reads from the cache without being counted, and writes to where it is.
type split struct {
	client.Client
	writes client.Client
}

func (s *split) Apply(ctx context.Context, obj runtime.ApplyConfiguration, o ...client.ApplyOption) error {
	return s.writes.Apply(ctx, obj, o...)
}

func (s *split) Delete(ctx context.Context, obj client.Object, o ...client.DeleteOption) error {
	return s.writes.Delete(ctx, obj, o...)
}

func (d *desk) took() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := strings.Join(d.calls, " ")
	d.calls = nil
	return out
}

var appKey = types.NamespacedName{Namespace: "apps", Name: "app"}

// app is a HelmRelease with the spec.
func app(t *testing.T, spec string) *helmv2.HelmRelease {
	t.Helper()
	obj := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app", Generation: 1, UID: "app", Finalizers: []string{meta.Finalizer}}}
	obj.Status.ObservedGeneration = -1
	if err := yaml.UnmarshalStrict([]byte("interval: 10m\n"+spec), &obj.Spec); err != nil {
		t.Fatal(err)
	}
	return obj
}

const demo = "chart: {spec: {chart: demo, version: 1.0.0, reconcileStrategy: ChartVersion, sourceRef: {kind: HelmRepository, name: repo}}}"

// run runs once, and returns the events, and Ready as "status reason: message".
func (d *desk) run() (ready string, events []string) {
	d.t.Helper()
	_, _ = d.Run(d.t.Context(), d.key)
	obj := d.get()
	for _, c := range obj.Status.Conditions {
		if c.Type == meta.ReadyCondition {
			ready = fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return ready, d.Lines()
}

func (d *desk) get() *helmv2.HelmRelease {
	d.t.Helper()
	var obj helmv2.HelmRelease
	if err := d.live.Get(d.t.Context(), d.key, &obj); err != nil {
		d.t.Fatal(err)
	}
	return &obj
}

// change gives the HelmRelease another spec.
func (d *desk) change(spec string) {
	d.t.Helper()
	obj := d.get()
	obj.Spec = app(d.t, spec).Spec
	obj.Generation++
	if err := d.live.Update(d.t.Context(), obj); err != nil {
		d.t.Fatal(err)
	}
}

// chart returns a HelmChart, nil if there is none.
func (d *desk) chart(namespace, name string) *sourcev1.HelmChart {
	d.t.Helper()
	var chart sourcev1.HelmChart
	err := d.live.Get(d.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, &chart)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return &chart
}

// offer gives the HelmChart an artifact.
func (d *desk) offer(namespace, name, revision string) {
	d.t.Helper()
	chart := d.chart(namespace, name)
	chart.Status.ObservedGeneration = chart.Generation
	chart.Status.Artifact = &meta.Artifact{Revision: revision, Digest: "sha256:" + revision}
	chart.Status.Conditions = []metav1.Condition{{Type: meta.ReadyCondition, Status: metav1.ConditionTrue, ObservedGeneration: chart.Generation}}
	if err := d.live.Status().Update(d.t.Context(), chart); err != nil {
		d.t.Fatal(err)
	}
}

func expect(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// The life of a HelmChart (helmrelease 11-13, 15; recording install).
func TestTemplate(t *testing.T) {
	d := newDesk(t, app(t, demo))
	ready, events := d.run()
	expect(t, "Ready", "False SourceNotReady: HelmChart 'apps/apps-app' is not ready: latest generation of object has not been reconciled", ready)
	expect(t, "events", []string{"trace HelmChartCreated: Created HelmChart/apps/apps-app with SourceRef 'HelmRepository/apps/repo' (local)"}, events)
	expect(t, "requests", "get apply", d.took())
	expect(t, "status.helmChart", "apps/apps-app", d.get().Status.HelmChart)
	chart := d.chart("apps", "apps-app")
	expect(t, "spec", sourcev1.HelmChartSpec{
		Chart: "demo", Version: "1.0.0", Interval: "10m0s", ReconcileStrategy: "ChartVersion", SourceRef: sourcev1.HelmChartSourceReference{Kind: "HelmRepository", Name: "repo"},
	}, chart.Spec)
	expect(t, "labels", map[string]string{"helm.toolkit.fluxcd.io/name": "app", "helm.toolkit.fluxcd.io/namespace": "apps"}, chart.Labels)

	d.offer("apps", "apps-app", "1.0.0")
	for range 2 {
		ready, events = d.run()
		expect(t, "Ready", "True ReconciliationSucceeded: HelmChart apps/apps-app at 1.0.0", ready)
		expect(t, "events", []string(nil), slices.DeleteFunc(events, func(e string) bool { return !strings.Contains(e, "HelmChart") }))
		expect(t, "requests of a run without news", "", d.took())
	}

	d.change(strings.Replace(demo, "1.0.0", "2.0.0", 1))
	_, events = d.run()
	expect(t, "events", []string{"trace HelmChartConfigured: Configured HelmChart/apps/apps-app with SourceRef 'HelmRepository/apps/repo' (local)"}, events)
	expect(t, "requests", "get apply", d.took())
	expect(t, "version", "2.0.0", d.chart("apps", "apps-app").Spec.Version)

	// Another source namespace means another HelmChart; the old one goes first.
	d.change(strings.Replace(demo, "name: repo", "name: repo, namespace: infra", 1))
	_, events = d.run()
	expect(t, "helmrelease 13, 14: events", []string{
		"trace HelmChartDeleted: deleted HelmChart 'apps/apps-app' (local)",
		"trace HelmChartCreated: Created HelmChart/infra/apps-app with SourceRef 'HelmRepository/infra/repo' (local)",
	}, events)
	expect(t, "requests", "get delete get apply", d.took())
	expect(t, "status.helmChart", "infra/apps-app", d.get().Status.HelmChart)
	if d.chart("apps", "apps-app") != nil {
		t.Error("the old HelmChart is still there")
	}

	d.change("chartRef: {kind: OCIRepository, name: demo}")
	ready, events = d.run()
	expect(t, "helmrelease 13, recording switch-chart-to-chart-ref: events", []string{"trace HelmChartDeleted: deleted HelmChart 'infra/apps-app' (local)"}, events)
	expect(t, "status.helmChart", "", d.get().Status.HelmChart)
	expect(t, "Ready", `False ArtifactFailed: could not get Source object: OCIRepository.source.toolkit.fluxcd.io "demo" not found`, ready)
}

// What a template says is in the HelmChart, and what it no longer says is not (helmrelease 12).
func TestTemplateFields(t *testing.T) {
	const full = `chart:
  metadata: {labels: {team: web, helm.toolkit.fluxcd.io/name: forged}, annotations: {note: x}}
  spec:
    chart: ./charts/demo
    interval: 90s
    reconcileStrategy: Revision
    sourceRef: {apiVersion: source.toolkit.fluxcd.io/v1, kind: GitRepository, name: repo}
    valuesFiles: [a.yaml, b.yaml]
    ignoreMissingValuesFiles: true
    verify: {provider: cosign, secretRef: {name: keys}}`
	d := newDesk(t, app(t, full))
	d.run()
	chart := d.chart("apps", "apps-app")
	expect(t, "spec", sourcev1.HelmChartSpec{
		Chart: "./charts/demo", Interval: "1m30s", ReconcileStrategy: "Revision", SourceRef: sourcev1.HelmChartSourceReference{Kind: "GitRepository", Name: "repo"},
		ValuesFiles: []string{"a.yaml", "b.yaml"}, IgnoreMissingValuesFiles: true,
		Verify: &sourcev1.HelmChartVerification{Provider: "cosign", SecretRef: &meta.LocalObjectReference{Name: "keys"}},
	}, chart.Spec)
	expect(t, "labels", map[string]string{"team": "web", "helm.toolkit.fluxcd.io/name": "app", "helm.toolkit.fluxcd.io/namespace": "apps"}, chart.Labels)
	expect(t, "annotations", map[string]string{"note": "x"}, chart.Annotations)

	d.change("chart: {spec: {chart: ./charts/demo, sourceRef: {kind: GitRepository, name: repo}}}")
	d.run()
	chart = d.chart("apps", "apps-app")
	expect(t, "spec", sourcev1.HelmChartSpec{
		Chart: "./charts/demo", Interval: "10m0s", SourceRef: sourcev1.HelmChartSourceReference{Kind: "GitRepository", Name: "repo"},
	}, chart.Spec)
	expect(t, "labels", map[string]string{"helm.toolkit.fluxcd.io/name": "app", "helm.toolkit.fluxcd.io/namespace": "apps"}, chart.Labels)
	if len(chart.Annotations) > 0 {
		t.Errorf("annotations %v", chart.Annotations)
	}
}

func TestMatches(t *testing.T) {
	base := func(change ...func(*sourcev1.HelmChart)) *sourcev1.HelmChart {
		c := chartOfTemplate(app(t, demo), types.NamespacedName{Namespace: "apps", Name: "apps-app"})
		for _, f := range change {
			f(c)
		}
		return c
	}
	for _, tc := range []struct {
		name           string
		change         func(*sourcev1.HelmChart)
		loose, exactly bool
	}{
		{"equal", func(*sourcev1.HelmChart) {}, true, true},
		{"suspended by somebody", func(c *sourcev1.HelmChart) { c.Spec.Suspend = true }, true, true},
		{"an apiVersion", func(c *sourcev1.HelmChart) { c.Spec.SourceRef.APIVersion = "v1" }, true, true},
		{"another chart", func(c *sourcev1.HelmChart) { c.Spec.Chart = "x" }, false, false},
		{"another version", func(c *sourcev1.HelmChart) { c.Spec.Version = "x" }, false, false},
		{"another interval", func(c *sourcev1.HelmChart) { c.Spec.Interval = "1m" }, false, false},
		{"another source", func(c *sourcev1.HelmChart) { c.Spec.SourceRef.Name = "x" }, false, false},
		{"another strategy", func(c *sourcev1.HelmChart) { c.Spec.ReconcileStrategy = "Revision" }, false, false},
		{"a label lost", func(c *sourcev1.HelmChart) { delete(c.Labels, helmv2.OwnerNameLabel) }, false, false},
		{"a label of somebody", func(c *sourcev1.HelmChart) { c.Labels["x"] = "y" }, true, false},
		{"a request", func(c *sourcev1.HelmChart) { c.Annotations = map[string]string{meta.ReconcileRequestAnnotation: "now"} }, true, false},
		{"values files of somebody", func(c *sourcev1.HelmChart) { c.Spec.ValuesFiles = []string{"x"} }, true, false},
		{"missing files ignored by somebody", func(c *sourcev1.HelmChart) { c.Spec.IgnoreMissingValuesFiles = true }, true, false},
		{"verification by somebody", func(c *sourcev1.HelmChart) { c.Spec.Verify = &sourcev1.HelmChartVerification{Provider: "cosign"} }, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			have := base(tc.change)
			if got := matches(base(), have, false); got != tc.loose {
				t.Errorf("loosely %v", got)
			}
			if got := matches(base(), have, true); got != tc.exactly {
				t.Errorf("exactly %v", got)
			}
		})
	}
}

// The fields that the API server fills in where a template says nothing are no difference.
func TestMatchesDefaults(t *testing.T) {
	want := chartOfTemplate(app(t, "chart: {spec: {chart: demo, sourceRef: {kind: HelmRepository, name: repo}, verify: {provider: cosign}}}"), appKey)
	have := want.DeepCopy()
	have.Spec.Version, have.Spec.ReconcileStrategy = "*", "ChartVersion"
	have.Spec.Verify.MatchOIDCIdentity = []sourcev1.OIDCIdentityMatch{{Issuer: "x"}}
	if !matches(want, have, true) {
		t.Error("a difference is seen")
	}
	have.Spec.Verify.SecretRef = &meta.LocalObjectReference{Name: "x"}
	if !matches(want, have, false) || matches(want, have, true) {
		t.Error("a Secret of somebody else's")
	}
}

func foreign(namespace, name string) *sourcev1.HelmChart {
	return &sourcev1.HelmChart{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: "foreign", Labels: map[string]string{helmv2.OwnerNameLabel: "other", helmv2.OwnerNamespaceLabel: "elsewhere"},
	}, Spec: sourcev1.HelmChartSpec{Chart: "theirs", Interval: "1h"}}
}

// A HelmChart of another HelmRelease is neither changed nor deleted: names made of a namespace and a name may be the same for two.
func TestTemplateOfAnother(t *testing.T) {
	d := newDesk(t, app(t, demo), foreign("apps", "apps-app"))
	ready, events := d.run()
	const message = "failed to apply HelmChart 'apps/apps-app': it belongs to HelmRelease 'elsewhere/other': charts of both would have this name; rename one of the two, or use spec.chartRef"
	expect(t, "Ready", "False SourceNotReady: "+message, ready)
	expect(t, "helmrelease 15: events", []string{"trace HelmChartSyncErr: " + message + " (local)", "error SourceNotReady: " + message}, events)
	expect(t, "chart", "theirs", d.chart("apps", "apps-app").Spec.Chart)
	expect(t, "requests", "get", d.took())

	d.change("chartRef: {kind: OCIRepository, name: demo}")
	obj := d.get()
	obj.Status.HelmChart = "apps/apps-app"
	if err := d.live.Status().Update(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	d.run()
	if d.chart("apps", "apps-app") == nil {
		t.Error("the chart of another HelmRelease was deleted")
	}
}

// One that belongs to nobody is taken over, as by 2.9.
func TestTemplateOfNobody(t *testing.T) {
	chart := foreign("apps", "apps-app")
	chart.Labels = nil
	d := newDesk(t, app(t, demo), chart)
	_, events := d.run()
	expect(t, "events", []string{"trace HelmChartConfigured: Configured HelmChart/apps/apps-app with SourceRef 'HelmRepository/apps/repo' (local)"}, events)
	expect(t, "chart", "demo", d.chart("apps", "apps-app").Spec.Chart)
}

func TestTemplateAccess(t *testing.T) {
	d := newDesk(t, app(t, strings.Replace(demo, "name: repo", "name: repo, namespace: infra", 1)))
	d.r.NoCrossNamespaceRefs = true
	ready, _ := d.run()
	expect(t, "helmrelease 14, 19: Ready", "False AccessDenied: can't access 'HelmRepository/infra/repo', cross-namespace references have been blocked", ready)
	expect(t, "requests", "", d.took())
	if d.chart("infra", "apps-app") != nil {
		t.Error("a HelmChart was made")
	}
}

func TestTemplateRefused(t *testing.T) {
	d := newDesk(t, app(t, demo))
	d.refuse = errors.New("no more room")
	ready, events := d.run()
	expect(t, "Ready", "False SourceNotReady: failed to apply HelmChart 'apps/apps-app': no more room", ready)
	expect(t, "helmrelease 15: events", []string{
		"trace HelmChartSyncErr: failed to apply HelmChart 'apps/apps-app': no more room (local)",
		"error SourceNotReady: failed to apply HelmChart 'apps/apps-app': no more room",
	}, events)
}

// A cache that lags tells neither that a HelmChart is missing nor that it is the old one's artifact that counts.
func TestTemplateLag(t *testing.T) {
	d := newDesk(t, app(t, demo))
	d.cache.frozen = true
	d.run()
	expect(t, "requests", "get apply", d.took())
	ready, events := d.run()
	expect(t, "Ready", "False SourceNotReady: HelmChart 'apps/apps-app' is not ready: latest generation of object has not been reconciled", ready)
	expect(t, "events", []string(nil), events)
	expect(t, "requests", "get", d.took())

	d.offer("apps", "apps-app", "1.0.0")
	d.cache.charts[types.NamespacedName{Namespace: "apps", Name: "apps-app"}] = d.chart("apps", "apps-app")
	ready, _ = d.run()
	expect(t, "Ready", "True ReconciliationSucceeded: HelmChart apps/apps-app at 1.0.0", ready)
	d.change(strings.Replace(demo, "1.0.0", "2.0.0", 1))
	ready, _ = d.run()
	expect(t, "Ready", "False SourceNotReady: HelmChart 'apps/apps-app' is not ready: latest generation of object has not been reconciled", ready)
}

// A HelmChart that is being deleted is waited for, not written.
func TestTemplateTerminating(t *testing.T) {
	d := newDesk(t, app(t, demo))
	d.run()
	d.took()
	chart := d.chart("apps", "apps-app")
	chart.Finalizers = []string{"test/held"}
	if err := d.live.Update(t.Context(), chart); err != nil {
		t.Fatal(err)
	}
	if err := d.live.Delete(t.Context(), chart); err != nil {
		t.Fatal(err)
	}
	ready, _ := d.run()
	expect(t, "Ready", "False SourceNotReady: HelmChart 'apps/apps-app' is not ready: it is being deleted", ready)
	expect(t, "requests", "get", d.took())
	expect(t, "woken by its end", []types.NamespacedName{appKey}, d.r.onChartGone(chart, nil))
	expect(t, "woken by a change", []types.NamespacedName(nil), d.r.onChartGone(chart, chart))
}

// The HelmChart goes with its HelmRelease, also when the process was killed before it wrote down that it had made one (helmrelease 89).
func TestTemplateDeleted(t *testing.T) {
	for name, forget := range map[string]bool{"written down": false, "not written down": true} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, app(t, demo))
			d.run()
			obj := d.get()
			if forget {
				obj.Status.HelmChart = ""
				if err := d.live.Status().Update(t.Context(), obj); err != nil {
					t.Fatal(err)
				}
			}
			if err := d.live.Delete(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Run(t.Context(), appKey); err != nil {
				t.Fatal(err)
			}
			expect(t, "events", []string{"trace HelmChartDeleted: deleted HelmChart 'apps/apps-app' (local)"}, d.Lines())
			if d.chart("apps", "apps-app") != nil {
				t.Error("the HelmChart is still there")
			}
			if err := d.live.Get(t.Context(), appKey, &helmv2.HelmRelease{}); !apierrors.IsNotFound(err) {
				t.Errorf("the HelmRelease is still there: %v", err)
			}
		})
	}
}

func TestTemplateNotDeleted(t *testing.T) {
	d := newDesk(t, app(t, demo))
	d.run()
	if err := d.live.Delete(t.Context(), d.get()); err != nil {
		t.Fatal(err)
	}
	d.refuse = errors.New("not now")
	if _, err := d.Run(t.Context(), appKey); err == nil {
		t.Error("the failure got lost")
	}
	expect(t, "finalizers", []string{meta.Finalizer}, d.get().Finalizers)
}

// What a source has to be, and what is said of one that is not (helmrelease 19-21).
func TestResolve(t *testing.T) {
	oci := func(change func(*sourcev1.OCIRepository)) *sourcev1.OCIRepository {
		o := &sourcev1.OCIRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "demo", Generation: 2}}
		o.Status.ObservedGeneration = 2
		o.Status.Artifact = &meta.Artifact{Revision: "1.0.0@sha256:1"}
		change(o)
		return o
	}
	condition := func(kind string, s metav1.ConditionStatus, generation int64, message string) metav1.Condition {
		return metav1.Condition{Type: kind, Status: s, Reason: "X", Message: message, ObservedGeneration: generation}
	}
	const ref = "chartRef: {kind: OCIRepository, name: demo}"
	const notReconciled = "False SourceNotReady: OCIRepository 'apps/demo' is not ready: latest generation of object has not been reconciled"
	for _, tc := range []struct {
		name, spec string
		object     client.Object
		resolver   func(*sourceref.Resolver)
		want       string
		event      string
	}{
		{"helmrelease 20: ready", ref, oci(func(*sourcev1.OCIRepository) {}), nil, "True ReconciliationSucceeded: OCIRepository apps/demo at 1.0.0@sha256:1", ""},
		{"helmrelease 20: it fails now, and has an old artifact", ref, oci(func(o *sourcev1.OCIRepository) {
			o.Status.Conditions = []metav1.Condition{condition("Ready", "False", 2, "no network")}
		}), nil, "True ReconciliationSucceeded: OCIRepository apps/demo at 1.0.0@sha256:1", ""},
		{"helmrelease 20: a new generation", ref, oci(func(o *sourcev1.OCIRepository) { o.Generation = 3 }), nil, notReconciled, ""},
		{"helmrelease 21: a new generation that has failed", ref, oci(func(o *sourcev1.OCIRepository) {
			o.Generation, o.Status.Conditions = 3, []metav1.Condition{condition("Ready", "False", 3, "no network")}
		}), nil, "False SourceNotReady: OCIRepository 'apps/demo' is not ready: no network", ""},
		{"helmrelease 21: a new generation after a failure", ref, oci(func(o *sourcev1.OCIRepository) {
			o.Generation, o.Status.Conditions = 3, []metav1.Condition{condition("Ready", "False", 2, "no network")}
		}), nil, notReconciled, ""},
		{"helmrelease 20: stalled", ref, oci(func(o *sourcev1.OCIRepository) {
			o.Status.Conditions = []metav1.Condition{condition("Stalled", "True", 2, "bad URL"), condition("Ready", "False", 2, "bad URL")}
		}), nil, "False SourceNotReady: OCIRepository 'apps/demo' is not ready: bad URL", ""},
		{"helmrelease 21: no artifact (recording repository-missing)", ref, oci(func(o *sourcev1.OCIRepository) {
			o.Status.Artifact, o.Status.ObservedGeneration = nil, -1
			o.Status.Conditions = []metav1.Condition{condition("Ready", "False", 2, "failed to get source")}
		}), nil, "False SourceNotReady: OCIRepository 'apps/demo' is not ready: failed to get source", ""},
		{"helmrelease 21: not yet", ref, oci(func(o *sourcev1.OCIRepository) {
			o.Status.Artifact, o.Status.Conditions = nil, []metav1.Condition{condition("Ready", "Unknown", 2, "building artifact")}
		}), nil, notReconciled, ""},
		{"helmrelease 19: it is not there", ref, oci(func(o *sourcev1.OCIRepository) { o.Name = "other" }), nil,
			`False ArtifactFailed: could not get Source object: OCIRepository.source.toolkit.fluxcd.io "demo" not found`, ""},
		{"helmrelease 14: in another namespace", "chartRef: {kind: OCIRepository, name: demo, namespace: infra}", oci(func(o *sourcev1.OCIRepository) { o.Namespace = "infra" }), nil,
			"True ReconciliationSucceeded: OCIRepository infra/demo at 1.0.0@sha256:1", ""},
		{"helmrelease 19: denied", "chartRef: {kind: OCIRepository, name: demo, namespace: infra}", oci(func(o *sourcev1.OCIRepository) { o.Namespace = "infra" }),
			func(r *sourceref.Resolver) { r.NoCrossNamespaceRefs = true },
			"False AccessDenied: can't access 'OCIRepository/infra/demo', cross-namespace references have been blocked",
			"error AccessDenied: can't access 'OCIRepository/infra/demo', cross-namespace references have been blocked"},
		{"helmrelease 20: an ExternalArtifact needs only its artifact", "chartRef: {kind: ExternalArtifact, name: demo}", &sourcev1.ExternalArtifact{
			ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "demo", Generation: 3}, Status: sourcev1.ExternalArtifactStatus{Artifact: &meta.Artifact{Revision: "1"}},
		}, nil, "True ReconciliationSucceeded: ExternalArtifact apps/demo at 1", ""},
		{"helmrelease 20: an ExternalArtifact without one", "chartRef: {kind: ExternalArtifact, name: demo}",
			&sourcev1.ExternalArtifact{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "demo"}}, nil,
			"False SourceNotReady: ExternalArtifact 'apps/demo' is not ready: latest generation of object has not been reconciled", ""},
		{"an ExternalArtifact without the gate", "chartRef: {kind: ExternalArtifact, name: demo}", oci(func(*sourcev1.OCIRepository) {}),
			func(r *sourceref.Resolver) { r.ExternalArtifact = false },
			"False AccessDenied: can't access 'ExternalArtifact/apps/demo', ExternalArtifact feature gate is disabled",
			"error AccessDenied: can't access 'ExternalArtifact/apps/demo', ExternalArtifact feature gate is disabled"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDesk(t, app(t, tc.spec), tc.object)
			if tc.resolver != nil {
				tc.resolver(d.r.Sources)
			}
			ready, events := d.run()
			expect(t, "Ready", tc.want, ready)
			if strings.HasPrefix(ready, "False") {
				expect(t, "helmrelease 19, 21: events", tc.event, strings.Join(events, "\n"))
			}
		})
	}
}

func helmRelease(name string, change ...func(*helmv2.HelmRelease)) *helmv2.HelmRelease {
	o := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name, Generation: 1}}
	o.Spec.Chart = &helmv2.HelmChartTemplate{Spec: helmv2.HelmChartTemplateSpec{Chart: "demo", SourceRef: helmv2.ChartSourceReference{Kind: "HelmRepository", Name: "repo"}}}
	o.Status.ObservedGeneration, o.Status.LastAttemptedGeneration = 1, 1
	for _, f := range change {
		f(o)
	}
	return o
}

func in(conditionType string, s metav1.ConditionStatus) func(*helmv2.HelmRelease) {
	return func(o *helmv2.HelmRelease) {
		o.Status.Conditions = []metav1.Condition{{Type: conditionType, Status: s, Reason: "X", LastTransitionTime: metav1.Now()}}
	}
}

// What dependencies have to be, and what is said of one that is not (helmrelease 16, 17; recording depends-on-ready-expr).
func TestDependencies(t *testing.T) {
	oci := &sourcev1.OCIRepository{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "demo"}}
	oci.Status.Artifact = &meta.Artifact{Revision: "1"}
	const ref = "chartRef: {kind: OCIRepository, name: demo}\n"
	const good = "True ReconciliationSucceeded: OCIRepository apps/demo at 1"
	history := func(version string) func(*helmv2.HelmRelease) {
		return func(o *helmv2.HelmRelease) { o.Status.History = []helmv2.Snapshot{{ChartVersion: version}} }
	}
	for _, tc := range []struct {
		name, spec string
		dependency *helmv2.HelmRelease
		options    Options
		want       string
		event      string // "" for the words of Ready
	}{
		{"helmrelease 16: ready", "dependsOn: [{name: base}]", helmRelease("base", in("Ready", "True")), Options{}, good, ""},
		{"helmrelease 16: not ready", "dependsOn: [{name: base}]", helmRelease("base", in("Ready", "False")), Options{}, "False DependencyNotReady: dependency 'apps/base' is not ready", ""},
		{"helmrelease 16: ready for an older generation", "dependsOn: [{name: base}]", helmRelease("base", in("Ready", "True"), func(o *helmv2.HelmRelease) { o.Generation = 2 }), Options{},
			"False DependencyNotReady: dependency 'apps/base' is not ready", ""},
		{"helmrelease 16: missing", "dependsOn: [{name: other, namespace: infra}]", helmRelease("base"), Options{},
			`False DependencyNotReady: unable to get 'infra/other' dependency: helmreleases.helm.toolkit.fluxcd.io "other" not found`, ""},
		{"helmrelease 17: an expression", "dependsOn: [{name: base, readyExpr: \"dep.status.history[0].chartVersion == '2.0.0'\"}]", helmRelease("base", history("2.0.0")), Options{}, good, ""},
		{"helmrelease 17: an expression that is false", "dependsOn: [{name: base, readyExpr: \"dep.status.history[0].chartVersion == '2.0.0'\"}]", helmRelease("base", history("1.0.0")), Options{},
			"False DependencyNotReady: dependency 'apps/base' is not ready according to readyExpr eval", ""},
		{"helmrelease 17: an expression about what is not there", "dependsOn: [{name: base, readyExpr: \"dep.status.history[0].chartVersion == '2.0.0'\"}]", helmRelease("base"), Options{},
			"False DependencyNotReady: failed to evaluate the CEL expression 'dep.status.history[0].chartVersion == '2.0.0'': no such key: history", ""},
		{"helmrelease 17: self", "dependsOn: [{name: base, readyExpr: 'dep.metadata.namespace == self.metadata.namespace'}]", helmRelease("base"), Options{}, good, ""},
		{"helmrelease 17: additive", "dependsOn: [{name: base, readyExpr: 'true'}]", helmRelease("base", in("Ready", "False")), Options{AdditiveReadyExpr: true},
			"False DependencyNotReady: dependency 'apps/base' is not ready", ""},
		{"helmrelease 17: an expression in another namespace", "dependsOn: [{name: base, namespace: infra, readyExpr: 'true'}]", helmRelease("base"), Options{NoCrossNamespaceRefs: true},
			"False AccessDenied: access denied: readyExpr of dependency 'infra/base' reads an object of another namespace, and cross-namespace references are blocked: remove the expression",
			"error AccessDenied: access denied: readyExpr of dependency 'infra/base' reads an object of another namespace, and cross-namespace references are blocked: remove the expression"},
		{"a cycle", "dependsOn: [{name: app}]", helmRelease("base"), Options{}, "False DependencyNotReady: dependency 'apps/app' is not ready: dependency cycle apps/app -> apps/app", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDesk(t, app(t, ref+tc.spec), oci.DeepCopy(), tc.dependency)
			tc.options.RequeueDependency = 5 * time.Second
			d.r.Options = tc.options
			result, _ := d.Run(t.Context(), appKey)
			ready, events := "", d.Lines()
			for _, c := range d.get().Status.Conditions {
				if c.Type == meta.ReadyCondition {
					ready = fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
				}
			}
			expect(t, "Ready", tc.want, ready)
			message, waits := strings.CutPrefix(ready, "False DependencyNotReady: ")
			if waits {
				expect(t, "helmrelease 16: events", []string{"info DependencyNotReady: " + message}, events)
				if result.RequeueAfter < 4*time.Second || result.RequeueAfter > 6*time.Second {
					t.Errorf("looked at again after %s", result.RequeueAfter)
				}
				d.run()
				expect(t, "helmrelease 9: observedGeneration", int64(-1), d.get().Status.ObservedGeneration)
			} else if tc.event != "" {
				expect(t, "events", []string{tc.event}, events)
			}
		})
	}
}

func TestDependencyExpressionInvalid(t *testing.T) {
	d := newDesk(t, app(t, "chartRef: {kind: OCIRepository, name: demo}\ndependsOn: [{name: base, readyExpr: 'dep.status.history[0].'}]"))
	ready, events := d.run()
	const text = "terminal error: failed to evaluate dependency base: failed to parse the CEL expression 'dep.status.history[0].'"
	if !strings.HasPrefix(ready, "False InvalidCELExpression: Reconciliation failed terminally due to configuration error: "+text) {
		t.Errorf("helmrelease 17: Ready %s", ready)
	}
	if len(events) != 1 || !strings.HasPrefix(events[0], "error InvalidCELExpression: "+text) {
		t.Errorf("helmrelease 17: events %q", events)
	}
}

// Ready no longer tells of a dependency that has become ready, whatever comes next (helmrelease 18).
func TestDependencyResolved(t *testing.T) {
	obj := app(t, "chartRef: {kind: OCIRepository, name: demo}\ndependsOn: [{name: base}]")
	d := newDesk(t, obj, helmRelease("base", in("Ready", "False")))
	d.run()
	base := helmRelease("base")
	if err := d.live.Get(t.Context(), client.ObjectKeyFromObject(base), base); err != nil {
		t.Fatal(err)
	}
	in("Ready", "True")(base)
	if err := d.live.Status().Update(t.Context(), base); err != nil {
		t.Fatal(err)
	}
	var seen []metav1.Condition
	c := d.r.controller(nil)
	c.Reconciler = reconcile(func(ctx context.Context, obj *helmv2.HelmRelease, run *loop.Run) error {
		if err := d.r.dependencies(ctx, obj, run); err != nil {
			return err
		}
		if err := run.Persist(ctx); err != nil {
			return err
		}
		seen = d.get().Status.Conditions
		return nil
	})
	if _, err := looptest.New(t, c, loop.Options{Client: d.live, Reader: d.live, Concurrent: 1, MaxParked: 1}).Run(t.Context(), appKey); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(seen, func(c metav1.Condition) bool { return c.Type == meta.ReadyCondition })
	if i < 0 || seen[i].Status != metav1.ConditionUnknown {
		t.Errorf("conditions %v", seen)
	}
}

type reconcile func(context.Context, *helmv2.HelmRelease, *loop.Run) error

func (f reconcile) Reconcile(ctx context.Context, obj *helmv2.HelmRelease, run *loop.Run) error {
	return f(ctx, obj, run)
}
