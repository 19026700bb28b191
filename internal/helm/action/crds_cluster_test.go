package action_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/seed-79636ae9/flux/internal/helm/action"
)

// definition is a CustomResourceDefinition of a group that the test has for itself, with another object that does not belong there.
func definition(group, label string) string {
	return `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: parts.` + group + `
  labels: {v: "` + label + `"}
spec:
  group: ` + group + `
  names: {kind: Part, plural: parts, singular: part, listKind: PartList}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: stray}
`
}

const partTemplate = `{{ if .Capabilities.APIVersions.Has "GROUP/v1/Part" }}
apiVersion: GROUP/v1
kind: Part
metadata: {name: part}
spec: {is: here}
{{ end }}`

// helmrelease 72: the policies, and that a chart can use what it brings.
func TestDefinitions(t *testing.T) {
	tests := map[string]struct {
		spec          string
		first, second string // labels after the install and the upgrade; "-" for none
	}{
		"Create applies over existing ones": {"", "1", "2"},
		"Skip":                              {"install: {crds: Skip}\nupgrade: {crds: Skip}", "-", "-"},
		"skipCRDs":                          {"install: {skipCRDs: true}\nupgrade: {crds: Skip}", "-", "-"},
		"Create without server-side apply":  {"install: {serverSideApply: false}", "1", "1"},
		"CreateReplace without server-side": {"install: {serverSideApply: false, crds: CreateReplace}\nupgrade: {crds: CreateReplace}", "1", "2"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "interval: 10m\ntimeout: 30s\n"+tt.spec)
			group := l.ns + ".example.com"
			t.Cleanup(func() {
				_ = l.resource("CustomResourceDefinition").Delete(context.Background(), "parts."+group, metav1.DeleteOptions{})
			})
			label := func() string {
				o := l.get("CustomResourceDefinition", "parts."+group)
				if o == nil {
					return "-"
				}
				if got := o.GetLabels()["helm.toolkit.fluxcd.io/name"]; got != "app" {
					t.Errorf("the definition belongs to %q", got)
				}
				return o.GetLabels()["v"]
			}
			files := func(v string) []string {
				return []string{"crds/parts.yaml", definition(group, v), "part.yaml", strings.ReplaceAll(partTemplate, "GROUP", group)}
			}
			a := l.actions()
			if _, err := a.Install(t.Context(), l.obj, demo("1.0.0", files("1")...), nil); err != nil {
				t.Fatal(err)
			}
			var want []action.CRD
			if tt.first != "-" {
				want = []action.CRD{{Name: "parts." + group, Version: "v1"}}
				parts := schema.GroupVersionResource{Group: group, Version: "v1", Resource: "parts"}
				if _, err := l.dynamic.Resource(parts).Namespace(l.ns).Get(t.Context(), "part", metav1.GetOptions{}); err != nil {
					t.Error(err)
				}
			}
			if d := cmp.Diff(want, a.CRDs()); d != "" {
				t.Errorf("helmrelease 82: definitions (-want +got):\n%s", d)
			}
			if got := label(); got != tt.first {
				t.Errorf("after the install: %s, want %s", got, tt.first)
			}
			if _, err := l.actions().Upgrade(t.Context(), l.obj, demo("1.1.0", files("2")...), nil); err != nil {
				t.Fatal(err)
			}
			if got := label(); got != tt.second {
				t.Errorf("after the upgrade: %s, want %s", got, tt.second)
			}
			if err := l.actions().Uninstall(t.Context(), l.obj, "app"); err != nil {
				t.Fatal(err)
			}
			if got := label(); got != tt.second {
				t.Errorf("after the uninstall: %s, want %s", got, tt.second)
			}
			if l.get("ConfigMap", "stray") != nil {
				t.Error("an object that is no definition was applied")
			}
		})
	}
}
