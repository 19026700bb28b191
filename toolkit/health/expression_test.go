package health

import (
	"context"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/toolkit/expr"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

func object(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	return u
}

// kustomization 8 (recording health-check-exprs-invalid), 90
func TestNewEvaluator(t *testing.T) {
	for _, tc := range []struct {
		name string
		list []Expressions
		want string
	}{
		{
			"a syntax error", []Expressions{{APIVersion: "v1", Kind: "ConfigMap", Current: "data.key =="}},
			"failed to create custom status evaluator for healthchecks[0]: failed to parse the expression Current: failed to parse the CEL expression 'data.key ==': ERROR: <input>:1:12: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | data.key ==\n | ...........^",
		},
		{
			"one in the second entry's failed", []Expressions{{APIVersion: "v1", Kind: "ConfigMap", Current: "true"}, {APIVersion: "v1", Kind: "Secret", Current: "true", Failed: "("}},
			"failed to create custom status evaluator for healthchecks[1]: failed to parse the expression Failed: failed to parse the CEL expression '(': ",
		},
		{"no current", []Expressions{{APIVersion: "v1", Kind: "ConfigMap", Failed: "true"}}, "failed to create custom status evaluator for healthchecks[0]: expression Current not specified"},
		{
			"twice the same kind, in different versions", []Expressions{{APIVersion: "x.y/v1", Kind: "Z", Current: "true"}, {APIVersion: "x.y/v2", Kind: "Z", Current: "true"}},
			"duplicate custom status evaluator for healthchecks[1]: Z.x.y has one already",
		},
		{"a bad apiVersion", []Expressions{{APIVersion: "a/b/c", Kind: "Z", Current: "true"}}, "failed to parse the apiVersion of healthchecks[0]: unexpected GroupVersion string: a/b/c"},
		{"too long", []Expressions{{APIVersion: "v1", Kind: "Z", Current: strings.Repeat(" ", expr.MaxLength) + "true"}}, "failed to create custom status evaluator for healthchecks[0]: failed to parse the expression Current: failed to parse the CEL expression '"},
		{"too deep", []Expressions{{APIVersion: "v1", Kind: "Z", Current: strings.Repeat("(", 2*expr.MaxNesting) + "true" + strings.Repeat(")", 2*expr.MaxNesting)}}, "failed to create custom status evaluator for healthchecks[0]: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewEvaluator(tc.list)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("error: %v\nwant:  %s", err, tc.want)
			}
		})
	}
}

// kustomization 90
func TestAssess(t *testing.T) {
	e, err := NewEvaluator([]Expressions{
		{APIVersion: "x.y/v1", Kind: "Z", InProgress: "status.phase == 'Working'", Failed: "status.phase in ['Broken', 'Both']", Current: "status.phase in ['Done', 'Both']"},
		{APIVersion: "group.only/v1", Current: "status.conditions.exists(c, c.type == 'Ok' && c.status == 'True')"},
		{APIVersion: "cost.ly/v1", Kind: "Z", Current: "spec.l.all(a, spec.l.all(b, spec.l.all(c, spec.l.all(d, a + b + c + d >= 0))))"},
		{APIVersion: "no.bool/v1", Kind: "Z", Current: "'yes'"},
	})
	if err != nil {
		t.Fatal(err)
	}
	z := func(rest string) string {
		return "{apiVersion: x.y/v9, kind: Z, metadata: {name: a, generation: 2}, " + rest + "}"
	}
	long := strings.TrimSuffix(strings.Repeat("1,", 200), ",")
	for _, tc := range []struct {
		name, object string
		want         kube.Status
	}{
		{"in progress", z("status: {phase: Working}"), kube.InProgress},
		{"failed", z("status: {phase: Broken}"), kube.Failed},
		{"failed before current", z("status: {phase: Both}"), kube.Failed},
		{"current, in any version", z("status: {phase: Done}"), kube.Current},
		{"none holds", z("status: {phase: Odd}"), kube.InProgress},
		{"a missing field", z("status: {}"), kube.Unknown},
		{"no status", z("spec: {}"), kube.Unknown},
		{"an old generation", z("status: {phase: Done, observedGeneration: 1}"), kube.InProgress},
		{"the newest generation", z("status: {phase: Done, observedGeneration: 2}"), kube.Current},
		{"being deleted", "{apiVersion: x.y/v1, kind: Z, metadata: {name: a, deletionTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Done}}", kube.Terminating},
		{"a whole group", "{apiVersion: group.only/v1, kind: Any, metadata: {name: a}, status: {conditions: [{type: Ok, status: 'True'}]}}", kube.Current},
		{"another kind goes by kstatus", "{apiVersion: x.y/v1, kind: Other, metadata: {name: a}}", kube.Current},
		{"beyond the cost limit", "{apiVersion: cost.ly/v1, kind: Z, metadata: {name: a}, spec: {l: [" + long + "]}}", kube.Unknown},
		{"no boolean", "{apiVersion: no.bool/v1, kind: Z, metadata: {name: a}}", kube.Unknown},
	} {
		if got := e.Assess(t.Context(), object(t, tc.object)); got.Status != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, got, tc.want)
		}
	}
	var none *Evaluator
	if none.Covers(object(t, z("spec: {}")).GroupVersionKind().GroupKind()) {
		t.Error("no evaluator covers a kind")
	}
}

// kustomization 18: typed expressions of dependencies; recordings depends-on-bad-expr, depends-on-ready-expr.
func TestExpression(t *testing.T) {
	const expr = "dep.metadata.labels['stage'] == self.metadata.labels['stage']"
	e, err := ParseExpression(expr, "dep", "self")
	if err != nil {
		t.Fatal(err)
	}
	labels := func(stage string) map[string]any {
		return map[string]any{"metadata": map[string]any{"labels": map[string]any{"stage": stage}}}
	}
	for _, tc := range []struct {
		dep  map[string]any
		want bool
	}{{labels("one"), true}, {labels("two"), false}} {
		if got, err := e.Bool(t.Context(), map[string]any{"dep": tc.dep, "self": labels("one")}); got != tc.want || err != nil {
			t.Errorf("%v, %v", got, err)
		}
	}
	_, err = e.Bool(t.Context(), map[string]any{"dep": map[string]any{"metadata": map[string]any{}}, "self": labels("one")})
	if want := "failed to evaluate the CEL expression '" + expr + "': no such key: labels"; err == nil || err.Error() != want {
		t.Errorf("error: %v\nwant:  %s", err, want)
	}
	_, err = ParseExpression("dep.status.(", "dep", "self")
	if want := "failed to parse the CEL expression 'dep.status.(': ERROR: <input>:1:12: Syntax error: no viable alternative at input '.('\n | dep.status.(\n | ...........^"; err == nil || err.Error() != want {
		t.Errorf("error: %v\nwant:  %s", err, want)
	}
	for _, bad := range []string{"other.x", "dep.metadata.name + 1 == 'x' ? 'a' : 'b'", "1 + 1"} {
		if _, err := ParseExpression(bad, "dep", "self"); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	slow, err := ParseExpression("l.all(a, l.all(b, a + b >= 0))", "l")
	if err != nil {
		t.Fatal(err)
	}
	list := make([]any, 300)
	for i := range list {
		list[i] = int64(i)
	}
	if _, err := slow.Bool(ctx, map[string]any{"l": list}); err == nil {
		t.Error("an evaluation goes on after its context ended")
	}
}

func FuzzParseExpression(f *testing.F) {
	for _, s := range []string{"data.key ==", "status.phase == 'x'", "[1,2].all(a, a > 0)", "dep.?x.orValue(1) == 1", "("} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseExpression(s)
		if err != nil {
			return
		}
		_, _ = e.Bool(t.Context(), map[string]any{"status": map[string]any{"phase": "x"}})
	})
}

func BenchmarkAssess(b *testing.B) {
	e, err := NewEvaluator([]Expressions{{APIVersion: "x.y/v1", Kind: "Z", Current: "status.conditions.exists(c, c.type == 'Ok' && c.status == 'True')"}})
	if err != nil {
		b.Fatal(err)
	}
	o := object(b, "{apiVersion: x.y/v1, kind: Z, metadata: {name: a}, status: {conditions: [{type: Ok, status: 'True'}]}}")
	b.ReportAllocs()
	for b.Loop() {
		e.Assess(b.Context(), o)
	}
}
