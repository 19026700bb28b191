package charts

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/testkit"
)

// load packs a chart twice, wants equal bytes, and gives one of them to Helm.
func load(t *testing.T, c Chart) *chart.Chart {
	t.Helper()
	archive, err := c.Archive()
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Archive()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(archive, again) {
		t.Error("two archives of the same chart differ")
	}
	loaded, err := loader.LoadArchive(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	if loaded.Name() != c.Name || loaded.Metadata.Version != c.Version {
		t.Errorf("Helm reads %s %s, want %s %s", loaded.Name(), loaded.Metadata.Version, c.Name, c.Version)
	}
	return loaded
}

// rendered returns the kinds and names that the chart's templates and hooks yield, sorted, after the schema was asked.
func rendered(t *testing.T, c Chart, values string) ([]string, error) {
	t.Helper()
	objects, err := render(t, c, values)
	var out []string
	for _, o := range objects {
		out = append(out, o.GetKind()+"/"+o.GetName())
	}
	slices.Sort(out)
	return out, err
}

// render returns the objects that the chart's templates and hooks yield.
func render(t *testing.T, c Chart, values string) ([]*unstructured.Unstructured, error) {
	t.Helper()
	given, err := common.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	loaded := load(t, c)
	if err := util.ProcessDependencies(loaded, given); err != nil {
		t.Fatal(err)
	}
	all, err := commonutil.ToRenderValues(loaded, given, common.ReleaseOptions{Name: "one", Namespace: "apps", Revision: 1}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(loaded, all)
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for document := range strings.SplitSeq(files[name], "\n---\n") {
			if strings.HasSuffix(name, "NOTES.txt") || strings.TrimSpace(document) == "" {
				continue
			}
			object := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(document), object); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, document)
			}
			out = append(out, object)
		}
	}
	return out, nil
}

func TestChartsRender(t *testing.T) {
	application := []string{
		"ConfigMap/one-webapp-config", "Deployment/one-webapp", "Ingress/one-webapp", "Job/one-webapp-post-upgrade", "Job/one-webapp-pre-install",
		"Pod/one-webapp-connection", "Service/one-webapp", "ServiceAccount/one-webapp",
	}
	const plain = "{hooks: {enabled: false}, tests: {enabled: false}, replicaCount: 0}"
	const fewHooks = "{events: [pre-install, test], fail: [pre-install], hang: [test], outputLogPolicy: hook-failed}"
	for _, tt := range []struct {
		name   string
		chart  Chart
		values string
		want   []string
	}{
		{"webapp", Webapp(First), "{}", application},
		{"webapp, next version", Webapp(Second), "{}", application},
		{"webapp, bare", Webapp(First), plain, []string{"ConfigMap/one-webapp-config", "Deployment/one-webapp", "Ingress/one-webapp", "Service/one-webapp", "ServiceAccount/one-webapp"}},
		{"webapp, barest", Webapp(First), "{message: '', hooks: {enabled: false}, tests: {enabled: false}}", []string{"Deployment/one-webapp", "Ingress/one-webapp", "Service/one-webapp", "ServiceAccount/one-webapp"}},
		{"webapp, an object has another name", Webapp(Third), plain, []string{"ConfigMap/one-webapp-settings", "Deployment/one-webapp", "Ingress/one-webapp", "Service/one-webapp", "ServiceAccount/one-webapp"}},
		{"webapp, subchart and autoscaler", Webapp(First), "{cache: {enabled: true}, autoscaling: {enabled: true}, hooks: {enabled: false}, tests: {enabled: false}, ingress: {enabled: false}, serviceAccount: {create: false}}",
			[]string{"ConfigMap/one-webapp-config", "Deployment/one-cache", "Deployment/one-webapp", "HorizontalPodAutoscaler/one-webapp", "Service/one-cache", "Service/one-webapp"}},
		{"many", Many(), "{count: 4}", []string{"ConfigMap/one-000", "ConfigMap/one-001", "Service/one", "ServiceAccount/one"}},
		{"hooks", Hooks(), "{}", []string{
			"ConfigMap/one", "Job/one-post-delete", "Job/one-post-install", "Job/one-post-rollback", "Job/one-post-upgrade", "Job/one-pre-delete",
			"Job/one-pre-install", "Job/one-pre-rollback", "Job/one-pre-upgrade", "Pod/one-test",
		}},
		{"hooks, few", Hooks(), fewHooks, []string{"ConfigMap/one", "Job/one-pre-install", "Pod/one-test"}},
		{"expression", Expression(`.Files.Get "../../x"`), "{}", []string{"ConfigMap/one"}},
		{"schema", SchemaDepth(10), "{}", []string{"ConfigMap/one"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := rendered(t, tt.chart, tt.values)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
	all, err := rendered(t, Many(), "{}")
	if err != nil || len(all) != 100 {
		t.Errorf("many has %d objects, want 100 (%v)", len(all), err)
	}
}

func TestWebappRefuses(t *testing.T) {
	for _, values := range []string{"{replicaCount: -1}", "{image: {repository: ''}}", "{service: {port: 0}}"} {
		if _, err := rendered(t, Webapp(First), values); err == nil {
			t.Errorf("its schema lets %s pass", values)
		}
	}
}

func TestWebappHasCRDAndLibrary(t *testing.T) {
	loaded := load(t, Webapp(First))
	if crds := loaded.CRDObjects(); len(crds) != 1 {
		t.Errorf("it has %d CRDs, want one", len(crds))
	}
	for _, dependency := range loaded.Dependencies() {
		if dependency.Name() == "common" && dependency.Metadata.Type == "library" {
			return
		}
	}
	t.Error("it has no library chart")
}

// Each hostile chart is one that Helm loads: what is wrong with it shows later.
func TestHostileChartsLoad(t *testing.T) {
	for name, c := range map[string]Chart{
		"a schema on the network": SchemaReference("http://127.0.0.1:1/s"), "a schema in a file": SchemaReference("file:///canary.json"),
		"a schema of itself": SchemaReference("#"), "a loop": SchemaLoop(), "a deep schema": SchemaDepth(1000), "a large enumeration": SchemaEnumeration(1000),
		"a name to resolve": Expression(`getHostByName "canary.test"`), "the cluster": Expression(`lookup "v1" "Secret" "kube-system" ""`),
		"the environment": Expression(`env "HOME"`), "amplification": Expression(`repeat 1000000000 "x"`),
	} {
		t.Run(name, func(t *testing.T) {
			loaded := load(t, c)
			if strings.HasPrefix(c.Name, "schema") && !bytes.HasPrefix(loaded.Schema, []byte("{")) {
				t.Error("Helm finds no schema")
			}
		})
	}
	if _, err := rendered(t, SchemaEnumeration(3), "{value: value-9}"); err == nil {
		t.Error("the schema of SchemaEnumeration lets every value pass")
	}
}

func TestServeAndPush(t *testing.T) {
	files, registry := testkit.NewFiles(), testkit.NewRegistry()
	defer files.Close()
	defer registry.Close()
	next, err := Many().At("1.0.1")
	if err != nil {
		t.Fatal(err)
	}
	load(t, next)
	if err := Serve(files, "apps/charts", Webapp(First), Webapp(Third), next); err != nil {
		t.Fatal(err)
	}
	var index struct {
		Entries map[string][]struct {
			Version string
			URLs    []string
		}
	}
	if err := yaml.Unmarshal(get(t, files.URL+"/apps/charts/index.yaml"), &index); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for name, versions := range index.Entries {
		for _, version := range versions {
			if len(get(t, files.URL+"/apps/charts/"+version.URLs[0])) > 0 {
				got[name+" "+version.Version]++
			}
		}
	}
	if d := cmp.Diff(map[string]int{"webapp 1.0.0": 1, "webapp 2.0.0": 1, "many 1.0.1": 1}, got); d != "" {
		t.Errorf("charts that are in the index and can be fetched (-want +got):\n%s", d)
	}
	if err := Push(registry, "apps", Webapp(Second), "latest"); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s (%v)", url, response.Status, err)
	}
	return content
}
