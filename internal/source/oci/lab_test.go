package oci

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/oci"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

func expect(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// lab is an OCIRepository with a real registry and a real store; only the API server is not real.
type lab struct {
	*looptest.Bench
	t       *testing.T
	client  client.Client
	clock   *testclock.FakeClock
	server  *httptest.Server
	storage string

	mu       sync.Mutex // guards what follows
	requests []string
	agents   map[string]bool
	user     string
}

func key() types.NamespacedName { return types.NamespacedName{Namespace: "apps", Name: "app"} }

// newLab starts an empty registry, and a controller with what change makes of its options.
func newLab(t *testing.T, change ...func(*Options)) *lab {
	t.Helper()
	l := &lab{t: t, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)), storage: t.TempDir(), agents: map[string]bool{}}
	behind := handler()
	l.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.requests = append(l.requests, r.Method+" "+r.URL.Path)
		l.agents[r.UserAgent()] = true
		user, _, _ := r.BasicAuth()
		denied := l.user != "" && user != l.user
		l.mu.Unlock()
		if denied {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(l.server.Close)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{sourcev1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	l.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&sourcev1.OCIRepository{}).Build()
	store, err := artifact.OpenStore(l.storage, artifact.StoreOptions{AdvertisedAddr: "storage.test", RetentionTTL: time.Minute, RetentionRecords: 2, Clock: l.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	o := Options{TempDir: t.TempDir(), Pool: oci.NewPool(&hasty{})}
	for _, f := range change {
		f(&o)
	}
	l.Bench = looptest.New(t, Controller("source-controller", l.client, store, o), loop.Options{
		Client: l.client, Reader: l.client, Clock: l.clock, Concurrent: 1,
	})
	return l
}

func (l *lab) host() string { return strings.TrimPrefix(l.server.URL, "http://") }

// push uploads an artifact with a file, and returns its name.
func (l *lab) push(tag string, layers ...testkit.Layer) name.Digest {
	l.t.Helper()
	return l.write(tag, image(l.t, map[string]string{oci.SourceAnnotation: "https://git.example.com/app", oci.RevisionAnnotation: "main@sha1:1"}, layers...))
}

func (l *lab) write(tag string, img v1.Image) name.Digest {
	l.t.Helper()
	ref, err := name.NewTag(l.host() + "/app:" + tag)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	user := l.user
	l.user = ""
	l.mu.Unlock()
	if err := remote.Write(ref, img); err != nil {
		l.t.Fatal(err)
	}
	l.protect(user)
	l.seen()
	digest, err := img.Digest()
	if err != nil {
		l.t.Fatal(err)
	}
	return ref.Context().Digest(digest.String())
}

func files(content string) testkit.Layer {
	return testkit.Layer{MediaType: oci.ContentLayer, Files: map[string]string{"app.yaml": content, "picture.png": "x"}}
}

// protect lets in this user alone.
func (l *lab) protect(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.user = user
}

// seen returns the requests since the last call, and forgets whom they came from.
func (l *lab) seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.requests
	l.requests, l.agents = nil, map[string]bool{}
	return out
}

func (l *lab) create(change ...func(*sourcev1.OCIRepository)) {
	l.t.Helper()
	obj := &sourcev1.OCIRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: key().Name, Generation: 1, UID: "uid"},
		Spec:       sourcev1.OCIRepositorySpec{URL: "oci://" + l.host() + "/app", Interval: meta.DurationOf(10 * time.Minute), Provider: "generic"},
	}
	obj.SetObservedGeneration(-1)
	for _, f := range change {
		f(obj)
	}
	if err := l.client.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) add(objs ...client.Object) {
	l.t.Helper()
	for _, obj := range objs {
		obj.SetNamespace(key().Namespace)
		if err := l.client.Create(l.t.Context(), obj); err != nil {
			l.t.Fatal(err)
		}
	}
}

func secretOf(name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}
}

// run makes one run; whether it is good, Ready tells.
func (l *lab) run() string {
	l.t.Helper()
	_, _ = l.Run(l.t.Context(), key())
	return l.condition(meta.ReadyCondition)
}

// good makes a run that has to end well.
func (l *lab) good() *meta.Artifact {
	l.t.Helper()
	if ready := l.run(); !strings.HasPrefix(ready, "True ") {
		l.t.Fatalf("Ready = %s", ready)
	}
	return l.get().Status.Artifact
}

func (l *lab) get() *sourcev1.OCIRepository {
	l.t.Helper()
	obj := &sourcev1.OCIRepository{}
	if err := l.client.Get(l.t.Context(), key(), obj); err != nil {
		l.t.Fatal(err)
	}
	return obj
}

// edit changes the spec, which makes a new generation.
func (l *lab) edit(change func(*sourcev1.OCIRepositorySpec)) {
	l.t.Helper()
	obj := l.get()
	change(&obj.Spec)
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

// condition returns "Status Reason: message", "-" when there is none. The registry's address reads HOST.
func (l *lab) condition(conditionType string) string {
	l.t.Helper()
	c := status.Find(l.get().Status.Conditions, conditionType)
	if c == nil {
		return "-"
	}
	return strings.ReplaceAll(string(c.Status)+" "+c.Reason+": "+c.Message, l.host(), "HOST")
}

// lines are the events since the last call.
func (l *lab) lines() []string {
	var out []string
	for _, line := range l.Lines() {
		out = append(out, strings.ReplaceAll(line, l.host(), "HOST"))
	}
	return out
}

// stored returns the bytes of an artifact.
func (l *lab) stored(a *meta.Artifact) string {
	l.t.Helper()
	content, err := os.ReadFile(filepath.Join(l.storage, filepath.FromSlash(a.Path)))
	if err != nil {
		l.t.Fatal(err)
	}
	return string(content)
}
