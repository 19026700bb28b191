package drift_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/helm/drift"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// origin are the labels of a HelmRelease's objects; NS is its namespace.
const origin = "labels: {helm.toolkit.fluxcd.io/name: app, helm.toolkit.fluxcd.io/namespace: NS}"

const config = `---
# Source: demo/templates/config.yaml
apiVersion: v1
data:
  list: '["a","b"]'
  message: hello
kind: ConfigMap
metadata:
  ` + origin + `
  name: app-config
`

const deployment = `---
# Source: demo/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment
metadata:
  ` + origin + `
  name: app
spec:
  progressDeadlineSeconds: 60
  replicas: 1
  selector:
    matchLabels:
      app: app
  template:
    metadata:
      labels:
        app: app
    spec:
      containers:
      - image: example.com/web:1.0
        name: main
        ports: [{containerPort: 80}]
`

// helmrelease 46, 84, 85, recording drift-corrected: what is missing and what was changed is told and put right; what others add stays.
func TestCorrected(t *testing.T) {
	t.Parallel()
	l := newLab(t, config+deployment)
	l.expect()
	l.patch("configmaps", "app-config", "replayer", `{"data":{"message":"manual","added":"x"}}`)
	l.remove("deployments.apps", "app")
	found := l.expect("ConfigMap/NS/app-config changed (0 additions, 1 changes, 0 removals)", "Deployment/NS/app removed")
	l.correct(found, "Deployment/NS/app created", "ConfigMap/NS/app-config configured")
	c := l.get("configmaps", "app-config")
	if diff := cmp.Diff(any(map[string]any{"added": "x", "list": `["a","b"]`, "message": "hello"}), at(c, "data")); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff("helm-controller Apply, helm-controller Update, replayer Update", managers(c)); diff != "" {
		t.Errorf("managers of what was changed (-want +got):\n%s", diff)
	}
	d := l.get("deployments.apps", "app")
	if diff := cmp.Diff("helm-controller Update", managers(d)); diff != "" {
		t.Errorf("managers of what was created (-want +got):\n%s", diff)
	}
	if d.GetLabels()["app.kubernetes.io/managed-by"] != "Helm" || d.GetAnnotations()["meta.helm.sh/release-name"] != "app" || d.GetAnnotations()["meta.helm.sh/release-namespace"] != l.ns {
		t.Errorf("Helm's own marks are missing: %v, %v", d.GetLabels(), d.GetAnnotations())
	}
	l.expect()
}

// helmrelease 85: removals, additions and changes count what makes the object what it should be.
func TestCounts(t *testing.T) {
	t.Parallel()
	l := newLab(t, config+deployment)
	l.patch("configmaps", "app-config", "somebody", `{"data":{"message":null,"list":"x"},"metadata":{"labels":{"app.kubernetes.io/managed-by":"me"}}}`)
	// A map of the release's fields that somebody replaced by another is put back as it was.
	l.patch("deployments.apps", "app", "somebody", `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"example.com/web:2.0"}]}}}}`)
	found := l.expect("ConfigMap/NS/app-config changed (1 additions, 2 changes, 0 removals)", "Deployment/NS/app changed (1 additions, 1 changes, 0 removals)")
	l.correct(found, "ConfigMap/NS/app-config configured", "Deployment/NS/app configured")
	l.expect()
}

// helmrelease 84: fields that other managers add, and the status, are not drift.
func TestForeignFields(t *testing.T) {
	t.Parallel()
	l := newLab(t, deployment)
	l.patch("deployments.apps", "app", "somebody", `{"metadata":{"annotations":{"a":"b"},"finalizers":["example.com/a"]},"spec":{"minReadySeconds":3,"template":{"spec":{"nodeSelector":{"a":"b"}}}}}`)
	l.expect()
	l.patch("deployments.apps", "app", "somebody", `{"metadata":{"finalizers":null}}`)
}

// helmrelease 84, recording drift-ignored: fields that the spec names, in objects it selects.
func TestIgnored(t *testing.T) {
	t.Parallel()
	l := newLab(t, config+deployment)
	l.patch("deployments.apps", "app", "autoscaler", `{"spec":{"replicas":2}}`)
	l.patch("configmaps", "app-config", "somebody", `{"data":{"message":"manual"}}`)
	const config, scaled = "ConfigMap/NS/app-config changed (0 additions, 1 changes, 0 removals)", "Deployment/NS/app changed (0 additions, 1 changes, 0 removals)"
	l.expect(config, scaled)
	for _, tc := range []struct {
		rule meta.IgnoreRule
		want []string
	}{
		{meta.IgnoreRule{Paths: []string{"/spec/replicas"}, Target: &meta.Selector{Kind: "Deployment"}}, []string{config}},
		{meta.IgnoreRule{Paths: []string{"/spec/replicas", "/data/message"}}, nil},
		{meta.IgnoreRule{Paths: []string{"/spec/replicas"}, Target: &meta.Selector{Kind: "Deploy.*", Name: "a.+", Group: "apps"}}, []string{config}},
		{meta.IgnoreRule{Paths: []string{"/spec/replicas"}, Target: &meta.Selector{Kind: "Deploy"}}, []string{config, scaled}},
		{meta.IgnoreRule{Paths: []string{"/spec/replicas"}, Target: &meta.Selector{LabelSelector: "helm.toolkit.fluxcd.io/name=app"}}, []string{config}},
		{meta.IgnoreRule{Paths: []string{"/spec/replicas"}, Target: &meta.Selector{AnnotationSelector: "none"}}, []string{config, scaled}},
		{meta.IgnoreRule{Paths: []string{""}, Target: &meta.Selector{Kind: "ConfigMap"}}, []string{scaled}},
	} {
		l.request.Ignore = []meta.IgnoreRule{tc.rule}
		l.expect(tc.want...)
	}
	// What is put right in the same object leaves the ignored field alone.
	l.patch("deployments.apps", "app", "somebody", `{"spec":{"progressDeadlineSeconds":61}}`)
	l.request.Ignore = []meta.IgnoreRule{{Paths: []string{"/spec/replicas"}}, {Paths: []string{"/data"}}}
	l.correct(l.expect(scaled), "Deployment/NS/app configured")
	d := l.get("deployments.apps", "app")
	if at(d, "spec", "replicas") != int64(2) || at(d, "spec", "progressDeadlineSeconds") != int64(60) {
		t.Errorf("spec is %v", at(d, "spec"))
	}
	l.request.Ignore = []meta.IgnoreRule{{Paths: []string{"spec"}}}
	if _, err := drift.Detect(t.Context(), l.request); err == nil || !strings.Contains(err.Error(), `spec.driftDetection.ignore[0].paths: "spec" is no JSON pointer`) {
		t.Errorf("a bad rule: %v", err)
	}
}

// helmrelease 84, recording drift-annotation-disabled: an annotation or label, in the chart or on the cluster, excludes an object.
func TestExcluded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, change, live string }{
		{"annotation on the cluster", "", `{"metadata":{"annotations":{"helm.toolkit.fluxcd.io/driftDetection":"disabled"}}}`},
		{"label on the cluster", "", `{"metadata":{"labels":{"helm.toolkit.fluxcd.io/driftDetection":"disabled"}}}`},
		{"annotation in the chart", "annotations: {helm.toolkit.fluxcd.io/driftDetection: disabled}", ""},
		{"label in the chart", "labels: {helm.toolkit.fluxcd.io/driftDetection: disabled}", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			manifest := config
			if tc.change != "" {
				manifest = strings.Replace(manifest, origin, tc.change, 1)
			}
			l := newLab(t, manifest)
			if tc.live != "" {
				l.patch("configmaps", "app-config", "somebody", tc.live)
			}
			l.patch("configmaps", "app-config", "somebody", `{"data":{"message":"manual"}}`)
			l.expect()
			if tc.change != "" {
				l.remove("configmaps", "app-config")
				l.expect()
			}
		})
	}
}

// helmrelease 86: fields of managers that are named become the release's, and go if the release does not have them. Finding that
// out writes nothing.
func TestOverrideManagers(t *testing.T) {
	t.Parallel()
	l := newLab(t, config+deployment)
	l.patch("configmaps", "app-config", "kubectl-edit", `{"data":{"added":"x"}}`)
	l.patch("configmaps", "app-config", "other", `{"data":{"kept":"y"}}`)
	l.patch("deployments.apps", "app", "kubectl-edit", `{"spec":{"minReadySeconds":3,"template":{"spec":{"containers":[`+
		`{"name":"main","image":"example.com/web:1.0","ports":[{"containerPort":80,"protocol":"TCP"},{"containerPort":81}]},{"name":"side","image":"example.com/side:1"}]}}}}`)
	l.expect()
	l.request.OverrideManagers = []string{"kubectl"}
	// The port of the list belongs to nobody else, nor does the container.
	found := l.expect("ConfigMap/NS/app-config changed (0 additions, 0 changes, 1 removals)", "Deployment/NS/app changed (0 additions, 0 changes, 3 removals)")
	l.correct(found, "ConfigMap/NS/app-config configured", "Deployment/NS/app configured")
	l.expect()
	if diff := cmp.Diff(any(map[string]any{"kept": "y", "list": `["a","b"]`, "message": "hello"}), at(l.get("configmaps", "app-config"), "data")); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	for _, o := range []*unstructured.Unstructured{l.get("configmaps", "app-config"), l.get("deployments.apps", "app")} {
		if strings.Contains(managers(o), "kubectl") || !strings.Contains(managers(o), "helm-controller Apply") {
			t.Errorf("the managers of %s are %s", o.GetName(), managers(o))
		}
	}
}

// helmrelease 86: the values of Secrets appear in no message.
func TestSecretMasked(t *testing.T) {
	t.Parallel()
	const value = "correct-horse"
	l := newLab(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: app, "+origin+"}\nstringData: {key: "+value+"}\n")
	l.expect()
	l.patch("secrets", "app", "somebody", `{"data":{"key":"`+base64.StdEncoding.EncodeToString([]byte("battery-staple"))+`"}}`)
	found := l.expect("Secret/NS/app changed (0 additions, 1 changes, 0 removals)")
	l.correct(found, "Secret/NS/app configured")
	if diff := cmp.Diff(any(base64.StdEncoding.EncodeToString([]byte(value))), at(l.get("secrets", "app"), "data", "key")); diff != "" {
		t.Errorf("value (-want +got):\n%s", diff)
	}
	// What the API server quotes is cut out.
	l.request.Manifest = "apiVersion: v1\nkind: Secret\nmetadata: {name: app}\ndata: {key: {a: " + value + "}}\n"
	_, err := drift.Detect(t.Context(), l.request)
	if err == nil || !strings.Contains(err.Error(), "Secret/"+l.ns+"/app dry-run failed") || strings.Contains(err.Error(), value) {
		t.Errorf("error: %v", err)
	}
}

const thingKind = `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.NS.example.com, ` + origin + `}
spec:
  group: NS.example.com
  names: {kind: Thing, plural: things}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// helmrelease 84: definitions and objects of their kinds are compared like others; one whose kind is gone is an error that names it.
func TestDefinitions(t *testing.T) {
	t.Parallel()
	l := newLab(t, thingKind)
	served := schema.GroupVersionKind{Group: l.ns + ".example.com", Version: "v1", Kind: "Thing"}
	known := func(ctx context.Context) (bool, error) {
		l.admin.Mapper.Invalidate()
		_, err := l.admin.Mapper.Resource(ctx, served)
		return err == nil, nil
	}
	if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 20*time.Second, true, known); err != nil {
		t.Fatal("the kind is never served")
	}
	thing := strings.ReplaceAll("---\napiVersion: NS.example.com/v1\nkind: Thing\nmetadata: {name: app}\nspec: {a: [1, 2], n: null}\n", "NS", l.ns)
	for _, o := range l.objects(thing) {
		if _, err := l.admin.Apply(t.Context(), l.ref(o), o, manager); err != nil {
			t.Fatal(err)
		}
	}
	l.request.Manifest += thing
	l.expect()
	group := l.ns + ".example.com"
	l.patch("things."+group, "app", "somebody", `{"spec":{"a":[1]}}`)
	l.correct(l.expect("Thing/NS/app changed (1 additions, 0 changes, 0 removals)"), "Thing/NS/app configured")
	l.expect()

	l.request.Manifest = strings.ReplaceAll(config, "NS", l.ns) + "---\napiVersion: none.example.com/v1\nkind: None\nmetadata: {name: app}\n"
	if _, err := drift.Detect(t.Context(), l.request); err == nil || !strings.Contains(err.Error(), "None/app lookup failed") || !strings.Contains(err.Error(), "none.example.com/v1") {
		t.Errorf("a kind that is not served: %v", err)
	}
}

// helmrelease 84: an object in a namespace that is gone is an error that names it.
func TestNamespaceGone(t *testing.T) {
	t.Parallel()
	l := bareLab(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: NS-gone}\n")
	if _, err := drift.Detect(t.Context(), l.request); err == nil || !strings.Contains(err.Error(), "ConfigMap/"+l.ns+"-gone/app dry-run failed (NotFound)") {
		t.Errorf("error: %v", err)
	}
}

const statefulSet = `---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: app, ` + origin + `}
spec:
  serviceName: app
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec: {containers: [{name: main, image: example.com/web:1.0}]}
`

// helmrelease 85: what cannot be changed is told with its cause, in both events, and does not keep the rest from being put right.
func TestImmutable(t *testing.T) {
	t.Parallel()
	l := newLab(t, statefulSet+config)
	// Somebody has deleted and created it anew, as another one.
	l.remove("statefulsets.apps", "app")
	for _, o := range l.objects(strings.Replace(l.request.Manifest, "serviceName: app", "serviceName: other", 1)) {
		if o.GetKind() == "StatefulSet" {
			if _, err := l.resource("statefulsets.apps").Create(t.Context(), o, metav1.CreateOptions{FieldManager: "somebody"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.patch("configmaps", "app-config", "somebody", `{"data":{"message":"manual"}}`)
	found := l.detect()
	lines := strings.Split(found.Summary(), "\n")
	const cause = "updates to statefulset spec for fields other than"
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "StatefulSet/"+l.ns+"/app differs in what cannot be changed: ") || !strings.Contains(lines[0], cause) {
		t.Errorf("drift is\n%s", found.Summary())
	}
	corrected, err := drift.Correct(t.Context(), l.request, found)
	l.same(corrected, []string{"ConfigMap/NS/app-config configured"})
	if err == nil || !strings.Contains(err.Error(), "StatefulSet/"+l.ns+"/app dry-run failed (Invalid)") || !strings.Contains(err.Error(), cause) {
		t.Errorf("error: %v", err)
	}
}

// helmrelease 84: a release that Helm 3 has applied client-side has not drifted just for that.
func TestClientSideApplied(t *testing.T) {
	t.Parallel()
	l := bareLab(t, config+deployment)
	for _, o := range l.objects(l.request.Manifest) {
		plural := map[string]string{"ConfigMap": "configmaps", "Deployment": "deployments.apps"}[o.GetKind()]
		if _, err := l.resource(plural).Create(t.Context(), o, metav1.CreateOptions{FieldManager: "helm"}); err != nil {
			t.Fatal(err)
		}
	}
	l.expect()
	l.patch("configmaps", "app-config", "somebody", `{"data":{"message":"manual"}}`)
	l.correct(l.expect("ConfigMap/NS/app-config changed (0 additions, 1 changes, 0 removals)"), "ConfigMap/NS/app-config configured")
	l.expect()
}

// helmrelease 85: what somebody changes between the comparison and the correction is compared anew.
func TestCorrectRace(t *testing.T) {
	t.Parallel()
	l := newLab(t, config+deployment)
	l.patch("configmaps", "app-config", "somebody", `{"data":{"message":"manual"}}`)
	l.remove("deployments.apps", "app")
	found := l.detect()
	var once sync.Once
	l.mu.Lock()
	l.meddle = func(r *http.Request) {
		if r.Method == http.MethodGet || r.URL.Query().Get("dryRun") != "" {
			return
		}
		once.Do(func() {
			l.patch("configmaps", "app-config", "somebody", `{"data":{"list":"manual"}}`)
			for _, o := range l.objects(l.request.Manifest) {
				if o.GetKind() != "Deployment" {
					continue
				}
				if err := unstructured.SetNestedField(o.Object, int64(5), "spec", "replicas"); err != nil {
					t.Error(err)
				}
				if _, err := l.resource("deployments.apps").Create(t.Context(), o, metav1.CreateOptions{FieldManager: "somebody"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	l.mu.Unlock()
	l.correct(found, "Deployment/NS/app configured", "ConfigMap/NS/app-config configured")
	l.expect()

	// One that somebody has put right is left alone, and one that is gone is created.
	l.patch("configmaps", "app-config", "somebody", `{"data":{"message":"manual"}}`)
	l.patch("deployments.apps", "app", "somebody", `{"spec":{"replicas":2}}`)
	found = l.detect()
	l.patch("configmaps", "app-config", "somebody", `{"data":{"message":"hello"}}`)
	l.remove("deployments.apps", "app")
	l.correct(found, "Deployment/NS/app created")
	l.expect()
}

// helmrelease 46, architecture 5b.4: objects that nobody has touched cost nothing; whoever touches one wakes the release.
func TestMemory(t *testing.T) {
	t.Parallel()
	l := newLab(t, config+deployment)
	l.remember()
	l.expect()
	quiet := func(what string) {
		t.Helper()
		l.counted()
		result, err := drift.Detect(t.Context(), l.request)
		if err != nil || !result.Empty() {
			t.Errorf("%s: %v, %v", what, result, err)
		}
		if requests := l.counted(); len(requests) > 0 {
			t.Errorf("%s: it makes requests %v", what, requests)
		}
		if !l.untouched(2) || l.untouched(3) {
			t.Errorf("%s: the memory does not tell that it is so with two objects, and with no more", what)
		}
	}
	quiet("untouched")
	// Somebody else's field is none of ours.
	l.patch("deployments.apps", "app", "somebody", `{"spec":{"minReadySeconds":3}}`)
	l.synced("Deployment", "apps", "app")
	quiet("a foreign field")

	l.patch("configmaps", "app-config", "somebody", `{"data":{"message":"manual"}}`)
	l.awaitTouch()
	if l.untouched(2) {
		t.Error("the memory takes an object for untouched that somebody has touched")
	}
	l.counted()
	found := l.expect("ConfigMap/NS/app-config changed (0 additions, 1 changes, 0 removals)")
	l.correct(found, "ConfigMap/NS/app-config configured")
	l.synced("ConfigMap", "", "app-config")
	if len(l.touched) > 0 {
		t.Error("the correction itself is taken for somebody else's doing")
	}
	l.counted()
	if _, err := drift.Detect(t.Context(), l.request); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"GET app-config", "PATCH dry-run app-config"}, l.counted()); diff != "" {
		t.Errorf("requests after a correction (-want +got):\n%s", diff)
	}
	quiet("after it")

	// What is excluded is noticed when it no longer is.
	l.patch("configmaps", "app-config", "somebody", `{"metadata":{"annotations":{"helm.toolkit.fluxcd.io/driftDetection":"disabled"}},"data":{"message":"manual"}}`)
	l.awaitTouch()
	l.expect()
	l.synced("ConfigMap", "", "app-config")
	quiet("excluded")
	l.patch("configmaps", "app-config", "somebody", `{"metadata":{"annotations":{"helm.toolkit.fluxcd.io/driftDetection":null}}}`)
	l.awaitTouch()
	l.expect("ConfigMap/NS/app-config changed (0 additions, 1 changes, 0 removals)")

	// Another rule is another question.
	l.request.Ignore = []meta.IgnoreRule{{Paths: []string{"/data/message"}}}
	l.expect()
	l.synced("ConfigMap", "", "app-config")
	quiet("ignored")

	l.remove("deployments.apps", "app")
	l.awaitTouch()
	l.correct(l.expect("Deployment/NS/app removed"), "Deployment/NS/app created")
	l.expect()
}

// untouched is what the memory says of n objects.
func (l *lab) untouched(n int) bool { return l.request.Memory.Untouched(l.request.Owner, n) }

// synced waits until the watch shows an object as it is.
func (l *lab) synced(kind, group, name string) {
	l.Helper()
	plural := strings.TrimSuffix(strings.ToLower(kind)+"s."+group, ".")
	want := l.get(plural, name).GetResourceVersion()
	changed, end := l.managed.Subscribe(l.request.Owner)
	defer end()
	for {
		id := ssa.ID{Group: group, Kind: kind}
		state, sight := l.managed.Lookup(id.GroupKind(), l.ns, name)
		if sight == kube.Present && kube.NotOlder(state.ResourceVersion, want) {
			return
		}
		select {
		case <-changed:
		case <-l.Context().Done():
			l.Fatalf("the watch never showed %s", name)
		}
	}
}

// helmrelease 84: objects without the labels of the HelmRelease, which no watch shows, are looked at every time.
func TestMemoryUnlabelled(t *testing.T) {
	t.Parallel()
	l := newLab(t, strings.Replace(config, origin, "labels: {a: b}", 1)+deployment)
	l.remember()
	l.expect()
	if l.untouched(2) {
		t.Error("the memory takes an object for untouched that it does not see")
	}
	l.patch("configmaps", "app-config", "somebody", `{"data":{"message":"manual"}}`)
	l.expect("ConfigMap/NS/app-config changed (0 additions, 1 changes, 0 removals)")
}

// BenchmarkDetect compares a release of a hundred objects: with a memory of them, and cold.
func BenchmarkDetect(b *testing.B) {
	var manifest strings.Builder
	for i := range 100 {
		fmt.Fprintf(&manifest, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c%d, %s}\ndata: {a: b}\n", i, origin)
	}
	l := newLab(b, manifest.String())
	run := func(b *testing.B) {
		l.counted()
		for b.Loop() {
			result, err := drift.Detect(b.Context(), l.request)
			if err != nil || !result.Empty() {
				b.Fatal(result, err)
			}
		}
		b.ReportMetric(float64(len(l.counted()))/float64(b.N), "requests/op")
	}
	b.Run("cold", run)
	l.remember()
	if _, err := drift.Detect(b.Context(), l.request); err != nil {
		b.Fatal(err)
	}
	b.Run("untouched", run)
}
