package receiver

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/notify/receiver/receivertest"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

const testNamespace = "apps"

// lab is a Server over HTTP with a controller that runs when told; only the API server is not real.
type lab struct {
	*looptest.Bench
	t      *testing.T
	client client.WithWatch
	server *Server
	http   *httptest.Server
	clock  *testclock.FakeClock
	logs   *lines

	mu sync.Mutex // guards refuse
	// refuse answers requests in place of the API server; may be nil.
	refuse func(verb string, obj client.Object) error
}

// lines is a log that tests read.
type lines struct {
	mu  sync.Mutex // guards all
	all []string
}

func (l *lines) add(prefix, args string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, prefix+" "+args)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

func newLab(t *testing.T, o Options, objects ...client.Object) *lab {
	t.Helper()
	l := &lab{t: t, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)), logs: &lines{}}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, notificationv1.AddToScheme, sourcev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	l.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&notificationv1.Receiver{}).WithObjects(objects...).Build()
	seen := l.intercepted()
	o.Log = funcr.New(l.logs.add, funcr.Options{})
	l.server = New(o)
	l.server.backend.Store(&backend{client: seen, reader: seen, synced: func() bool { return true }})
	l.Bench = looptest.New(t, l.server.controller(seen, nil), loop.Options{Client: l.client, Reader: l.client, Clock: l.clock, Concurrent: 1})
	l.http = httptest.NewUnstartedServer(nil)
	l.http.Config = HTTPServer(l.server)
	l.http.Config.ReadTimeout = receivertest.ReadTimeout
	l.http.Start()
	t.Cleanup(l.http.Close)
	return l
}

// intercepted is the client of the Server.
func (l *lab) intercepted() client.Client {
	ask := func(verb string, obj client.Object) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.refuse != nil {
			return l.refuse(verb, obj)
		}
		return nil
	}
	return interceptor.NewClient(l.client, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, o ...client.GetOption) error {
			if err := ask("get", obj); err != nil {
				return err
			}
			return c.Get(ctx, key, obj, o...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, o ...client.PatchOption) error {
			if err := ask("patch", obj); err != nil {
				return err
			}
			return c.Patch(ctx, obj, p, o...)
		},
	})
}

func (l *lab) refusing(refuse func(verb string, obj client.Object) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = refuse
}

func key() types.NamespacedName { return types.NamespacedName{Namespace: testNamespace, Name: "r"} }

// receiverOf returns a Receiver "r" whose Secret is "tok" and whose resource is the GitRepository "app".
func receiverOf(kind string, change ...func(*notificationv1.Receiver)) *notificationv1.Receiver {
	obj := &notificationv1.Receiver{ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "r", UID: "uid-r", Generation: 1}}
	obj.Spec.Type = kind
	obj.Spec.SecretRef = &meta.LocalObjectReference{Name: "tok"}
	obj.Spec.Resources = []notificationv1.ReceiverResource{resource("GitRepository", "app")}
	obj.Status.ObservedGeneration = -1
	for _, f := range change {
		f(obj)
	}
	return obj
}

func resource(kind, name string) notificationv1.ReceiverResource {
	return notificationv1.ReceiverResource{ObjectSelector: notificationv1.ObjectSelector{Kind: kind, Name: name}}
}

func token(value string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: "tok"}, Data: map[string][]byte{"token": []byte(value)}}
}

func repository(namespace, name string, labels map[string]string) *sourcev1.GitRepository {
	return &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}}
}

// step runs the controller once and lets the index see what the cache would show.
func (l *lab) step() (reconcile.Result, error) {
	l.t.Helper()
	result, err := l.Run(l.t.Context(), key())
	l.see()
	return result, err
}

// see lets the index see what the cache would show.
func (l *lab) see() {
	l.t.Helper()
	var all notificationv1.ReceiverList
	if err := l.client.List(l.t.Context(), &all); err != nil {
		l.t.Fatal(err)
	}
	for i := range all.Items {
		l.server.index.observe(&all.Items[i])
	}
}

// settle runs the controller until a run goes well.
func (l *lab) settle() *notificationv1.Receiver {
	l.t.Helper()
	if _, err := l.step(); err != nil {
		l.t.Fatal(err)
	}
	obj := l.get()
	if !status.IsTrue(obj.Status.Conditions, meta.ReadyCondition) {
		l.t.Fatalf("not ready: %+v", obj.Status)
	}
	return obj
}

func (l *lab) get() *notificationv1.Receiver {
	l.t.Helper()
	obj := &notificationv1.Receiver{}
	if err := l.client.Get(l.t.Context(), key(), obj); err != nil {
		l.t.Fatal(err)
	}
	return obj
}

// edit changes the spec as a user does.
func (l *lab) edit(change func(*notificationv1.Receiver)) {
	l.t.Helper()
	obj := l.get()
	change(obj)
	obj.Generation++
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
	l.see()
}

// asked is the request that a GitRepository carries.
func (l *lab) asked(namespace, name string) string {
	l.t.Helper()
	obj := &sourcev1.GitRepository{}
	if err := l.client.Get(l.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, obj); err != nil {
		l.t.Fatal(err)
	}
	return obj.Annotations[meta.ReconcileRequestAnnotation]
}

// URL implements receivertest.Served.
func (l *lab) URL() string { return l.http.URL + l.get().Status.WebhookPath }

// Asked implements receivertest.Served.
func (l *lab) Asked() string { return l.asked(testNamespace, "app") }

// Logs implements receivertest.Served.
func (l *lab) Logs() string { return l.logs.String() }

// serve implements receivertest.Start.
func serve(t *testing.T, spec notificationv1.ReceiverSpec, secret map[string][]byte) receivertest.Served {
	t.Helper()
	return serveWith(t, spec, secret, nil)
}

func serveWith(t *testing.T, spec notificationv1.ReceiverSpec, secret map[string][]byte, keys *issuers) *lab {
	t.Helper()
	s := token("")
	s.Data = secret
	r := receiverOf(spec.Type, func(r *notificationv1.Receiver) {
		if len(spec.OIDCProviders) == 0 {
			spec.SecretRef = r.Spec.SecretRef
		}
		r.Spec = spec
	})
	l := newLab(t, Options{}, s, r, repository(testNamespace, "app", nil))
	if keys != nil {
		l.server.issuers = keys
	}
	l.settle()
	return l
}

// post makes a call and returns the status.
func (l *lab) post(header http.Header, body string) int {
	l.t.Helper()
	return l.postTo(l.URL(), header, body)
}

func (l *lab) postTo(address string, header http.Header, body string) int {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil {
		l.t.Error(err)
	}
	return answer.StatusCode
}
