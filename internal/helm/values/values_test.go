package values

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
)

// cluster holds the data of objects by "Kind/name", all in the namespace apps.
type cluster struct {
	client.Reader
	data  map[string]map[string]string
	fail  error
	reads int
}

func (c *cluster) Get(_ context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	c.reads++
	if c.fail != nil {
		return c.fail
	}
	kind := "ConfigMap"
	if _, ok := obj.(*corev1.Secret); ok {
		kind = "Secret"
	}
	data, ok := c.data[kind+"/"+key.Name]
	if !ok || key.Namespace != "apps" {
		return apierrors.NewNotFound(corev1.Resource(kind), "whatever a cache says")
	}
	switch o := obj.(type) {
	case *corev1.ConfigMap:
		o.Data = data
	case *corev1.Secret:
		o.Data = map[string][]byte{}
		for k, v := range data {
			o.Data[k] = []byte(v)
		}
	}
	return nil
}

func release(inline string, refs ...helmv2.ValuesReference) *helmv2.HelmRelease {
	obj := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app"}}
	obj.Spec.ValuesFrom = refs
	if inline != "" {
		raw, err := yaml.YAMLToJSON([]byte(inline))
		if err != nil {
			panic(err)
		}
		obj.Spec.Values = &apiextensionsv1.JSON{Raw: raw}
	}
	return obj
}

func document(kind, name string) helmv2.ValuesReference {
	return helmv2.ValuesReference{Kind: kind, Name: name}
}

func at(path, key string) helmv2.ValuesReference {
	return helmv2.ValuesReference{Kind: "ConfigMap", Name: "one", ValuesKey: key, TargetPath: path}
}

func literal(r helmv2.ValuesReference) helmv2.ValuesReference { r.Literal = true; return r }

func optional(r helmv2.ValuesReference) helmv2.ValuesReference { r.Optional = true; return r }

func secret(r helmv2.ValuesReference) helmv2.ValuesReference { r.Kind = "Secret"; return r }

func TestCompose(t *testing.T) {
	c := &cluster{data: map[string]map[string]string{
		"ConfigMap/a":     {"values.yaml": "x: {a: 1, b: 2}\nlist: [1, 2]\ntext: from a", "other.yaml": "text: other"},
		"Secret/b":        {"values.yaml": "x: {b: 3}\nlist: [3]"},
		"ConfigMap/empty": {"values.yaml": ""},
		"ConfigMap/one": {
			"number": "5", "text": "some text", "bool": "true", "null": "null", "list": "{a,b}", "pair": "a,y=b", "commas": `3\,4`, "quoted": `"5"`, "single": "'true'",
			"quote": `"`, "empty": "", "verbatim": `3,4={x}\"`, "lines": "a\nb\n", "zip": "0123",
		},
	}}
	for _, tc := range []struct {
		name, inline string
		refs         []helmv2.ValuesReference
		want         string
	}{
		{"helmrelease 26: nothing", "", nil, "{}"},
		{"helmrelease 26: inline alone", "a: {b: 1}", nil, "a: {b: 1}"},
		{"helmrelease 26: later documents win, maps merge, lists are replaced", "", []helmv2.ValuesReference{document("ConfigMap", "a"), document("Secret", "b")},
			"x: {a: 1, b: 3}\nlist: [3]\ntext: from a"},
		{"helmrelease 26: inline wins", "x: {a: 7}\nlist: []", []helmv2.ValuesReference{document("ConfigMap", "a")}, "x: {a: 7, b: 2}\nlist: []\ntext: from a"},
		{"helmrelease 26: an inline null stays, for Helm to drop a default", "x: null", []helmv2.ValuesReference{document("ConfigMap", "a")},
			"x: null\nlist: [1, 2]\ntext: from a"},
		{"helmrelease 27: another key", "", []helmv2.ValuesReference{{Kind: "ConfigMap", Name: "a", ValuesKey: "other.yaml"}}, "text: other"},
		{"helmrelease 27: an optional object", "", []helmv2.ValuesReference{optional(document("Secret", "none"))}, "{}"},
		{"helmrelease 27: an optional key", "", []helmv2.ValuesReference{optional(at("x", "none"))}, "{}"},
		{"an empty document", "", []helmv2.ValuesReference{document("ConfigMap", "empty")}, "{}"},

		{"helmrelease 28: a number", "", []helmv2.ValuesReference{at("a.b", "number")}, "a: {b: 5}"},
		{"helmrelease 28: a bool", "", []helmv2.ValuesReference{at("a", "bool")}, "a: true"},
		{"helmrelease 28: null", "", []helmv2.ValuesReference{at("a", "null")}, "a: null"},
		{"helmrelease 28: a leading zero makes a text", "", []helmv2.ValuesReference{at("a", "zip")}, `a: "0123"`},
		{"helmrelease 28: text", "", []helmv2.ValuesReference{at("a", "text")}, "a: some text"},
		{"helmrelease 28: nothing", "", []helmv2.ValuesReference{at("a", "empty")}, `a: ""`},
		{"helmrelease 28: a list", "", []helmv2.ValuesReference{at("a", "list")}, "a: [a, b]"},
		{"helmrelease 28: a comma ends the value", "", []helmv2.ValuesReference{at("a", "pair")}, "a: a\n\"y\": b"},
		{"helmrelease 28: an escaped comma", "", []helmv2.ValuesReference{at("a", "commas")}, "a: 3,4"},
		{"helmrelease 28: an index", "", []helmv2.ValuesReference{at("a[1].b", "number")}, "a: [null, {b: 5}]"},
		{"helmrelease 28: an escaped dot", "", []helmv2.ValuesReference{at(`a\.b/c.d`, "number")}, "a.b/c: {d: 5}"},
		{"helmrelease 28: double quotes make a text", "", []helmv2.ValuesReference{at("a", "quoted")}, `a: "5"`},
		{"helmrelease 28: single quotes too", "", []helmv2.ValuesReference{at("a", "single")}, `a: "true"`},
		{"reliability 012: an unbalanced quote is a text", "", []helmv2.ValuesReference{at("a", "quote")}, `a: '"'`},
		{"helmrelease 28: literally", "", []helmv2.ValuesReference{literal(at("a", "verbatim"))}, `a: '3,4={x}\"'`},
		{"helmrelease 28: a number, literally", "", []helmv2.ValuesReference{literal(at("a", "number"))}, `a: "5"`},
		{"helmrelease 28: quotes, literally", "", []helmv2.ValuesReference{literal(at("a", "quoted"))}, `a: '"5"'`},
		{"helmrelease 28: a list, literally", "", []helmv2.ValuesReference{literal(at("a", "list"))}, `a: '{a,b}'`},
		{"helmrelease 28: lines, literally", "", []helmv2.ValuesReference{literal(at("a", "lines"))}, `a: "a\nb\n"`},
		{"helmrelease 28: an escaped dot, literally", "", []helmv2.ValuesReference{literal(at(`a\.b`, "number"))}, `a.b: "5"`},

		{"helmrelease 29: inline wins over a path to its own key", "a: inline\nb: 1", []helmv2.ValuesReference{at("a", "number")}, "a: inline\nb: 1"},
		{"helmrelease 29: a path into an inline map stays", "a: {b: inline, c: 1}", []helmv2.ValuesReference{at("a.b", "number")}, "a: {b: 5, c: 1}"},
		{"helmrelease 29: a path into an inline list stays", "a: [{b: inline}]", []helmv2.ValuesReference{at("a[0].b", "number")}, "a: [{b: 5}]"},
		{"helmrelease 29: unless a document has the map too", "x: {a: inline}", []helmv2.ValuesReference{document("ConfigMap", "a"), at("x.a", "number")},
			"x: {a: inline, b: 2}\nlist: [1, 2]\ntext: from a"},
		{"helmrelease 29: a later document wins over a path", "", []helmv2.ValuesReference{at("text", "number"), document("ConfigMap", "a")},
			"x: {a: 1, b: 2}\nlist: [1, 2]\ntext: from a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Compose(t.Context(), c, release(tc.inline, tc.refs...), DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			var want any
			if err := yaml.Unmarshal([]byte(tc.want), &want); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(asJSON(t, want), asJSON(t, got)); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
}

// asJSON makes the types of numbers equal.
func asJSON(t *testing.T, v any) string {
	t.Helper()
	out, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestComposeFails(t *testing.T) {
	hidden := "hunter2-hunter2"
	c := &cluster{data: map[string]map[string]string{
		"ConfigMap/a":   {"other": "x"},
		"ConfigMap/bad": {"values.yaml": "a: [b", "list": "[1]", "text": "only words"},
		"ConfigMap/one": {"number": "5", "end": "a,b"},
		"Secret/bad":    {"values.yaml": "ok: 1\na: *" + hidden, "text": hidden, "tab": "a:\n\t" + hidden},
		"Secret/one":    {"end": "a," + hidden, "list": "{" + hidden},
	}}
	named := func(kind, name, key string) helmv2.ValuesReference {
		return helmv2.ValuesReference{Kind: kind, Name: name, ValuesKey: key}
	}
	for _, tc := range []struct {
		name    string
		ref     helmv2.ValuesReference
		inline  string
		missing bool
		want    string
	}{
		{"helmrelease 27: no object (recording values-missing)", document("ConfigMap", "vals"), "", true,
			`could not resolve ConfigMap chart values reference 'apps/vals' with key 'values.yaml': configmaps "vals" not found`},
		{"helmrelease 27: no Secret", document("Secret", "vals"), "", true,
			`could not resolve Secret chart values reference 'apps/vals' with key 'values.yaml': secrets "vals" not found`},
		{"helmrelease 27: no key (recording values-missing)", document("ConfigMap", "a"), "", true,
			"could not resolve ConfigMap chart values reference 'apps/a' with key 'values.yaml': key not found"},
		{"helmrelease 27: no YAML, although optional (recording values-unparsable)", optional(document("ConfigMap", "bad")), "", false,
			"could not resolve optional ConfigMap chart values reference 'apps/bad' with key 'values.yaml': error converting YAML to JSON: yaml: line 1: did not find expected ',' or ']'"},
		{"no map", named("ConfigMap", "bad", "list"), "", false,
			"could not resolve ConfigMap chart values reference 'apps/bad' with key 'list': error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array into Go value of type map[string]interface {}"},
		{"helmrelease 28: a key without a value", at("x", "end"), "", false,
			`could not resolve ConfigMap chart values reference 'apps/one' with key 'end': key "b" has no value`},
		{"a path through a text", at("a.b", "number"), "a: text", false,
			"could not resolve ConfigMap chart values reference 'apps/one' with key 'number': targetPath 'a.b' leads through a value that is neither a map nor a list"},
		{"a path through a number, by index", at("a[0]", "number"), "a: 1", false,
			"could not resolve ConfigMap chart values reference 'apps/one' with key 'number': targetPath 'a[0]' leads through a value that is neither a map nor a list"},
		{"a Secret that is no YAML", document("Secret", "bad"), "", false,
			"could not resolve Secret chart values reference 'apps/bad' with key 'values.yaml': it is not a YAML map of values; why is not told, as that would show what the Secret holds: check it with a YAML parser"},
		{"a Secret with a tab", named("Secret", "bad", "tab"), "", false,
			"could not resolve Secret chart values reference 'apps/bad' with key 'tab': it is not a YAML map of values, in line 2; why is not told, as that would show what the Secret holds: check it with a YAML parser"},
		{"a Secret of words", named("Secret", "bad", "text"), "", false,
			"could not resolve Secret chart values reference 'apps/bad' with key 'text': it is not a YAML map of values; why is not told, as that would show what the Secret holds: check it with a YAML parser"},
		{"a Secret that cannot be set", secret(at("x", "end")), "", false,
			"could not resolve Secret chart values reference 'apps/one' with key 'end': it cannot be set at 'x'; why is not told, as that would show what the Secret holds: try the value with 'helm template --set'"},
		{"a Secret with an open list", secret(at("x", "list")), "", false,
			"could not resolve Secret chart values reference 'apps/one' with key 'list': it cannot be set at 'x'; why is not told, as that would show what the Secret holds: try the value with 'helm template --set'"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Compose(t.Context(), c, release(tc.inline, tc.ref), DefaultLimits())
			var known *Error
			if !errors.As(err, &known) || known.Missing != tc.missing {
				t.Fatalf("got %#v", err)
			}
			if diff := cmp.Diff(tc.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if strings.Contains(err.Error(), hidden) || strings.Contains(fmt.Sprintf("%+v", errors.Unwrap(err)), hidden) {
				t.Error("the error shows what the Secret holds")
			}
		})
	}
	if _, err := Compose(t.Context(), c, release("[1, 2]"), DefaultLimits()); err == nil || !strings.HasPrefix(err.Error(), "spec.values is not a map of values") {
		t.Errorf("inline list: %v", err)
	}
}

func TestComposePassesOtherErrorsOn(t *testing.T) {
	denied := apierrors.NewForbidden(corev1.Resource("secrets"), "a", errors.New("no"))
	_, err := Compose(t.Context(), &cluster{fail: denied}, release("", optional(document("Secret", "a"))), DefaultLimits())
	if known := (*Error)(nil); !errors.As(err, &known) || known.Missing || !apierrors.IsForbidden(err) {
		t.Errorf("optional must not hide %v", err)
	}
}

func TestComposeReadsEachObjectOnce(t *testing.T) {
	c := &cluster{data: map[string]map[string]string{"ConfigMap/one": {"a": "1", "b": "2"}, "Secret/one": {"a": "3"}}}
	if _, err := Compose(t.Context(), c, release("", at("a", "a"), at("b", "b"), secret(at("c", "a"))), DefaultLimits()); err != nil || c.reads != 2 {
		t.Errorf("%d reads, %v", c.reads, err)
	}
}

func TestComposeLeavesTheObjectAlone(t *testing.T) {
	c := &cluster{data: map[string]map[string]string{"ConfigMap/one": {"a": "1"}}}
	obj := release("a: {b: 0}", at("a.b", "a"))
	before := obj.DeepCopy()
	if _, err := Compose(t.Context(), c, obj, DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, obj); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

// bomb is a document in which ten levels repeat each other.
func bomb() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [" + strings.Repeat("x", 100) + "]\n")
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String()
}

// Hostile values end in an error, and soon (reliability 012).
func TestComposeHostile(t *testing.T) {
	long := "x: &x " + strings.Repeat("y", 500_000) + "\nz: [" + strings.Repeat("*x, ", 100_000) + "1]"
	c := &cluster{data: map[string]map[string]string{
		"ConfigMap/one": {
			"v": "1", "more": "1," + strings.TrimSuffix(strings.Repeat("a[65535]=1,", 50_000), ","), "keys": strings.TrimSuffix("1,"+strings.Repeat("a.", 100_000), ".") + "=1",
			"brackets": "1,a" + strings.Repeat("[0]", 300_000) + "=1", "boxes": "1,a" + strings.Repeat("[0]", 150) + "=1", "far": "1,a[99999999999999999999]=1", "in a list": "{a[65535]=1,b}", "behind a list": "{a,b},c[200000]=1",
			"escaped": `a\,b[200000]=1`, "data": "b[200000]",
		},
		"ConfigMap/bomb":  {"values.yaml": bomb()},
		"ConfigMap/long":  {"values.yaml": long},
		"ConfigMap/deep":  {"values.yaml": strings.Repeat("[", 5000) + strings.Repeat("]", 5000)},
		"ConfigMap/deep2": {"values.yaml": "a: " + strings.Repeat("{a: ", 200) + strings.Repeat("}", 200)},
		"ConfigMap/cycle": {"values.yaml": "a: &a [*a]"},
		"ConfigMap/merge": {"values.yaml": "a: &a {b: 1}\nc:\n  <<: *a\n  d: 2"},
	}}
	for _, tc := range []struct {
		name string
		ref  helmv2.ValuesReference
		want string // of the error, "" for none
	}{
		{"the largest index", at("a[2147483647]", "v"), "lists of more than"},
		{"a large index with a key", at("a[99999999].b", "v"), "lists of more than"},
		{"an index beyond numbers", at("a", "far"), "lists of more than"},
		{"a negative index", at("a[-1]", "v"), "negative"},
		{"many indexes in one path", at("a[65535][65535]", "v"), "lists of more than"},
		{"many lists in one value", at("a", "more"), "lists of more than"},
		{"a list behind a list", at("a", "behind a list"), "lists of more than"},
		{"100,000 nested keys", at("a", "keys"), "more than 100 levels"},
		{"300,000 nested lists", at("a", "brackets"), "lists of more than"},
		{"150 nested lists", at("a", "boxes"), "more than 100 levels"},
		{"what looks like an index in a list", at("a", "in a list"), ""},
		{"what looks like an index in a text", at("a", "escaped"), ""},
		{"what is an index only to the eye", at("a", "data"), ""},
		{"many literal lists", literal(at("a", "more")), ""},
		{"an open bracket sets nothing, as with --set", at("a[", "v"), ""},
		{"no number", at("a[b]", "v"), "parsing index"},
		{"repeats of repeats", document("ConfigMap", "bomb"), "excessive aliasing"},
		{"repeats of a long text", document("ConfigMap", "long"), "larger than"},
		{"deep lists", document("ConfigMap", "deep"), ""},
		{"deep maps", document("ConfigMap", "deep2"), "nested deeper than 100"},
		{"a list in itself", document("ConfigMap", "cycle"), "contains itself"},
		{"a merge of a map", document("ConfigMap", "merge"), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Compose(t.Context(), c, release("", tc.ref), DefaultLimits())
			runtime.ReadMemStats(&after)
			if tc.name == "deep lists" {
				if err == nil {
					t.Error("accepted")
				}
			} else if (err != nil) != (tc.want != "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 100 {
				t.Errorf("it took %d MiB", used)
			}
		})
	}
}

func TestComposeSums(t *testing.T) {
	small := Limits{Bytes: 1000, Depth: 10, Elements: 10}
	c := &cluster{data: map[string]map[string]string{"ConfigMap/one": {"a": strings.Repeat("x", 600), "b": strings.Repeat("y", 600), "n": "1"}}}
	for name, refs := range map[string][]helmv2.ValuesReference{
		"bytes of several references":    {at("a", "a"), at("b", "b")},
		"elements of several references": {at("a[5]", "n"), at("b[5]", "n")},
	} {
		if _, err := Compose(t.Context(), c, release("", refs...), small); !errors.Is(err, errLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Compose(t.Context(), c, release("a: "+strings.Repeat("z", 1000)), small); !errors.Is(err, errLimit) {
		t.Errorf("inline: %v", err)
	}
	if _, err := Compose(t.Context(), c, release("", at("a", "a")), small); err != nil {
		t.Errorf("within the limits: %v", err)
	}
}

// The digests are those that 2.9 recorded for the values of releases (helmrelease 30).
func TestDigest(t *testing.T) {
	for _, tc := range []struct{ recording, values, want string }{
		{"install", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"values-sources, merged", "list: [x]\nmessage: from-secret\nreplicas: 2", "aeb12a23bbb15b83500e239fdb5dd244476c51119d3f2d857cfd590c440ca10a"},
		{"values-sources, target-path", "list: [x]\nmessage: 3,4\nreplicas: 1", "df3ee2b0a7c648a2060d1f4200d1fd02d81b4e772e293b6eebdc9eb9c48a2952"},
		{"values-target-path-versus-inline", "message: inline", "6db6d597dd93d3326fc94c3465177cfa48d10040e6c2bed5a9c8b5463d8ad0e3"},
		{"values-watched, before", "message: one", "c3a70400d9465960aa58d6436c38fbd85353c68020ce39a4efaf8ad9467137ff"},
		{"values-watched, after", "message: two", "c87483b438faa2a93f3245f5b3a0c010b698e2d7f6da949b454eec35c7a2224e"},
	} {
		t.Run(tc.recording, func(t *testing.T) {
			var values map[string]any
			if err := yaml.Unmarshal([]byte(tc.values), &values); err != nil {
				t.Fatal(err)
			}
			if got, err := Digest("sha256", values); err != nil || got != "sha256:"+tc.want {
				t.Errorf("got %s %v, want %s", got, err, tc.want)
			}
		})
	}
}

func TestDigestAlgorithms(t *testing.T) {
	for _, algo := range []string{"sha256", "sha384", "sha512", "blake3"} {
		got, err := Digest(algo, map[string]any{"a": "b"})
		if err != nil || !strings.HasPrefix(got, algo+":") {
			t.Errorf("%s: %s %v", algo, got, err)
		}
	}
	if _, err := Digest("md5", nil); err == nil {
		t.Error("md5 was accepted")
	}
}

// The record of a release holds the values as JSON: what comes back from there must have the same digest, or every run would find news.
func TestDigestSurvivesTheRecord(t *testing.T) {
	c := &cluster{data: map[string]map[string]string{"ConfigMap/one": {
		"values.yaml": "big: 12345678901\nhuge: 1234567890123456789\nfloat: 1.50\ntiny: 1e-9\nunsigned: 18446744073709551615\nempty: {}\nnone: []\nnil: ~\nz10: {b: [{c: 1, a: 2}]}\nz9: yes",
		"n":           "1234567890123456789", "m": "9223372036854775807",
	}}}
	values, err := Compose(t.Context(), c, release("inline: 9007199254740993", document("ConfigMap", "one"), at("set", "n"), at("most", "m")), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	want, err := Digest("sha256", values)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := yaml.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	if got, err := Digest("sha256", back); err != nil || got != want {
		t.Errorf("before %s, after %s %v", want, got, err)
	}
}

func FuzzSet(f *testing.F) {
	for _, s := range []string{"a.b|1", "a[1].b|{x,y}", `a\.b|"q"`, "a|1,b[2].c={1,2},d=", "a[|", "a[1][2]|x", "|", "a|{", "a.b[0]|null", `a|\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		path, text, _ := strings.Cut(s, "|")
		c := composition{limits: Limits{Depth: 20}, elements: 1000}
		values := map[string]any{"a": map[string]any{"b": []any{"c"}}, "d": "text"}
		if err := c.set(values, &helmv2.ValuesReference{TargetPath: path}, text); err != nil {
			return
		}
		if err := (Limits{Bytes: 100_000 + 100*len(s), Depth: 50}).check(values); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("a: &a [1]\nb: *a"))
	f.Add([]byte(bomb()))
	f.Fuzz(func(t *testing.T, data []byte) {
		values, err := parse(data, Limits{Bytes: 100_000, Depth: 20})
		if err == nil && !bytes.ContainsRune(data, '&') && len(values) > len(data) {
			t.Errorf("more keys than bytes: %d", len(values))
		}
	})
}
