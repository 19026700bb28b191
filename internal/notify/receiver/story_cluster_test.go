package receiver

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// world is a namespace of a real API server, and a process with nothing but Receivers in it.
type world struct {
	t      *testing.T
	ns     string
	client client.WithWatch
	url    string
	posted atomic.Int32 // events that left the cluster
}

func newWorld(t *testing.T) *world {
	t.Helper()
	cfg := kube.Config(testkit.Cluster(t), "receiver-test")
	testkit.InstallCRDs(t, cfg)
	w := &world{t: t, ns: testkit.Namespace(t, cfg)}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, notificationv1.AddToScheme, sourcev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.client, err = client.NewWithWatch(cfg, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	selector := labels.SelectorFromSet(labels.Set{"reconcile.fluxcd.io/watch": "Enabled"})
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Cache: cache.Options{
			DefaultNamespaces: map[string]cache.Config{w.ns: {}}, ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: {Label: selector}},
		},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	set, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	writer := event.NewKubernetesWriter(event.KubernetesOptions{Client: set.CoreV1().Events(""), Log: logr.Discard()})
	host := &component.Host{
		Manager: mgr, Config: cfg, Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Namespace: w.ns, Log: logr.Discard(),
		Common: component.Common{Concurrent: 4, WatchConfigs: selector, MinRetryDelay: time.Hour, MaxRetryDelay: time.Hour},
		Events: &event.Recorder{
			Component: Name, Scheme: scheme, Kubernetes: writer, Log: logr.Discard(), Sink: event.SinkFunc(func(event.Payload) { w.posted.Add(1) }),
		},
	}
	s := New(Options{})
	server := httptest.NewServer(s)
	w.url = server.URL
	if code := w.post("/hook/x", "", nil); code != http.StatusServiceUnavailable {
		t.Errorf("before Setup: status %d", code)
	}
	// As in a process: a component is set up once its lease is held, in a manager that runs.
	ready := make(chan error, 1)
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
		ready <- s.Setup(ctx, host)
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		w.release()
		server.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := writer.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	await(t, "the Receivers to be known", func() bool { return w.post("/hook/x", "", nil) == http.StatusNotFound })
	return w
}

// release deletes the Receivers while there is somebody to let them go.
func (w *world) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.client.DeleteAllOf(ctx, &notificationv1.Receiver{}, client.InNamespace(w.ns)); err != nil {
		w.t.Error(err)
	}
	await(w.t, "the Receivers to go", func() bool {
		var all notificationv1.ReceiverList
		return w.client.List(ctx, &all, client.InNamespace(w.ns)) == nil && len(all.Items) == 0
	})
}

func (w *world) post(path, body string, header http.Header) int {
	w.t.Helper()
	r, err := http.NewRequest(http.MethodPost, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header = http.Header{"Content-Type": {"application/json"}}
	for name, values := range header {
		r.Header[name] = values
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		w.t.Error(err)
	}
	return answer.StatusCode
}

func (w *world) create(objects ...client.Object) {
	w.t.Helper()
	for _, obj := range objects {
		obj.SetNamespace(w.ns)
		if err := w.client.Create(w.t.Context(), obj); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) receiver(name, kind string, resources ...notificationv1.ReceiverResource) *notificationv1.Receiver {
	obj := &notificationv1.Receiver{ObjectMeta: metav1.ObjectMeta{Name: name}}
	obj.Spec = notificationv1.ReceiverSpec{Type: kind, SecretRef: &meta.LocalObjectReference{Name: "tok"}, Resources: resources}
	return obj
}

func (w *world) secret(value string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: "tok", Labels: map[string]string{"reconcile.fluxcd.io/watch": "Enabled"}},
		Data:       map[string][]byte{"token": []byte(value)},
	}
}

func (w *world) repository(name string, labels map[string]string) *sourcev1.GitRepository {
	return &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       sourcev1.GitRepositorySpec{URL: "https://git.test/app.git", Interval: meta.DurationOf(time.Hour)},
	}
}

// see waits until the status of a Receiver is as wanted, and returns it.
func (w *world) see(name, what string, wanted func(*notificationv1.Receiver) bool) *notificationv1.Receiver {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	list, err := w.client.Watch(ctx, &notificationv1.ReceiverList{}, client.InNamespace(w.ns), client.MatchingFields{"metadata.name": name})
	if err != nil {
		w.t.Fatal(err)
	}
	defer list.Stop()
	var last *notificationv1.Receiver
	for e := range list.ResultChan() {
		if obj, ok := e.Object.(*notificationv1.Receiver); ok {
			if last = obj; wanted(obj) {
				return obj
			}
		}
	}
	w.t.Fatalf("waited in vain for %s: %+v", what, last)
	return nil
}

func ready(obj *notificationv1.Receiver) bool {
	return status.IsTrue(obj.Status.Conditions, meta.ReadyCondition) && obj.Status.ObservedGeneration == obj.Generation
}

// events of a Receiver as "type reason: message".
func (w *world) events(name string) []string {
	w.t.Helper()
	var list corev1.EventList
	if err := w.client.List(w.t.Context(), &list, client.InNamespace(w.ns)); err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		if e.InvolvedObject.Name == name && e.Source.Component == Name {
			out = append(out, fmt.Sprintf("%s %s: %s", e.Type, e.Reason, e.Message))
		}
	}
	slices.Sort(out)
	return out
}

// The life of a Receiver on a real API server: recordings receiver/token-missing, generic, github, token-rotated and suspended.
// receiver 1, 5-8, 10, 12, 16, 17, 20, 41.
func TestStory(t *testing.T) {
	w := newWorld(t)
	w.create(w.repository("app", nil), w.receiver("r", "github", resource("GitRepository", "app")))
	obj := w.see("r", "the missing Secret to be told", func(r *notificationv1.Receiver) bool {
		c := status.Find(r.Status.Conditions, meta.ReadyCondition)
		return c != nil && c.Reason == "TokenNotFound"
	})
	equal(t, "observedGeneration", -1, obj.Status.ObservedGeneration)

	// Retries are an hour apart here: the Secret itself wakes the Receiver.
	w.create(w.secret("one"))
	obj = w.see("r", "the Receiver to be ready", ready)
	equal(t, "path", obj.GetWebhookPath("one"), obj.Status.WebhookPath)
	equal(t, "finalizers", []string{"finalizers.fluxcd.io"}, obj.Finalizers)
	old, body := obj.Status.WebhookPath, `{"ref":"refs/heads/main"}`
	signature := func(token string) http.Header {
		return http.Header{"X-Hub-Signature-256": {"sha256=" + signed(sha256.New, token, []byte(body))}}
	}
	start := time.Now()
	equal(t, "status", http.StatusOK, w.post(old, body, signature("one")))
	t.Logf("a call takes %s", time.Since(start))
	app := &sourcev1.GitRepository{}
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: w.ns, Name: "app"}, app); err != nil {
		t.Fatal(err)
	}
	if app.Annotations[meta.ReconcileRequestAnnotation] == "" || !slices.ContainsFunc(app.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == "notification-controller" && f.Operation == metav1.ManagedFieldsOperationUpdate && f.Subresource == ""
	}) {
		t.Errorf("annotations %v, managers %v", app.Annotations, app.ManagedFields)
	}
	equal(t, "status of another signature", http.StatusBadRequest, w.post(old, body, signature("two")))

	if err := w.client.Update(t.Context(), w.secret("two")); err != nil {
		t.Fatal(err)
	}
	obj = w.see("r", "another path", func(r *notificationv1.Receiver) bool { return r.Status.WebhookPath != old })
	equal(t, "status of the old path", http.StatusNotFound, w.post(old, body, signature("two")))
	equal(t, "status of the new path", http.StatusOK, w.post(obj.Status.WebhookPath, body, signature("two")))

	suspend := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"suspend":true}}`))
	if err := w.client.Patch(t.Context(), obj, suspend); err != nil {
		t.Fatal(err)
	}
	w.see("r", "the pause to be observed", ready)
	equal(t, "status while suspended", http.StatusServiceUnavailable, w.post(obj.Status.WebhookPath, body, signature("two")))

	await(t, "the events", func() bool { return len(w.events("r")) >= 2 })
	equal(t, "events", []string{
		"Normal Succeeded: Reconciliation finished, next run in 10m0s",
		fmt.Sprintf("Warning Failed: unable to read token from secret '%s/tok' error: secrets \"tok\" not found", w.ns),
	}, w.events("r"))
	equal(t, "events that left the cluster", 0, int(w.posted.Load()))

	if err := w.client.Delete(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	await(t, "the Receiver to go", func() bool {
		return apierrors.IsNotFound(w.client.Get(t.Context(), client.ObjectKeyFromObject(obj), &notificationv1.Receiver{}))
	})
	equal(t, "status of a Receiver that is gone", http.StatusNotFound, w.post(obj.Status.WebhookPath, body, signature("two")))
}

// Whoever reads that a Receiver is ready can call it, however fast.
func TestReadyMeansServed(t *testing.T) {
	w := newWorld(t)
	w.create(w.repository("app", nil), w.secret("t"))
	for n := range 20 {
		name := fmt.Sprint("r-", n)
		w.create(w.receiver(name, "generic", resource("GitRepository", "app")))
		obj := w.see(name, "the Receiver to be ready", ready)
		equal(t, name, http.StatusOK, w.post(obj.Status.WebhookPath, "", nil))
	}
}

// Recordings receiver/named-resource-missing and resource-without-api-version; receiver 14, 16, 34, 35, with more objects than one list holds.
func TestSelection(t *testing.T) {
	w := newWorld(t)
	const count = pageSize + 20
	for n := range count {
		w.create(w.repository(fmt.Sprint("app-", n), map[string]string{"team": "a", "parity": fmt.Sprint(n % 2)}))
	}
	all := resource("GitRepository", "*")
	all.MatchLabels = map[string]string{"team": "a"}
	even := all
	even.Filter = "res.metadata.labels.parity == '0' && req.ref == 'main' && !has(res.spec)"
	w.create(w.secret("t"),
		w.receiver("even", "generic", even),
		w.receiver("all", "generic", resource("GitRepository", "absent"), all),
		w.receiver("unknown", "generic", resource("Kustomization", "app"), resource("ImageRepository", "app")),
	)
	asked := func() int {
		t.Helper()
		var list sourcev1.GitRepositoryList
		if err := w.client.List(t.Context(), &list, client.InNamespace(w.ns)); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, obj := range list.Items {
			if obj.Annotations[meta.ReconcileRequestAnnotation] != "" {
				n++
			}
		}
		return n
	}
	call := func(name string) int {
		t.Helper()
		return w.post(w.see(name, "the Receiver to be ready", ready).Status.WebhookPath, `{"ref":"main"}`, nil)
	}
	// An unknown kind: one without a version, the other not installed.
	equal(t, "status of unknown kinds", http.StatusInternalServerError, call("unknown"))
	equal(t, "asked", 0, asked())
	equal(t, "status of every other one", http.StatusOK, call("even"))
	equal(t, "asked", count/2, asked())
	equal(t, "status of one that is missing, and all", http.StatusInternalServerError, call("all"))
	equal(t, "asked", count, asked())
}
