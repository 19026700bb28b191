package action

import (
	"strings"
	"testing"
)

// Without a client a release is rendered without a cluster.
func TestTemplateOffline(t *testing.T) {
	a, err := New(Options{ReleaseNamespace: "apps", StorageNamespace: "apps"})
	if err != nil {
		t.Fatal(err)
	}
	c := templates(`apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}"}
data:
  version: {{ .Capabilities.KubeVersion.Version }}
  has: "{{ .Capabilities.APIVersions.Has "example.com/v1" }}"
  found: "{{ len (lookup "v1" "Secret" "kube-system" "") }}"
  list: "{{ range .Values.list }}{{ . }}{{ end }}"
`)
	rel, err := a.Template(t.Context(), object(t, "{}"), c, map[string]any{"list": []any{"a", "b"}}, TemplateOptions{KubeVersion: "1.33.4", APIVersions: []string{"example.com/v1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"version: v1.33.4", `has: "true"`, `found: "0"`, "list: ab", "helm.toolkit.fluxcd.io/name: app", "# Source: demo/templates/0.yaml"} {
		if !strings.Contains(rel.Manifest, want) {
			t.Errorf("no %q in\n%s", want, rel.Manifest)
		}
	}
	if _, err := a.Template(t.Context(), object(t, "{}"), c, nil, TemplateOptions{KubeVersion: "x"}); err == nil || !strings.Contains(err.Error(), `invalid Kubernetes version "x"`) {
		t.Errorf("error: %v", err)
	}
	bad := templates("a: b")
	bad.Schema = []byte(`{"$ref": "http://127.0.0.1:1/s"}`)
	if _, err := a.Template(t.Context(), object(t, "{}"), bad, nil, TemplateOptions{}); err == nil || !strings.Contains(err.Error(), "leads out of the schema") {
		t.Errorf("error: %v", err)
	}
}
