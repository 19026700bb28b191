package action_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	chart "helm.sh/helm/v4/pkg/chart/v2"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/helm/action"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// The workload of the issue: releases of a Deployment that is scaled to zero, an Ingress, a Service and a ServiceAccount.
const (
	benchReleases = 100
	benchWorkers  = 10
)

const metadataTemplate = "metadata:\n  name: {{ include \"demo.name\" . }}\n  labels:\n    {{- include \"demo.labels\" . | nindent 4 }}\n"

func benchChart() *chart.Chart {
	c := chartOf("1.0.0", map[string]string{
		"values.yaml":  "replicas: 0\nimage: example.com/web:1.0\nmessage: hello\nhost: example.com\n",
		"_helpers.tpl": "{{ define \"demo.name\" }}{{ .Release.Name | trunc 63 }}{{ end }}\n{{ define \"demo.labels\" }}app: {{ .Release.Name }}\nchart: {{ .Chart.Name }}-{{ .Chart.Version }}{{ end }}\n",
		"account.yaml": "apiVersion: v1\nkind: ServiceAccount\n" + metadataTemplate,
		"service.yaml": "apiVersion: v1\nkind: Service\n" + metadataTemplate + "spec:\n  selector: {app: \"{{ .Release.Name }}\"}\n  ports: [{port: 80, name: http}]\n",
		"ingress.yaml": "apiVersion: networking.k8s.io/v1\nkind: Ingress\n" + metadataTemplate + "spec:\n  rules:\n  - host: {{ .Values.host }}\n    http:\n      paths:\n" +
			"      - {path: /, pathType: Prefix, backend: {service: {name: \"{{ .Release.Name }}\", port: {name: http}}}}\n",
		"deployment.yaml": strings.Replace(deploymentTemplate, "metadata:\n  name: {{ .Release.Name }}\n", metadataTemplate, 1),
	})
	c.Files = append(c.Files, file("README.md", []byte(strings.Repeat("How to use this chart, in many words.\n", 400))))
	return c
}

// BenchmarkInstall installs and upgrades the workload, with as many at a time as the controller has workers.
func BenchmarkInstall(b *testing.B) {
	l := newLab(b, "{interval: 10m, timeout: 2m}")
	run := func(round int, act func(a *action.Actions, obj *helmv2.HelmRelease) error) time.Duration {
		start := time.Now()
		work := make(chan int)
		var wg sync.WaitGroup
		for range benchWorkers {
			wg.Go(func() {
				for i := range work {
					obj := l.obj.DeepCopy()
					obj.Name = fmt.Sprintf("r%d-%d", round, i)
					a, err := action.New(action.Options{
						Client: l.clients.Own(), Managed: l.managed, Shared: l.shared, Owner: kube.Owner{Namespace: l.ns, Name: obj.Name},
						ReleaseNamespace: l.ns, StorageNamespace: l.ns,
					})
					if err == nil {
						err = act(a, obj)
					}
					if err != nil {
						b.Error(err)
					}
				}
			})
		}
		for i := range benchReleases {
			work <- i
		}
		close(work)
		wg.Wait()
		return time.Since(start)
	}
	for round := 0; b.Loop(); round++ {
		install := run(round, func(a *action.Actions, obj *helmv2.HelmRelease) error {
			_, err := a.Install(b.Context(), obj, benchChart(), nil)
			return err
		})
		upgrade := run(round, func(a *action.Actions, obj *helmv2.HelmRelease) error {
			_, err := a.Upgrade(b.Context(), obj, benchChart(), values("host: other.example.com"))
			return err
		})
		b.ReportMetric(install.Seconds(), "install-s")
		b.ReportMetric(upgrade.Seconds(), "upgrade-s")
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.Sys)/(1<<20), "sys-MiB")
	b.ReportMetric(float64(len(l.counted()))/float64(b.N)/benchReleases/2, "requests/action")
}
