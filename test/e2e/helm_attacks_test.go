package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit/charts"
)

// TestHelmAttacks lets hostile charts and values loose on one process, which lives through all of them (reliability 011, 012, 013). It does
// not run beside other tests: it measures.
func TestHelmAttacks(t *testing.T) {
	r := newHelmRig(t)
	// Only what the arena measures with is used of it.
	a := &arena{rig: r.rig, pid: r.sut.PID()}
	a.resetPeak(t)
	t.Run("011 schemas", func(t *testing.T) { schemas(t, r) })
	t.Run("012 target paths", func(t *testing.T) { targetPaths(t, r) })
	t.Run("013 templates that reach out", func(t *testing.T) { reachingOut(t, r) })
	select {
	case <-r.sut.Ended():
		t.Fatalf("the process ended: %s", r.sut.LogTail())
	default:
	}
	if peak := a.peak(t); peak > maxResident {
		t.Errorf("O6: the process held %d MiB, want at most %d", peak>>20, int64(maxResident)>>20)
	} else {
		t.Logf("the process held at most %d MiB", peak>>20)
	}
}

// settled waits until a HelmRelease is ready or has failed, and returns the message.
func (a *act) settled() (ready bool, message string) {
	a.t.Helper()
	a.awaitHR(func(o *helmv2.HelmRelease) string {
		if o == nil {
			return "it does not exist"
		}
		c := find(o.Status.Conditions, meta.ReadyCondition)
		if c == nil || c.Status == metav1.ConditionUnknown || c.Reason == meta.ProgressingReason || c.Reason == helmv2.SourceNotReadyReason {
			return "there is no verdict yet: " + conditions(o.Status.Conditions)
		}
		ready, message = c.Status == metav1.ConditionTrue, c.Message
		return ""
	})
	return ready, message
}

// schemas is reliability 011: a schema of values has nothing to look for outside of itself, and no form that ends the process.
func schemas(t *testing.T, r *helmRig) {
	var visits atomic.Int64
	address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		visits.Add(1)
		fmt.Fprint(w, `{"type": "object"}`)
	}))
	canary := filepath.Join(t.TempDir(), "canary.json")
	if err := os.WriteFile(canary, []byte(`{"type": "string", "description": "`+canaryPassword+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		name  string
		chart charts.Chart
		fails bool
	}{
		{"an address", charts.SchemaReference(address + "/s"), true},
		{"a file", charts.SchemaReference("file://" + canary), true},
		{"itself", charts.SchemaReference("#"), false},
		{"a circle", charts.SchemaLoop(), true},
		{"depth", charts.SchemaDepth(5000), true},
		{"a large enumeration", charts.SchemaEnumeration(20_000), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := r.newAct(t)
			defer a.leaveFailed()
			c := version(t, tt.chart, fmt.Sprintf("1.0.%d", i+1), nil)
			r.offer(t, c)
			a.make(c, map[string]any{"value": map[string]any{}}, nil)
			ready, message := a.settled()
			if ready == tt.fails {
				t.Errorf("it is ready: %v, want %v: %s", ready, !tt.fails, message)
			}
			if strings.Contains(message, canaryPassword) || len(message) > 5<<10 {
				t.Errorf("the message of %d bytes tells what is in the file, or too much: %.300s", len(message), message)
			}
			a.end()
		})
	}
	if n := visits.Load(); n > 0 {
		t.Errorf("the address in the schema was visited %d times", n)
	}
}

// targetPaths is reliability 012: paths that ask for lists of a size that nobody has, or are no paths, and values without end.
func targetPaths(t *testing.T, r *helmRig) {
	r.offer(t, plain())
	const depth = 50_000
	deep := strings.Repeat("a: {", depth) + strings.Repeat("}", depth)
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" +
		"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n"
	for _, path := range []string{"a[2147483647]", "a[99999999].b", "a[-1]", "a[b]", "a[", `a."b`} {
		hr := &helmv2.HelmRelease{
			ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "refused"},
			Spec: helmv2.HelmReleaseSpec{
				ChartRef: &helmv2.ChartReference{Kind: sourcev1.HelmChartKind, Name: chartName(plain())}, Interval: "1h",
				ValuesFrom: []helmv2.ValuesReference{{Kind: "ConfigMap", Name: "values", TargetPath: path}},
			},
		}
		if err := r.client.Create(t.Context(), hr); !apierrors.IsInvalid(err) {
			t.Errorf("targetPath %s is admitted (%v)", path, err)
		}
	}
	for _, tt := range []struct{ name, path, content string }{
		{"many indexes", strings.Repeat("[99999]", 30), "x"},
		{"depth", "", deep},
		{"aliases", "", bomb},
		{"no values", "", "- a\n- b\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := r.newAct(t)
			defer a.leaveFailed()
			a.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: a.name + "-values"}, Data: map[string]string{"values.yaml": tt.content}})
			before := (&arena{rig: r.rig, pid: r.sut.PID()}).peak(t)
			a.make(plain(), nil, func(spec *helmv2.HelmReleaseSpec) {
				spec.ValuesFrom = []helmv2.ValuesReference{{Kind: "ConfigMap", Name: a.name + "-values", TargetPath: tt.path}}
			})
			a.awaitUnready(helmv2.ValuesErrorReason, "")
			if grown := (&arena{rig: r.rig, pid: r.sut.PID()}).peak(t) - before; grown > 100<<20 {
				t.Errorf("the process has grown by %d MiB", grown>>20)
			}
			if message := find(a.live().Status.Conditions, meta.ReadyCondition).Message; len(message) > 2<<10 {
				t.Errorf("the message has %d bytes: %.300s", len(message), message)
			}
			a.end()
		})
	}
}

// reachingOut is reliability 013: templates see neither the network, nor files and the environment of the process, nor more of the cluster
// than the account may see.
func reachingOut(t *testing.T, r *helmRig) {
	t.Setenv("HOME", t.TempDir())
	s := &scene{rig: r.rig, t: t}
	s.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: r.namespace, Name: "rec"}})
	s.lets("rec", "admin")
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "canary-" + r.namespace}, Data: map[string][]byte{"password": []byte(canaryPassword)}})
	defer s.remove(object("v1", "Secret", "default", "canary-"+r.namespace, nil))
	for i, tt := range []struct {
		name, expression string
		// shows is what the template shows; empty: it fails, and says fails.
		shows, fails string
	}{
		{"a host name", `getHostByName "canary.test"`, `""`, ""},
		{"secrets of others", `lookup "v1" "Secret" "default" "canary-` + r.namespace + `"`, "", "cannot get resource"},
		{"files of the process", `.Files.Get "../../../../../../etc/hosts"`, `""`, ""},
		{"the environment", `env "HOME"`, "", `function "env" not defined`},
		{"the expanded environment", `expandenv "$HOME"`, "", `function "expandenv" not defined`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := r.newAct(t)
			defer a.leaveFailed()
			c := version(t, charts.Expression(tt.expression), fmt.Sprintf("1.0.%d", i+1), nil)
			r.offer(t, c)
			a.make(c, nil, func(spec *helmv2.HelmReleaseSpec) { spec.ServiceAccountName = "rec" })
			ready, message := a.settled()
			if ready == (tt.shows == "") || !strings.Contains(message, tt.fails) || strings.Contains(message, canaryPassword) {
				t.Fatalf("it is ready: %v, and says %s", ready, message)
			}
			if tt.shows != "" {
				o := must[*unstructured.Unstructured](t)(a.judge.Live(t.Context(), object("v1", "ConfigMap", a.namespace, a.name, nil)))
				if value, _, _ := unstructured.NestedString(o.Object, "data", "value"); value != tt.shows {
					t.Errorf("the template shows %s, want %s", value, tt.shows)
				}
			}
			a.end()
		})
	}
}
