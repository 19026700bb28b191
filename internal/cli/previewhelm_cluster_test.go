package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/helm"
	"github.com/seed-79636ae9/flux/internal/helm/drift"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// helmLab is a local chart and a HelmRelease of it, in a file and on a real API server.
type helmLab struct {
	t                          *testing.T
	dir, namespace, kubeconfig string
	client                     client.Client
	kube                       *kube.Client
}

func newHelmLab(t *testing.T) *helmLab {
	config := testkit.Cluster(t)
	testkit.InstallCRDs(t, config)
	l := &helmLab{t: t, dir: t.TempDir(), namespace: testkit.Namespace(t, config), kubeconfig: testkit.Kubeconfig(t)}
	scheme := runtime.NewScheme()
	if err := helmv2.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var err error
	if l.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	clients, err := kube.NewClients(kube.ClientsOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	l.kube = clients.Own()
	l.write("chart/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
	l.write("chart/values.yaml", "password: none\nextra: true\n")
	l.write("chart/templates/all.yaml", `apiVersion: v1
kind: Secret
metadata: {name: {{ .Release.Name }}-creds}
stringData: {password: {{ .Values.password | quote }}}
{{- if .Values.extra }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-extra}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-kept, annotations: {helm.sh/resource-policy: keep}}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Release.Name }}-hook, annotations: {helm.sh/hook: pre-install}}
`)
	l.release(`{password: 0ld-passw0rd}`)
	return l
}

func (l *helmLab) write(name, text string) {
	l.t.Helper()
	file := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// release writes the file of the HelmRelease.
func (l *helmLab) release(values string) {
	l.t.Helper()
	l.write("app.yaml", "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: app}\n"+
		"spec: {interval: 1h, chartRef: {kind: HelmChart, name: web}, commonMetadata: {labels: {team: blue}}, values: "+values+"}\n")
}

func (l *helmLab) run(code int, args ...string) string {
	l.t.Helper()
	var out, errs bytes.Buffer
	c := Config{
		Program: "flux", Version: "v2.9.0", Kinds: Kinds(), Clock: clock.RealClock{}, Getenv: func(string) string { return "" },
		Streams: Streams{In: strings.NewReader(""), Out: &out, Err: &errs},
	}
	got := run(l.t.Context(), c, append(args, "--kubeconfig", l.kubeconfig, "--namespace", l.namespace))
	if got != code {
		l.t.Fatalf("%v exits with %d, want %d: %s%s", args, got, code, &out, &errs)
	}
	return out.String() + errs.String()
}

func (l *helmLab) file() []string {
	return []string{"--helmrelease-file", filepath.Join(l.dir, "app.yaml"), "--chart", filepath.Join(l.dir, "chart")}
}

func (l *helmLab) diff(code int, parts ...string) string {
	l.t.Helper()
	said := l.run(code, append([]string{"diff", "helmrelease", "app", "--ignore-not-found"}, l.file()...)...)
	for _, part := range parts {
		if !strings.Contains(said, part) {
			l.t.Errorf("it lacks %q: %s", part, said)
		}
	}
	return said
}

// install makes the release as the controller does, and records it in the status of the object.
func (l *helmLab) install() {
	l.t.Helper()
	o := helmPreviewOptions{Factory: &Factory{namespace: l.namespace}, file: filepath.Join(l.dir, "app.yaml")}
	obj, err := o.described(helm.Kind(), "app")
	if err != nil {
		l.t.Fatal(err)
	}
	rendered, err := (&helm.Preview{Client: l.kube, Chart: filepath.Join(l.dir, "chart")}).Render(l.t.Context(), obj)
	if err != nil {
		l.t.Fatal(err)
	}
	obj.Status.Inventory = &meta.Inventory{}
	for _, r := range rendered.Objects {
		if err := drift.Mark(r, drift.Release{Name: "app", Namespace: l.namespace}); err != nil {
			l.t.Fatal(err)
		}
		obj.Status.Inventory.Entries = append(obj.Status.Inventory.Entries, meta.InventoryEntry{ID: ssa.IDOf(r).String(), Version: "v1"})
	}
	objects, err := ssa.Normalise(rendered.Objects)
	if err != nil {
		l.t.Fatal(err)
	}
	applier := &ssa.Applier{Client: l.kube, Lens: kube.NewLens(helm.Ownership(nil))}
	request := ssa.Request{Owner: kube.Owner{Namespace: l.namespace, Name: "app"}, Objects: objects, Labels: map[string]string{"team": "blue"}}
	if _, err := applier.Apply(l.t.Context(), request); err != nil {
		l.t.Fatal(err)
	}
	status := obj.Status
	if err := l.client.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
	obj.Status = status
	if err := l.client.Status().Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

// A preview of a HelmRelease shows what a release would create, change and delete on a real API server, and nothing where nothing
// differs; the values of Secrets are masked; exit codes are those of 2.9 (cli 2, reliability 055).
func TestDiffHelmRelease(t *testing.T) {
	l := newHelmLab(t)
	said := l.diff(1, "► Secret/"+l.namespace+"/app-creds created", "► ConfigMap/"+l.namespace+"/app-extra created")
	if strings.Contains(said, "hook") || strings.Contains(said, "passw0rd") {
		t.Errorf("it says %s", said)
	}
	l.install()
	if said := l.diff(0); said != "" {
		t.Errorf("what was released differs: %s", said)
	}
	l.release(`{password: n3w-passw0rd, extra: false}`)
	said = l.diff(1, "► Secret/"+l.namespace+"/app-creds drifted", "data.password", "*** (before)", "*** (after)", "► ConfigMap/"+l.namespace+"/app-extra deleted")
	if strings.Contains(said, "passw0rd") || strings.Contains(said, "cGFzc3cwcmQ") || strings.Contains(said, "kept") {
		t.Errorf("it says %s", said)
	}
	l.write("chart/templates/bad.yaml", "{{ fail \"no\" }}")
	l.diff(2, "execution error at (web/templates/bad.yaml:1:3): no")
}

// A build renders with the controller's code, with a cluster and without one; hooks are part of what it shows.
func TestBuildHelmRelease(t *testing.T) {
	l := newHelmLab(t)
	for _, more := range [][]string{nil, {"--dry-run"}} {
		said := l.run(0, append(append([]string{"build", "helmrelease", "app"}, l.file()...), more...)...)
		for _, part := range []string{"password: 0ld-passw0rd", "helm.toolkit.fluxcd.io/name: app", "team: blue", "name: app-hook", "helm.sh/hook: pre-install"} {
			if !strings.Contains(said, part) {
				t.Errorf("%v: it lacks %q: %s", more, part, said)
			}
		}
	}
	said := l.run(1, "build", "helmrelease", "app", "--helmrelease-file", filepath.Join(l.dir, "app.yaml"))
	if !strings.Contains(said, "the chart cannot be had") || !strings.Contains(said, "--chart") {
		t.Errorf("without a source it says %s", said)
	}
}

// cli 67: exactly one of the flags, and what they show.
func TestDebugHelmRelease(t *testing.T) {
	l := newHelmLab(t)
	l.install()
	patch := fmt.Sprintf(`{"spec":{"valuesFrom":[{"kind":"Secret","name":"more","targetPath":"token"}]},"metadata":{"namespace":%q}}`, l.namespace)
	obj := &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: "app"}}
	if err := l.client.Patch(t.Context(), obj, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatal(err)
	}
	secret := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "stringData": map[string]any{"values.yaml": "s3cret"}}}
	secret.SetNamespace(l.namespace)
	secret.SetName("more")
	if err := l.client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		flags []string
		code  int
		want  string
	}{
		{nil, 1, "exactly one of"},
		{[]string{"--show-status", "--show-history"}, 1, "exactly one of"},
		{[]string{"--show-status"}, 0, "app-extra"},
		{[]string{"--show-history"}, 0, "history:"},
		{[]string{"--show-values"}, 0, "token: s3cret"},
	} {
		said := l.run(tt.code, append([]string{"debug", "helmrelease", "app"}, tt.flags...)...)
		if !strings.Contains(said, tt.want) {
			t.Errorf("%v says %s, want %s", tt.flags, said, tt.want)
		}
	}
}
