package expr

import (
	"runtime"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
)

// compile parses an expression and checks it, unless the caller wants it unchecked: both are used.
func compile(t *testing.T, text string, unchecked bool, variables ...string) cel.Program {
	t.Helper()
	env, err := Env(variables...)
	if err != nil {
		t.Fatal(err)
	}
	ast, issues := env.Compile(text)
	if unchecked {
		ast, issues = env.Parse(text)
	}
	if issues.Err() != nil {
		t.Fatal(issues.Err())
	}
	program, err := Program(env, ast)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// reliability 014, 094: no function makes much out of little, and none works for minutes.
func TestGuards(t *testing.T) {
	long := strings.Repeat("a", 3<<20)
	var many []any
	for range 250_000 {
		many = append(many, "x")
	}
	nested := "[req]" + strings.Repeat(".map(a, [a, a])", 60)
	for name, text := range map[string]string{
		"replace":             `req.replace("a", req).size() > 1`,
		"replace nothing":     `req.replace("", req).size() > 1`,
		"replace, some":       `req.replace("a", req, 1000000).size() > 1`,
		"replace again":       `"aaaaaaaa"` + strings.Repeat(`.replace("a", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")`, 8) + `.size() > 1`,
		"join":                "[" + strings.Repeat("req,", 3000) + "req].join().size() > 1",
		"join by much":        "[" + strings.Repeat(`"",`, 3000) + `""].join(req).size() > 1`,
		"join many by much":   `many.join(req).size() > 1`,
		"format":              `"` + strings.Repeat("%s", 2000) + `".format([` + strings.Repeat("req,", 1999) + `req]).size() > 1`,
		"format nested":       `"%s".format([[[req, req], [req, req]]]).size() > 1`,
		"format a map":        `"%s".format([{"a": req, "b": req, "c": {"d": req}}]).size() > 1`,
		"flatten":             "[" + strings.Repeat("many,", 3000) + "many].flatten().size() > 1",
		"flatten deep":        "[[" + strings.Repeat("many,", 3000) + "many]].flatten(2).size() > 1",
		"split":               `[req, req, req].map(x, x.split("")).size() > 1`,
		"distinct":            `many.distinct().size() > 1`,
		"distinct, long ones": `[req, req + "a", req + "b"].distinct().size() > 1`,
		"contains":            `sets.contains(many, many)`,
		"equivalent":          `sets.equivalent(many, many)`,
		"intersects":          `sets.intersects(many, lists.range(1000))`,
		"contains large ones": `sets.contains([` + strings.Repeat("many,", 1000) + `many], [` + strings.Repeat("many,", 1000) + `many])`,
		"range":               `lists.range(300000000).size() > 1`,
		"add to itself":       "[req]" + strings.Repeat(".map(a, a + a)", 60) + ".size() > 1",
		"add lists":           "[many]" + strings.Repeat(".map(a, a + a)", 60) + ".map(a, a == a).size() > 1",
		"add lists of a kind": `[["x"]]` + strings.Repeat(".map(a, a + a)", 60) + ".map(a, a == a).size() > 1",
		"equal, nested":       nested + ".map(a, a == a).size() > 1",
		"unequal, nested":     nested + ".map(a, a != a).size() > 1",
		"in, nested":          nested + ".map(a, a in [a]).size() > 1",
		"equal, in a map":     nested + `.map(a, {"a": a} == {"a": a}).size() > 1`,
		"equal, optional":     nested + ".map(a, optional.of(a) == optional.of(a)).size() > 1",
		"add bytes":           "[bytes(req)]" + strings.Repeat(".map(a, dyn(a) + dyn(a))", 60) + ".size() > 1",
		"add":                 strings.Repeat("req + ", 50) + `req == ""`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, unchecked := range []bool{false, true} {
				program := compile(t, text, unchecked, "req", "many")
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				_, _, err := program.ContextEval(t.Context(), map[string]any{"req": long, "many": many})
				runtime.ReadMemStats(&after)
				// Without types the cost of some functions is not known: it is enough that they do no harm.
				if err == nil && !unchecked {
					t.Error("it is evaluated to the end")
				}
				if made := (after.TotalAlloc - before.TotalAlloc) >> 20; made > 512 {
					t.Errorf("unchecked %t: it took %d MiB: %v", unchecked, made, err)
				}
			}
		})
	}
}

// What is guarded still does what it should.
func TestGuardsLetPass(t *testing.T) {
	for _, text := range []string{
		`req.replace("b", "xx") == "axxc"`, `"abc".replace("", "-") == "-a-b-c-"`, `"abcb".replace("b", "x", 1) == "axcb"`,
		`"abcb".replace("b", "") == "ac"`,
		`["a", "b"].join() == "ab"`, `["a", "b"].join("-") == "a-b"`, `[].join("-") == ""`, `"%s-%d".format(["a", 1]) == "a-1"`,
		`"a,b".split(",") == ["a", "b"]`, `"a,b,c".split(",", 2) == ["a", "b,c"]`, `[[1], [2, [3]]].flatten() == [1, 2, [3]]`,
		`[[1], [2, [3]]].flatten(2) == [1, 2, 3]`, `[1, 1, "a", {"b": 1}, {"b": 1}].distinct() == [1, "a", {"b": 1}]`,
		`sets.contains([1, 2], [1]) && !sets.contains([1], [2]) && sets.contains([], [])`, `sets.equivalent([1, 1], [1])`, `!sets.intersects([1], [2])`,
		`req == "abc" && req != "abd" && req in ["abc"] && req in {"abc": 1} && !(req in ["x"]) && !(dyn(1) == "1") && dyn(1) != "1"`,
		`[1, {"a": [2]}] == [1, {"a": [2.0]}] && optional.of(1) == optional.of(1) && dyn(null) != 1 && dyn(1.0) in [1, 2]`,
		`lists.range(500).map(i, string(i)).distinct().size() == 500`,
	} {
		ok, _, err := compile(t, text, false, "req").ContextEval(t.Context(), map[string]any{"req": "abc"})
		if err != nil || ok != types.True {
			t.Errorf("%s: %v, %v", text, ok, err)
		}
	}
	// What has no such arguments is an error of the function itself.
	for _, text := range []string{
		`req.x.replace(req.x, req.x) == ""`, `req.x.join(req.x) == ""`, `req.x.distinct() == []`,
		`1 in req.x`, `req.y == 1`, `req.y in [1]`, `1 in req.y`, `1 != req.y`,
		`sets.contains(req.x, req.x)`,
	} {
		if _, _, err := compile(t, text, false, "req").ContextEval(t.Context(), map[string]any{"req": map[string]any{"x": 1}}); err == nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
