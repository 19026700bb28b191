package render

import (
	"context"
	"fmt"
	"testing"
)

const benchDeployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web-%[1]d
  labels: {app: web-%[1]d}
spec:
  replicas: 2
  selector:
    matchLabels: {app: web-%[1]d}
  template:
    metadata:
      labels: {app: web-%[1]d}
    spec:
      containers:
      - name: main
        image: registry.example.com/web:1.0
        ports: [{containerPort: 8080, name: http}]
        env:
        - name: MODE
          value: "production"
        resources:
          requests: {cpu: 100m, memory: 64Mi}
`

const benchOthers = `apiVersion: v1
kind: Service
metadata:
  name: web-%[1]d
spec:
  selector: {app: web-%[1]d}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: web-%[1]d
data:
  key: one
  text: |
    several
    lines
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: web-%[1]d
`

// benchTree holds n groups of four objects.
func benchTree(b *testing.B, n int) string {
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("deploy/%d/deployment.yaml", i)] = fmt.Sprintf(benchDeployment, i)
		files[fmt.Sprintf("deploy/%d/others.yaml", i)] = fmt.Sprintf(benchOthers, i)
	}
	return writeTree(b, files)
}

func BenchmarkBuild(b *testing.B) {
	vars := &Substitution{Load: func(context.Context) (map[string]string, error) { return map[string]string{"a": "b"}, nil }}
	for _, c := range []struct {
		name   string
		groups int
		spec   Spec
		opts   Options
	}{
		{"objects=4", 1, Spec{Path: "deploy", TargetNamespace: "apps"}, Options{}},
		{"objects=4/variables", 1, Spec{Path: "deploy", TargetNamespace: "apps"}, Options{Variables: vars}},
		{"objects=500", 125, Spec{Path: "deploy", TargetNamespace: "apps"}, Options{}},
		{"objects=5000", 1250, Spec{Path: "deploy", TargetNamespace: "apps"}, Options{}},
	} {
		b.Run(c.name, func(b *testing.B) {
			tree := unpacked(b, benchTree(b, c.groups))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Build(b.Context(), tree, c.spec, c.opts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
