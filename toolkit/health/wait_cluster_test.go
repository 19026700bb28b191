package health

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

const group = "kustomize.toolkit.fluxcd.io"

// lab is a namespace with a watch of the owner's objects and a waiter whose reads are counted.
type lab struct {
	t       *testing.T
	ns      string
	owner   kube.Owner
	admin   dynamic.Interface
	managed *kube.Managed
	waiter  *Waiter
	reads   atomic.Int32
}

func newLab(t *testing.T) *lab {
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
	config = kube.Config(config, "health-test")
	l := &lab{t: t, ns: "health-" + rand.String(8)}
	l.owner = kube.Owner{Namespace: l.ns, Name: "app"}
	if l.admin, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	namespaces := l.admin.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	if _, err := namespaces.Create(t.Context(), object(t, "{apiVersion: v1, kind: Namespace, metadata: {name: "+l.ns+"}}"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = namespaces.Delete(context.Background(), l.ns, metav1.DeleteOptions{}) })
	watching, err := kube.NewClients(kube.ClientsOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	counted := rest.CopyConfig(config)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if strings.Contains(r.URL.Path, "/namespaces/") {
				l.reads.Add(1)
			}
			return next.RoundTrip(r)
		})
	})
	reading, err := kube.NewClients(kube.ClientsOptions{Config: counted})
	if err != nil {
		t.Fatal(err)
	}
	l.managed = kube.NewManaged(kube.ManagedOptions{Client: watching.Own(), Lens: kube.NewLens(kube.Ownership{Group: group, Manager: "test"})})
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { _ = l.managed.Run(ctx); close(stopped) }()
	t.Cleanup(func() { cancel(); <-stopped })
	l.managed.Track(l.owner, []schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "Deployment"}, {Group: "batch", Version: "v1", Kind: "Job"}, {Version: "v1", Kind: "ConfigMap"},
	})
	wait, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if err := l.managed.Sync(wait, l.owner); err != nil {
		t.Fatal(err)
	}
	l.waiter = &Waiter{Client: reading.Own(), Managed: l.managed}
	return l
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (l *lab) resource(gvk schema.GroupVersionKind) dynamic.ResourceInterface {
	return l.admin.Resource(gvk.GroupVersion().WithResource(strings.ToLower(gvk.Kind) + "s")).Namespace(l.ns)
}

// apply applies an object as the owner would, and returns the check for it.
func (l *lab) apply(text string, owned bool) Check {
	l.t.Helper()
	u := object(l.t, text)
	if owned {
		u.SetLabels(map[string]string{group + "/name": l.owner.Name, group + "/namespace": l.owner.Namespace})
	}
	out, err := l.resource(u.GroupVersionKind()).Apply(l.t.Context(), u.GetName(), u, metav1.ApplyOptions{FieldManager: "test", Force: true})
	if err != nil {
		l.t.Fatal(err)
	}
	c := Check{GroupVersionKind: u.GroupVersionKind(), Namespace: l.ns, Name: u.GetName()}
	if owned {
		c.ResourceVersion = out.GetResourceVersion()
	}
	return c
}

func deployment(name, image string) string {
	return "{apiVersion: apps/v1, kind: Deployment, metadata: {name: " + name + "}, spec: {replicas: 1, progressDeadlineSeconds: 2, selector: {matchLabels: {app: " + name +
		"}}, template: {metadata: {labels: {app: " + name + "}}, spec: {containers: [{name: m, image: '" + image + "'}]}}}}"
}

// architecture 5b.3, kustomization 86, 92: a wait for one's own objects reads nothing.
func TestWaitManaged(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	checks := []Check{l.apply(deployment("web", "example.com/web:1"), true), l.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}", true)}
	if err := l.waiter.Wait(t.Context(), l.owner, checks, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if n := l.reads.Load(); n != 0 {
		t.Errorf("%d reads", n)
	}
	t.Run("a new generation is not taken for ready by the old one's status", func(t *testing.T) {
		c := l.apply(deployment("web", "example.com/web:2"), true)
		if err := l.waiter.Wait(t.Context(), l.owner, []Check{c}, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		live, err := l.resource(c.GroupVersionKind).Get(t.Context(), c.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if v := kube.Assess(live); v.Status != kube.Current {
			t.Errorf("the wait ended with the deployment %v", v)
		}
	})
	t.Run("a deployment that is put right is not taken for failed by the deadline it had missed", func(t *testing.T) {
		c := l.apply(deployment("web", "example.com/never:1"), true)
		var e *Error
		if err := l.waiter.Wait(t.Context(), l.owner, []Check{c}, 20*time.Second); !errors.As(err, &e) || !e.Stalled {
			t.Fatalf("error: %v", err)
		}
		c = l.apply(deployment("web", "example.com/web:2"), true)
		if err := l.waiter.Wait(t.Context(), l.owner, []Check{c}, 20*time.Second); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("no checks", func(t *testing.T) {
		if err := l.waiter.Wait(t.Context(), l.owner, nil, 0); err != nil {
			t.Error(err)
		}
	})
}

// kustomization 88, 89, 92 (recordings wait-stalled-deployment-fails-early, health-checks-listed)
func TestWaitFails(t *testing.T) {
	t.Parallel()
	never := func(l *lab) Check { return l.apply(deployment("stuck", "example.com/never:1"), true) }
	t.Run("early, when an object stalls", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		c := never(l)
		ok := l.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}", true)
		absent := Check{GroupVersionKind: c.GroupVersionKind, Namespace: l.ns, Name: "absent"}
		err := l.waiter.Wait(t.Context(), l.owner, []Check{ok, absent, c}, time.Minute)
		if want := "failed early due to stalled resources: [Deployment/" + l.ns + "/stuck status: 'Failed']: Progress deadline exceeded; "; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error: %v\nwant:  %s", err, want)
		}
		var e *Error
		if !errors.As(err, &e) || !e.Stalled {
			t.Errorf("error: %#v", err)
		}
		l.waiter.KeepWaiting = true
		err = l.waiter.Wait(t.Context(), l.owner, []Check{absent, c}, time.Millisecond)
		if want := "timeout waiting for: [Deployment/" + l.ns + "/absent status: 'NotFound', Deployment/" + l.ns + "/stuck status: 'Failed']: Deployment/" + l.ns + "/stuck: Progress deadline exceeded; "; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("with fail-fast off: %v\nwant: %s", err, want)
		}
		if err = l.waiter.Wait(t.Context(), l.owner, []Check{ok, c}, time.Minute); err == nil || !strings.HasPrefix(err.Error(), "failed early due to stalled resources") {
			t.Errorf("with fail-fast off and all ended: %v", err)
		}
	})
	t.Run("when its time is over", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		c := l.apply("{apiVersion: batch/v1, kind: Job, metadata: {name: j}, spec: {manualSelector: true, selector: {matchLabels: {a: b}}, managedBy: example.com/nobody, template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, containers: [{name: m, image: 'example.com/x:1'}]}}}}", true)
		absent := Check{GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, Namespace: l.ns, Name: "absent"}
		gone := Check{GroupVersionKind: schema.GroupVersionKind{Group: "gone.example.com", Version: "v1", Kind: "Widget"}, Name: "w"}
		err := l.waiter.Wait(t.Context(), l.owner, []Check{absent, c, gone}, 300*time.Millisecond)
		want := "timeout waiting for: [Deployment/" + l.ns + "/absent status: 'NotFound', Job/" + l.ns + "/j status: 'InProgress', Widget/w status: 'NotFound']: Job/" + l.ns + "/j: Job is not complete"
		if err == nil || err.Error() != want {
			t.Errorf("error: %v\nwant:  %s", err, want)
		}
	})
	t.Run("at once, when it is interrupted", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		stop := errors.New("a newer event")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(50*time.Millisecond, func() { cancel(stop) })
		if err := l.waiter.Wait(ctx, l.owner, []Check{never(l), {GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Namespace: l.ns, Name: "absent"}}, time.Hour); !errors.Is(err, stop) {
			t.Errorf("error: %v", err)
		}
	})
}

// kustomization 86, 90, 91: what no watch shows is read by name, under the owner's identity.
func TestWaitLive(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.waiter.Poll = 100 * time.Millisecond
	t.Run("a foreign object", func(t *testing.T) {
		c := l.apply(deployment("foreign", "example.com/web:1"), false)
		if err := l.waiter.Wait(t.Context(), l.owner, []Check{c}, 20*time.Second); err != nil || l.reads.Swap(0) == 0 {
			t.Error(err)
		}
	})
	t.Run("an object that appears later", func(t *testing.T) {
		c := Check{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, Namespace: l.ns, Name: "later"}
		time.AfterFunc(200*time.Millisecond, func() { l.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: later}}", false) })
		if err := l.waiter.Wait(t.Context(), l.owner, []Check{c}, 20*time.Second); err != nil {
			t.Error(err)
		}
	})
	t.Run("an expression is evaluated when the watch has news", func(t *testing.T) {
		e, err := NewEvaluator([]Expressions{{APIVersion: "v1", Kind: "ConfigMap", Current: "data.ready == 'yes'"}})
		if err != nil {
			t.Fatal(err)
		}
		w := *l.waiter
		w.Evaluator, w.Poll = e, time.Hour
		c := l.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: custom}, data: {ready: 'no'}}", true)
		time.AfterFunc(200*time.Millisecond, func() {
			l.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: custom}, data: {ready: 'yes'}}", true)
		})
		if err := w.Wait(t.Context(), l.owner, []Check{c}, 20*time.Second); err != nil {
			t.Error(err)
		}
	})
	t.Run("a job that deletes itself when done", func(t *testing.T) {
		c := l.apply("{apiVersion: batch/v1, kind: Job, metadata: {name: ttl}, spec: {ttlSecondsAfterFinished: 0, managedBy: example.com/nobody, template: {spec: {restartPolicy: Never, containers: [{name: m, image: 'example.com/x:1'}]}}}}", true)
		c.MayVanish = true
		time.AfterFunc(200*time.Millisecond, func() {
			policy := metav1.DeletePropagationBackground
			_ = l.resource(c.GroupVersionKind).Delete(context.Background(), c.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
		})
		w := *l.waiter
		w.Poll = time.Hour
		if err := w.Wait(t.Context(), l.owner, []Check{c}, 20*time.Second); err != nil {
			t.Error(err)
		}
		c.MayVanish = false
		if err := w.Wait(t.Context(), l.owner, []Check{c}, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), "'NotFound'") {
			t.Errorf("one that should stay: %v", err)
		}
	})
	t.Run("without a watch", func(t *testing.T) {
		w := *l.waiter
		w.Managed = nil
		c := l.apply(deployment("polled", "example.com/web:1"), true)
		if err := w.Wait(t.Context(), l.owner, []Check{c}, 20*time.Second); err != nil {
			t.Error(err)
		}
	})
	t.Run("somebody else's object is not vouched for by our watch", func(t *testing.T) {
		c := l.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: theirs}}", true)
		c.ResourceVersion = ""
		l.reads.Store(0)
		other := kube.Owner{Namespace: "elsewhere", Name: "app"}
		if err := l.waiter.Wait(t.Context(), other, []Check{c}, 20*time.Second); err != nil || l.reads.Load() == 0 {
			t.Errorf("%v, %d reads", err, l.reads.Load())
		}
	})
}
