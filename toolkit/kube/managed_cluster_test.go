package kube

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/go-logr/logr"
)

func testConfig(t *testing.T) *rest.Config {
	t.Helper()
	if testing.Short() {
		t.Skip("needs an API server; not in -short")
	}
	path := os.Getenv("FLUX_TEST_KUBECONFIG")
	if path == "" {
		t.Fatal("FLUX_TEST_KUBECONFIG is not set: start a test cluster and point it at its kubeconfig")
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	return Config(config, "kube-test")
}

// watched is a namespace and a Managed that sees it.
type watched struct {
	t       *testing.T
	ns      string
	owner   Owner
	admin   dynamic.Interface
	managed *Managed
	changes chan Change

	mu      sync.Mutex
	accepts map[string]string // path -> Accept header of its watch
}

func newWatched(t *testing.T, impersonate string) *watched {
	t.Helper()
	config := testConfig(t)
	admin, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	w := &watched{t: t, ns: "kube-" + rand.String(8), admin: admin, changes: make(chan Change, 1000), accepts: map[string]string{}}
	w.owner = Owner{w.ns, "app"}
	namespaces := admin.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	ns := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": w.ns}}}
	if _, err := namespaces.Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = namespaces.Delete(context.Background(), w.ns, metav1.DeleteOptions{}) })
	config = rest.CopyConfig(config)
	if impersonate != "" {
		config.Impersonate.UserName = impersonate
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("watch") != "" {
				w.mu.Lock()
				w.accepts[r.URL.Path] = r.Header.Get("Accept")
				w.mu.Unlock()
			}
			return next.RoundTrip(r)
		})
	})
	clients, err := NewClients(ClientsOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	w.managed = NewManaged(ManagedOptions{
		Client: clients.Own(), Lens: NewLens(Ownership{Group: testGroup, Manager: "kustomize-controller"}),
		OnChange: func(c Change) {
			if c.Namespace == w.ns {
				w.changes <- c
			}
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- w.managed.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return w
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (w *watched) sync() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	if err := w.managed.Sync(ctx, w.owner); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watched) next() Change {
	w.t.Helper()
	select {
	case c := <-w.changes:
		return c
	case <-time.After(10 * time.Second):
		w.t.Fatal("no change was seen")
		return Change{}
	}
}

func (w *watched) apply(resource, apiVersion, kind, name string, labelled bool, rest map[string]any) *unstructured.Unstructured {
	w.t.Helper()
	gv, _ := schema.ParseGroupVersion(apiVersion)
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind}}
	for k, v := range rest {
		u.Object[k] = v
	}
	u.SetName(name)
	u.SetNamespace(w.ns)
	if labelled {
		u.SetLabels(map[string]string{testGroup + "/name": w.owner.Name, testGroup + "/namespace": w.owner.Namespace})
	}
	out, err := w.admin.Resource(gv.WithResource(resource)).Namespace(w.ns).Apply(w.t.Context(), name, u, metav1.ApplyOptions{FieldManager: "kustomize-controller", Force: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func TestManaged(t *testing.T) {
	t.Parallel()
	configMap := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	secret := schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
	service := schema.GroupVersionKind{Version: "v1", Kind: "Service"}
	w := newWatched(t, "")
	before := w.apply("configmaps", "v1", "ConfigMap", "before", true, nil)
	w.apply("configmaps", "v1", "ConfigMap", "foreign", false, nil)
	if _, sight := w.managed.Lookup(configMap.GroupKind(), w.ns, "before"); sight != Unseen {
		t.Errorf("sight before tracking: %v", sight)
	}
	w.managed.Track(w.owner, []schema.GroupVersionKind{configMap, secret, service})
	w.sync()
	s, sight := w.managed.Lookup(configMap.GroupKind(), w.ns, "before")
	if sight != Present || s.UID != before.GetUID() || s.Owner != w.owner || !s.Ours || s.Verdict.Status != Current {
		t.Errorf("%v %+v", sight, s)
	}
	if c := w.next(); c.Name != "before" || c.Before != nil {
		t.Errorf("change: %+v", c)
	}
	if _, sight := w.managed.Lookup(configMap.GroupKind(), w.ns, "foreign"); sight != Absent {
		t.Errorf("an object without owner labels: %v", sight)
	}

	ch, end := w.managed.Subscribe(w.owner)
	defer end()
	svc := w.apply("services", "v1", "Service", "s", true, map[string]any{"spec": map[string]any{"ports": []any{map[string]any{"port": int64(80), "protocol": "TCP"}}}})
	c := w.next()
	if c.Kind != service.GroupKind() || c.After.ResourceVersion != svc.GetResourceVersion() {
		t.Errorf("change: %+v", c)
	}
	select {
	case <-ch:
	case <-time.After(10 * time.Second):
		t.Error("the owner's subscribers were not told")
	}
	if got, want := c.After.Fields, w.managed.Lens().Object(svc).Fields; got != want {
		t.Error("a whole object in a write's answer and in the watch digest differently")
	}
	sec := w.apply("secrets", "v1", "Secret", "creds", true, map[string]any{"data": map[string]any{"password": "eA=="}})
	if got, want := w.next().After.Fields, w.managed.Lens().Object(sec).Fields; got != want {
		t.Error("an object and its metadata in protobuf digest differently")
	}
	w.mu.Lock()
	for path, want := range map[string]bool{"/api/v1/secrets": true, "/api/v1/configmaps": true, "/api/v1/services": false} {
		if got := strings.Contains(w.accepts[path], "PartialObjectMetadata"); got != want {
			t.Errorf("watch of %s accepts %q", path, w.accepts[path])
		}
	}
	w.mu.Unlock()

	// Relabelled to nobody: gone from view; its old owner is told.
	_, err := w.admin.Resource(configMap.GroupVersion().WithResource("configmaps")).Namespace(w.ns).
		Patch(t.Context(), "before", types.MergePatchType, []byte(`{"metadata":{"labels":null}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c := w.next(); c.Name != "before" || c.After != nil || c.Before.Owner != w.owner {
		t.Errorf("change: %+v", c)
	}
	if got := w.managed.Seen(configMap.GroupKind()); got == "" || !NotOlder(got, before.GetResourceVersion()) {
		t.Errorf("the watch has seen %q", got)
	}

	other := Owner{w.ns, "other"}
	w.managed.Track(other, []schema.GroupVersionKind{configMap})
	w.managed.Track(w.owner, []schema.GroupVersionKind{secret})
	if got := w.managed.Objects(); len(got) != 2 {
		t.Errorf("watches: %v, want Secret for one owner and ConfigMap for the other", got)
	}
	w.managed.Track(other, nil)
	w.managed.Track(w.owner, nil)
	if got := w.managed.Objects(); len(got) != 0 {
		t.Errorf("watches without owners: %v", got)
	}
	if err := w.managed.Run(t.Context()); err == nil {
		t.Error("it runs twice")
	}
}

// Kinds we may not watch, and kinds that are gone, are reported so that callers poll.
func TestManagedRefused(t *testing.T) {
	t.Parallel()
	configMap := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	w := newWatched(t, "system:serviceaccount:"+rand.String(8)+":nobody")
	w.apply("configmaps", "v1", "ConfigMap", "a", true, nil)
	absent := schema.GroupVersionKind{Group: "gone.example.com", Version: "v1", Kind: "Widget"}
	w.managed.Track(w.owner, []schema.GroupVersionKind{configMap, absent})
	w.sync()
	if err := w.managed.Refused(configMap.GroupKind()); !apierrors.IsForbidden(err) {
		t.Errorf("refused: %v", err)
	}
	if err := w.managed.Refused(absent.GroupKind()); !meta.IsNoMatchError(err) {
		t.Errorf("refused: %v", err)
	}
	if _, sight := w.managed.Lookup(configMap.GroupKind(), w.ns, "a"); sight != Unseen {
		t.Errorf("sight: %v", sight)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	w.managed.Track(w.owner, []schema.GroupVersionKind{{Version: "v1", Kind: "Pod"}})
	if err := w.managed.Sync(ctx, w.owner); err != nil && !errors.Is(err, stop) {
		t.Errorf("error: %v", err)
	}
}

// A definition that comes makes its kind known at the next look, without damping.
func TestWatchDefinitions(t *testing.T) {
	t.Parallel()
	config := testConfig(t)
	clients, err := NewClients(ClientsOptions{Config: config, Damping: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- WatchDefinitions(ctx, clients.Own(), logr.Discard()) }()
	defer func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}()
	group := rand.String(8) + ".example.com"
	gvk := schema.GroupVersionKind{Group: group, Version: "v1", Kind: "Gadget"}
	if _, err := clients.Mapper().Resource(ctx, gvk); !meta.IsNoMatchError(err) {
		t.Fatalf("error: %v", err)
	}
	admin, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	crds := admin.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	crd := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "gadgets." + group},
		"spec": map[string]any{
			"group": group, "scope": "Namespaced", "names": map[string]any{"kind": "Gadget", "plural": "gadgets"},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object"}},
			}},
		},
	}}
	if _, err := crds.Create(ctx, crd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = crds.Delete(context.Background(), crd.GetName(), metav1.DeleteOptions{}) }()
	known := func(ctx context.Context) (bool, error) {
		_, err := clients.Mapper().Resource(ctx, gvk)
		return err == nil, nil
	}
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 20*time.Second, true, known); err != nil {
		t.Fatal("the new kind never became known")
	}
}
