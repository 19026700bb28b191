package depend

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
)

var gvk = schema.GroupVersionKind{Group: "kustomize.toolkit.fluxcd.io", Version: "v1", Kind: "Kustomization"}

// cluster is a reader of the objects it holds, by "namespace/name".
type cluster struct {
	client.Reader
	objects map[string]string
	fail    error
	reads   []string
}

func (c *cluster) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	c.reads = append(c.reads, key.String())
	if c.fail != nil {
		return c.fail
	}
	text, ok := c.objects[key.String()]
	if !ok {
		return apierrors.NewNotFound(schema.GroupResource{Group: gvk.Group, Resource: "kustomizations"}, key.Name)
	}
	u := obj.(*unstructured.Unstructured)
	if got := u.GroupVersionKind(); got != gvk {
		return fmt.Errorf("asked for %s", got)
	}
	content := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &content); err != nil {
		return err
	}
	// As the API machinery does, and the YAML reader does not.
	u.Object = ints(content).(map[string]any)
	u.SetGroupVersionKind(gvk)
	u.SetNamespace(key.Namespace)
	u.SetName(key.Name)
	return nil
}

func ints(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = ints(v[k])
		}
	case []any:
		for i := range v {
			v[i] = ints(v[i])
		}
	case float64:
		return int64(v)
	}
	return v
}

const good = `
metadata: {generation: 2, labels: {stage: blue}}
spec: {sourceRef: {kind: GitRepository, name: repo}}
status:
  observedGeneration: 2
  lastAppliedRevision: main@sha1:1
  conditions: [{type: Healthy, status: "False"}, {type: Ready, status: "True"}]`

func self(labels map[string]string) *kustomizev1.Kustomization {
	return &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app", Labels: labels}}
}

func TestCheck(t *testing.T) {
	replaced := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	repo := &Source{Kind: "GitRepository", Namespace: "apps", Name: "repo", Revision: "main@sha1:1"}
	newer := &Source{Kind: "GitRepository", Namespace: "apps", Name: "repo", Revision: "main@sha1:2"}
	const labels = "dep.metadata.labels['stage'] == self.metadata.labels['stage']"
	for _, tc := range []struct {
		name  string
		dep   string // "" does not exist
		ref   meta.DependencyReference
		rules Rules
		want  string // "" is ready
	}{
		{"ready", good, meta.DependencyReference{Name: "base"}, Rules{}, ""},
		{"kustomization 15: own namespace named", good, meta.DependencyReference{Name: "base", Namespace: "apps"}, Rules{}, ""},
		{"kustomization 16: missing", "", meta.DependencyReference{Name: "base"}, Rules{},
			`dependency 'apps/base' not found: kustomizations.kustomize.toolkit.fluxcd.io "base" not found`},
		{"helmrelease 16: missing", "", meta.DependencyReference{Name: "base"}, Rules{Missing: "unable to get '%s' dependency: %v"},
			`unable to get 'apps/base' dependency: kustomizations.kustomize.toolkit.fluxcd.io "base" not found`},
		{"kustomization 16: no conditions", replaced(`[{type: Healthy, status: "False"}, {type: Ready, status: "True"}]`, "[]"),
			meta.DependencyReference{Name: "base"}, Rules{}, "dependency 'apps/base' is not ready"},
		{"kustomization 16: no status", "metadata: {generation: 1}", meta.DependencyReference{Name: "base"}, Rules{}, "dependency 'apps/base' is not ready"},
		{"kustomization 16: odd status", "status: text", meta.DependencyReference{Name: "base"}, Rules{}, "dependency 'apps/base' is not ready"},
		{"kustomization 16: new generation", replaced("generation: 2", "generation: 3"), meta.DependencyReference{Name: "base"}, Rules{},
			"dependency 'apps/base' is not ready"},
		{"kustomization 16: Ready False", replaced(`{type: Ready, status: "True"}`, `{type: Ready, status: "False"}`),
			meta.DependencyReference{Name: "base"}, Rules{}, "dependency 'apps/base' is not ready"},
		{"kustomization 16: Ready Unknown", replaced(`{type: Ready, status: "True"}`, `{type: Ready, status: "Unknown"}`),
			meta.DependencyReference{Name: "base"}, Rules{}, "dependency 'apps/base' is not ready"},
		{"kustomization 19: suspended", replaced("spec: {", "spec: {suspend: true, "), meta.DependencyReference{Name: "base"}, Rules{}, ""},

		{"kustomization 17: same source, same revision", good, meta.DependencyReference{Name: "base"}, Rules{Source: repo}, ""},
		{"kustomization 17: same source, older revision", good, meta.DependencyReference{Name: "base"}, Rules{Source: newer},
			"dependency 'apps/base' revision is not up to date"},
		{"kustomization 17: never applied", replaced("lastAppliedRevision: main@sha1:1", "x: y"), meta.DependencyReference{Name: "base"}, Rules{Source: newer},
			"dependency 'apps/base' revision is not up to date"},
		{"kustomization 17: other kind", replaced("kind: GitRepository", "kind: Bucket"), meta.DependencyReference{Name: "base"}, Rules{Source: newer}, ""},
		{"kustomization 17: other name", replaced("name: repo", "name: other"), meta.DependencyReference{Name: "base"}, Rules{Source: newer}, ""},
		{"kustomization 17: other namespace", replaced("name: repo", "name: repo, namespace: x"), meta.DependencyReference{Name: "base"}, Rules{Source: newer}, ""},
		{"kustomization 17: namespace named", replaced("name: repo", "name: repo, namespace: apps"), meta.DependencyReference{Name: "base"}, Rules{Source: newer},
			"dependency 'apps/base' revision is not up to date"},
		{"kustomization 17: source in the dependency's namespace", good, meta.DependencyReference{Name: "base", Namespace: "infra"}, Rules{Source: newer}, ""},

		{"kustomization 18: true", good, meta.DependencyReference{Name: "base", ReadyExpr: labels}, Rules{}, ""},
		{"kustomization 18: false", replaced("blue", "green"), meta.DependencyReference{Name: "base", ReadyExpr: labels}, Rules{},
			"dependency 'apps/base' is not ready according to readyExpr eval"},
		{"kustomization 18: runtime error", replaced("labels: {stage: blue}", "x: y"), meta.DependencyReference{Name: "base", ReadyExpr: labels}, Rules{},
			"failed to evaluate the CEL expression '" + labels + "': no such key: labels"},
		{"kustomization 18: replaces the check", "status: {phase: done}", meta.DependencyReference{Name: "base", ReadyExpr: "dep.status.phase == 'done'"},
			Rules{Source: newer}, ""},
		{"kustomization 18: adds to the check", "status: {phase: done}", meta.DependencyReference{Name: "base", ReadyExpr: "dep.status.phase == 'done'"},
			Rules{Additive: true}, "dependency 'apps/base' is not ready"},
		{"kustomization 18: adds to the check of the source", good, meta.DependencyReference{Name: "base", ReadyExpr: "true"},
			Rules{Additive: true, Source: newer}, "dependency 'apps/base' revision is not up to date"},
		{"kustomization 18: numbers", good, meta.DependencyReference{Name: "base", ReadyExpr: "dep.metadata.generation == dep.status.observedGeneration"}, Rules{}, ""},
		{"kustomization 18: kinds", good, meta.DependencyReference{Name: "base", ReadyExpr: "dep.kind == self.kind && dep.apiVersion == self.apiVersion"}, Rules{}, ""},
		{"kustomization 18: not a boolean at run time", good, meta.DependencyReference{Name: "base", ReadyExpr: "dep.metadata.name"}, Rules{},
			"failed to evaluate the CEL expression 'dep.metadata.name': the result is not a boolean"},

		{"kustomization 20: other namespaces are allowed", good, meta.DependencyReference{Name: "base", Namespace: "infra"}, Rules{NoCrossNamespaceRefs: true}, ""},
		{"reliability 034: expression about an own object", good, meta.DependencyReference{Name: "base", ReadyExpr: "true"}, Rules{NoCrossNamespaceRefs: true}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			namespace := tc.ref.Namespace
			if namespace == "" {
				namespace = "apps"
			}
			c := &cluster{objects: map[string]string{}}
			if tc.dep != "" {
				c.objects[namespace+"/base"] = tc.dep
			}
			err := Check(t.Context(), c, gvk, self(map[string]string{"stage": "blue"}), []meta.DependencyReference{tc.ref}, tc.rules)
			if tc.want == "" {
				if err != nil {
					t.Errorf("not ready: %v", err)
				}
				return
			}
			if !errors.Is(err, ErrNotReady) || err.Error() != tc.want {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

// kustomization 18, recordings depends-on-bad-expr of Kustomization and HelmRelease
func TestCheckRefusesExpressions(t *testing.T) {
	for expr, want := range map[string]string{
		"dep.status.(": "terminal error: failed to evaluate dependency base: failed to parse the CEL expression 'dep.status.(': " +
			"ERROR: <input>:1:12: Syntax error: no viable alternative at input '.('\n | dep.status.(\n | ...........^",
		"dep.status.history[0].": "terminal error: failed to evaluate dependency base: failed to parse the CEL expression 'dep.status.history[0].': " +
			"ERROR: <input>:1:23: Syntax error: no viable alternative at input '.'",
		"1 + 1":     "terminal error: failed to evaluate dependency base: ",
		"other.x":   "terminal error: failed to evaluate dependency base: ",
		"'ready'":   "terminal error: failed to evaluate dependency base: ",
		"dep.x ? 1": "terminal error: failed to evaluate dependency base: ",
	} {
		c := &cluster{}
		err := Check(t.Context(), c, gvk, self(nil), []meta.DependencyReference{{Name: "first"}, {Name: "base", Namespace: "infra", ReadyExpr: expr}}, Rules{})
		expression, ok := errors.AsType[*ExpressionError](err)
		if !ok || expression.Dependency != "base" || errors.Is(err, ErrNotReady) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", expr, err)
		}
		if len(c.reads) != 0 {
			t.Errorf("%s: read %v before looking at the expressions", expr, c.reads)
		}
	}
}

// reliability 034
func TestCheckBlocksTheOracle(t *testing.T) {
	c := &cluster{objects: map[string]string{"ta/app": good}}
	ref := meta.DependencyReference{Name: "app", Namespace: "ta", ReadyExpr: "dep.spec.path.startsWith('./a')"}
	err := Check(t.Context(), c, gvk, self(nil), []meta.DependencyReference{ref}, Rules{NoCrossNamespaceRefs: true})
	if !errors.Is(err, ErrAccessDenied) || !strings.Contains(err.Error(), "'ta/app'") || len(c.reads) != 0 {
		t.Errorf("got %v after reading %v", err, c.reads)
	}
}

func TestCheckStopsAtTheFirst(t *testing.T) {
	c := &cluster{objects: map[string]string{"apps/a": good, "infra/c": good}}
	refs := []meta.DependencyReference{{Name: "a"}, {Name: "b"}, {Name: "c", Namespace: "infra"}}
	err := Check(t.Context(), c, gvk, self(nil), refs, Rules{})
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "'apps/b' not found") || len(c.reads) != 2 {
		t.Errorf("got %v after reading %v", err, c.reads)
	}
	c.objects["apps/b"] = good
	if err := Check(t.Context(), c, gvk, self(nil), refs, Rules{}); err != nil {
		t.Errorf("all ready: %v", err)
	}
	if err := Check(t.Context(), c, gvk, self(nil), nil, Rules{}); err != nil {
		t.Errorf("nothing to wait for: %v", err)
	}
}

func TestCheckPassesOtherErrorsOn(t *testing.T) {
	c := &cluster{fail: errors.New("connection refused")}
	err := Check(t.Context(), c, gvk, self(nil), []meta.DependencyReference{{Name: "a"}}, Rules{})
	if !errors.Is(err, c.fail) || errors.Is(err, ErrNotReady) {
		t.Errorf("got %v", err)
	}
}

func TestReadyBoundsExpressions(t *testing.T) {
	dep := &unstructured.Unstructured{Object: map[string]any{"list": make([]any, 200)}}
	for i := range dep.Object["list"].([]any) {
		dep.Object["list"].([]any)[i] = int64(i)
	}
	ref := meta.DependencyReference{Name: "a", ReadyExpr: "dep.list.all(a, dep.list.all(b, dep.list.all(c, dep.list.all(d, a + b + c + d >= 0))))"}
	start := time.Now()
	err := Ready(t.Context(), gvk, self(nil), dep, ref, Rules{})
	if !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "cost") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
	if err := Ready(t.Context(), gvk, self(nil), dep, meta.DependencyReference{Name: "a", ReadyExpr: "dep.list.size() == 200"}, Rules{}); err != nil {
		t.Errorf("harmless expression: %v", err)
	}
}

func BenchmarkReady(b *testing.B) {
	c := &cluster{objects: map[string]string{"apps/base": good}}
	dep := &unstructured.Unstructured{}
	dep.SetGroupVersionKind(gvk)
	if err := c.Get(b.Context(), client.ObjectKey{Namespace: "apps", Name: "base"}, dep); err != nil {
		b.Fatal(err)
	}
	for _, expr := range []string{"", "dep.metadata.generation == dep.status.observedGeneration"} {
		b.Run("expression "+expr, func(b *testing.B) {
			for b.Loop() {
				if err := Ready(b.Context(), gvk, self(nil), dep, meta.DependencyReference{Name: "base", ReadyExpr: expr}, Rules{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
