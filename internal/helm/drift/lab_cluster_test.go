package drift_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/helm/drift"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

const manager = "helm-controller"

// lab is a namespace of a real API server with a release in it. Requests of comparisons are counted.
type lab struct {
	testing.TB
	ns      string
	admin   *kube.Client
	dynamic dynamic.Interface
	managed *kube.Managed
	touched chan time.Duration
	request drift.Request

	mu       sync.Mutex // guards requests and meddle
	requests []string
	meddle   func(*http.Request)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newLab makes a lab whose release, applied as Helm does, has the manifest. NS in it is the namespace.
func newLab(t testing.TB, manifest string) *lab {
	t.Helper()
	l := bareLab(t, manifest)
	l.install()
	return l
}

func bareLab(t testing.TB, manifest string) *lab {
	t.Helper()
	config := kube.Config(testkit.Cluster(t), "drift-test")
	l := &lab{TB: t, ns: testkit.Namespace(t, config), touched: make(chan time.Duration, 100)}
	var err error
	if l.dynamic, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	admin, err := kube.NewClients(kube.ClientsOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	l.admin = admin.Own()
	counted := rest.CopyConfig(config)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			l.count(r)
			return next.RoundTrip(r)
		})
	})
	clients, err := kube.NewClients(kube.ClientsOptions{Config: counted})
	if err != nil {
		t.Fatal(err)
	}
	l.request = drift.Request{
		Client: clients.Own(), Manifest: strings.ReplaceAll(manifest, "NS", l.ns), Release: drift.Release{Name: "app", Namespace: l.ns}, Namespace: l.ns,
		Manager: manager, Owner: kube.Owner{Namespace: l.ns, Name: "app"},
	}
	return l
}

func (l *lab) count(r *http.Request) {
	l.mu.Lock()
	meddle := l.meddle
	if strings.Contains(r.URL.Path, "/namespaces/") || strings.Contains(r.URL.Path, "customresourcedefinitions") {
		what := r.Method
		if r.URL.Query().Get("dryRun") != "" {
			what += " dry-run"
		}
		l.requests = append(l.requests, what+" "+r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
	}
	l.mu.Unlock()
	if meddle != nil {
		meddle(r)
	}
}

// counted returns the requests since the last call, sorted.
func (l *lab) counted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.requests
	l.requests = nil
	slices.Sort(out)
	return out
}

// remember gives the lab a watch and a memory, as a controller has them.
func (l *lab) remember() {
	l.Helper()
	lens := kube.NewLens(kube.Ownership{Group: helmv2.GroupName, Manager: manager})
	var memory *ssa.Memory
	l.managed = kube.NewManaged(kube.ManagedOptions{Client: l.admin, Lens: lens, OnChange: func(c kube.Change) { memory.Observe(c) }})
	memory = ssa.NewMemory(ssa.MemoryOptions{Managed: l.managed, OnTouched: func(o kube.Owner, d time.Duration) {
		if o == l.request.Owner {
			l.touched <- d
		}
	}})
	l.request.Memory, l.request.Lens = memory, lens
	objects, err := drift.Objects(l.Context(), l.request.Manifest, l.ns, l.admin.Mapper)
	if err != nil {
		l.Fatal(err)
	}
	var kinds []schema.GroupVersionKind
	for _, o := range objects {
		kinds = append(kinds, o.GroupVersionKind())
	}
	l.managed.Track(l.request.Owner, kinds)
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { _ = l.managed.Run(ctx); close(stopped) }()
	l.Cleanup(func() { cancel(); <-stopped })
	if err := l.managed.Sync(l.Context(), l.request.Owner); err != nil {
		l.Fatal(err)
	}
}

// awaitTouch waits until the memory says that somebody has touched an object.
func (l *lab) awaitTouch() {
	l.Helper()
	select {
	case <-l.touched:
	case <-time.After(20 * time.Second):
		l.Fatal("nobody noticed")
	}
}

// install applies the objects of the manifest as Helm does.
func (l *lab) install() {
	l.Helper()
	for _, o := range l.objects(l.request.Manifest) {
		if _, err := l.admin.Apply(l.Context(), l.ref(o), o, manager); err != nil {
			l.Fatal(err)
		}
	}
}

// objects are those of a manifest with what Helm and the controller add.
func (l *lab) objects(manifest string) []*unstructured.Unstructured {
	l.Helper()
	objects, err := drift.Objects(l.Context(), manifest, l.ns, l.admin.Mapper)
	if err != nil {
		l.Fatal(err)
	}
	for _, o := range objects {
		labels, annotations := o.GetLabels(), o.GetAnnotations()
		if labels == nil {
			labels = map[string]string{}
		}
		if annotations == nil {
			annotations = map[string]string{}
		}
		labels["app.kubernetes.io/managed-by"] = "Helm"
		annotations["meta.helm.sh/release-name"], annotations["meta.helm.sh/release-namespace"] = "app", l.ns
		o.SetLabels(labels)
		o.SetAnnotations(annotations)
	}
	return objects
}

func (l *lab) ref(o *unstructured.Unstructured) kube.Ref {
	l.Helper()
	res, err := l.admin.Mapper.Resource(l.Context(), o.GroupVersionKind())
	if err != nil {
		l.Fatal(err)
	}
	return kube.Ref{Resource: res, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// resource is the endpoint of a kind by its plural, "deployments.apps" or "configmaps".
func (l *lab) resource(plural string) dynamic.ResourceInterface {
	r, group, _ := strings.Cut(plural, ".")
	return l.dynamic.Resource(schema.GroupVersionResource{Group: group, Version: "v1", Resource: r}).Namespace(l.ns)
}

// patch merge-patches an object as somebody else.
func (l *lab) patch(plural, name, by, patch string) {
	l.Helper()
	if _, err := l.resource(plural).Patch(l.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: by}); err != nil {
		l.Fatal(err)
	}
}

// remove deletes an object and waits until it is gone.
func (l *lab) remove(plural, name string) {
	l.Helper()
	if err := l.resource(plural).Delete(l.Context(), name, metav1.DeleteOptions{}); err != nil {
		l.Fatal(err)
	}
	gone := func(ctx context.Context) (bool, error) {
		_, err := l.resource(plural).Get(ctx, name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	}
	if err := wait.PollUntilContextTimeout(l.Context(), 20*time.Millisecond, 20*time.Second, true, gone); err != nil {
		l.Fatalf("%s %s does not go", plural, name)
	}
}

func (l *lab) get(plural, name string) *unstructured.Unstructured {
	l.Helper()
	o, err := l.resource(plural).Get(l.Context(), name, metav1.GetOptions{})
	if err != nil {
		l.Fatal(err)
	}
	return o
}

// at reads a field of an object.
func at(o *unstructured.Unstructured, path ...string) any {
	v, _, _ := unstructured.NestedFieldNoCopy(o.Object, path...)
	return v
}

// managers lists who has set fields of an object, and how, as recordings do.
func managers(o *unstructured.Unstructured) string {
	var out []string
	for _, e := range o.GetManagedFields() {
		if e.Subresource == "" {
			out = append(out, e.Manager+" "+string(e.Operation))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// detect compares, and fails if that writes anything.
func (l *lab) detect() *drift.Result {
	l.Helper()
	l.counted()
	result, err := drift.Detect(l.Context(), l.request)
	if err != nil {
		l.Fatal(err)
	}
	for _, r := range l.counted() {
		if !strings.HasPrefix(r, "GET ") && !strings.Contains(r, "dry-run") {
			l.Errorf("it writes: %s", r)
		}
	}
	return result
}

// expect compares and expects a summary.
func (l *lab) expect(want ...string) *drift.Result {
	l.Helper()
	result := l.detect()
	if got := strings.ReplaceAll(result.Summary(), l.ns, "NS"); got != strings.Join(want, "\n") {
		l.Errorf("drift is\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	return result
}

// correct puts right what was found and expects the lines of the event.
func (l *lab) correct(found *drift.Result, want ...string) {
	l.Helper()
	got, err := drift.Correct(l.Context(), l.request, found)
	if err != nil {
		l.Error(err)
	}
	l.same(got, want)
}

func (l *lab) same(got, want []string) {
	l.Helper()
	if lines := strings.ReplaceAll(strings.Join(got, "\n"), l.ns, "NS"); lines != strings.Join(want, "\n") {
		l.Errorf("corrected is\n%s\nwant\n%s", lines, strings.Join(want, "\n"))
	}
}
