package action_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/helm/action"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// lab is a namespace of a real API server, and a HelmRelease in it whose actions are counted by their requests.
type lab struct {
	t       testing.TB
	ns      string
	obj     *helmv2.HelmRelease
	client  kubernetes.Interface
	dynamic dynamic.Interface
	clients *kube.Clients
	shared  *action.Shared
	managed *kube.Managed
	park    action.Park

	mu       sync.Mutex // guards requests
	requests []string
}

func newLab(t testing.TB, spec string) *lab {
	t.Helper()
	config := kube.Config(testkit.Cluster(t), "action-test")
	l := &lab{t: t, ns: testkit.Namespace(t, config)}
	var err error
	if l.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if l.dynamic, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	watching, err := kube.NewClients(kube.ClientsOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	counted := rest.CopyConfig(config)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			l.mu.Lock()
			l.requests = append(l.requests, r.Method+" "+strings.ReplaceAll(r.URL.Path, l.ns, "NS"))
			l.mu.Unlock()
			return next.RoundTrip(r)
		})
	})
	if l.clients, err = kube.NewClients(kube.ClientsOptions{Config: counted}); err != nil {
		t.Fatal(err)
	}
	lens := kube.NewLens(kube.Ownership{Group: helmv2.GroupName, Manager: action.Manager})
	l.managed = kube.NewManaged(kube.ManagedOptions{Client: watching.Own(), Lens: lens})
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { _ = l.managed.Run(ctx); close(stopped) }()
	t.Cleanup(func() { cancel(); <-stopped })
	l.shared = action.NewShared(l.clients.Own(), nil)
	l.obj = &helmv2.HelmRelease{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "app"}}
	l.spec(spec)
	return l
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// spec replaces the spec of the HelmRelease.
func (l *lab) spec(text string) {
	l.t.Helper()
	l.obj.Spec = helmv2.HelmReleaseSpec{}
	if err := yaml.UnmarshalStrict([]byte(strings.ReplaceAll(text, "NS", l.ns)), &l.obj.Spec); err != nil {
		l.t.Fatal(err)
	}
}

// counted returns the requests since the last call.
func (l *lab) counted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.requests
	l.requests = nil
	return out
}

// actions are what one run would have.
func (l *lab) actions(change ...func(*action.Options)) *action.Actions {
	l.t.Helper()
	client, err := l.clients.For(l.t.Context(), kube.Identity{Namespace: l.ns, ServiceAccount: l.obj.Spec.ServiceAccountName})
	if err != nil {
		l.t.Fatal(err)
	}
	o := action.Options{
		Client: client, Managed: l.managed, Shared: l.shared, Owner: kube.Owner{Namespace: l.ns, Name: l.obj.Name}, Park: l.park,
		ReleaseNamespace: l.obj.GetReleaseNamespace(), StorageNamespace: l.obj.GetStorageNamespace(),
	}
	for _, c := range change {
		c(&o)
	}
	a, err := action.New(o)
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

// chartOf makes a chart of templates by name; names may also be values.yaml, values.schema.json and files in crds.
func chartOf(version string, files map[string]string) *chart.Chart {
	c := &chart.Chart{Metadata: &chart.Metadata{APIVersion: chart.APIVersionV2, Name: "demo", Version: version, AppVersion: "1.0"}}
	for name, text := range files {
		f := &common.File{Name: name, Data: []byte(text)}
		switch {
		case name == "values.yaml":
			if err := yaml.Unmarshal(f.Data, &c.Values); err != nil {
				panic(err)
			}
		case name == "values.schema.json":
			c.Schema = f.Data
		case strings.HasPrefix(name, "crds/"):
			c.Files = append(c.Files, f)
		default:
			f.Name = "templates/" + name
			c.Templates = append(c.Templates, f)
		}
	}
	return c
}

const configTemplate = `apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-config
data:
  release: {{ .Release.Name }}.{{ .Release.Namespace }}
  message: {{ .Values.message | quote }}
`

const deploymentTemplate = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: "{{ .Release.Name }}"}}
  template:
    metadata: {labels: {app: "{{ .Release.Name }}"}}
    spec:
      containers:
      - name: main
        image: {{ .Values.image }}
`

// demo is the chart of the recordings.
func demo(version string, more ...string) *chart.Chart {
	files := map[string]string{
		"values.yaml":     "replicas: 1\nimage: example.com/web:1.0\nmessage: hello\n",
		"config.yaml":     configTemplate,
		"deployment.yaml": deploymentTemplate,
	}
	for i := 0; i < len(more); i += 2 {
		files[more[i]] = more[i+1]
	}
	return chartOf(version, files)
}

// hook is a Job or Pod that is a hook.
func hook(kind, name, events, image, policy string) string {
	annotations := "    helm.sh/hook: " + events + "\n"
	if policy != "" {
		annotations += "    helm.sh/hook-delete-policy: " + policy + "\n"
	}
	spec := "restartPolicy: Never\n%[1]scontainers:\n%[1]s- name: c\n%[1]s  image: " + image
	head := "metadata:\n  name: {{ .Release.Name }}-" + name + "\n  annotations:\n" + annotations
	if kind == "Pod" {
		return "apiVersion: v1\nkind: Pod\n" + head + "spec:\n  " + fmt.Sprintf(spec, "  ")
	}
	return "apiVersion: batch/v1\nkind: Job\n" + head + "spec:\n  backoffLimit: 0\n  template:\n    spec:\n      " + fmt.Sprintf(spec, "      ")
}

var plurals = map[string]schema.GroupVersionResource{
	"ConfigMap":                {Version: "v1", Resource: "configmaps"},
	"Namespace":                {Version: "v1", Resource: "namespaces"},
	"Pod":                      {Version: "v1", Resource: "pods"},
	"Secret":                   {Version: "v1", Resource: "secrets"},
	"Service":                  {Version: "v1", Resource: "services"},
	"Deployment":               {Group: "apps", Version: "v1", Resource: "deployments"},
	"Job":                      {Group: "batch", Version: "v1", Resource: "jobs"},
	"CustomResourceDefinition": {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
}

func (l *lab) resource(kind string) dynamic.ResourceInterface {
	r := l.dynamic.Resource(plurals[kind])
	if kind == "Namespace" || kind == "CustomResourceDefinition" {
		return r
	}
	return r.Namespace(l.ns)
}

// get reads an object; nil if there is none.
func (l *lab) get(kind, name string) *unstructured.Unstructured {
	l.t.Helper()
	o, err := l.resource(kind).Get(l.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return o
}

// apply applies an object as somebody else.
func (l *lab) apply(manager, text string) {
	l.t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.resource(o.GetKind()).Apply(l.t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: manager, Force: true}); err != nil {
		l.t.Fatal(err)
	}
}

// managers returns who manages an object, in the form of the recordings.
func managers(o *unstructured.Unstructured) string {
	var out []string
	for _, e := range o.GetManagedFields() {
		out = append(out, strings.TrimSpace(e.Manager+" "+string(e.Operation)+" "+e.Subresource))
	}
	// The API server lists them by time, in seconds.
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// message is the message of the ConfigMap of the demo chart; "-" when there is none.
func (l *lab) message() string {
	l.t.Helper()
	o := l.get("ConfigMap", l.obj.GetReleaseName()+"-config")
	if o == nil {
		return "-"
	}
	m, _, _ := unstructured.NestedString(o.Object, "data", "message")
	return m
}

// records are the Secrets of Helm as "v1 deployed".
func (l *lab) records() string {
	l.t.Helper()
	list, err := l.client.CoreV1().Secrets(l.obj.GetStorageNamespace()).List(l.t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		l.t.Fatal(err)
	}
	var out []string
	for _, s := range list.Items {
		out = append(out, "v"+s.Labels["version"]+" "+s.Labels["status"])
	}
	return strings.Join(out, ", ")
}

func (l *lab) secret(name string) *corev1.Secret {
	l.t.Helper()
	s, err := l.client.CoreV1().Secrets(l.obj.GetStorageNamespace()).Get(l.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

func values(text string) map[string]any {
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		panic(err)
	}
	return out
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// countParks counts how often an action parks.
func (l *lab) countParks() *int {
	n := 0
	l.park = func(ctx context.Context, wait func(context.Context) error) error {
		n++
		return wait(ctx)
	}
	return &n
}

func file(name string, data []byte) *common.File { return &common.File{Name: name, Data: data} }
