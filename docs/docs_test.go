// Package docs holds the documentation, and the tests that keep it true: examples that the API server accepts, tables
// that lack no field and no flag, links that lead somewhere.
package docs

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/api/crds"
	"github.com/seed-79636ae9/flux/internal/app"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// pages returns the hand-written pages by their path from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	root := os.DirFS("..")
	names, err := fs.Glob(root, "docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range append(names, "README.md", "CONTRIBUTING.md") {
		out[name] = string(read(t, root, name))
	}
	return out
}

var codeBlock = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// TestExamples applies every YAML block as a server-side dry run, with strict fields.
func TestExamples(t *testing.T) {
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	discover, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := restmapper.GetAPIGroupResources(discover)
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	found := 0
	for page, text := range pages(t) {
		for _, block := range codeBlock.FindAllStringSubmatch(text, -1) {
			if block[1] != "yaml" {
				continue
			}
			for _, document := range strings.Split(block[2], "\n---\n") {
				found++
				u := &unstructured.Unstructured{}
				if err := yaml.UnmarshalStrict([]byte(document), &u.Object); err != nil {
					t.Errorf("%s: %v:\n%s", page, err, document)
					continue
				}
				t.Run(path.Base(page)+"/"+u.GetKind()+"/"+u.GetName(), func(t *testing.T) { dryRun(t, client, core, mapper, u) })
			}
		}
	}
	if found < 10 {
		t.Errorf("found only %d examples", found)
	}
}

func dryRun(t *testing.T, client dynamic.Interface, core kubernetes.Interface, mapper meta.RESTMapper, u *unstructured.Unstructured) {
	t.Helper()
	gvk := u.GroupVersionKind()
	mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		t.Fatal(err)
	}
	resource := dynamic.ResourceInterface(client.Resource(mapping.Resource))
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace := u.GetNamespace()
		if namespace == "" {
			t.Fatal("an example names its namespace")
		}
		// Others on the same cluster may use these names, so nothing is deleted.
		_, err := core.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
		resource = client.Resource(mapping.Resource).Namespace(namespace)
	}
	body, err := json.Marshal(u)
	if err != nil {
		t.Fatal(err)
	}
	options := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: "docs", FieldValidation: metav1.FieldValidationStrict}
	if _, err := resource.Patch(t.Context(), u.GetName(), "application/apply-patch+yaml", body, options); err != nil {
		t.Error(err)
	}
}

// TestFields looks for every field of spec and status on the page of the kind.
func TestFields(t *testing.T) {
	for page, crd := range map[string]string{
		"docs/alert.md":                 "alerts.notification.toolkit.fluxcd.io",
		"docs/artifactgenerator.md":     "artifactgenerators.source.extensions.fluxcd.io",
		"docs/bucket.md":                "buckets.source.toolkit.fluxcd.io",
		"docs/gitrepository.md":         "gitrepositories.source.toolkit.fluxcd.io",
		"docs/imagepolicy.md":           "imagepolicies.image.toolkit.fluxcd.io",
		"docs/imagerepository.md":       "imagerepositories.image.toolkit.fluxcd.io",
		"docs/imageupdateautomation.md": "imageupdateautomations.image.toolkit.fluxcd.io",
		"docs/ocirepository.md":         "ocirepositories.source.toolkit.fluxcd.io",
		"docs/helmchart.md":             "helmcharts.source.toolkit.fluxcd.io",
		"docs/helmrelease.md":           "helmreleases.helm.toolkit.fluxcd.io",
		"docs/helmrepository.md":        "helmrepositories.source.toolkit.fluxcd.io",
		"docs/kustomization.md":         "kustomizations.kustomize.toolkit.fluxcd.io",
		"docs/provider.md":              "providers.notification.toolkit.fluxcd.io",
		"docs/receiver.md":              "receivers.notification.toolkit.fluxcd.io",
	} {
		t.Run(path.Base(page), func(t *testing.T) {
			text := pages(t)[page]
			data, err := crds.Bytes(crd)
			if err != nil {
				t.Fatal(err)
			}
			var d apiextensionsv1.CustomResourceDefinition
			if err := yaml.Unmarshal(data, &d); err != nil {
				t.Fatal(err)
			}
			schema := d.Spec.Versions[0].Schema.OpenAPIV3Schema
			var fields []string
			collect(schema.Properties["spec"], "", &fields)
			for name := range schema.Properties["status"].Properties {
				fields = append(fields, name)
			}
			if len(fields) < 14 {
				t.Fatalf("found only the fields %v", fields)
			}
			slices.Sort(fields)
			for _, field := range slices.Compact(fields) {
				if !regexp.MustCompile("[`.]" + regexp.QuoteMeta(field) + "[`.]").MatchString(text) {
					t.Errorf("the page does not tell of the field %s", field)
				}
			}
		})
	}
}

// collect names the fields below a schema, maps and lists included.
func collect(s apiextensionsv1.JSONSchemaProps, name string, out *[]string) {
	if name != "" {
		*out = append(*out, name)
	}
	if s.Items != nil && s.Items.Schema != nil {
		collect(*s.Items.Schema, "", out)
	}
	for child, schema := range s.Properties {
		collect(schema, child, out)
	}
}

// TestFlags compares run.md with the flags of flux run, both ways.
func TestFlags(t *testing.T) {
	text := pages(t)["docs/run.md"]
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	if _, err := app.New(nil, false, flags); err != nil {
		t.Fatal(err)
	}
	flags.VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(text, "`--"+f.Name+"`") {
			t.Errorf("the page does not tell of --%s: %s", f.Name, f.Usage)
		}
	})
	_, table, _ := strings.Cut(text, "\n## Flags")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, m := range regexp.MustCompile("`--([a-z-]+)`").FindAllStringSubmatch(table, -1) {
		if flags.Lookup(m[1]) == nil {
			t.Errorf("the page tells of --%s, which flux run does not have", m[1])
		}
	}
	for _, name := range app.Names() {
		if !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("the page does not tell of the component %s", name)
		}
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	nonWord = regexp.MustCompile(`[^\p{L}\p{N}_\- ]`)
)

// TestLinks follows every link inside the repository, to its heading if it names one.
func TestLinks(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		for _, m := range link.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			file := page
			if target != "" {
				file = path.Join(path.Dir(page), target)
			}
			content, err := os.ReadFile(path.Join("..", file))
			if err != nil {
				t.Errorf("%s: the link %s leads nowhere", page, m[1])
				continue
			}
			if anchor != "" && !slices.Contains(anchors(string(content)), anchor) {
				t.Errorf("%s: the link %s leads to no heading", page, m[1])
			}
		}
	}
}

// anchors are the names by which headings are linked to.
func anchors(text string) []string {
	var out []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		name := nonWord.ReplaceAllString(strings.ToLower(strings.ReplaceAll(m[1], "`", "")), "")
		out = append(out, strings.ReplaceAll(name, " ", "-"))
	}
	return out
}

func read(t *testing.T, tree fs.FS, name string) []byte {
	t.Helper()
	content, err := fs.ReadFile(tree, name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
