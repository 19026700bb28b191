package ssa_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

const group = "kustomize.toolkit.fluxcd.io"

// lab is a namespace of a real API server, with an applier in front of it whose requests are counted.
type lab struct {
	t       testing.TB
	ns      string
	log     *requestLog
	clients *kube.Clients
	managed *kube.Managed
	memory  *ssa.Memory
	applier *ssa.Applier
	owner   kube.Owner
	touched chan time.Duration
	// admin makes requests that are not counted.
	admin    dynamic.Interface
	mapper   *kube.Mapper
	inv      ssa.Inventory
	persists []ssa.Inventory
}

func testConfig(t testing.TB) *rest.Config {
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
	return kube.Config(config, "ssa-test")
}

func newLab(t testing.TB) *lab {
	t.Helper()
	config := testConfig(t)
	admin, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{
		t: t, ns: "ssa-" + rand.String(8), log: &requestLog{}, admin: admin,
		touched: make(chan time.Duration, 100), owner: kube.Owner{Name: "app"},
	}
	l.owner.Namespace = l.ns
	l.create(l.parse("apiVersion: v1\nkind: Namespace\nmetadata: {name: " + l.ns + "}"))
	t.Cleanup(func() {
		_ = admin.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Delete(context.Background(), l.ns, metav1.DeleteOptions{})
	})
	counted := rest.CopyConfig(config)
	counted.Wrap(func(rt http.RoundTripper) http.RoundTripper { l.log.next = rt; return l.log })
	if l.clients, err = kube.NewClients(kube.ClientsOptions{Config: counted}); err != nil {
		t.Fatal(err)
	}
	// A process discovers once, at its start.
	if _, err := l.clients.Mapper().Served(t.Context(), schema.GroupKind{Kind: "ConfigMap"}, "v1"); err != nil {
		t.Fatal(err)
	}
	lens := kube.NewLens(kube.Ownership{Group: group, Manager: "kustomize-controller"})
	// The watch is the admin's, so that counts show only what applies cost.
	watcher, err := kube.NewClients(kube.ClientsOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	l.mapper = watcher.Mapper()
	l.managed = kube.NewManaged(kube.ManagedOptions{
		Client: watcher.Own(), Lens: lens, OnChange: func(c kube.Change) { l.memory.Observe(c) },
	})
	l.memory = ssa.NewMemory(ssa.MemoryOptions{Managed: l.managed, OnTouched: func(o kube.Owner, d time.Duration) {
		if o == l.owner {
			l.touched <- d
		}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { _ = l.managed.Run(ctx); close(stopped) }()
	t.Cleanup(func() { cancel(); <-stopped })
	l.applier = &ssa.Applier{Client: l.clients.Own(), Lens: lens, Memory: l.memory, OwnNamespace: "flux-system"}
	return l
}

// parse reads YAML documents; objects without a namespace get the lab's, but for cluster-scoped kinds.
func (l *lab) parse(text string) []*unstructured.Unstructured {
	l.t.Helper()
	var out []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		doc, err := reader.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			l.t.Fatal(err)
		}
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &u.Object); err != nil {
			l.t.Fatal(err)
		}
		if u.Object == nil {
			continue
		}
		switch u.GetKind() {
		case "Namespace", "ClusterRole", "CustomResourceDefinition", "PriorityClass":
		default:
			if u.GetNamespace() == "" {
				u.SetNamespace(l.ns)
			}
		}
		out = append(out, u)
	}
	return out
}

func (l *lab) normalised(text string) []*unstructured.Unstructured {
	l.t.Helper()
	objects, err := ssa.Normalise(l.parse(text))
	if err != nil {
		l.t.Fatal(err)
	}
	return objects
}

// apply runs the owner once, as a controller would: the inventory shrinks only by what prune confirmed.
func (l *lab) apply(text string, change ...func(*ssa.Request)) (*ssa.Result, error) {
	l.t.Helper()
	req := ssa.Request{
		Owner: l.owner, Objects: l.normalised(text), Inventory: l.inv, Thorough: true,
		Persist: func(_ context.Context, ahead ssa.Inventory) error {
			l.persists = append(l.persists, ahead)
			l.inv = ahead
			return nil
		},
	}
	for _, c := range change {
		c(&req)
	}
	res, err := l.applier.Apply(l.t.Context(), req)
	if err == nil {
		stale := l.inv.Minus(res.Inventory)
		l.inv = res.Inventory.Union(stale)
	}
	l.managed.Track(l.owner, l.inv.Kinds())
	return res, err
}

func (l *lab) mustApply(text string, change ...func(*ssa.Request)) *ssa.Result {
	l.t.Helper()
	res, err := l.apply(text, change...)
	if err != nil {
		l.t.Fatalf("apply: %v", err)
	}
	return res
}

// synced waits until the watch shows all that the owner applied, as applied or newer.
func (l *lab) synced(res *ssa.Result) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	if err := l.managed.Sync(ctx, l.owner); err != nil {
		l.t.Fatal(err)
	}
	ch, end := l.managed.Subscribe(l.owner)
	defer end()
	for {
		missing := ""
		for _, o := range res.Objects {
			s, sight := l.managed.Lookup(o.ID.GroupKind(), o.ID.Namespace, o.ID.Name)
			if o.Action != ssa.Skipped && (sight != kube.Present || o.ResourceVersion != "" && !kube.NotOlder(s.ResourceVersion, o.ResourceVersion)) {
				missing = o.ID.Subject()
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-ch:
		case <-ctx.Done():
			l.t.Fatalf("the watch never showed %s", missing)
		}
	}
}

func (l *lab) resource(u *unstructured.Unstructured) dynamic.ResourceInterface {
	l.t.Helper()
	res, err := l.mapperOrFresh().Served(l.t.Context(), u.GroupVersionKind().GroupKind(), u.GroupVersionKind().Version)
	if err != nil {
		l.t.Fatal(err)
	}
	if res.Namespaced {
		return l.admin.Resource(res.GVR()).Namespace(u.GetNamespace())
	}
	return l.admin.Resource(res.GVR())
}

func (l *lab) mapperOrFresh() *kube.Mapper {
	if l.mapper == nil {
		c, err := kube.NewClients(kube.ClientsOptions{Config: testConfig(l.t)})
		if err != nil {
			l.t.Fatal(err)
		}
		l.mapper = c.Mapper()
	}
	return l.mapper
}

// create creates objects as somebody else.
func (l *lab) create(objects []*unstructured.Unstructured) {
	l.t.Helper()
	for _, u := range objects {
		if _, err := l.resource(u).Create(l.t.Context(), u, metav1.CreateOptions{FieldManager: "someone"}); err != nil {
			l.t.Fatal(err)
		}
	}
}

// applyAs applies an object as another field manager.
func (l *lab) applyAs(manager, text string) {
	l.t.Helper()
	for _, u := range l.parse(text) {
		if _, err := l.resource(u).Apply(l.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: manager, Force: true}); err != nil {
			l.t.Fatal(err)
		}
	}
}

// patch merge-patches an object as another field manager.
func (l *lab) patch(kind, name, manager, patch string) *unstructured.Unstructured {
	l.t.Helper()
	u, err := l.resource(l.ref(kind, name)).Patch(l.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: manager})
	if err != nil {
		l.t.Fatal(err)
	}
	return u
}

// ref is an empty object of a core, apps or batch kind in the lab.
func (l *lab) ref(kind, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	apiVersion := map[string]string{
		"Deployment": "apps/v1", "Job": "batch/v1", "Role": "rbac.authorization.k8s.io/v1", "ClusterRole": "rbac.authorization.k8s.io/v1",
	}[kind]
	if apiVersion == "" {
		apiVersion = "v1"
	}
	if group, k, ok := strings.Cut(kind, ":"); ok {
		apiVersion, kind = group, k
	}
	u.SetAPIVersion(apiVersion)
	u.SetKind(kind)
	u.SetNamespace(l.ns)
	u.SetName(name)
	return u
}

func (l *lab) get(kind, name string) *unstructured.Unstructured {
	l.t.Helper()
	u, err := l.resource(l.ref(kind, name)).Get(l.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return u
}

func (l *lab) remove(kind, name string) {
	l.t.Helper()
	policy := metav1.DeletePropagationBackground
	if err := l.resource(l.ref(kind, name)).Delete(l.t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		l.t.Fatal(err)
	}
}

// eventually polls until a condition that no event announces holds.
func (l *lab) eventually(what string, holds func() bool) {
	l.t.Helper()
	poll := func(context.Context) (bool, error) { return holds(), nil }
	if err := wait.PollUntilContextTimeout(l.t.Context(), 50*time.Millisecond, 20*time.Second, true, poll); err != nil {
		l.t.Fatalf("never: %s", what)
	}
}

// field reads a text field of an object.
func field(u *unstructured.Unstructured, path ...string) string {
	v, _, _ := unstructured.NestedFieldNoCopy(u.Object, path...)
	return fmt.Sprint(v)
}

func managers(u *unstructured.Unstructured) []string {
	var out []string
	for _, e := range u.GetManagedFields() {
		out = append(out, e.Manager+" "+string(e.Operation))
	}
	slices.Sort(out)
	return out
}

// requestLog counts requests by what they are for.
type requestLog struct {
	next http.RoundTripper
	mu   sync.Mutex
	log  []string
	fail func(*http.Request) error
	// alter changes answers to dry-runs.
	alter func(*unstructured.Unstructured)
}

func (r *requestLog) RoundTrip(req *http.Request) (*http.Response, error) {
	what := req.Method
	switch {
	case req.URL.Path == "/api" || req.URL.Path == "/apis" || strings.Count(req.URL.Path, "/") < 4:
		what = "DISCOVERY"
	case req.URL.Query().Get("dryRun") != "":
		what += " dry-run"
	}
	r.mu.Lock()
	r.log = append(r.log, what+" "+req.URL.Path)
	fail := r.fail
	r.mu.Unlock()
	if fail != nil {
		if err := fail(req); err != nil {
			return nil, err
		}
	}
	answer, err := r.next.RoundTrip(req)
	if err != nil || r.alter == nil || answer.StatusCode != http.StatusOK || req.URL.Query().Get("dryRun") == "" {
		return answer, err
	}
	defer answer.Body.Close()
	var o unstructured.Unstructured
	if err := json.NewDecoder(answer.Body).Decode(&o); err != nil {
		return nil, err
	}
	r.alter(&o)
	body, err := o.MarshalJSON()
	if err != nil {
		return nil, err
	}
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return answer, nil
}

// take returns how many requests of each sort were made since the last take.
func (r *requestLog) take() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]int{}
	for _, l := range r.log {
		what, _, _ := strings.Cut(l, " /")
		out[what]++
	}
	r.log = nil
	return out
}
