package kube

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

const testGroup = "kustomize.toolkit.fluxcd.io"

func testLens() *Lens {
	return NewLens(Ownership{Group: testGroup, Manager: "kustomize-controller", Overrides: []string{"legacy"}})
}

const deploymentJSON = `{
 "apiVersion": "apps/v1", "kind": "Deployment",
 "metadata": {
  "name": "web", "namespace": "ns", "uid": "0b6e2d7e-3f4b-4e56-9d69-8f6c8f3f0b11", "resourceVersion": "100", "generation": 2,
  "labels": {"kustomize.toolkit.fluxcd.io/name": "app", "kustomize.toolkit.fluxcd.io/namespace": "ns"},
  "annotations": {"deployment.kubernetes.io/revision": "1"},
  "managedFields": [
   {"manager": "kustomize-controller", "operation": "Apply", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
    "fieldsV1": {"f:metadata": {"f:labels": {"f:kustomize.toolkit.fluxcd.io/name": {}}}, "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:image": {}}}}}}}},
   {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1", "time": "2026-01-01T00:00:05Z", "fieldsType": "FieldsV1", "subresource": "status",
    "fieldsV1": {"f:status": {"f:replicas": {}}}}
  ]
 },
 "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}},
 "status": {"observedGeneration": 2, "replicas": 1}
}`

func object(t testing.TB, data string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON([]byte(data)); err != nil {
		t.Fatal(err)
	}
	return u
}

// What changes the digest of our fields, and what does not: this is what makes a touched object touched.
func TestStateFields(t *testing.T) {
	l := testLens()
	base := l.Object(object(t, deploymentJSON))
	if !base.Ours || base.Owner != (Owner{"ns", "app"}) || base.Verdict.Status != InProgress {
		t.Fatalf("state: %+v", base)
	}
	entries := func(u *unstructured.Unstructured) []any {
		e, _, _ := unstructured.NestedSlice(u.Object, "metadata", "managedFields")
		return e
	}
	set := func(u *unstructured.Unstructured, e []any) {
		_ = unstructured.SetNestedSlice(u.Object, e, "metadata", "managedFields")
	}
	for _, tc := range []struct {
		name    string
		change  func(*unstructured.Unstructured)
		touched bool
	}{
		{"nothing", func(*unstructured.Unstructured) {}, false},
		{"status", func(u *unstructured.Unstructured) {
			_ = unstructured.SetNestedField(u.Object, int64(3), "status", "readyReplicas")
		}, false},
		{"a foreign annotation", func(u *unstructured.Unstructured) {
			u.SetAnnotations(map[string]string{"x": "y"})
			set(u, append(entries(u), map[string]any{"manager": "other", "operation": "Update", "fieldsV1": map[string]any{"f:metadata": map[string]any{}}}))
		}, false},
		{"a field lost to another manager", func(u *unstructured.Unstructured) {
			e := entries(u)
			unstructured.RemoveNestedField(e[0].(map[string]any), "fieldsV1", "f:spec", "f:replicas")
			set(u, e)
		}, true},
		{"an apply in our name", func(u *unstructured.Unstructured) {
			e := entries(u)
			e[0].(map[string]any)["time"] = "2026-01-01T00:00:09Z"
			set(u, e)
		}, true},
		{"an edit by kubectl, to be cleaned up", func(u *unstructured.Unstructured) {
			set(u, append(entries(u), map[string]any{"manager": "kubectl-edit", "operation": "Update", "fieldsV1": map[string]any{"f:data": map[string]any{}}}))
		}, true},
		{"an overridden manager", func(u *unstructured.Unstructured) {
			set(u, append(entries(u), map[string]any{"manager": "legacy-tool", "operation": "Apply", "fieldsV1": map[string]any{"f:data": map[string]any{}}}))
		}, true},
		{"a status update by kubectl", func(u *unstructured.Unstructured) {
			set(u, append(entries(u), map[string]any{"manager": "kubectl", "operation": "Update", "subresource": "status", "fieldsV1": map[string]any{}}))
		}, false},
		{"an old annotation, to be cleaned up", func(u *unstructured.Unstructured) {
			u.SetAnnotations(map[string]string{"fluxcd.io/sync-checksum": "x"})
		}, true},
		{"all ownership wiped", func(u *unstructured.Unstructured) { u.SetManagedFields(nil) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u := object(t, deploymentJSON)
			tc.change(u)
			s := l.Object(u)
			if got := s.Fields != base.Fields || s.Ours != base.Ours; got != tc.touched {
				t.Errorf("touched: %v, want %v", got, tc.touched)
			}
		})
	}
}

// A write's answer is metadata in JSON, the watch shows whole objects or protobuf metadata: all must digest alike.
func TestStateForms(t *testing.T) {
	l := testLens()
	whole := l.Object(object(t, deploymentJSON))
	m := &metav1.PartialObjectMetadata{}
	if err := json.Unmarshal([]byte(deploymentJSON), m); err != nil {
		t.Fatal(err)
	}
	meta := l.Metadata(m)
	whole.Verdict, meta.Verdict = Verdict{}, Verdict{}
	if whole != meta {
		t.Errorf("whole:    %+v\nmetadata: %+v", whole, meta)
	}
	if got := keep(whole).state(); got != whole {
		t.Errorf("kept: %+v\nwant: %+v", got, whole)
	}
}

// kustomization 69-72, 81: marks are labels or annotations, in any case.
func TestMarks(t *testing.T) {
	o := Ownership{Group: testGroup}
	for _, tc := range []struct {
		key, value string
		want       Marks
	}{
		{"reconcile", "disabled", NoApply | NoPrune},
		{"reconcile", "Disabled", NoApply | NoPrune},
		{"reconcile", "enabled", 0},
		{"ssa", "ignore", NoApply | NoPrune},
		{"ssa", "Merge", KeepForeign},
		{"ssa", "ifNotPresent", CreateOnly},
		{"ssa", "Override", 0},
		{"prune", "disabled", NoPrune},
		{"force", "enabled", Recreate},
		{"force", "true", 0},
	} {
		m := map[string]string{testGroup + "/" + tc.key: tc.value}
		if got := o.Marks(m, nil); got != tc.want {
			t.Errorf("label %s: %s = %b, want %b", tc.key, tc.value, got, tc.want)
		}
		if got := o.Marks(nil, m); got != tc.want {
			t.Errorf("annotation %s: %s = %b, want %b", tc.key, tc.value, got, tc.want)
		}
	}
}

// kustomization 71
func TestTakesOver(t *testing.T) {
	o := Ownership{Group: testGroup, Manager: "kustomize-controller", Overrides: []string{"legacy", ""}}
	for _, tc := range []struct {
		manager     string
		op          metav1.ManagedFieldsOperationType
		subresource string
		want        bool
	}{
		{"kubectl", "Apply", "", true},
		{"kubectl-client-side-apply", "Update", "", true},
		{"kubectl", "Update", "status", false},
		{"before-first-apply", "Update", "", true},
		{"before-first-apply", "Apply", "", false},
		{"kustomize-controller", "Update", "", true},
		{"kustomize-controller", "Apply", "", false},
		{"gotk-kustomize-controller", "Update", "", false},
		{"legacy-tool", "Apply", "", true},
		{"legacy-tool", "Update", "", true},
		{"helm", "Update", "", false},
	} {
		if got := o.TakesOver(tc.manager, tc.op, tc.subresource); got != tc.want {
			t.Errorf("%s %s %s: %v", tc.manager, tc.op, tc.subresource, got)
		}
	}
}

// kustomization 91 for Jobs; kstatus for the rest.
func TestAssess(t *testing.T) {
	job := func(spec, status string) string {
		return fmt.Sprintf(`{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j"},"spec":%s,"status":%s}`, spec, status)
	}
	for _, tc := range []struct {
		name, object string
		want         Status
	}{
		{"a running job", job(`{}`, `{"startTime":"2026-01-01T00:00:00Z","active":1}`), InProgress},
		{"a complete job", job(`{}`, `{"conditions":[{"type":"SuccessCriteriaMet","status":"True"},{"type":"Complete","status":"True"}]}`), Current},
		{"a failed job", job(`{}`, `{"conditions":[{"type":"Failed","status":"True","message":"x"}]}`), Failed},
		{"a suspended job", job(`{"suspend":true}`, `{}`), Current},
		{"a deployment behind", deploymentJSON, InProgress},
		{"a config map", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`, Current},
		{"a terminating one", `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"a","deletionTimestamp":"2026-01-01T00:00:00Z"}}`, Terminating},
		{"a custom one that stalled", `{"apiVersion":"x.y/v1","kind":"Z","metadata":{"name":"a"},"status":{"conditions":[{"type":"Stalled","status":"True"}]}}`, Failed},
		{"nonsense", `{"apiVersion":"x.y/v1","kind":"Z","metadata":{"name":"a"},"status":{"conditions":"none"}}`, Unknown},
	} {
		if got := Assess(object(t, tc.object)); got.Status != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, got, tc.want)
		}
	}
}

// reliability 119, O1: digests must not depend on the order of maps, and must depend on everything else.
func TestDigest(t *testing.T) {
	l := testLens()
	parse := func(s string) any {
		var v any
		if err := json.Unmarshal([]byte(s), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	seen := map[uint64]string{}
	for _, s := range []string{
		`{}`, `[]`, `null`, `""`, `0`, `false`, `true`, `{"a":{}}`, `{"a":[]}`, `{"a":null}`, `{"a":""}`, `{"a":"b"}`, `{"b":"a"}`,
		`["a","b"]`, `["b","a"]`, `[["a"],"b"]`, `[["a","b"]]`, `{"a":{"b":1},"c":{"d":2}}`, `{"a":{"d":1},"c":{"b":2}}`,
		`{"a":{"b":2},"c":{"d":1}}`, `{"a":1,"b":2}`, `{"a":2,"b":1}`, `"1"`, `1`, `1.5`,
	} {
		d := l.Digest(parse(s))
		if other, dup := seen[d]; dup {
			t.Errorf("%s and %s digest alike", s, other)
		}
		seen[d] = s
		if l.Digest(parse(s)) != d {
			t.Errorf("%s digests differently each time", s)
		}
	}
	if testLens().Digest(parse(`{"a":1}`)) == l.Digest(parse(`{"a":1}`)) {
		t.Error("two lenses share a seed")
	}
}

func TestNotOlder(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{{"9", "10", false}, {"10", "9", true}, {"10", "10", true}, {"", "1", false}, {"x", "x", true}, {"x", "1", false}} {
		if got := NotOlder(tc.a, tc.b); got != tc.want {
			t.Errorf("NotOlder(%q, %q) = %v", tc.a, tc.b, got)
		}
	}
}

// A user's file must not reach another object by its name.
func FuzzRefPath(f *testing.F) {
	for _, s := range []string{"a", "team:viewer", "../x", "..", "a/b", "%2e%2e", "a?b", "a#b"} {
		f.Add("ns", s)
	}
	f.Fuzz(func(t *testing.T, namespace, name string) {
		ref := Ref{Resource: Resource{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Plural: "configmaps", Namespaced: true}, Namespace: namespace, Name: name}
		p, err := ref.path()
		if err != nil || name == "" {
			return
		}
		want := "/api/v1/namespaces/" + namespace + "/configmaps/" + name
		if p != want || namespace == ".." || name == ".." || name == "." {
			t.Errorf("%q", p)
		}
		slashes := 0
		for _, c := range p {
			if c == '/' {
				slashes++
			}
		}
		if slashes != 6 {
			t.Errorf("%q leaves its place", p)
		}
	})
}

func BenchmarkObject(b *testing.B) {
	l, u := testLens(), object(b, deploymentJSON)
	b.ReportAllocs()
	for b.Loop() {
		l.Object(u)
	}
}

func BenchmarkDigest(b *testing.B) {
	l, u := testLens(), object(b, deploymentJSON)
	b.ReportAllocs()
	for b.Loop() {
		l.Digest(u.Object)
	}
}

// BenchmarkMemory reports what one object in view costs.
func BenchmarkMemory(b *testing.B) {
	l := testLens()
	const objects = 50_000
	for b.Loop() {
		m := NewManaged(ManagedOptions{Lens: l})
		gvk := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
		m.Track(Owner{"ns", "app"}, []schema.GroupVersionKind{gvk})
		w := m.kinds[gvk.GroupKind()]
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range objects {
			s := l.Object(object(b, deploymentJSON))
			s.UID = types.UID(fmt.Sprintf("0b6e2d7e-3f4b-4e56-9d69-%012d", i))
			s.ResourceVersion = fmt.Sprint(100_000 + i)
			s.Owner = Owner{fmt.Sprintf("ns-%d", i/100), fmt.Sprintf("app-%d", i/10)}
			m.put(w, s.Owner.Namespace, fmt.Sprintf("object-%d", i), &s)
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/objects, "bytes/object")
		runtime.KeepAlive(m)
	}
}
