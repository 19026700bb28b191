package ssa_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

const scaled = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {replicas: \"1\", key: KEY}\n"

func ignoring(l *lab, paths ...string) func(*ssa.Request) {
	l.t.Helper()
	g, err := ssa.NewIgnore([]meta.IgnoreRule{{Paths: paths, Target: &meta.Selector{Kind: "ConfigMap", Name: "a"}}})
	if err != nil {
		l.t.Fatal(err)
	}
	return func(r *ssa.Request) { r.Ignore = g }
}

func (l *lab) data(name string) any { return l.get("ConfigMap", name).Object["data"] }

// kustomization 75: an ignored field is applied on creation; drift in it alone causes no write; a write for another reason leaves
// it as it is; without the rule it is corrected.
func TestIgnore(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ignore := ignoring(l, "/data/replicas")
	text := func(key string) string { return strings.ReplaceAll(scaled, "KEY", key) }
	res := l.mustApply(text("one"), ignore)
	want := map[string]any{"replicas": "1", "key": "one"}
	if diff := cmp.Diff(want, l.data("a")); diff != "" {
		t.Errorf("created (-want +got):\n%s", diff)
	}
	l.synced(res)
	l.patch("ConfigMap", "a", "scaler", `{"data":{"replicas":"5"}}`)
	l.wasTouched()
	if got := l.mustApply(text("one"), ignore).Changes().Only(ssa.Configured); len(got) != 0 {
		t.Errorf("changes: %v", got)
	}
	l.log.take()
	l.mustApply(text("one"), ignore)
	if got := l.log.take(); len(got) > 0 {
		t.Errorf("the next run made requests: %v", got)
	}
	l.mustApply(text("two"), ignore)
	want["replicas"], want["key"] = "5", "two"
	if diff := cmp.Diff(want, l.data("a")); diff != "" {
		t.Errorf("configured for another reason (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"kustomize-controller Apply", "scaler Update"}, managers(l.get("ConfigMap", "a"))); diff != "" {
		t.Errorf("managers (-want +got):\n%s", diff)
	}
	// The rule goes, and with it the exception, although neither the manifest nor the object has changed.
	l.mustApply(text("two"))
	want["replicas"] = "1"
	if diff := cmp.Diff(want, l.data("a")); diff != "" {
		t.Errorf("without the rule (-want +got):\n%s", diff)
	}
}

// kustomization 75: an ignored field that the apply of another manager sets is left to it alone.
func TestIgnoreOtherApply(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ignore := ignoring(l, "/data/replicas")
	l.mustApply(strings.ReplaceAll(scaled, "KEY", "one"), ignore)
	l.applyAs("scaler", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {replicas: \"5\"}")
	l.mustApply(strings.ReplaceAll(scaled, "KEY", "two"), ignore)
	if diff := cmp.Diff(map[string]any{"replicas": "5", "key": "two"}, l.data("a")); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	// Only its owner may remove it, and nobody else holds it.
	l.applyAs("scaler", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}")
	if diff := cmp.Diff(map[string]any{"key": "two"}, l.data("a")); diff != "" {
		t.Errorf("after the other manager let go (-want +got):\n%s", diff)
	}
}

// kustomization 74: fields that were recorded under a version that is no longer served make every apply fail, until they are
// rewritten to the version that is applied.
func TestMigrateAPIVersion(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	group := l.ns + ".test"
	version := func(name, storage string) string {
		return "  - {name: " + name + ", served: true, storage: " + storage + ", schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}\n"
	}
	definition := "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets." + group + "}\n" +
		"spec:\n  group: " + group + "\n  scope: Namespaced\n  names: {kind: Widget, plural: widgets}\n  versions:\n"
	widget := func(version, spec string) string {
		return "apiVersion: " + group + "/" + version + "\nkind: Widget\nmetadata: {name: a}\nspec: {" + spec + "}\n"
	}
	old := definition + version("v1", "true") + version("v1alpha1", "false") + "---\n" + widget("v1", "size: 1")
	now := definition + version("v1", "true") + "---\n" + widget("v1", "size: 2")
	l.mustApply(old)
	defer l.remove("apiextensions.k8s.io/v1:CustomResourceDefinition", "widgets."+group)
	l.applyAs("other", widget("v1alpha1", "color: red"))

	migrate := func(r *ssa.Request) { r.MigrateAPIVersion = true }
	l.eventually("the API server refuses fields of a version that is gone", func() bool {
		_, err := l.apply(now)
		return err != nil && strings.Contains(err.Error(), "v1alpha1")
	})
	l.mustApply(now, migrate)
	a, err := l.resource(l.parse(widget("v1", ""))[0]).Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"size": int64(2), "color": "red"}, a.Object["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	var recorded []string
	for _, e := range a.GetManagedFields() {
		recorded = append(recorded, e.Manager+" "+e.APIVersion)
	}
	// The API server lists them by time, in seconds.
	slices.Sort(recorded)
	if diff := cmp.Diff([]string{"kustomize-controller " + group + "/v1", "other " + group + "/v1"}, recorded); diff != "" {
		t.Errorf("managed fields (-want +got):\n%s", diff)
	}
}
