package render

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
)

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\ndata:\n  key: one\n"
}

// ids lists built objects as kind/namespace/name.
func ids(res *Result) []string {
	var out []string
	for _, o := range res.Objects {
		out = append(out, strings.Trim(o.GetKind()+"/"+o.GetNamespace()+"/"+o.GetName(), "/"))
	}
	return out
}

func yamlOf(t *testing.T, res *Result) string {
	t.Helper()
	var b strings.Builder
	if err := res.WriteYAML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBuildObjects(t *testing.T) {
	component := "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		spec  Spec
		want  []string
	}{
		{
			name:  "kustomization 28: each recognised file name",
			files: map[string]string{"a/Kustomization": "resources: [a.yaml]\n", "a/a.yaml": configMap("a"), "a/b.yaml": configMap("b")},
			spec:  Spec{Path: "./a"},
			want:  []string{"ConfigMap//a"},
		},
		{
			name: "kustomization 29: a directory with a kustomization file is one resource",
			files: map[string]string{
				"a.yaml": configMap("a"), "b/kustomization.yml": "resources: [x.yaml]\n", "b/x.yaml": configMap("x"),
				"b/sub/hidden.yaml": configMap("hidden"), "c/d/e.yml": configMap("e"), "readme.md": "a: [", "z.json": "{",
			},
			want: []string{"ConfigMap//a", "ConfigMap//x", "ConfigMap//e"},
		},
		{
			name:  "kustomization 30: a directory without manifests builds nothing",
			files: map[string]string{"readme.md": "x"},
		},
		{
			name:  "kustomization 25: the path cannot climb out of the tree",
			files: map[string]string{"etc/a.yaml": configMap("a")},
			spec:  Spec{Path: "../../../etc"},
			want:  []string{"ConfigMap//a"},
		},
		{
			name:  "kustomization 32: prefix, suffix and namespace override the file",
			files: map[string]string{"kustomization.yaml": "namePrefix: x-\nnameSuffix: -x\nnamespace: x\nresources: [a.yaml]\n", "a.yaml": configMap("a")},
			spec:  Spec{NamePrefix: "p-", NameSuffix: "-s", TargetNamespace: "n"},
			want:  []string{"ConfigMap/n/p-a-s"},
		},
		{
			name: "kustomization 32: components are appended, missing ones left out when asked for",
			files: map[string]string{
				"deploy/kustomization.yaml": "resources: [a.yaml]\ncomponents: [../one]\n", "deploy/a.yaml": configMap("a"),
				"one/kustomization.yaml": component + "resources: [o.yaml]\n", "one/o.yaml": configMap("o"),
				"two/kustomization.yaml": component + "resources: [t.yaml]\n", "two/t.yaml": configMap("t"),
			},
			spec: Spec{Path: "deploy", Components: []string{"../none", "../two"}, IgnoreMissingComponents: true},
			want: []string{"ConfigMap//a", "ConfigMap//o", "ConfigMap//t"},
		},
		{
			name:  "kustomization 34: legacy patches",
			files: map[string]string{"a.yaml": configMap("a"), "b.yaml": configMap("b")},
			spec: Spec{
				PatchesStrategicMerge: []string{"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n$patch: delete\n"},
				PatchesJSON6902: []types.Patch{{
					Patch:  `[{"op": "replace", "path": "/metadata/name", "value": "z"}]`,
					Target: &types.Selector{ResId: resid.ResId{Name: "a"}},
				}},
			},
			want: []string{"ConfigMap//z"},
		},
		{
			name:  "kustomization 35: bases beside the path",
			files: map[string]string{"deploy/x/kustomization.yaml": "resources: [../../base]\n", "base/kustomization.yaml": "resources: [a.yaml]\n", "base/a.yaml": configMap("a")},
			spec:  Spec{Path: "deploy/x"},
			want:  []string{"ConfigMap//a"},
		},
		{
			name: "kustomization 60: lists are flattened, kustomize's own kinds dropped",
			files: map[string]string{
				"list.yaml": "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n" +
					"- apiVersion: v1\n  kind: ConfigMapList\n  items:\n  - {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n",
				"k.yaml":   "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nmetadata: {name: k}\n",
				"own.yaml": "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: own}\n",
			},
			want: []string{"ConfigMap//a", "ConfigMap//b", "Kustomization//own"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := buildDir(t, writeTree(t, c.files), c.spec, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, ids(res)); diff != "" {
				t.Errorf("objects (-want +got):\n%s", diff)
			}
		})
	}
}

// The recorded annotation config.kubernetes.io/origin on generated objects (kustomization 31).
func TestOriginOfGeneratorsOnly(t *testing.T) {
	res, err := buildDir(t, writeTree(t, map[string]string{
		"kustomization.yaml": "configMapGenerator:\n- name: gen\n  literals: [a=b]\n",
	}), Spec{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := "configuredIn: kustomization.yaml\nconfiguredBy:\n  apiVersion: builtin\n  kind: ConfigMapGenerator\n"
	if diff := cmp.Diff(want, res.Objects[0].GetAnnotations()["config.kubernetes.io/origin"]); diff != "" {
		t.Errorf("origin (-want +got):\n%s", diff)
	}
}

// kustomization 32: images of equal name are merged field by field.
func TestMergeImages(t *testing.T) {
	file := []types.Image{{Name: "a", NewName: "x/a", NewTag: "1"}, {Name: "b", Digest: "sha256:b"}}
	for _, c := range []struct {
		name     string
		override types.Image
		want     []types.Image
	}{
		{"name only", types.Image{Name: "a", NewName: "y/a"}, []types.Image{{Name: "a", NewName: "y/a", NewTag: "1"}, file[1]}},
		{"tag only", types.Image{Name: "a", NewTag: "2"}, []types.Image{{Name: "a", NewName: "x/a", NewTag: "2"}, file[1]}},
		{"digest drops the tag", types.Image{Name: "a", Digest: "sha256:c"}, []types.Image{{Name: "a", NewName: "x/a", Digest: "sha256:c"}, file[1]}},
		{"tag drops the digest", types.Image{Name: "b", NewTag: "3"}, []types.Image{file[0], {Name: "b", NewTag: "3"}}},
		{"another name", types.Image{Name: "c", NewTag: "4"}, append(slices.Clone(file), types.Image{Name: "c", NewTag: "4"})},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, mergeImages(slices.Clone(file), []types.Image{c.override})); diff != "" {
				t.Errorf("images (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBuildErrors(t *testing.T) {
	deep := map[string]string{}
	for i := range 2000 {
		deep[fmt.Sprintf("d%d/kustomization.yaml", i)] = fmt.Sprintf("resources: [../d%d]\n", i+1)
	}
	wide := map[string]string{}
	for i := range 30 { // each level stands twice on the next: 2^30 paths
		wide[fmt.Sprintf("d%d/kustomization.yaml", i)] = fmt.Sprintf("resources: [../l%[1]d, ../r%[1]d]\n", i)
		for _, side := range []string{"l", "r"} {
			wide[fmt.Sprintf("%s%d/kustomization.yaml", side, i)] = fmt.Sprintf("namePrefix: %s\nresources: [../d%d]\n", side, i+1)
		}
	}
	wide["d30/kustomization.yaml"] = "resources: [a.yaml]\n"
	wide["d30/a.yaml"] = configMap("a")
	bomb := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	self := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: self}\ndata: &d {x: [*d]}\n"
	component := "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		spec  Spec
		want  string // part of the error
	}{
		{"kustomization 25: path not found", map[string]string{"a.yaml": ""}, Spec{Path: "none/here"}, "kustomization path not found: stat /tree/none/here: no such file or directory"},
		{"kustomization 28: two files", map[string]string{"kustomization.yaml": "resources: []\n", "Kustomization": "resources: []\n"}, Spec{},
			"kustomize build failed: Found multiple kustomization files under: /tree"},
		{"kustomization 28: two files in a base", map[string]string{"kustomization.yaml": "resources: [b]\n", "b/kustomization.yaml": "", "b/kustomization.yml": ""}, Spec{},
			"Found multiple kustomization files under: /tree/b"},
		{"kustomization 29: no kind", map[string]string{"a.yaml": "metadata: {name: a}\n"}, Spec{}, "failed to decode Kubernetes YAML from /tree/a.yaml: missing kind in object"},
		{"kustomization 29: no name", map[string]string{"a.yaml": "kind: A\n"}, Spec{}, "failed to decode Kubernetes YAML from /tree/a.yaml: missing metadata.name in object"},
		{"kustomization 29: first bad file in order", map[string]string{"a.yaml": configMap("a"), "b.yaml": configMap("a"), "z.yaml": "a: [b"}, Spec{}, "failed to decode Kubernetes YAML from /tree/z.yaml"},
		{"kustomization 32: remote component", map[string]string{}, Spec{Components: []string{"https://example.com/x"}}, "component path 'https://example.com/x' must be local and relative"},
		{"kustomization 32: absolute component", map[string]string{}, Spec{Components: []string{"/etc"}}, "component path '/etc' must be local and relative"},
		{"kustomization 35: plugins are off", map[string]string{"kustomization.yaml": "transformers: [t.yaml]\n", "t.yaml": "apiVersion: x/v1\nkind: T\nmetadata:\n  name: t\n  annotations:\n    config.kubernetes.io/function: |\n      exec: {path: /bin/sh}\n"}, Spec{},
			"external plugins disabled"},
		{"kustomization 35: helm is off", map[string]string{"kustomization.yaml": "helmCharts: [{name: x, repo: 'http://127.0.0.1:1/'}]\n"}, Spec{}, "must specify --enable-helm"},
		{"kustomization 39: no apiVersion", map[string]string{"a.yaml": "kind: A\nmetadata: {name: a}\n"}, Spec{}, "apiVersion is missing or not a string"},
		{"reliability 002: itself", map[string]string{"kustomization.yaml": "resources: ['.']\n"}, Spec{}, "cycle detected"},
		{"reliability 002: itself with a slash", map[string]string{"kustomization.yaml": "resources: ['./']\n"}, Spec{}, "cycle detected"},
		{"reliability 002: two bases", map[string]string{"a/kustomization.yaml": "resources: [../b]\n", "b/kustomization.yaml": "resources: [../a]\n"}, Spec{Path: "a"}, "cycle detected"},
		{"reliability 002: components", map[string]string{"a/kustomization.yaml": component + "components: [../b]\n", "b/kustomization.yaml": component + "components: [../a]\n"}, Spec{Path: "a"}, "cycle detected"},
		{"reliability 002: the parent", map[string]string{"kustomization.yaml": "resources: [a]\n", "a/kustomization.yaml": "resources: [..]\n"}, Spec{Path: "a"}, "cycle detected"},
		{"reliability 002: transformers", map[string]string{"a/kustomization.yaml": "transformers: [../b]\nresources: []\n", "b/kustomization.yaml": "transformers: [../a]\n"}, Spec{Path: "a"}, "kustomizations stand on each other"},
		{"reliability 002: 2,000 levels", deep, Spec{Path: "d0"}, "more than 64 kustomizations stand on each other"},
		{"reliability 002: 2^30 paths", wide, Spec{Path: "d0"}, "more than 300 kustomization files"},
		{"reliability 017: alias bomb", map[string]string{"a.yaml": bomb}, Spec{}, "read /tree/a.yaml: the YAML aliases expand to more than"},
		{"reliability 017: alias in its anchor", map[string]string{"a.yaml": self}, Spec{}, "read /tree/a.yaml: a YAML alias stands inside of the anchor it names"},
		{"reliability 017: alias bomb in a patch of the spec", map[string]string{"a.yaml": configMap("a")}, Spec{Patches: []types.Patch{{Patch: self}}}, "a YAML alias stands inside"},
		{"reliability 017: alias bomb in an inline transformer", map[string]string{"kustomization.yaml": "transformers:\n- |-\n  apiVersion: builtin\n  kind: PatchTransformer\n  metadata: {name: p}\n  patch: |\n    " +
			strings.ReplaceAll(strings.TrimSpace(self), "\n", "\n    ") + "\n"}, Spec{}, "a YAML alias stands inside"},
		{"reliability 017: escaped alias bomb", map[string]string{"kustomization.yaml": "patches:\n- patch: \"a: \\u0026d [\\u002ad]\"\n"}, Spec{}, "a YAML alias stands inside"},
		{"reliability 017: duplicate keys", map[string]string{"a.yaml": configMap("a") + "data: {}\n"}, Spec{}, "mapping key \"data\" already defined"},
		{"reliability 017: a million empty documents", map[string]string{"a.yaml": strings.Repeat("---\n", 1_000_000)}, Spec{}, "more than 20000 YAML documents"},
		{"reliability 017: a huge scalar", map[string]string{"a.yaml": configMap("a") + "  b: " + strings.Repeat("x", 17<<20)}, Spec{}, "read /tree/a.yaml: the file has 17825865 bytes, the limit is 16777216"},
		{"reliability 017: invalid UTF-8", map[string]string{"a.yaml": configMap("a") + "  b: \xff\xfe\n"}, Spec{}, "/tree/a.yaml: MalformedYAMLError: yaml: invalid"},
		{"reliability 017: metadata is a list", map[string]string{"a.yaml": "apiVersion: v1\nkind: A\nmetadata: [a]\n"}, Spec{}, "failed to decode Kubernetes YAML from /tree/a.yaml"},
		{"reliability 017: a name that is a number", map[string]string{"a.yaml": "apiVersion: v1\nkind: A\nmetadata: {name: 1}\n"}, Spec{}, "metadata.name is missing or not a string"},
		{"reliability 017: deep nesting", map[string]string{"a.yaml": configMap("a") + "  b: " + strings.Repeat("[", 20000)}, Spec{}, "exceeded max depth"},
		{"reliability 019: schema that refers to itself", map[string]string{"kustomization.yaml": "openapi: {path: s.json}\nresources: [a.yaml]\n", "a.yaml": configMap("a"),
			"s.json": `{"definitions": {"A": {"$ref": "#/definitions/B"}, "B": {"$ref": "#/definitions/A"}}}`}, Spec{}, "leads back to itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			res, err := Build(t.Context(), unpacked(t, writeTree(t, c.files)), c.spec, Options{Limits: Limits{Kustomizations: 300}})
			if err == nil {
				t.Fatalf("built %d objects, want an error with %q", len(res.Objects), c.want)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %.2000q\nwant    %q", err, c.want)
			}
			t.Logf("%v: %.300v", time.Since(start), err)
		})
	}
}

// reliability 017: what looks odd but is allowed.
func TestBuildOddYAML(t *testing.T) {
	res, err := buildDir(t, writeTree(t, map[string]string{
		"bom.yaml":     "\ufeff" + configMap("bom"),
		"crlf.yaml":    strings.ReplaceAll(configMap("crlf")+"---\n"+configMap("crlf2"), "\n", "\r\n"),
		"anchors.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: anchors}\ndata: {a: &a x, b: *a}\n",
		"empty.yaml":   "# nothing\n---\n---\n",
		"types.yaml":   "apiVersion: v1\nkind: T\nmetadata: {name: types}\nspec: {i: 12345678901, f: 1.5, g: 1e6, t: 2026-01-01, o: 0o17, n: null, b: yes, s: \"1\", big: 9223372036854775807}\n",
	}), Spec{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ConfigMap//anchors", "ConfigMap//bom", "ConfigMap//crlf", "ConfigMap//crlf2", "T//types"}, ids(res)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	want := map[string]any{"i": int64(12345678901), "f": 1.5, "g": int64(1000000), "t": "2026-01-01T00:00:00Z", "o": int64(15),
		"n": nil, "b": "yes", "s": "1", "big": int64(9223372036854775807)}
	if diff := cmp.Diff(want, res.Objects[4].Object["spec"]); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
}

// TestSchemaIsolation is reliability 019: a Kustomization with a schema of its own must not change what others build,
// also when they run at the same time.
func TestSchemaIsolation(t *testing.T) {
	patch := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web-0}\nspec: {template: {spec: {containers: [{name: side, image: s}]}}}\n"
	plain := writeTree(t, map[string]string{"kustomization.yaml": "resources: [d.yaml]\npatches: [{path: p.yaml}]\nnamespace: x\nnamePrefix: y-\n", "d.yaml": fmt.Sprintf(benchDeployment, 0), "p.yaml": patch})
	custom := writeTree(t, map[string]string{"kustomization.yaml": "resources: [base]\n", "base/kustomization.yaml": "openapi: {path: s.json}\nresources: [d.yaml]\npatches: [{path: p.yaml}]\n",
		"base/d.yaml": fmt.Sprintf(benchDeployment, 0), "base/p.yaml": patch,
		"base/s.json": `{"definitions": {"D": {"type": "object", "x-kubernetes-group-version-kind": [{"group": "apps", "version": "v1", "kind": "Deployment"}]}}}`})
	digest := func(tree string) string {
		res, err := buildDir(t, tree, Spec{}, Options{})
		if err != nil {
			t.Error(err)
			return ""
		}
		return res.Digest
	}
	wantPlain, wantCustom := digest(plain), digest(custom)
	if wantPlain == wantCustom {
		t.Fatal("the schema makes no difference, so this test could not fail")
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 25 {
				if got := digest(plain); got != wantPlain {
					t.Errorf("plain build: %s, want %s", got, wantPlain)
				}
				if i%5 == 0 {
					if got := digest(custom); got != wantCustom {
						t.Errorf("build with its own schema: %s, want %s", got, wantCustom)
					}
				}
			}
		})
	}
	wg.Wait()
}

// kustomization 35: the tree is closed, whatever its links say.
func TestConfinement(t *testing.T) {
	outside := writeTree(t, map[string]string{"secret.yaml": configMap("secret"), "dir/kustomization.yaml": "resources: [../secret.yaml]\n"})
	for _, c := range []struct {
		name, kustomization string
		links               map[string]string
		want                string
	}{
		{"relative path", "resources: [../../../../../../../../../etc/passwd]\n", nil, "fs-security-constraint read /etc/passwd: path '/etc/passwd' is not in or below '/tree'"},
		{"absolute path", "resources: [/etc/passwd]\n", nil, "fs-security-constraint read /etc/passwd"},
		{"generator", "configMapGenerator: [{name: a, files: [/etc/passwd]}]\n", nil, "fs-security-constraint read /etc/passwd"},
		{"absolute link", "resources: [l.yaml]\n", map[string]string{"l.yaml": outside + "/secret.yaml"}, "a symbolic link leads out of the tree"},
		{"relative link", "resources: [l.yaml]\n", map[string]string{"l.yaml": "../../secret.yaml"}, "a symbolic link leads out of the tree"},
		{"linked directory", "resources: [l]\n", map[string]string{"l": outside + "/dir"}, "a symbolic link leads out of the tree"},
		{"link in between", "resources: [l/secret.yaml]\n", map[string]string{"l": outside}, "a symbolic link leads out of the tree"},
		{"loop", "resources: [l]\n", map[string]string{"l": "m", "m": "l"}, "too many levels of symbolic links"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := writeTree(t, map[string]string{"kustomization.yaml": c.kustomization})
			for name, target := range c.links {
				if err := os.Symlink(target, filepath.Join(tree, name)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := buildDir(t, tree, Spec{}, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), tree) || strings.Contains(err.Error(), "root:")) {
				t.Errorf("the error tells the path on disk or the content: %v", err)
			}
		})
	}
	t.Run("links inside the tree work", func(t *testing.T) {
		tree := writeTree(t, map[string]string{"kustomization.yaml": "resources: [l, f.yaml]\n", "base/x/kustomization.yaml": "resources: [../a.yaml]\n", "base/a.yaml": configMap("a"), "b.yaml": configMap("b")})
		for name, target := range map[string]string{"l": "base/./x", "f.yaml": "base/../b.yaml"} {
			if err := os.Symlink(target, filepath.Join(tree, name)); err != nil {
				t.Fatal(err)
			}
		}
		res, err := buildDir(t, tree, Spec{}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"ConfigMap//a", "ConfigMap//b"}, ids(res)); diff != "" {
			t.Errorf("objects (-want +got):\n%s", diff)
		}
	})
	t.Run("a pipe is refused", func(t *testing.T) {
		tree := writeTree(t, map[string]string{"kustomization.yaml": "resources: [pipe.yaml]\n"})
		if err := syscall.Mkfifo(filepath.Join(tree, "pipe.yaml"), 0o644); err != nil {
			t.Skip(err)
		}
		_, err := buildDir(t, tree, Spec{}, Options{})
		if err == nil || !strings.Contains(err.Error(), "read /tree/pipe.yaml: not a regular file") {
			t.Errorf("error %v", err)
		}
	})
}

func TestLimits(t *testing.T) {
	files := map[string]string{"a.yaml": configMap("a"), "b.yaml": configMap("b"), "c/d.yaml": configMap("d")}
	for _, c := range []struct {
		name   string
		limits Limits
		want   string
	}{
		{"objects", Limits{Objects: 2}, "the build has 3 objects, the limit is 2"},
		{"files", Limits{Files: 3}, "more than 3 files and directories"},
		{"total", Limits{TotalBytes: 100}, "the build reads more than 100 bytes in all"},
		{"file", Limits{FileBytes: 10}, "bytes, the limit is 10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := buildDir(t, writeTree(t, files), Spec{}, Options{Limits: c.limits})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// The tree is shared: a build leaves it as it was.
func TestTreeUntouched(t *testing.T) {
	tree := writeTree(t, map[string]string{"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": configMap("a"), "plain/b.yaml": configMap("b")})
	snapshot := func() map[string]string {
		state := map[string]string{}
		err := filepath.Walk(tree, func(p string, info os.FileInfo, err error) error {
			if err == nil {
				content, _ := os.ReadFile(p)
				state[p] = fmt.Sprint(info.Mode(), info.ModTime(), string(content))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	before := snapshot()
	for _, p := range []string{"", "plain"} {
		if _, err := buildDir(t, tree, Spec{Path: p, TargetNamespace: "x"}, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(before, snapshot()); diff != "" {
		t.Errorf("tree changed:\n%s", diff)
	}
}

func TestCancelled(t *testing.T) {
	reason := errors.New("a newer revision")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(reason)
	_, err := Build(ctx, disk(t, writeTree(t, map[string]string{"a.yaml": configMap("a")})), Spec{}, Options{})
	if !errors.Is(err, reason) {
		t.Errorf("error %v, want %v", err, reason)
	}
}

// kustomization 37: a panic becomes an error, with the stack kept apart from the message.
func TestPanic(t *testing.T) {
	_, err := buildDir(t, writeTree(t, map[string]string{
		"kustomization.yaml": "openapi: {path: s.json}\nresources: [d.yaml]\npatches: [{path: d.yaml}]\n",
		"d.yaml":             fmt.Sprintf(benchDeployment, 0),
		"s.json":             `{"definitions": 1}`,
	}), Spec{}, Options{})
	var p *PanicError
	if !errors.As(err, &p) || len(p.Stack) == 0 || !strings.HasPrefix(err.Error(), "kustomize build failed: panic: ") || strings.Contains(err.Error(), "goroutine") {
		t.Errorf("error %v", err)
	}
	if _, err := buildDir(t, writeTree(t, map[string]string{"d.yaml": fmt.Sprintf(benchDeployment, 0)}), Spec{}, Options{}); err != nil {
		t.Errorf("the build after the panic: %v", err)
	}
}

func TestFingerprint(t *testing.T) {
	base := Inputs{Tree: "sha256:a", Spec: Spec{Path: "x", Patches: []types.Patch{{Patch: "p"}}}, Substitute: true, Variables: map[string]string{"a": "1", "b": "2"}}
	of := func(change func(*Inputs)) string {
		in := base
		in.Variables = maps.Clone(base.Variables)
		change(&in)
		fp, err := Fingerprint(in)
		if err != nil {
			t.Fatal(err)
		}
		return fp
	}
	want := of(func(*Inputs) {})
	if got := of(func(*Inputs) {}); got != want {
		t.Errorf("the same input gives %s and %s", want, got)
	}
	for name, change := range map[string]func(*Inputs){
		"tree":       func(i *Inputs) { i.Tree = "sha256:b" },
		"path":       func(i *Inputs) { i.Spec.Path = "y" },
		"patch":      func(i *Inputs) { i.Spec.Patches = []types.Patch{{Patch: "q"}} },
		"variable":   func(i *Inputs) { i.Variables["a"] = "2" },
		"always":     func(i *Inputs) { i.Always = true },
		"decryption": func(i *Inputs) { i.Decryption = "k" },
		"remote":     func(i *Inputs) { i.NoRemoteBases = true },
	} {
		if of(change) == want {
			t.Errorf("a change of %s does not change the fingerprint", name)
		}
	}
}
