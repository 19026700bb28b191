package helm

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/helm/charts"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
)

// helmrelease 1, 58: what the loop is told about the kind.
func TestController(t *testing.T) {
	c := (&Releaser{}).controller(nil)
	if c.Name != "helm-controller" || c.FieldManager != "" || c.Finalizer != "" {
		t.Errorf("name %q, field manager %q, finalizer %q: the first is the others' default", c.Name, c.FieldManager, c.Finalizer)
	}
	if _, ok := c.Reconciler.(loop.Finalizer[*helmv2.HelmRelease]); !ok {
		t.Error("nothing is done before an object goes")
	}
	want := []string{"Released", "TestSuccess", "Remediated", "Drifted", cluster.Condition}
	if diff := cmp.Diff(want, c.Conditions.Sticky); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
}

// helmrelease 5, 8: what only a change of the spec can help stalls before anything is read. The event has the bare error.
func TestCheck(t *testing.T) {
	bad := "healthCheckExprs: [{apiVersion: v1, kind: ConfigMap, current: 'status.'}]\n"
	for name, tt := range map[string]struct {
		spec    string
		reason  string
		message string
	}{
		"helmrelease 5: neither":   {"{}", meta.ReconciliationFailedReason, "either spec.chart or spec.chartRef must be set"},
		"helmrelease 5: both":      {demo + "\nchartRef: {kind: HelmChart, name: x}", meta.ReconciliationFailedReason, "either spec.chart or spec.chartRef must be set"},
		"helmrelease 8: no CEL":    {bad + demo, meta.InvalidCELExpressionReason, "Reconciliation failed terminally due to configuration error: "},
		"helmrelease 6: all right": {demo, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			spec := tt.spec
			if spec == "{}" {
				spec = "timeout: 1m"
			}
			err := (&Releaser{}).check(newWork(app(t, spec), &loop.Run{Generation: 1}))
			if loop.Reason(err, "") != tt.reason {
				t.Fatalf("the verdict is %v, want the reason %q", err, tt.reason)
			}
			if err != nil && !strings.HasPrefix(err.Error(), tt.message) {
				t.Errorf("it says %q, want %q", err, tt.message)
			}
		})
	}
}

// helmrelease 6, 7: prerequisites come in their order, and the run says that it is at them.
func TestOrder(t *testing.T) {
	obj := app(t, "healthCheckExprs: [{apiVersion: v1, kind: ConfigMap, current: 'status.'}]\ndependsOn: [{name: other}]\n"+demo)
	d := newDesk(t, obj)
	c := d.r.controller(nil)
	c.Reconciler = d.r
	d.Bench = benchOf(t, d, c)
	if _, err := d.Run(t.Context(), d.key); err != nil {
		t.Fatal(err)
	}
	got := d.object()
	if r := condition(got, meta.ReadyCondition); r.Reason != meta.InvalidCELExpressionReason {
		t.Errorf("Ready is %s: %s", r.Reason, r.Message)
	}
	if calls := d.took(); calls != "" {
		t.Errorf("before the expressions were checked there was: %s", calls)
	}
	got.Spec.HealthCheckExprs = nil
	got.Generation++
	if err := d.live.Update(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Run(t.Context(), d.key); err != nil {
		t.Fatal(err)
	}
	got = d.object()
	if r := condition(got, meta.ReadyCondition); r.Reason != meta.DependencyNotReadyReason {
		t.Errorf("Ready is %s: %s", r.Reason, r.Message)
	}
	if p := condition(got, meta.ReconcilingCondition); p.Reason != meta.ProgressingReason || p.Message != "Fulfilling prerequisites" {
		t.Errorf("Reconciling is %s: %s", p.Reason, p.Message)
	}
	if calls := d.took(); !strings.Contains(calls, "apply") {
		t.Errorf("the HelmChart comes before the dependencies, but there was only: %s", calls)
	}
}

// helmrelease 59, 60: what Ready says is what the newest generation says, the remediation first.
func TestVerdict(t *testing.T) {
	released := metav1.Condition{Type: helmv2.ReleasedCondition, Status: "True", Reason: helmv2.UpgradeSucceededReason, ObservedGeneration: 2}
	failed := metav1.Condition{Type: helmv2.ReleasedCondition, Status: "False", Reason: helmv2.UpgradeFailedReason, ObservedGeneration: 2}
	tested := metav1.Condition{Type: helmv2.TestSuccessCondition, Status: "False", Reason: helmv2.TestFailedReason, ObservedGeneration: 2}
	old := metav1.Condition{Type: helmv2.TestSuccessCondition, Status: "True", Reason: helmv2.TestSucceededReason, ObservedGeneration: 1}
	rolledBack := metav1.Condition{Type: helmv2.RemediatedCondition, Status: "True", Reason: helmv2.RollbackSucceededReason, ObservedGeneration: 2}
	removed := metav1.Condition{Type: helmv2.RemediatedCondition, Status: "True", Reason: helmv2.UninstallSucceededReason, ObservedGeneration: 2}
	for name, tt := range map[string]struct {
		spec       string
		conditions []metav1.Condition
		want       string
	}{
		"released":                            {"", []metav1.Condition{released}, "True UpgradeSucceeded"},
		"failed":                              {"", []metav1.Condition{failed}, "False UpgradeFailed"},
		"a failed test":                       {"test: {enable: true}\n", []metav1.Condition{released, tested}, "False TestFailed"},
		"a test of before":                    {"test: {enable: true}\n", []metav1.Condition{released, old}, "True UpgradeSucceeded"},
		"an ignored test":                     {"test: {enable: true, ignoreFailures: true}\n", []metav1.Condition{released, tested}, "True UpgradeSucceeded"},
		"tests are off":                       {"", []metav1.Condition{released, tested}, "True UpgradeSucceeded"},
		"helmrelease 60: rolled back":         {"", []metav1.Condition{failed, rolledBack}, "False RollbackSucceeded"},
		"helmrelease 60: uninstalled instead": {"", []metav1.Condition{failed, removed}, "False UpgradeFailed"},
	} {
		t.Run(name, func(t *testing.T) {
			obj := app(t, tt.spec+demo)
			obj.Status.Conditions, obj.Status.LastAttemptedReleaseAction = tt.conditions, helmv2.UpgradeAction
			c, ok := newWork(obj, &loop.Run{Generation: 2}).verdict()
			if got := string(c.Status) + " " + c.Reason; !ok || got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// helmrelease 62: results of tests go when tests are off.
func TestSettled(t *testing.T) {
	for spec, stays := range map[string]bool{"test: {enable: true}\n": true, "test: {enable: false}\n": false, "": false} {
		obj := app(t, spec+demo)
		obj.Status.Conditions = []metav1.Condition{{Type: helmv2.TestSuccessCondition, Status: "True", Reason: helmv2.TestSucceededReason}}
		w := newWork(obj, &loop.Run{Generation: 1})
		w.settled()
		if _, there := w.conditions[helmv2.TestSuccessCondition]; there != stays {
			t.Errorf("%q: TestSuccess is there: %t, want %t", spec, there, stays)
		}
	}
}

// helmrelease 35, 99, 100: an attempt is written down, failures of another one are forgotten, and what nobody uses is zero.
func TestAttempt(t *testing.T) {
	failures := func(s *helmv2.HelmReleaseStatus) [3]int64 {
		return [3]int64{s.Failures, s.InstallFailures, s.UpgradeFailures}
	}
	for name, tt := range map[string]struct {
		change func(*work)
		reset  bool
		kept   bool
	}{
		"the same":         {func(*work) {}, false, true},
		"a new spec":       {func(w *work) { w.obj.Generation = 2 }, false, false},
		"another chart":    {func(w *work) { w.chart.Version = "1.0.1" }, false, false},
		"other values":     {func(w *work) { w.want.config = "v1" }, false, false},
		"a reset is asked": {func(*work) {}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(app(t, demo), &loop.Run{Generation: 1})
			w.obj.Status = helmv2.HelmReleaseStatus{
				Failures: 3, InstallFailures: 2, UpgradeFailures: 1, LastAttemptedGeneration: 1, LastAttemptedRevision: "1.0.0",
				LastAttemptedConfigDigest: "v0", LastAttemptedValuesChecksum: "old", LastReleaseRevision: 7,
			}
			w.chart, w.want = charts.Name{Name: "demo", Version: "1.0.0", OCIDigest: "sha256:aa"}, desired{config: "v0"}
			tt.change(w)
			w.attempt(tt.reset)
			s := &w.obj.Status
			want := [3]int64{}
			if tt.kept {
				want = [3]int64{3, 2, 1}
			}
			if got := failures(s); got != want {
				t.Errorf("failures %v, want %v", got, want)
			}
			got := []any{s.LastAttemptedGeneration, s.LastAttemptedRevision, s.LastAttemptedConfigDigest, s.LastAttemptedRevisionDigest}
			if diff := cmp.Diff([]any{w.obj.Generation, w.chart.Version, w.want.config, "sha256:aa"}, got); diff != "" {
				t.Errorf("attempt (-want +got):\n%s", diff)
			}
			if s.LastAttemptedValuesChecksum != "" || s.LastReleaseRevision != 0 {
				t.Error("helmrelease 100: what nobody uses is not zero")
			}
		})
	}
}

// helmrelease 63, 90: reasons and words of what keeps a run from the release; none has an event.
func TestNoWayToTheRelease(t *testing.T) {
	obj := app(t, "kubeConfig: {secretRef: {name: absent}}\n"+demo)
	want := `could not get KubeConfig secret 'apps/absent': secrets "absent" not found`
	if got := unreachable(obj, cluster.ErrNotFound).Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	refused := apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "", errors.New("no"))
	err := undetermined(refused)
	if loop.Reason(err, "") != helmv2.StateErrorReason || !strings.HasPrefix(err.Error(), "Could not determine release state: ") {
		t.Errorf("got %v", err)
	}
}

// helmrelease 31: a release that the spec no longer means.
func TestMoved(t *testing.T) {
	for name, tt := range map[string]struct {
		spec    string
		current helmv2.Snapshot
		storage string
		want    bool
	}{
		"as it was":                   {"", helmv2.Snapshot{Name: "app", Namespace: "apps", ChartName: "demo"}, "apps", false},
		"another name":                {"releaseName: new\n", helmv2.Snapshot{Name: "app", Namespace: "apps", ChartName: "demo"}, "apps", true},
		"another namespace":           {"releaseName: app\ntargetNamespace: x\n", helmv2.Snapshot{Name: "app", Namespace: "apps", ChartName: "demo"}, "apps", true},
		"another storage":             {"storageNamespace: x\n", helmv2.Snapshot{Name: "app", Namespace: "apps", ChartName: "demo"}, "apps", true},
		"another chart":               {"", helmv2.Snapshot{Name: "app", Namespace: "apps", ChartName: "old"}, "apps", true},
		"another chart in its place":  {"upgrade: {chartNameChangeStrategy: InPlaceUpdate}\n", helmv2.Snapshot{Name: "app", Namespace: "apps", ChartName: "old"}, "apps", false},
		"another chart, by default":   {"upgrade: {chartNameChangeStrategy: Reinstall}\n", helmv2.Snapshot{Name: "app", Namespace: "apps", ChartName: "old"}, "apps", true},
		"a name that is too long":     {"targetNamespace: " + strings.Repeat("n", 60) + "\n", helmv2.Snapshot{Name: strings.Repeat("n", 40) + "-x", Namespace: "apps", ChartName: "demo"}, "apps", true},
		"storage that was never used": {"", helmv2.Snapshot{Name: "app", Namespace: "apps", ChartName: "demo"}, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWork(app(t, tt.spec+demo), &loop.Run{Generation: 1})
			w.chart.Name, w.obj.Status.StorageNamespace = "demo", tt.storage
			if got := w.moved(&tt.current); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

// helmrelease 39: the process knows its own digests; those of 2.9 cover other things, and everything else decides.
func TestSame(t *testing.T) {
	entry := helmv2.Snapshot{Name: "app", Namespace: "ns", Version: 2, Status: "deployed", ChartName: "demo", ChartVersion: "1.0.0", ConfigDigest: "v0", Digest: "of 2.9"}
	s := &sighting{Snapshot: entry}
	s.Digest = "ours"
	if !s.same(&entry, false) {
		t.Error("a record that 2.9 has seen is another one")
	}
	if s.same(&entry, true) {
		t.Error("a record that has changed since this process saw it is the same")
	}
	s.ConfigDigest = "v1"
	if s.same(&entry, false) {
		t.Error("a record with other values is the same")
	}
	d := newDigests()
	d.set("uid", []string{"ours"})
	if !d.has("uid", "ours") || d.has("other", "ours") {
		t.Error("digests are not kept by object")
	}
	d.forget("uid")
	if d.has("uid", "ours") {
		t.Error("digests of an object that is gone are kept")
	}
}

func (d *desk) object() *helmv2.HelmRelease {
	d.t.Helper()
	var obj helmv2.HelmRelease
	if err := d.live.Get(context.Background(), types.NamespacedName(d.key), &obj); err != nil {
		d.t.Fatal(err)
	}
	return &obj
}

func condition(obj *helmv2.HelmRelease, conditionType string) metav1.Condition {
	for _, c := range obj.Status.Conditions {
		if c.Type == conditionType {
			return c
		}
	}
	return metav1.Condition{}
}

// benchOf runs a controller on the API server of a desk.
func benchOf(t *testing.T, d *desk, c *loop.Controller[*helmv2.HelmRelease]) *looptest.Bench {
	return looptest.New(t, c, loop.Options{Client: d.live, Reader: d.live, Concurrent: 1, MaxParked: 1})
}
