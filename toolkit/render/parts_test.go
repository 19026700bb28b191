package render

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"
)

// crowd holds objects that refer to each other in all ways that kustomize follows.
func crowd() map[string]string {
	files := map[string]string{
		"binding.yaml":  "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: b, namespace: old}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}\nsubjects: [{kind: ServiceAccount, name: sa, namespace: old}, {kind: ServiceAccount, name: default, namespace: old}, {kind: ServiceAccount, name: sa}]\n",
		"role.yaml":     "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: old}\nrules: [{apiGroups: [''], resources: [secrets], resourceNames: [s], verbs: [get]}]\n",
		"account.yaml":  "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa, namespace: old}\n",
		"secret.yaml":   "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: old}\n",
		"webhook.yaml":  "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: w}\nwebhooks: [{name: a.b.c, clientConfig: {service: {name: svc, namespace: old}}}, {name: d.b.c, clientConfig: {service: {name: svc}}}]\n",
		"api.yaml":      "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {name: v1.x.y}\nspec: {service: {name: svc, namespace: old}}\n",
		"service.yaml":  "apiVersion: v1\nkind: Service\nmetadata: {name: svc, namespace: old}\n",
		"namespace.yml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: old}\n",
		"deploy.yaml":   "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: old}\nspec: {template: {spec: {serviceAccountName: sa, containers: [{name: c, image: 'web:1', envFrom: [{secretRef: {name: s}}, {configMapRef: {name: c-0}}]}]}}}\n",
		"list.yaml":     "apiVersion: v1\nkind: ConfigMapList\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: l1}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: l2}}\n---\n# nothing\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: l3}\n",
		"crd.yaml":      "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: zs.x.y}\nspec: {group: x.y, scope: Cluster, conversion: {strategy: Webhook, webhook: {clientConfig: {service: {name: svc, namespace: old}}}}}\n",
		"custom.yaml":   "apiVersion: x.y/v1\nkind: Z\nmetadata: {name: z}\nspec: {subjects: [{name: sa}]}\n",
		"zz/a.yaml":     "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
	}
	for i := range 20 {
		files[fmt.Sprintf("c-%d.yaml", i)] = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c-%d}\ndata: {a: '1', b: 01}\n", i)
	}
	return files
}

// text builds in parts of the given number of objects, and returns the YAML or the error.
func text(t *testing.T, tree string, spec Spec, size int) string {
	t.Helper()
	res, err := buildDir(t, tree, spec, Options{parts: size})
	if err != nil {
		return "error: " + err.Error()
	}
	var b strings.Builder
	if err := res.WriteYAML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// whole is more objects than any build of a test has.
const whole = 1 << 20

// kustomization 29, 32, 103: a build in parts is the build in one go, byte for byte and error for error.
func TestParts(t *testing.T) {
	duplicate := crowd()
	duplicate["zz/b.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c-3}\n"
	collision := crowd()
	collision["zz/b.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: other}\n"
	broken := crowd()
	broken["zz/b.yaml"] = "kind: ConfigMap\nmetadata: {}\n"
	local := crowd()
	local["zz/b.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, annotations: {config.kubernetes.io/local-config: 'true'}}\n"
	based := crowd()
	based["zz/kustomization.yaml"] = "resources: [a.yaml]\nnamePrefix: x-\n"
	listed := crowd()
	listed["kustomization.yaml"] = "resources: [zz/a.yaml, c-1.yaml, binding.yaml, account.yaml, c-2.yaml]\nnamespace: given\nimages: [{name: web, newTag: '3'}]\n"
	for name, files := range map[string]map[string]string{
		"crowd": crowd(), "duplicate": duplicate, "collision": collision, "broken": broken, "local": local, "based": based, "listed": listed,
	} {
		for spec, s := range map[string]Spec{
			"plain": {}, "namespace": {TargetNamespace: "new"}, "prefix": {TargetNamespace: "new", NamePrefix: "p-"},
			"images": {Images: []types.Image{{Name: "web", NewTag: "2"}}},
		} {
			t.Run(name+"/"+spec, func(t *testing.T) {
				tree := writeTree(t, files)
				want := text(t, tree, s, whole)
				for _, size := range []int{1, 7} {
					if diff := cmp.Diff(want, text(t, tree, s, size)); diff != "" {
						t.Errorf("in parts of %d (-whole +parts):\n%s", size, diff)
					}
				}
			})
		}
	}
}

// The same for single features, in parts of one file.
func TestPartsCases(t *testing.T) {
	object := func(kind, name, rest string) string {
		return "apiVersion: v1\nkind: " + kind + "\nmetadata:\n  name: " + name + "\n" + rest
	}
	binding := `apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: b, namespace: one}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}
subjects: [{kind: ServiceAccount, name: s, namespace: one}, {kind: ServiceAccount, name: default}]
`
	webhook := `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: w}
webhooks: [{name: w.example.com, clientConfig: {service: {name: v, namespace: one}}}]
`
	pod := object("Pod", "p", "spec: {serviceAccountName: s, containers: [{name: c, image: app:1, envFrom: [{configMapRef: {name: a}}]}]}\n")
	files := map[string]string{
		"a.yaml": object("ConfigMap", "a", "data: {k: \"${v}\"}\n---\n"+object("Secret", "a", "stringData: {k: w}\n")),
		"b.yaml": object("ServiceAccount", "s", "  namespace: one\n"), "c/d.yaml": pod, "c/e.yml": "# nothing\n",
		"f.yaml": "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: v, namespace: one}}\n- {apiVersion: v1, kind: Service, metadata: {name: w}}\n",
		"g.yaml": object("ConfigMap", "local", "  annotations: {config.kubernetes.io/local-config: \"true\"}\n"),
		"h.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: one}\n",
	}
	with := func(more ...string) map[string]string {
		out := map[string]string{}
		for name, content := range files {
			out[name] = content
		}
		for i := 0; i < len(more); i += 2 {
			out[more[i]] = more[i+1]
		}
		return out
	}
	target := func(kind string) *types.Selector {
		return &types.Selector{ResId: resid.ResId{Gvk: resid.Gvk{Kind: kind}}}
	}
	replace := func(path, value string) string {
		return fmt.Sprintf("- {op: replace, path: %s, value: %s}", path, value)
	}
	for name, test := range map[string]struct {
		files map[string]string
		spec  Spec
	}{
		"plain":                        {with(), Spec{}},
		"namespace":                    {with(), Spec{TargetNamespace: "two"}},
		"namespace of a subject":       {with("z.yaml", binding), Spec{TargetNamespace: "two"}},
		"namespace of a webhook":       {with("z.yaml", webhook), Spec{TargetNamespace: "two"}},
		"a subject gets its namespace": {with("z.yaml", strings.Replace(binding, "name: s, namespace: one", "name: s", 1)), Spec{}},
		"subjects left alone":          {with("z.yaml", binding), Spec{}},
		"prefix":                       {with(), Spec{NamePrefix: "p-"}},
		"suffix":                       {with(), Spec{NameSuffix: "-s"}},
		"image":                        {with(), Spec{Images: []types.Image{{Name: "app", NewTag: "2"}}}},
		"patch of a kind":              {with(), Spec{Patches: []types.Patch{{Target: target("ConfigMap"), Patch: replace("/data/k", "x")}}}},
		"patch of nothing":             {with(), Spec{Patches: []types.Patch{{Target: target("Job"), Patch: replace("/spec/x", "x")}}}},
		"patch by name":                {with(), Spec{Patches: []types.Patch{{Patch: object("ConfigMap", "a", "data: {l: m}\n")}}}},
		"patch by a name that is none": {with(), Spec{Patches: []types.Patch{{Patch: object("ConfigMap", "none", "data: {l: m}\n")}}}},
		"patch of a name":              {with(), Spec{Patches: []types.Patch{{Target: target("ConfigMap"), Patch: replace("/metadata/name", "renamed")}}}},
		"patch that does not fit":      {with(), Spec{Patches: []types.Patch{{Target: target("Pod"), Patch: replace("/spec/none/there", "x")}}}},
		"twice":                        {with("z.yaml", object("ConfigMap", "a", "")), Spec{}},
		"twice with the namespace":     {with("z.yaml", object("ConfigMap", "a", "  namespace: two\n")), Spec{TargetNamespace: "two"}},
		"twice in a namespace of nobody": {with("z.yaml", object("ConfigMap", "a", "  namespace: one\n"), "y.yaml", object("ConfigMap", "a", "  namespace: three\n")),
			Spec{TargetNamespace: "two"}},
		"twice, once in default":  {with("z.yaml", object("ConfigMap", "a", "  namespace: default\n")), Spec{}},
		"a name with a hash":      {with("z.yaml", object("ConfigMap", "h", "  annotations: {internal.config.kubernetes.io/needsHashSuffix: enabled}\n")), Spec{}},
		"a name that was another": {with("z.yaml", object("ConfigMap", "h", "  annotations: {internal.config.kubernetes.io/previousNames: a, internal.config.kubernetes.io/previousKinds: ConfigMap, internal.config.kubernetes.io/previousNamespaces: default}\n")), Spec{}},
		"no YAML":                 {with("z.yaml", "{"), Spec{}},
		"no object":               {with("z.yaml", "a: b\n"), Spec{}},
		"no name":                 {with("z.yaml", "apiVersion: v1\nkind: ConfigMap\n"), Spec{}},
		"a kustomization inside": {with("k/kustomization.yaml", "resources: [a.yaml]\nnamePrefix: p-\n", "k/a.yaml", object("ConfigMap", "k", "")),
			Spec{TargetNamespace: "two"}},
		"a kustomization": {with("kustomization.yaml", "resources: [a.yaml, b.yaml, c/d.yaml]\nnameSuffix: -s\n"), Spec{}},
		"metadata":        {with(), Spec{BuildMetadata: []string{"originAnnotations"}}},
		"nothing":         {map[string]string{"a.yaml": "# nothing\n", "b.yaml": "---\n"}, Spec{}},
	} {
		t.Run(name, func(t *testing.T) {
			tree := writeTree(t, test.files)
			if diff := cmp.Diff(text(t, tree, test.spec, whole), text(t, tree, test.spec, 1)); diff != "" {
				t.Errorf("in parts (-whole +parts):\n%s", diff)
			}
		})
	}
}

// Which builds are made in parts.
func TestPartsAreUsed(t *testing.T) {
	for name, test := range map[string]struct {
		kustomization string
		spec          Spec
		used          bool
	}{
		"generated":      {"", Spec{TargetNamespace: "new"}, true},
		"files alone":    {"resources: [a.yaml, b.yaml]\n", Spec{}, true},
		"a patch":        {"resources: [a.yaml, b.yaml]\n", Spec{Patches: []types.Patch{{Patch: "[]"}}}, false},
		"a prefix":       {"resources: [a.yaml, b.yaml]\nnamePrefix: x-\n", Spec{}, false},
		"a generator":    {"resources: [a.yaml, b.yaml]\nconfigMapGenerator: [{name: c, literals: [a=b]}]\n", Spec{}, false},
		"a directory":    {"resources: [a.yaml, sub]\n", Spec{}, false},
		"only one file":  {"resources: [a.yaml]\n", Spec{}, false},
		"build metadata": {"resources: [a.yaml, b.yaml]\nbuildMetadata: [originAnnotations]\n", Spec{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"a.yaml": configMap("a"), "b.yaml": configMap("b"), "sub/kustomization.yaml": "resources: [c.yaml]\n", "sub/c.yaml": configMap("c")}
			if test.kustomization == "" {
				delete(files, "sub/kustomization.yaml")
			} else {
				files["kustomization.yaml"] = test.kustomization
			}
			b := newBuild(t.Context(), disk(t, writeTree(t, files)), Options{})
			t.Cleanup(b.close)
			if _, err := b.fs.prepare(Root, test.spec); err != nil {
				t.Fatal(err)
			}
			if _, err := b.inParts(Root, 1); (err == nil) != test.used {
				t.Errorf("built in parts: %v, want %v", err == nil, test.used)
			}
		})
	}
}
