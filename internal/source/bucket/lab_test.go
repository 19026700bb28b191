package bucket

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/source/bucket/buckettest"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// lab is a Bucket with a server and a real store; only the API server is not real.
type lab struct {
	*looptest.Bench
	t      *testing.T
	server *httptest.Server
	client client.Client
	clock  *testclock.FakeClock
	// storage and temp are the directories of the store and of the runs.
	storage, temp string
	// requests counts what the server was asked.
	requests atomic.Int32
	options  Options
	store    *artifact.Store
}

func key() types.NamespacedName { return types.NamespacedName{Namespace: "apps", Name: "app"} }

// newLab starts the server.
func newLab(t *testing.T, h http.Handler, o Options) *lab {
	t.Helper()
	l := &lab{t: t, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)), storage: t.TempDir(), temp: t.TempDir(), options: o}
	l.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.requests.Add(1)
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(l.server.Close)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{sourcev1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	l.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&sourcev1.Bucket{}).Build()
	l.open("storage.test")
	return l
}

// cloud stands in for the hosts of a cloud: all requests go to the lab's server, which learns the host they were for.
func (l *lab) cloud(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		there := r.Clone(r.Context())
		there.URL.Scheme, there.URL.Host = "http", l.server.Listener.Addr().String()
		there.Host = r.URL.Host
		return next.RoundTrip(there)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// open starts the controller, as after a start of the process with this advertised address.
func (l *lab) open(advertised string) {
	l.t.Helper()
	if l.store != nil {
		l.closeStore()
	}
	store, err := artifact.OpenStore(l.storage, artifact.StoreOptions{
		AdvertisedAddr: advertised, RetentionTTL: time.Minute, RetentionRecords: 2, Clock: l.clock,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.store = store
	l.t.Cleanup(l.closeStore)
	o := l.options
	o.TempDir = l.temp
	l.Bench = looptest.New(l.t, Controller("source-controller", l.client, store, o), loop.Options{
		Client: l.client, Reader: l.client, Clock: l.clock, Concurrent: 1,
	})
}

func (l *lab) closeStore() {
	if l.store == nil {
		return
	}
	if err := l.store.Close(); err != nil {
		l.t.Error(err)
	}
	l.store = nil
}

// create creates the object; it is a bucket of an S3 server unless changed.
func (l *lab) create(change ...func(*sourcev1.Bucket)) {
	l.t.Helper()
	obj := &sourcev1.Bucket{
		ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: key().Name, Generation: 1},
		Spec: sourcev1.BucketSpec{
			Provider: "generic", BucketName: buckettest.Bucket, Endpoint: l.server.Listener.Addr().String(), Insecure: true,
			Region: "us-east-1", Interval: meta.DurationOf(10 * time.Minute),
		},
	}
	obj.SetObservedGeneration(-1)
	for _, f := range change {
		f(obj)
	}
	if err := l.client.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

// keep writes a Secret.
func (l *lab) keep(name string, data map[string]string) {
	l.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: name}}
	for k, v := range data {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[k] = []byte(v)
	}
	if err := l.client.Create(l.t.Context(), s); err != nil {
		l.t.Fatal(err)
	}
}

// step runs once; the run must not fail in the eyes of the queue.
func (l *lab) step() reconcile.Result {
	l.t.Helper()
	result, err := l.Run(l.t.Context(), key())
	if err != nil {
		l.t.Fatal(err)
	}
	return result
}

// fail runs once; the run has to fail, and to be tried again. It returns the Ready condition.
func (l *lab) fail() string {
	l.t.Helper()
	if _, err := l.Run(l.t.Context(), key()); err == nil {
		l.t.Errorf("the run did not fail: %s", l.condition("Ready"))
	}
	if !status.IsTrue(l.get().Status.Conditions, "FetchFailed") {
		l.t.Errorf("FetchFailed = %s", l.condition("FetchFailed"))
	}
	l.Events()
	return l.condition("Ready")
}

func (l *lab) get() *sourcev1.Bucket {
	l.t.Helper()
	obj := &sourcev1.Bucket{}
	if err := l.client.Get(l.t.Context(), key(), obj); err != nil {
		l.t.Fatal(err)
	}
	return obj
}

// edit changes the spec, which makes a new generation.
func (l *lab) edit(change func(*sourcev1.Bucket)) {
	l.t.Helper()
	obj := l.get()
	change(obj)
	obj.Generation++
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

// request asks for a run.
func (l *lab) request(token string) {
	l.t.Helper()
	obj := l.get()
	obj.Annotations = map[string]string{meta.ReconcileRequestAnnotation: token}
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

// setStatus changes the status behind the controller's back, as another version of it might have left it.
func (l *lab) setStatus(change func(*sourcev1.BucketStatus)) {
	l.t.Helper()
	obj := l.get()
	change(&obj.Status)
	if err := l.client.Status().Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

// condition returns "Status Reason: message", "-" when there is none.
func (l *lab) condition(conditionType string) string {
	l.t.Helper()
	c := status.Find(l.get().Status.Conditions, conditionType)
	if c == nil {
		return "-"
	}
	return string(c.Status) + " " + c.Reason + ": " + c.Message
}

// stored returns the content of the artifact by path, in the order of the archive with the names of directories.
func (l *lab) stored() (order []string, content map[string]string) {
	l.t.Helper()
	f, err := os.Open(filepath.Join(l.storage, filepath.FromSlash(l.get().Status.Artifact.Path)))
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		l.t.Fatal(err)
	}
	content = map[string]string{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return order, content
		}
		if err != nil {
			l.t.Fatal(err)
		}
		order = append(order, h.Name)
		if h.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(tr)
		if err != nil {
			l.t.Fatal(err)
		}
		content[h.Name] = string(text)
	}
}

func expect(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func has(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s = %q, want %q in it", what, text, part)
		}
	}
}
