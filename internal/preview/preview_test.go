package preview

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

// cli 43: a difference is told by its path, elements of lists by their names.
func TestFields(t *testing.T) {
	for name, test := range map[string]struct{ live, next, want string }{
		"equal":   {"a: {b: [1, {c: d}]}", "a: {b: [1, {c: d}]}", ""},
		"value":   {"spec: {replicas: 2}", "spec: {replicas: 3}", "spec.replicas\n  ± value change\n    - 2\n    + 3\n"},
		"type":    {"a: {b: c}", "a: [b]", "a\n  ± value change\n    - b: c\n    + - b\n"},
		"added":   {"a: {}", "a: {x.y/z: [1, 2]}", "a.\"x.y/z\"\n  + added\n    + - 1\n    + - 2\n"},
		"removed": {"a: {b: {c: d}}", "a: {}", "a.b\n  - removed\n    - c: d\n"},
		"by name": {
			"c: [{name: x, image: 'a:1'}, {name: z}]", "c: [{name: new}, {name: z}, {name: x, image: 'a:2'}]",
			"c.new\n  + added\n    + name: new\n\nc.x.image\n  ± value change\n    - a:1\n    + a:2\n",
		},
		"by index":       {"c: [1, {a: 2}]", "c: [1, {a: 3}]", "c.1.a\n  ± value change\n    - 2\n    + 3\n"},
		"names repeated": {"c: [{name: x}, {name: x}]", "c: [{name: x}]", "c\n  ± value change after line 1\n    - - name: x\n"},
		"lines":          {"t: \"1\\n2\\n3\\n4\\n\"", "t: \"1\\n2\\nthree\\n4\\n\"", "t\n  ± value change after line 2\n    - 3\n    + three\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var texts []string
			for _, f := range differ(nil, nil, object(t, test.live).Object, object(t, test.next).Object) {
				texts = append(texts, f.String())
			}
			if diff := cmp.Diff(test.want, strings.Join(texts, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// cli 41: what SOPS has encrypted in a Secret is masked, and nothing else is.
func TestMask(t *testing.T) {
	sealed := base64.StdEncoding.EncodeToString([]byte("a: ENC[AES256_GCM,data:x]\nsops: {}\n"))
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, test := range map[string]struct {
		in, want string
		found    bool
	}{
		"secret": {
			"{apiVersion: v1, kind: Secret, data: {a: 'ENC[x]', .dockerconfigjson: 'ENC[y]'}, stringData: {b: 'ENC[z]'}, sops: {mac: x}}",
			"{apiVersion: v1, kind: Secret, data: {a: " + encode("**SOPS**") + ", .dockerconfigjson: " + encode(`{"mask":"**SOPS**"}`) + "}, stringData: {b: '**SOPS**'}}", true,
		},
		"file in a secret": {
			"{apiVersion: v1, kind: Secret, data: {file: " + sealed + ", plain: cGxhaW4=}}",
			"{apiVersion: v1, kind: Secret, data: {file: " + encode("**SOPS**") + ", plain: cGxhaW4=}}", true,
		},
		"plain":      {"{apiVersion: v1, kind: Secret, data: {a: eA==}}", "{apiVersion: v1, kind: Secret, data: {a: eA==}}", false},
		"other kind": {"{apiVersion: v1, kind: ConfigMap, data: {a: 'ENC[x]'}}", "{apiVersion: v1, kind: ConfigMap, data: {a: 'ENC[x]'}}", false},
		"namesake":   {"{apiVersion: x.io/v1, kind: Secret, data: {a: 'ENC[x]'}, sops: {}}", "{apiVersion: x.io/v1, kind: Secret, data: {a: 'ENC[x]'}, sops: {}}", false},
	} {
		t.Run(name, func(t *testing.T) {
			o := object(t, test.in)
			if found := mask(o); found != test.found {
				t.Errorf("it reports %t", found)
			}
			if diff := cmp.Diff(object(t, test.want).Object, o.Object); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// reliability 055: no value of a Secret is shown, wherever it was copied to, and neither is what a Secret held earlier.
func TestDiffHidesSecrets(t *testing.T) {
	values := []string{"0ld-passw0rd", "n3w-passw0rd", "earl1er-passw0rd", "added-t0ken", "rem0ved-token", "-----first line of a key-----"}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	p := &Preview{hidden: newSecrets()}
	changes := []Change{
		{Difference: ssa.Difference{ // before the Secret it was copied from
			Change: ssa.Change{Action: ssa.Configured},
			Live:   object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {annotations: {copy: 'is "+b64(values[0])+"'}}, data: {url: 'https://u:"+values[0]+"@host', list: [x]}}"),
			Next: object(t, "{apiVersion: v1, kind: ConfigMap, metadata: {annotations: {"+corev1.LastAppliedConfigAnnotation+": 'token: unheard-of'}}, data: {url: 'https://u:"+values[1]+
				"@host', list: [{deep: '"+values[3]+"'}], pem: \"a\\n"+values[5]+"\\n\"}}"),
		}},
		{Difference: ssa.Difference{
			Change: ssa.Change{Action: ssa.Configured},
			Live: object(t, "{apiVersion: v1, kind: Secret, metadata: {annotations: {"+corev1.LastAppliedConfigAnnotation+": '{\"kind\":\"Secret\",\"apiVersion\":\"v1\",\"stringData\":{\"a\":\""+values[2]+
				"\"}}'}}, data: {a: "+b64(values[0])+", gone: "+b64(values[4])+", short: eA==}}"),
			Next: object(t, "{apiVersion: v1, kind: Secret, data: {a: "+b64(values[1])+", key: "+b64("x\n"+values[5]+"\n")+", short: eQ==}, stringData: {more: "+values[3]+"}}"),
		}},
	}
	for _, c := range changes {
		p.hidden.learn(c.Live)
		p.hidden.learn(c.Next)
	}
	var out strings.Builder
	for i := range changes {
		changes[i].Fields = p.fields(changes[i])
	}
	if changed, err := WriteChanges(&out, changes); err != nil || !changed {
		t.Fatalf("it reports %t, %v", changed, err)
	}
	for _, v := range append(values, "unheard-of", "eA==", "eQ==") {
		if strings.Contains(out.String(), v) || strings.Contains(out.String(), b64(v)) {
			t.Errorf("%q is shown", v)
		}
	}
	for _, key := range []string{"data.a\n", "data.gone\n", "data.short\n", "stringData", "data.url\n", "is ***"} {
		if !strings.Contains(out.String(), key) {
			t.Errorf("%q is not shown", key)
		}
	}
	if text := p.conceal(errors.New("refused: " + values[1])).Error(); text != "refused: ***" {
		t.Errorf("an error says %q", text)
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// cli 43: of a Secret that SOPS has encrypted, keys count and values do not.
func TestDiffOfEncrypted(t *testing.T) {
	p := &Preview{hidden: newSecrets()}
	live := object(t, "{apiVersion: v1, kind: Secret, data: {a: cGxhaW4tdmFsdWU=, b: eA==}}")
	same := Change{Difference: ssa.Difference{Live: live, Next: object(t, "{apiVersion: v1, kind: Secret, data: {a: KipTT1BTKio=, b: KipTT1BTKio=}}")}, encrypted: true}
	if fields := p.fields(same); len(fields) > 0 {
		t.Errorf("equal keys differ: %v", fields)
	}
	other := Change{Difference: ssa.Difference{Live: live, Next: object(t, "{apiVersion: v1, kind: Secret, data: {a: KipTT1BTKio=, c: KipTT1BTKio=}}")}, encrypted: true}
	settings := p.fields(Change{Difference: ssa.Difference{
		Live: object(t, "{apiVersion: v1, kind: ConfigMap, data: {a: plain-value}}"),
		Next: object(t, "{apiVersion: v1, kind: ConfigMap, data: {a: 'ENC[AES256_GCM,data:x]'}}"),
	}})
	if len(settings) != 1 || strings.Contains(settings[0].String(), "plain-value") {
		t.Errorf("an encrypted ConfigMap differs in %v", settings)
	}
	var paths []string
	for _, f := range p.fields(other) {
		paths = append(paths, strings.Join(f.Path, "."))
	}
	if diff := cmp.Diff([]string{"data.b", "data.c"}, paths); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// cli 39, 40: the tree around the path is found, and left as it was.
func TestPlaces(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"repo/.git", "repo/apps/web", "repo/base", "loose"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ dir, spec, tree, path string }{
		{"repo/apps/web", "./apps/web", "repo", "/apps/web"},
		{"repo/apps/web", "web", "repo/apps", "/web"},
		{"repo/apps/web", "./", "repo/apps/web", "."},
		{"repo/apps/web", "", "repo/apps/web", "."},
		{"repo/apps/web", "./production", "repo", "apps/web"},
		{"repo/apps/web", "../../apps/web", "repo", "/apps/web"},
		{"loose", "./production", "loose", "."},
	} {
		got, err := locate(filepath.Join(root, test.dir), test.spec)
		if want := (place{filepath.Join(root, test.tree), test.path}); err != nil || got != want {
			t.Errorf("%s with spec.path %q is at %v, %v, want %v", test.dir, test.spec, got, err, want)
		}
	}
}

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func kustomization(path string) *kustomizev1.Kustomization {
	return &kustomizev1.Kustomization{
		ObjectMeta: metav1.ObjectMeta{Namespace: "flux-system", Name: "app"},
		Spec:       kustomizev1.KustomizationSpec{Path: path},
	}
}

// gitrepository 60, 61, cli 40: what a source leaves out is left out here too, and the directory stays as it was.
func TestBuildLeavesOut(t *testing.T) {
	const settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: default}\n"
	for name, test := range map[string]struct {
		ignoreFile string
		ignore     []string
		want       []string
	}{
		"defaults":    {"", nil, []string{"a", "b"}},
		"ignore file": {"b.yaml\n.github/\n", nil, []string{"a"}},
		"patterns":    {"", []string{"/apps/a.yaml", "/b.yaml"}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "apps/a.yaml", fmt.Sprintf(settings, "a"))
			write(t, dir, "apps/b.yaml", fmt.Sprintf(settings, "b"))
			write(t, dir, "apps/.github/workflow.yaml", "on: push\n")
			if test.ignoreFile != "" {
				write(t, dir, ".sourceignore", test.ignoreFile)
			}
			p, err := Build(t.Context(), kustomization("./apps"), Options{Path: filepath.Join(dir, "apps"), Ignore: test.ignore})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, o := range p.Sets[0].Objects {
				names = append(names, o.GetName())
			}
			if diff := cmp.Diff(test.want, names); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if _, err := os.Stat(filepath.Join(dir, "apps", "kustomization.yaml")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the directory was written to: %v", err)
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	dir := b.TempDir()
	for i := range 500 {
		write(b, dir, fmt.Sprintf("apps/%d.yaml", i), fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d%d, namespace: default}\nspec: {replicas: 2, template: {spec: {containers: [{name: app, image: app}]}}}\n", i))
	}
	for b.Loop() {
		if _, err := Build(b.Context(), kustomization("./apps"), Options{Path: filepath.Join(dir, "apps")}); err != nil {
			b.Fatal(err)
		}
	}
}
