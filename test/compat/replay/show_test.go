package replay

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestNormaliser(t *testing.T) {
	vars := Vars{
		"NS": "apps", "GIT": "http://127.0.0.1:4000", "GIT_HOST": "127.0.0.1:4000", "STORE": "http://127.0.0.1:9", "REGISTRY": "127.0.0.1:5000",
		"STORE_HOST": "127.0.0.1:9",
	}
	n := newNormaliser(vars, System{TempDir: "/srv/x/tmp", StorageDir: "/srv/x/storage"})
	for _, tt := range []struct{ name, in, want string }{
		{"url", "get http://127.0.0.1:4000/a.git", "get ${GIT}/a.git"},
		{"host", "dial 127.0.0.1:4000", "dial ${GIT_HOST}"},
		{"registry", "oci://127.0.0.1:5000/apps/app", "oci://${REGISTRY}/apps/app"},
		{"time", "at 2026-01-02T03:04:05.678Z and 2026-01-02T03:04:05+02:00", "at <time> and <time>"},
		{"go time", "2026-01-02 03:04:05.6 +0000 UTC", "<time>"},
		{"zero time", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"},
		{"measured duration", "Reconciliation finished in 1m2.345s, next run in 10m0s", "Reconciliation finished in <duration>, next run in 10m0s"},
		{"planned duration", "retrying in 5s", "retrying in 5s"},
		{"its temporary folder", "stat /srv/x/tmp/tree-123/deploy: no", "stat <dir>/deploy: no"},
		{"its storage", "open /srv/x/storage/a: no", "open <storage>/a: no"},
		{"temporary folder", "stat '/tmp/k-1': no", "stat '<dir>': no"},
		{"pod", "Pod/apps/web-77b74665b-z2hsz: container", "Pod/apps/web-<pod>: container"},
		{"log of Helm", "it failed: timeout\n\nLast Helm logs:\n\n2026-01-02T03:04:05Z: a\nb", "it failed: timeout\n\nLast Helm logs:\n\n<log lines>"},
		{"connection", "read tcp 127.0.0.1:33->127.0.0.1:4000", "read tcp <conn>->${GIT_HOST}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := n.text(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	tree := n.tree(map[string]any{"uid": "x", "labels": map[string]string{"modifiedAt": "1767323045", "version": "1"}, "history": []any{map[string]any{"lastReconciledDuration": "12ms"}}, "message": "in 10m0s"})
	want := map[string]any{"uid": "<uid>", "labels": map[string]any{"modifiedAt": "<unix-time>", "version": "1"}, "history": []any{map[string]any{"lastReconciledDuration": "<duration>"}}, "message": "in 10m0s"}
	if d := cmp.Diff(want, tree); d != "" {
		t.Error(d)
	}
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestOwnedFields(t *testing.T) {
	o := object(t, `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {a: b}
spec:
  replicas: 1
  revisionHistoryLimit: 10
  strategy: {type: RollingUpdate}
  template:
    spec:
      restartPolicy: Always
      containers:
      - {name: main, image: web:1, resources: {}, imagePullPolicy: Always}
      - {name: other, image: x}
status: {replicas: 1}
`)
	o.SetManagedFields([]metav1.ManagedFieldsEntry{
		{Manager: "kustomize-controller", Operation: "Apply", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:replicas":{},"f:strategy":{},
			"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:name":{},"f:image":{}}}}}}}`)}},
		{Manager: "other", Operation: "Update", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{"f:resources":{}}}}}}}`)}},
		{Manager: "kube-controller-manager", Operation: "Update", Subresource: "status", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:status":{"f:replicas":{}}}`)}},
	})
	got, err := ownedFields(o)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"spec": map[string]any{
		"replicas": int64(1), "strategy": map[string]any{"type": "RollingUpdate"},
		"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "main", "image": "web:1", "resources": map[string]any{}}}}},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"kube-controller-manager Update status", "kustomize-controller Apply", "other Update"}, managers(o)); d != "" {
		t.Error(d)
	}
}

// A Pod shows its phase, and the stand-ins for the kubelet as the recorder's.
func TestShowPod(t *testing.T) {
	pod := object(t, `
apiVersion: v1
kind: Pod
metadata: {name: check, namespace: apps, labels: {a: b, flux-cluster/simulated: "true"}}
spec: {containers: [{name: main, image: x}]}
status: {phase: Failed}
`)
	pod.SetManagedFields([]metav1.ManagedFieldsEntry{
		{Manager: "pod-simulator", Operation: "Update", Subresource: "status"}, {Manager: "helm-controller", Operation: "Apply"},
		{Manager: "pod-stand-in", Operation: "Update", Subresource: "status"},
	})
	got, err := showClusterObject(pod)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "name": "check", "namespace": "apps", "labels": map[string]string{"a": "b"},
		"managers": []string{"helm-controller Apply", "replayer Update status"}, "fields": map[string]any{"phase": "Failed"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestInventory(t *testing.T) {
	o := object(t, `
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app}
status:
  inventory:
    entries:
    - {id: apps_web_apps_Deployment, v: v1}
    - {id: apps_one__ConfigMap, v: v1}
    - {id: apps_team__viewer_rbac.authorization.k8s.io_Role, v: v1}
    - {id: _apps__Namespace, v: v1}
`)
	var got []string
	for _, id := range inventory(o) {
		got = append(got, id.namespace+"|"+id.name+"|"+id.Group+"|"+id.Kind)
	}
	want := []string{"apps|web|apps|Deployment", "apps|one||ConfigMap", "apps|team:viewer|rbac.authorization.k8s.io|Role", "|apps||Namespace"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestUntil(t *testing.T) {
	o := object(t, `
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app, generation: 2}
status:
  observedGeneration: 2
  lastHandledReconcileAt: token-1
  lastAppliedRevision: main@sha1:abc
  conditions:
  - {type: Ready, status: "False", reason: BuildFailed, message: it broke, observedGeneration: 2}
  - {type: Healthy, status: "True", observedGeneration: 1}
`)
	for _, tt := range []struct {
		name string
		want map[string]any
		met  bool
	}{
		{"ready", map[string]any{"ready": "False"}, true},
		{"not ready", map[string]any{"ready": "True"}, false},
		{"not stalled", map[string]any{"stalled": "True"}, false},
		{"an old condition", map[string]any{"Healthy": "True"}, false},
		{"reason", map[string]any{"reason": "BuildFailed"}, true},
		{"another reason", map[string]any{"reason": "Failed"}, false},
		{"message", map[string]any{"message": "broke"}, true},
		{"handled", map[string]any{"handled": "token-1"}, true},
		{"not handled", map[string]any{"handled": "token-2"}, false},
		{"revision", map[string]any{"revision": "abc"}, true},
		{"another revision", map[string]any{"revision": "def"}, false},
		{"field", map[string]any{"field": []any{"status.observedGeneration", 2.0}}, true},
		{"any value", map[string]any{"field": []any{"status.lastAppliedRevision", "*"}}, true},
		{"no value", map[string]any{"field": []any{"status.absent", "*"}}, false},
		{"all of them", map[string]any{"ready": "False", "revision": "def"}, false},
		{"gone", map[string]any{"gone": true}, false},
		{"an unknown word", map[string]any{"phase": "x"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if unmet := until(tt.want)(o); (unmet == "") != tt.met {
				t.Errorf("met = %v, want %v (%s)", unmet == "", tt.met, unmet)
			}
		})
	}
	if unmet := until(map[string]any{"gone": true})(nil); unmet != "" {
		t.Errorf("an absent object is gone, got %q", unmet)
	}
	if unmet := until(map[string]any{"ready": "True"})(nil); unmet == "" {
		t.Error("an absent object is not ready")
	}
}

func TestUnknownStepIsNamed(t *testing.T) {
	unknown := map[string]bool{}
	for _, r := range readKinds(t, "canary", "kustomization") {
		for i := range r.Steps {
			unknown[r.Steps[i].unknown] = true
		}
	}
	want := map[string]bool{"": true, "hook": true, "prometheus": true}
	if d := cmp.Diff(want, unknown); d != "" {
		t.Error(d)
	}
}
