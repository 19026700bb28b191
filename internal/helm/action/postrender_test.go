package action

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func postRendered(t *testing.T, spec, manifests string, limit int) (string, error) {
	t.Helper()
	out, err := (&postRenderer{ctx: t.Context(), obj: object(t, spec), maxBytes: limit}).Run(bytes.NewBufferString(manifests))
	if err != nil {
		return "", err
	}
	return out.String(), nil
}

const rendered = `apiVersion: v1
kind: ConfigMap
metadata:
  name: config
  labels: {team: red}
data:
  number: "1"
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {replicas: 9007199254740993, template: {spec: {containers: [{name: main, image: "example.com/web:1"}]}}}
---
---
# nothing
---
apiVersion: v1
kind: List
metadata: {annotations: {postrenderer.helm.sh/postrender-filename: demo/templates/list.yaml}}
items:
- {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: b}}
`

// helmrelease 73: post-renderers in their order, then common metadata, then the labels of the HelmRelease.
func TestPostRender(t *testing.T) {
	tests := map[string]struct{ spec, want string }{
		"labels of the HelmRelease": {"{}", `apiVersion: v1
data:
  number: "1"
kind: ConfigMap
metadata:
  labels:
    helm.toolkit.fluxcd.io/name: app
    helm.toolkit.fluxcd.io/namespace: apps
    team: red
  name: config
---
apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    helm.toolkit.fluxcd.io/name: app
    helm.toolkit.fluxcd.io/namespace: apps
  name: web
spec:
  replicas: 9007199254740993
  template:
    spec:
      containers:
      - image: example.com/web:1
        name: main
---
apiVersion: v1
kind: Secret
metadata:
  annotations:
    postrenderer.helm.sh/postrender-filename: demo/templates/list.yaml
  labels:
    helm.toolkit.fluxcd.io/name: app
    helm.toolkit.fluxcd.io/namespace: apps
  name: s
stringData:
  a: b
`},
		"all": {`
commonMetadata: {labels: {team: blue}, annotations: {note: hello}}
postRenderers:
- kustomize:
    patches:
    - target: {kind: ConfigMap}
      patch: |
        - {op: add, path: /data/patched, value: "yes"}
    images: [{name: example.com/web, newTag: "9"}]
- kustomize:
    patches:
    - patch: |
        {apiVersion: v1, kind: ConfigMap, metadata: {name: config}, data: {patched: again}}
    - target: {kind: Secret}
      patch: |
        $patch: delete
        apiVersion: v1
        kind: Secret
        metadata: {name: any}
`, `apiVersion: v1
data:
  number: "1"
  patched: again
kind: ConfigMap
metadata:
  annotations:
    note: hello
  labels:
    helm.toolkit.fluxcd.io/name: app
    helm.toolkit.fluxcd.io/namespace: apps
    team: blue
  name: config
---
apiVersion: apps/v1
kind: Deployment
metadata:
  annotations:
    note: hello
  labels:
    helm.toolkit.fluxcd.io/name: app
    helm.toolkit.fluxcd.io/namespace: apps
    team: blue
  name: web
spec:
  replicas: 9007199254740993
  template:
    spec:
      containers:
      - image: example.com/web:9
        name: main
`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := postRendered(t, tt.spec, rendered, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestPostRenderErrors(t *testing.T) {
	for name, tt := range map[string]struct{ spec, manifests, want string }{
		"a bad patch": {"{postRenderers: [{kustomize: {}}, {kustomize: {patches: [{patch: 'x: ['}]}}]}", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n", "spec.postRenderers[1]: "},
		"no object":   {"{}", "a: b\n", "no apiVersion or kind"},
		"no YAML":     {"{}", "a: [\n", "error parsing YAML"},
		"too large":   {"{}", strings.Repeat("#", 2000), "the rendered manifests have 2000 bytes, the limit is 1000"},
	} {
		if _, err := postRendered(t, tt.spec, tt.manifests, 1000); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %s", name, err, tt.want)
		}
	}
}
