package oracle

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
)

// An oracle that cannot complain proves nothing: here is one bad deed of each sort.

const revision = "main@sha1:1"

// court is a cluster with one owner, and a proxy with a witness that a suspect goes through.
type court struct {
	t       *testing.T
	judge   *Judge
	witness *Witness
	proxy   *apiproxy.Proxy
	suspect dynamic.Interface
	owner   Owner
}

func newCourt(t *testing.T) *court {
	t.Helper()
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	c := &court{t: t, owner: Owner{Namespace: testkit.Namespace(t, config), Name: "app"}}
	var err error
	if c.judge, err = NewJudge(config, Kustomizations()); err != nil {
		t.Fatal(err)
	}
	c.witness = NewWitness(c.judge)
	if c.proxy, err = apiproxy.New(config, apiproxy.Options{Capture: c.witness.Capture, Witness: c.witness.See}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.proxy.Close)
	kubeconfig := t.TempDir() + "/kubeconfig"
	if err := c.proxy.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	through, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if c.suspect, err = dynamic.NewForConfig(through); err != nil {
		t.Fatal(err)
	}
	return c
}

// own creates the owner with an inventory of ConfigMaps, Ready at the revision.
func (c *court) own(names ...string) {
	c.t.Helper()
	source := c.make("source.toolkit.fluxcd.io/v1", "GitRepository", "app", map[string]any{"url": "https://example.com/app", "interval": "1h"})
	source.Object["status"] = map[string]any{"artifact": map[string]any{
		"revision": revision, "digest": "sha256:0", "path": "p", "url": "http://example.com/p", "lastUpdateTime": "2026-01-01T00:00:00Z",
	}}
	k := c.make("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "app", map[string]any{
		"interval": "1h", "prune": true, "sourceRef": map[string]any{"kind": "GitRepository", "name": "app"},
	})
	var entries []any
	for _, name := range names {
		entries = append(entries, map[string]any{"id": c.id(name), "v": "v1"})
	}
	k.Object["status"] = map[string]any{
		"lastAppliedRevision": revision, "observedGeneration": int64(1), "inventory": map[string]any{"entries": entries},
		"conditions": []any{map[string]any{
			"type": "Ready", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
		}},
	}
	for resource, o := range map[schema.GroupVersionResource]*unstructured.Unstructured{
		c.judge.kind.Sources["GitRepository"]: source, c.judge.kind.Resource: k,
	} {
		client := c.judge.dynamic.Resource(resource).Namespace(c.owner.Namespace)
		created, err := client.Create(c.t.Context(), o, metav1.CreateOptions{})
		if err != nil {
			c.t.Fatal(err)
		}
		created.Object["status"] = o.Object["status"]
		if _, err := client.UpdateStatus(c.t.Context(), created, metav1.UpdateOptions{}); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *court) id(name string) string { return c.owner.Namespace + "_" + name + "__ConfigMap" }

func (c *court) make(apiVersion, kind, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": apiVersion, "kind": kind, "spec": spec,
		"metadata": map[string]any{"namespace": c.owner.Namespace, "name": name},
	}}
}

func configMaps() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
}

// configMap is one that an owner might have applied.
func (c *court) configMap(name string, labelled bool) *unstructured.Unstructured {
	o := c.make("v1", "ConfigMap", name, nil)
	delete(o.Object, "spec")
	o.Object["data"] = map[string]any{"value": name}
	if labelled {
		o.SetLabels(map[string]string{
			c.judge.kind.Group + "/name": c.owner.Name, c.judge.kind.Group + "/namespace": c.owner.Namespace,
		})
	}
	return o
}

// apply lets someone apply an object and returns its UID.
func (c *court) apply(by dynamic.Interface, o *unstructured.Unstructured) types.UID {
	c.t.Helper()
	stored, err := by.Resource(configMaps()).Namespace(c.owner.Namespace).Apply(c.t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "test", Force: true})
	if err != nil {
		c.t.Fatal(err)
	}
	return stored.GetUID()
}

func TestCollateral(t *testing.T) {
	c := newCourt(t)
	c.own("right", "desired", "unlabelled", "unsure", "foreign")
	desired := map[string]bool{c.id("desired"): true, c.id("recreated"): true}
	law := Law{Desired: func(_ Owner, at string) (map[string]bool, bool) { return desired, at == revision }}
	for _, tt := range []struct {
		name, want string
		by         dynamic.Interface
		bare       bool // without owner labels
		unsure     bool // without a precondition
	}{
		{name: "right", by: c.suspect},
		{name: "desired", by: c.suspect, want: "is desired at revision"},
		{name: "unlabelled", by: c.suspect, bare: true, want: "carries no owner labels"},
		{name: "unsure", by: c.suspect, unsure: true, want: "insists on no UID"},
		{name: "foreign", by: c.judge.dynamic, want: "was never applied"},
		{name: "unknown", by: c.suspect, want: "is not in the inventory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			since := c.proxy.Seq()
			uid := c.apply(tt.by, c.configMap(tt.name, !tt.bare))
			options := metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}
			if tt.unsure {
				options.Preconditions = nil
			}
			if err := c.suspect.Resource(configMaps()).Namespace(c.owner.Namespace).Delete(t.Context(), tt.name, options); err != nil {
				t.Fatal(err)
			}
			got := strings.Join(c.witness.Collateral(law, c.proxy.Requests(0), since), "\n")
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("the oracle says %q, want %q", got, tt.want)
			}
		})
	}
}

func TestConvergedAndOrphans(t *testing.T) {
	c := newCourt(t)
	ctx := t.Context()
	c.own("a", "b", "stale")
	rendered := []*unstructured.Unstructured{c.configMap("a", false), c.configMap("b", false), c.configMap("new", false)}
	c.apply(c.suspect, c.configMap("a", true))
	changed := c.configMap("b", true)
	changed.Object["data"] = map[string]any{"value": "by hand"}
	c.apply(c.suspect, changed)
	c.apply(c.suspect, c.configMap("orphan", true))
	err := c.judge.Converged(ctx, c.owner, revision, rendered)
	want := strings.Join([]string{
		"O1: " + c.id("b") + " differs from what was rendered in .data.value",
		"O1: " + c.id("new") + " is in the rendered set, but not in the inventory of " + c.owner.String(),
		"O1: " + c.id("new") + " is lost",
		"O1: " + c.id("stale") + " is in the inventory of " + c.owner.String() + ", but not in the rendered set",
	}, "\n")
	if err == nil {
		t.Fatal("O1 has no complaint")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("O1 (-want +got):\n%s", diff)
	}
	if err := c.judge.Converged(ctx, c.owner, "main@sha1:2", nil); err == nil || !strings.Contains(err.Error(), "has applied revision") {
		t.Errorf("O1 at another revision: %v", err)
	}
	for name, resources := range map[string][]schema.GroupVersionResource{"what was touched": c.judge.Touched(c.proxy.Requests(0)), "everything": nil} {
		orphans, err := c.judge.Orphans(ctx, c.owner, resources)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{c.id("orphan")}, orphans); diff != "" {
			t.Errorf("O3 among %s (-want +got):\n%s", name, diff)
		}
	}
}
