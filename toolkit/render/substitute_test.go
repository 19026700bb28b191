package render

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/kustomize/api/provider"
)

// TestExpand is kustomization 55 and 56.
func TestExpand(t *testing.T) {
	vars := map[string]string{
		"name": "value", "empty": "", "_x1": "y", "upper": "ÄBC", "path": "a/b/c.tar.gz", "text": "one two one", "num": "12345", "stars": "a*b", "dollar": "${name}",
	}
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"plain", "plain"},
		{"${name}", "value"},
		{"a${name}b${_x1}c", "avaluebyc"},
		{"$name $ $( $) $1 }{ 100$", "$name $ $( $) $1 }{ 100$"},
		{"$${name}", "${name}"},
		{"$$name $$$$ $$$${name}", "$name $$ $${name}"},
		{"$$${name}", "$value"},
		{"${dollar}", "${name}"},
		{"${#name} ${#upper} ${#empty}", "5 3 0"},
		{"${name^}${name^^}", "ValueVALUE"},
		{"${upper,}${upper,,}", "äBCäbc"},
		{"${empty^}${empty,}", ""},
		{"${name:-d}${empty:-d}${none:-d}", "valuedd"},
		{"${name-d}${empty-d}${none-d}", "valuedd"},
		{"${name:=d}${empty:=d}${none:=d}", "valuedd"},
		{"${name=d}${empty=d}${none=d}", "valuedd"},
		{"${name:?d}${empty:?d}${none:?d}", "valuedd"},
		{"${name?d}${empty?d}${none?d}", "valuedd"},
		{"${name:+d}${empty:+d}${none:+d}", "valuedd"},
		{"${name+d}${empty+d}${none+d}", "valuedd"},
		{"${none:=}", ""},
		{"${none:=a b:c/d#e%f,g^h}", "a b:c/d#e%f,g^h"},
		{"${none:=${name}-${other:=x}}", "value-x"},
		{"${name:=${none}}", "value"},
		{"${none:=$$x}", "$x"},
		{"${none:={a: 1}}", "{a: 1}"},
		{"${name:1}|${name:1:2}|${name:0:99}|${name:99}|${name:5}", "alue|al|value||"},
		{"${name: -2}|${name:-2}|${name: -99}", "ue|value|value"},
		{"${name:1:-1}|${name:x}|${name:1:x}", "alu|value|value"},
		{"${upper:0:1}", "Ä"},
		{"${name:${pos:=1}:${len:=2}}", "al"},
		{"${path#*/}|${path##*/}", "b/c.tar.gz|c.tar.gz"},
		{"${path%.*}|${path%%.*}", "a/b/c.tar|a/b/c"},
		{"${path%/*}|${path%%/*}", "a/b|a"},
		{"${path#x}|${path%x}|${path#}|${path%}", "a/b/c.tar.gz|a/b/c.tar.gz|a/b/c.tar.gz|a/b/c.tar.gz"},
		{"${path##*}|${path#*}|${path%%*}|${path%*}", "|a/b/c.tar.gz||a/b/c.tar.gz"},
		{"${num#?}|${num##[0-3]}|${num%[!0-3]}|${num#[^1]}|${num##[0-9]*}", "2345|2345|1234|12345|"},
		{`${stars#a\*}|${stars#[}|${stars#a[*]}`, "b|a*b|b"},
		{"${text/one/1}|${text//one/1}|${text/#one/1}|${text/%one/1}", "1 two one|1 two 1|1 two one|one two 1"},
		{"${text/#two/1}|${text/%two/1}|${text/three/3}|${text//}|${text/one}", "one two one|one two one|one two one|one two one| two one"},
		{`${path/\/b\//-}|${path//\//\\}`, `a-c.tar.gz|a\b\c.tar.gz`},
		{"${text//${none:=one}/${name}}", "value two value"},
		{"${stars/a*/x}", "xb"},
	} {
		t.Run(c.in, func(t *testing.T) {
			got, err := Expand(c.in, vars, false)
			if err != nil {
				t.Fatal(err)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestExpandErrors(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	vars := map[string]string{"name": "value", "A": huge}
	for _, c := range []struct{ name, in, want string }{
		{"kustomization 55: not declared", "${none}", `variable not set (strict mode): "none"`},
		{"kustomization 55: not declared, in a function", "${none^^}", `variable not set (strict mode): "none"`},
		{"kustomization 55: length of what is not declared", "${#none}", `variable not set (strict mode): "none"`},
		{"kustomization 55: default that is not declared", "${none:=${other}}", `variable not set (strict mode): "other"`},
		{"open", "${name", "missing closing brace"},
		{"open in a default", "${name:=x", "missing closing brace"},
		{"open in a nested one", "${none:=${name}", "missing closing brace"},
		{"no name", "${}", "bad substitution: unable to parse variable name"},
		{"a template of something else", "${{ github.ref }}", "bad substitution"},
		{"a digit", "${1a}", "bad substitution"},
		{"a dash in the name is a default, a dot is not", "${a.b}", "bad substitution"},
		{"rest after the operator", "${name^x}", "bad substitution"},
		{"length of an expression", "${#name:-x}", "bad substitution"},
		{"reliability 014: a large value many times", strings.Repeat("${A}", 5000), "the result has more than 4194304 bytes"},
		{"reliability 014: a value in place of its letters", "${A//x/${A}}", "the result has more than 4194304 bytes"},
		{"reliability 014: nesting", strings.Repeat("${none:=", 100) + strings.Repeat("}", 100), "nested more than 32 deep"},
		{"reliability 014: a long pattern", "${A##" + strings.Repeat("*x", 100) + "}", "the pattern of ${..##..} is too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Expand(c.in, vars, false)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %.100q, error %v, want %q", got, err, c.want)
			}
		})
	}
	t.Run("kustomization 55: lenient", func(t *testing.T) {
		got, err := Expand("<${none}${none^^}${#none}>", vars, true)
		if err != nil || got != "<0>" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestMergeVariables is kustomization 52.
func TestMergeVariables(t *testing.T) {
	got := MergeVariables(map[string]string{"c": "inline\n"}, map[string]string{"a": "1", "b": "1", "c": "1"}, nil, map[string]string{"b": "li\nne\n", "c": "2"})
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "line", "c": "inline"}, got); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}

func TestSubstitute(t *testing.T) {
	load := func(vars map[string]string) func(context.Context) (map[string]string, error) {
		return func(context.Context) (map[string]string, error) { return vars, nil }
	}
	object := func(name, extra, value string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n" + extra + "data:\n  key: " + value + "\n"
	}
	for _, c := range []struct {
		name  string
		files map[string]string
		sub   Substitution
		want  any // value of data.key of the first object
		err   string
	}{
		{name: "kustomization 57: label", files: map[string]string{"a.yaml": object("a", "  labels: {kustomize.toolkit.fluxcd.io/substitute: disabled}\n", "${v}")}, sub: Substitution{Load: load(map[string]string{"v": "x"})}, want: "${v}"},
		{name: "kustomization 57: exact value", files: map[string]string{"a.yaml": object("a", "  labels: {kustomize.toolkit.fluxcd.io/substitute: Disabled}\n", "${v}")}, sub: Substitution{Load: load(map[string]string{"v": "x"})}, want: "x"},
		{name: "kustomization 58: number", files: map[string]string{"a.yaml": object("a", "", `"${v}"`)}, sub: Substitution{Load: load(map[string]string{"v": "42"})}, want: int64(42)},
		{name: "kustomization 58: boolean", files: map[string]string{"a.yaml": object("a", "", `"${v}"`)}, sub: Substitution{Load: load(map[string]string{"v": "true"})}, want: true},
		{name: "kustomization 58: quotes in the value", files: map[string]string{"a.yaml": object("a", "", `${v}`)}, sub: Substitution{Load: load(map[string]string{"v": `"42"`})}, want: "42"},
		{name: "kustomization 58: text around it", files: map[string]string{"a.yaml": object("a", "", `v${v}`)}, sub: Substitution{Load: load(map[string]string{"v": "42"})}, want: "v42"},
		{name: "a structure", files: map[string]string{"a.yaml": object("a", "", "${v}")}, sub: Substitution{Load: load(map[string]string{"v": "{a: [1, 2.5]}"})}, want: map[string]any{"a": []any{int64(1), 2.5}}},
		{name: "kustomization 51: always", files: map[string]string{"a.yaml": object("a", "", "${v:=x}")}, sub: Substitution{Always: true}, want: "x"},
		{name: "kustomization 51: no variables", files: map[string]string{"a.yaml": object("a", "", "${v:=x}")}, sub: Substitution{Load: load(nil)}, want: "${v:=x}"},
		{name: "kustomization 55: lenient", files: map[string]string{"a.yaml": object("a", "", "x${v}")}, sub: Substitution{Always: true, Lenient: true}, want: "x"},
		{name: "kustomization 54: a bad name, unused", files: map[string]string{"a.yaml": object("a", "", "x")}, sub: Substitution{Load: load(map[string]string{"a.b": "x"})},
			err: "post build failed for 'ConfigMap.v1.[noGrp]/a': envsubst error: 'a.b' var name is invalid, must match '^[_[:alpha:]][_[:alpha:][:digit:]]*$'"},
		{name: "kustomization 53: the error of loading names the first object", files: map[string]string{"a.yaml": object("a", "  labels: {kustomize.toolkit.fluxcd.io/substitute: disabled}\n", "x"), "b.yaml": object("b", "", "x")},
			sub: Substitution{Load: func(context.Context) (map[string]string, error) { return nil, errors.New("no such secret") }},
			err: "post build failed for 'ConfigMap.v1.[noGrp]/b': no such secret"},
		{name: "the result is no YAML", files: map[string]string{"a.yaml": object("a", "", "${v}")}, sub: Substitution{Load: load(map[string]string{"v": "[a: b: c"})},
			err: "post build failed for 'ConfigMap.v1.[noGrp]/a': the result of the substitution is not a valid object: "},
		{name: "the result has no name", files: map[string]string{"a.yaml": object("${v:=}", "", "x")}, sub: Substitution{Always: true}, err: "metadata.name is missing"},
		{name: "reliability 014: the result is a bomb", files: map[string]string{"a.yaml": object("a", "", "${v}")}, sub: Substitution{Load: load(map[string]string{"v": "&a [*a]"})}, err: "anchor 'a' value contains itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := buildDir(t, writeTree(t, c.files), Spec{}, Options{Variables: &c.sub})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, _, _ := unstructured.NestedFieldNoCopy(res.Objects[0].Object, "data", "key")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
		})
	}
}

// The variables are loaded once for all objects.
func TestSubstituteLoadsOnce(t *testing.T) {
	loads := 0
	_, err := buildDir(t, writeTree(t, map[string]string{"a.yaml": configMap("a"), "b.yaml": configMap("b")}), Spec{},
		Options{Variables: &Substitution{Load: func(context.Context) (map[string]string, error) { loads++; return nil, nil }}})
	if err != nil || loads != 1 {
		t.Errorf("%d loads, error %v", loads, err)
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"${a}", "$${a}", "${a:=${b^^}}", "${a##*/}", "${a//x/${a}}", "${a:1:2}", "${#a}", "${a/\\//b}", "${a%%[!a-c]?}", "${a", "$", "${a:-}"} {
		f.Add(s, "some/value")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		e := &expander{vars: map[string]string{"a": value, "b": value + value}, lenient: true, max: 1 << 16}
		out, err := e.expand(text)
		if err != nil {
			return
		}
		if len(out) > e.max {
			t.Errorf("%d bytes", len(out))
		}
		if !strings.Contains(text, "$") && out != text {
			t.Errorf("%q became %q", text, out)
		}
		escaped, err := e.expand(strings.ReplaceAll(text, "$", "$$"))
		if err != nil || escaped != text {
			t.Errorf("escaped %q became %q, %v", text, escaped, err)
		}
	})
}

// FuzzToObject compares the direct way from a resource to an object with the one over its text.
func FuzzToObject(f *testing.F) {
	for _, s := range []string{"a: 1", "a: [1.5, 1e6, 0o17, 0x1F, 1_000, .5, -0, 1e400]", "a: {b: null, c: ~}", "a: 2026-01-01", "a: 2026-01-01T10:00:00.5+02:00", "a: yes\nb: 'no'\nc: \"1\"",
		"a: !!binary aGk=\nb: !!str 1", "a: |\n  x\n  y\nb: >-\n  x\n  y", "a: 18446744073709551615", "a: {1: x}", "a: [[[]]]", "a: \"\\u00e9\\x01\"", "a: &x 1\nb: *x", "a: 12:30:45", "? a\n: b"} {
		f.Add(s)
	}
	factory := provider.NewDefaultDepProvider().GetResourceFactory()
	f.Fuzz(func(t *testing.T, text string) {
		doc := []byte("apiVersion: v1\nkind: A\nmetadata: {name: a}\n" + text + "\n")
		if DefaultLimits().guard(doc) != nil {
			return
		}
		resources, err := factory.SliceFromBytes(doc)
		if err != nil || len(resources) != 1 {
			return
		}
		j, err := resources[0].MarshalJSON()
		if err != nil {
			return
		}
		var want map[string]any
		if err := json.Unmarshal(j, &want); err != nil {
			return
		}
		obj, exact, err := toObject(resources[0])
		if err != nil {
			t.Fatalf("%s: %v, want %s", doc, err, j)
		}
		if diff := cmp.Diff(want, obj.Object); exact && diff != "" {
			t.Errorf("%s (-over text +direct):\n%s", doc, diff)
		}
		if !exact {
			return
		}
		wantYAML, err := resources[0].AsYAML()
		if err != nil {
			return
		}
		gotYAML, err := encode(obj.Object)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(wantYAML), string(gotYAML)); diff != "" {
			t.Errorf("YAML (-kustomize +direct):\n%s", diff)
		}
	})
}

// FuzzBuild looks for panics and escapes of the generator and the inspection of kustomization files.
func FuzzBuild(f *testing.F) {
	f.Add("resources: [a.yaml]\nnamespace: x\n", configMap("a"))
	f.Add("transformers: [a.yaml]\n", "apiVersion: builtin\nkind: LabelTransformer\nmetadata: {name: l}\n")
	f.Add("patches: [{path: a.yaml}]\nconfigMapGenerator: [{name: a, files: [a.yaml, k=a.yaml]}]\n", "a: &a [b]\nc: *a\n")
	f.Add("openapi: {path: a.yaml}\n", `{"definitions": {"A": {"$ref": "#/definitions/B"}}}`)
	f.Add("resources: [../../etc/passwd, ./, a@b/c/d, 'git::x']\n", "")
	f.Add("", "kind: List\nitems: [1]\n")
	f.Fuzz(func(t *testing.T, kustomization, manifest string) {
		files := map[string]string{"a.yaml": manifest}
		if kustomization != "" {
			files["kustomization.yaml"] = kustomization
		}
		tree := writeTree(t, files)
		res, err := buildDir(t, tree, Spec{TargetNamespace: "n"}, Options{NoRemoteBases: true, Limits: Limits{FileBytes: 1 << 16, Nodes: 10_000}})
		if err != nil {
			if strings.Contains(err.Error(), tree) {
				t.Errorf("the error tells the path on disk: %v", err)
			}
			return
		}
		for _, o := range res.Objects {
			if identified(o) != nil {
				t.Errorf("unidentified object %v", o)
			}
		}
		if len(res.Digest) != len("sha256:")+64 {
			t.Error(fmt.Sprint("digest ", res.Digest))
		}
	})
}
