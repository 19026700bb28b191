package generate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
)

func TestMergeYAML(t *testing.T) {
	for name, test := range map[string]struct{ below, above, want string }{
		"artifactgenerator 44: maps deeply, the source wins, lists are replaced": {
			"b: 1\nm: {x: 1, y: {z: 1}}\nlist: [1, 2]\n", "m: {y: {w: 2}, x: 3}\nlist: [3]\na: 0\n",
			"a: 0\nb: 1\nlist:\n  - 3\nm:\n  x: 3\n  y:\n    w: 2\n    z: 1\n",
		},
		"artifactgenerator 44: documents are folded in order": {"a: 1\n---\na: 2\nb: 1\n", "---\nb: 3\n---\n# nothing\n---\nc: 4\n", "a: 2\nb: 3\nc: 4\n"},
		"artifactgenerator 44: JSON becomes YAML":             {`{"a": {"b": 1}}`, `{"a": {"c": [true]}}`, "\"a\":\n  \"b\": 1\n  \"c\":\n    - true\n"},
		"a map takes the place of a text, and the reverse":    {"a: text\nb: {c: 1}\n", "a: {c: 1}\nb: text\n", "a:\n  c: 1\nb: text\n"},
		"null is a value":                              {"a: 1\n", "a: null\n", "a: null\n"},
		"large numbers stay what they are":             {"a: 9007199254740993\n", "b: 1.5\n", "a: 9007199254740993\nb: 1.5\n"},
		"scalars stay what they are":                   {"on: yes\nmode: 010\nv: 1.10\n", "x: 'on'\nt: 2026-01-01\ns: |\n  a\n  b\n", "mode: 010\non: yes\ns: |\n  a\n  b\nt: 2026-01-01\nv: 1.10\nx: 'on'\n"},
		"aliases are what they stand for, comments go": {"a: &x {k: 1} # why\nb: *x\n", "b: {l: 2}\n", "a:\n  k: 1\nb:\n  k: 1\n  l: 2\n"},
		"nothing at all":                               {"", "", "{}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := mergeYAML([]byte(test.below), []byte(test.above))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("merged (-want +got):\n%s", diff)
			}
		})
	}
	for name, bad := range map[string]string{
		"artifactgenerator 44: torn": "a: [", "a list": "- 1\n", "a text": "text", "a repeated key": "a: 1\na: 2\n", "a key that is a map": "? {b: 1}\n: 2\n", "an alias of itself": "a: &a [*a]\n",
		"aliases without end": "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" +
			"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n",
	} {
		for _, pair := range [][2]string{{"a: 1\n", bad}, {bad, "a: 1\n"}} {
			if _, err := mergeYAML([]byte(pair[0]), []byte(pair[1])); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	}
}

// artifactgenerator 44, 45: what is merged, what is copied.
func TestMerge(t *testing.T) {
	source := onDisk(t, files{"base/v.yaml": "a: 1\n", "over/v.yaml": "b: 2\n", "over/sub/v.yaml": "c: 3\n", "bad/v.yaml": "- x\n"})
	merge := func(from, to string) v1beta1.CopyOperation { return with(v1beta1.MergeStrategy, op(from, to)) }
	for name, test := range map[string]struct {
		ops  []v1beta1.CopyOperation
		want files
	}{
		"a file":                   {[]v1beta1.CopyOperation{op("@repo/base/v.yaml", "@artifact/"), merge("@repo/over/v.yaml", "@artifact/v.yaml")}, files{"v.yaml": "a: 1\nb: 2\n"}},
		"a file into a directory":  {[]v1beta1.CopyOperation{op("@repo/base/v.yaml", "@artifact/"), merge("@repo/over/v.yaml", "@artifact/")}, files{"v.yaml": "a: 1\nb: 2\n"}},
		"nothing there: a copy":    {[]v1beta1.CopyOperation{merge("@repo/over/v.yaml", "@artifact/v.yaml")}, files{"v.yaml": "b: 2\n"}},
		"a file of a glob":         {[]v1beta1.CopyOperation{op("@repo/base/v.yaml", "@artifact/"), merge("@repo/over/**", "@artifact/")}, files{"v.yaml": "a: 1\nb: 2\n", "sub/v.yaml": "c: 3\n"}},
		"a directory: overwritten": {[]v1beta1.CopyOperation{op("@repo/base/v.yaml", "@artifact/over/"), merge("@repo/over", "@artifact/")}, files{"over/v.yaml": "b: 2\n", "over/sub/v.yaml": "c: 3\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := staged(t, source, test.ops...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, contentOf(t, s.root)); diff != "" {
				t.Errorf("artifact (-want +got):\n%s", diff)
			}
			if strings.HasPrefix(name, "a file") && s.root.at("v.yaml").file.mode.Perm() != 0o644 {
				t.Errorf("a merged file has the mode %s", s.root.at("v.yaml").file.mode)
			}
		})
	}
	_, err := staged(t, source, op("@repo/base/v.yaml", "@artifact/"), merge("@repo/bad/v.yaml", "@artifact/"))
	if err == nil || !strings.Contains(err.Error(), "merge into 'v.yaml'") {
		t.Errorf("error = %v", err)
	}
}

// FuzzMergeYAML: merging ends, and what it makes merges with nothing to itself.
func FuzzMergeYAML(f *testing.F) {
	for _, seed := range [][2]string{{"a: 1\n", "b: 2\n"}, {"a: {b: 1}\n---\nc: []\n", "---\n"}, {"{\"a\": 1e99}", "a: .inf\n"}, {"a: &x [1]\nb: *x\n", "? [1]\n: 2\n"}} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, below, above []byte) {
		merged, err := mergeYAML(below, above)
		if err != nil {
			return
		}
		again, err := mergeYAML(merged, nil)
		if err != nil {
			t.Fatalf("%q cannot be read again: %v", merged, err)
		}
		if string(again) != string(merged) {
			t.Errorf("%q became %q", merged, again)
		}
	})
}
