package drift

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	objects, err := Objects(t.Context(), text, "", nil)
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	return objects[0]
}

// helmrelease 84, 85: what drift is about, and what makes one state of it the other.
func TestPatch(t *testing.T) {
	for _, tc := range []struct {
		name, live, next string
		want             []string
	}{
		{"equal", "spec: {a: 1}", "spec: {a: 1}", nil},
		{"changed", "data: {a: x}", "data: {a: w}", []string{`replace /data/a "w"`}},
		{"added and removed", "data: {a: x, c: z}", "data: {b: w, c: z}", []string{"remove /data/a", `add /data/b "w"`}},
		{"a whole map", "spec: {}", "data: {b: w}", []string{`add /data {"b":"w"}`, "remove /spec"}},
		{"another type", "spec: {a: {b: 1}}", "spec: {a: [1]}", []string{"replace /spec/a [1]"}},
		{"null", "spec: {a: 1}", "spec: {a: null}", []string{"replace /spec/a null"}},
		{"longer list", "spec: {a: [1]}", "spec: {a: [2, 3]}", []string{"replace /spec/a/0 2", "add /spec/a/1 3"}},
		{"shorter list", "spec: {a: [1, 2, 3]}", "spec: {a: [1]}", []string{"remove /spec/a/2", "remove /spec/a/1"}},
		{"labels", "metadata: {labels: {a/b~c: x}}", "metadata: {labels: {a/b~c: w}}", []string{`replace /metadata/labels/a~1b~0c "w"`}},
		{"annotations", "metadata: {name: a}", "metadata: {name: a, annotations: {a: b}}", []string{`add /metadata/annotations {"a":"b"}`}},
		{"status and other metadata", "metadata: {finalizers: [a], generation: 1}\nstatus: {a: 1}", "metadata: {generation: 2}\nstatus: {a: 2}", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var live, next unstructured.Unstructured
			for i, o := range []*unstructured.Unstructured{&live, &next} {
				o.Object = map[string]any{"metadata": map[string]any{}}
				if err := yaml.Unmarshal([]byte([]string{tc.live, tc.next}[i]), &o.Object); err != nil {
					t.Fatal(err)
				}
			}
			operations := patch(&live, &next)
			var got []string
			for _, p := range operations {
				line := p.op + " " + p.path
				if p.op != opRemove {
					value, err := json.Marshal(p.value)
					if err != nil {
						t.Fatal(err)
					}
					line += " " + string(value)
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(operations) == 0 {
				return
			}
			applied := applyPatch(t, &live, operations)
			if rest := patch(applied, &next); len(rest) > 0 {
				t.Errorf("the patched object still differs: %v", rest)
			}
		})
	}
}

// applyPatch has somebody else's implementation of RFC 6902 judge a patch.
func applyPatch(t *testing.T, o *unstructured.Unstructured, operations []operation) *unstructured.Unstructured {
	t.Helper()
	body, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonpatch.DecodePatch(body)
	if err != nil {
		t.Fatal(err)
	}
	document, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	if document, err = decoded.Apply(document); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	out := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(document, &out.Object); err != nil {
		t.Fatal(err)
	}
	return out
}

// helmrelease 85: the words of events, with an end to them.
func TestSummary(t *testing.T) {
	id := ssa.ID{Namespace: "ns", Name: "a", Kind: "ConfigMap"}
	r := &Result{Changes: []*Change{
		{ID: id, Changes: 1}, {ID: id, Additions: 2, Removals: 3}, {ID: id, Missing: true}, {ID: ssa.ID{Name: "c", Kind: "ClusterRole"}, Missing: true},
		{ID: id, Refused: errors.New("field is immutable")},
	}}
	want := `ConfigMap/ns/a changed (0 additions, 1 changes, 0 removals)
ConfigMap/ns/a changed (2 additions, 0 changes, 3 removals)
ConfigMap/ns/a removed
ClusterRole/c removed
ConfigMap/ns/a differs in what cannot be changed: field is immutable`
	if diff := cmp.Diff(want, r.Summary()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if r.Empty() || !(&Result{}).Empty() {
		t.Error("it does not know what is empty")
	}
	many := &Result{}
	for range maxListed + 7 {
		many.Changes = append(many.Changes, &Change{ID: id, Missing: true})
	}
	lines := strings.Split(many.Summary(), "\n")
	if len(lines) != maxListed+1 || lines[maxListed] != "and 7 more" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}

// helmrelease 82, 84: what a manifest holds, in its order.
func TestObjects(t *testing.T) {
	const list = "apiVersion: v1\nkind: List\nitems:\n"
	deep := "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"
	for range maxListDepth + 1 {
		deep = "{apiVersion: v1, kind: List, items: [" + deep + "]}"
	}
	for _, tc := range []struct{ name, manifest, want, fails string }{
		{"none", "\n---\n# Source: demo/templates/none.yaml\n---\n", "", ""},
		{"order", "---\n# Source: a\nkind: B\napiVersion: v1\nmetadata: {name: b}\n---\nkind: A\napiVersion: v1\nmetadata: {name: a, namespace: x}\n", "B/b A/x/a", ""},
		{"list", list + "- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n", "ConfigMap/a ConfigMap/b", ""},
		{"generated name", "kind: Pod\napiVersion: v1\nmetadata: {generateName: a-}\n---\nkind: Pod\napiVersion: v1\nmetadata: {name: b}\n", "Pod/b", ""},
		{"no name", "kind: Pod\napiVersion: v1\n", "", "a Pod of the manifest has no name"},
		{"no kind", "apiVersion: v1\nmetadata: {name: a}\n", "", `object "a" of the manifest has no apiVersion or kind`},
		{"no object", "- a\n", "", "the manifest holds something that is no object"},
		{"no YAML", "a: [\n", "", "the manifest is no YAML"},
		{"deep lists", deep, "", "nests lists deeper than 8"},
		{"aliases", bomb(), "", "the manifest is no YAML"},
		{"many", strings.Repeat("kind: A\napiVersion: v1\nmetadata: {name: a}\n---\n", maxObjects+1), "", "more than 10000 objects"},
		{"large", "a: " + strings.Repeat("x", maxManifest), "", "more than 67108864: split the chart"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			objects, err := Objects(t.Context(), tc.manifest, "", nil)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Fatalf("error %v, want %q", err, tc.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range objects {
				got = append(got, ssa.IDOf(o).Subject())
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// bomb is a document that would grow a thousandfold three times over.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

// helmrelease 84: what a chart says about labels must be something that Helm can add its own to.
func TestMark(t *testing.T) {
	d, err := newDetection(Request{Release: Release{Name: "app", Namespace: "ns"}, Manager: "helm-controller"})
	if err != nil {
		t.Fatal(err)
	}
	o := parse(t, "kind: A\napiVersion: v1\nmetadata: {name: a, labels: {app.kubernetes.io/managed-by: Me, b: c}}\n")
	if err := d.mark(o); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"name": "a", "labels": map[string]any{"app.kubernetes.io/managed-by": "Helm", "b": "c"},
		"annotations": map[string]any{"meta.helm.sh/release-name": "app", "meta.helm.sh/release-namespace": "ns"},
	}
	if diff := cmp.Diff(want, o.Object["metadata"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := d.mark(parse(t, "kind: A\napiVersion: v1\nmetadata: {name: a, labels: [b]}\n")); err == nil || !strings.Contains(err.Error(), "A/a") {
		t.Errorf("labels that are a list: %v", err)
	}
	if err := d.mark(parse(t, "kind: A\napiVersion: v1\nmetadata: {name: a, labels: null}\n")); err != nil {
		t.Errorf("labels that are null: %v", err)
	}
}

// helmrelease 86: what only an overridden manager has set goes, as an apply by its new owner would remove it.
func TestDisown(t *testing.T) {
	d, err := newDetection(Request{Manager: "helm-controller", OverrideManagers: []string{"kubectl"}})
	if err != nil {
		t.Fatal(err)
	}
	const theirs = `{"f:metadata":{"f:labels":{".":{},"f:mine":{},"f:theirs":{}}},"f:spec":{"f:replicas":{},"f:list":{},"f:ports":{".":{},` +
		`"k:{\"port\":1}":{".":{},"f:port":{},"f:name":{}},"k:{\"port\":2}":{".":{},"f:port":{},"f:name":{}}},"f:set":{"v:\"a\"":{},"v:\"b\"":{}}}}`
	const ours = `{"f:metadata":{"f:labels":{"f:mine":{}}},"f:spec":{"f:ports":{"k:{\"port\":1}":{".":{},"f:port":{}}},"f:set":{"v:\"a\"":{}}}}`
	const object = `apiVersion: v1
kind: Thing
metadata:
  name: a
  labels: {mine: x, theirs: y}
  managedFields:
  - {manager: kubectl-edit, operation: Update, fieldsV1: %s}
  - {manager: kubectl, operation: Update, subresource: status, fieldsV1: {"f:spec": {"f:replicas": {}}}}
  - {manager: helm-controller, operation: Apply, fieldsV1: %s}
spec:
  replicas: 1
  other: 2
  list: [1]
  ports: [{port: 1, name: x}, {port: 2, name: y}, {port: 3}]
  set: [a, b]
`
	live := parse(t, fmt.Sprintf(object, theirs, ours))
	next := live.DeepCopy()
	if err := d.disown(live, next); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range patch(live, next) {
		got = append(got, p.op+" "+p.path)
	}
	want := []string{
		"remove /metadata/labels/theirs", "remove /spec/list", "remove /spec/ports/0/name", "remove /spec/ports/1/name", "replace /spec/ports/1/port", "remove /spec/ports/2",
		"remove /spec/set/1",
	}
	// The entry of the subresource stays, so somebody still owns the replicas.
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// helmrelease 86: paths of managed fields that lead nowhere, or through what has another type, do no harm.
func TestWithout(t *testing.T) {
	path := func(parts ...any) fieldpath.Path { return fieldpath.MakePathOrDie(parts...) }
	for name, p := range map[string]fieldpath.Path{
		"missing": path("a", "x"), "through a text": path("t", "x"), "entry of a map": path("a", 0), "missing entry": path("l", fieldpath.KeyByFields("name", "x"), "y"),
		"field of a list": path("l", "x"),
	} {
		const text = `{"a":{"b":"c"},"t":"t","l":[{"name":"n"},"m"]}`
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		after, err := json.Marshal(without(v, p))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(`{"a":{"b":"c"},"l":[{"name":"n"},"m"],"t":"t"}`, string(after)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
