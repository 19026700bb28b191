package sourcetest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
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
	"github.com/seed-79636ae9/flux/internal/source/frame"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// Secret is the name of the Secret that holds the login and the certificate authority.
const Secret = "credentials"

// canary is a password that must show nowhere.
const canary = "c4nary-Passw0rd-that-nobody-may-see"

// Upstream is a healthy server of the kind.
type Upstream interface {
	http.Handler
	// Publish makes files the content of the source, as a new revision.
	Publish(t testing.TB, files map[string]string)
}

// Protector is an Upstream with a login of its own; the suite puts HTTP Basic in front of all others.
type Protector interface {
	// Protect asks for these credentials from now on; none when user is empty.
	Protect(user, password string)
}

// Config is what the object under test has to look like.
type Config struct {
	// Host is host:port of the server, TLS whether it speaks it.
	Host string
	TLS  bool
	// Secret is set when the login and the authority are in the Secret of this name, which is also where the kind's
	// reference to certificates may point; else no Secret exists.
	Secret string
}

// Environment is what a controller under test is made of.
type Environment struct {
	// Client reads and writes all objects, Secrets too.
	Client  client.Client
	Store   *artifact.Store
	TempDir string
}

// Subject is a source kind under test.
type Subject[O frame.Object] struct {
	// New returns an empty object.
	New func() O
	// Controller returns the kind's controller.
	Controller func(t testing.TB, e Environment) *loop.Controller[O]
	// Upstream returns a server.
	Upstream func(t testing.TB) Upstream
	// Configure sets the spec of an object.
	Configure func(obj O, c Config)
	// Around returns further objects the kind needs, such as the HelmRepository of a HelmChart; nil: none.
	Around func(c Config) []client.Object
	// Login is the data of a Secret with the credentials for a server.
	Login func(c Config, user, password string) map[string][]byte
	// Suspend and SetTimeout set fields of the spec. A nil SetTimeout: the kind has no timeout of its own, and the case is
	// about the controller's limit.
	Suspend    func(obj O, suspend bool)
	SetTimeout func(obj O, d time.Duration)
	// Unchanged is how many requests an interval without news may cost.
	Unchanged int
	// Hostile are servers of malicious content, by what they do; a run against one has to fail, or to store nothing of
	// what they try.
	Hostile map[string]func(t testing.TB) http.Handler
}

// Run runs the suite.
func Run[O frame.Object](t *testing.T, s Subject[O]) {
	for _, c := range []struct {
		name string
		run  func(*lab[O])
	}{
		{"no-op", noOp[O]}, {"new revision", newRevision[O]}, {"authentication fails", authenticationFails[O]},
		{"secret rotated", secretRotated[O]}, {"TLS", tlsFails[O]}, {"timeout", timesOut[O]}, {"half a response", halfResponse[O]},
		{"throttled", throttled[O]}, {"server error", serverError[O]}, {"server gone", serverGone[O]}, {"suspended", suspended[O]},
		{"deleted", deleted[O]}, {"storage lost", storageLost[O]}, {"storage corrupted", storageCorrupted[O]},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newLab(t, s)) })
	}
	t.Run("disk full", func(t *testing.T) { diskFull(t, s) })
	for name, handler := range s.Hostile {
		t.Run("hostile/"+name, func(t *testing.T) { hostile(newLab(t, s), handler(t)) })
	}
}

// lab is one object, its controller and its server. Only the API server is not real.
type lab[O frame.Object] struct {
	*looptest.Bench
	t        *testing.T
	subject  Subject[O]
	upstream Upstream
	front    *front
	client   client.Client
	clock    *testclock.FakeClock
	// outside holds everything the controller may write to, so that what lies beside is seen.
	outside, storage, temp string
	config                 Config
}

func key() types.NamespacedName { return types.NamespacedName{Namespace: "apps", Name: "app"} }

func newLab[O frame.Object](t *testing.T, s Subject[O]) *lab[O] {
	t.Helper()
	outside := t.TempDir()
	return newLabIn(t, s, outside, filepath.Join(outside, "storage"))
}

func newLabIn[O frame.Object](t *testing.T, s Subject[O], outside, storage string) *lab[O] {
	t.Helper()
	l := &lab[O]{
		t: t, subject: s, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)),
		outside: outside, storage: storage, temp: filepath.Join(outside, "temp"), upstream: s.Upstream(t),
	}
	for _, dir := range []string{l.storage, l.temp} {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{sourcev1.AddToScheme, corev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	l.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(s.New()).Build()
	store, err := artifact.OpenStore(l.storage, artifact.StoreOptions{AdvertisedAddr: "storage.test", RetentionTTL: time.Minute, RetentionRecords: 2, Clock: l.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	c := s.Controller(t, Environment{Client: l.client, Store: store, TempDir: l.temp})
	l.Bench = looptest.New(t, c, loop.Options{Client: l.client, Reader: l.client, Clock: l.clock, Concurrent: 1})
	l.serve(l.upstream, nil)
	return l
}

// serve puts a server in place; the object is pointed at it when it is created.
func (l *lab[O]) serve(h http.Handler, ca *testkit.CA) {
	l.t.Helper()
	if l.front != nil {
		l.front.close()
	}
	l.front = newFront(l.t, h, ca)
	l.config = Config{Host: l.front.server.Listener.Addr().String(), TLS: ca != nil}
}

// login makes the server ask for credentials.
func (l *lab[O]) protect(user, password string) {
	if p, ok := l.upstream.(Protector); ok {
		p.Protect(user, password)
		return
	}
	l.front.protect(user, password)
}

// keep writes the Secret with the login and the authority.
func (l *lab[O]) keep(user, password string, ca []byte) {
	l.t.Helper()
	data := map[string][]byte{}
	if user != "" {
		data = l.subject.Login(l.config, user, password)
	}
	if ca != nil {
		data["ca.crt"] = ca
	}
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: Secret}, Data: data}
	err := l.client.Create(l.t.Context(), s)
	if err != nil {
		s.ResourceVersion = ""
		err = l.client.Update(l.t.Context(), s)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.config.Secret = Secret
}

// create creates the object for the server in place.
func (l *lab[O]) create(change ...func(O)) {
	l.t.Helper()
	if l.subject.Around != nil {
		for _, obj := range l.subject.Around(l.config) {
			obj.SetNamespace(key().Namespace)
			if err := l.client.Create(l.t.Context(), obj); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	obj := l.subject.New()
	obj.SetNamespace(key().Namespace)
	obj.SetName(key().Name)
	obj.SetUID("uid-of-the-object")
	obj.SetGeneration(1)
	l.subject.Configure(obj, l.config)
	obj.SetObservedGeneration(-1)
	for _, f := range change {
		f(obj)
	}
	if err := l.client.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

// reconfigure points the object, and what it needs, at the server and the Secret in place.
func (l *lab[O]) reconfigure() {
	l.t.Helper()
	if l.subject.Around != nil {
		for _, obj := range l.subject.Around(l.config) {
			obj.SetNamespace(key().Namespace)
			live := obj.DeepCopyObject().(client.Object)
			if err := l.client.Get(l.t.Context(), client.ObjectKeyFromObject(obj), live); err != nil {
				l.t.Fatal(err)
			}
			obj.SetResourceVersion(live.GetResourceVersion())
			if err := l.client.Update(l.t.Context(), obj); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	l.edit(func(obj O) { l.subject.Configure(obj, l.config) })
}

// edit changes the object as a user would.
func (l *lab[O]) edit(f func(O)) {
	l.t.Helper()
	obj := l.get()
	f(obj)
	obj.SetGeneration(obj.GetGeneration() + 1)
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab[O]) get() O {
	l.t.Helper()
	obj := l.subject.New()
	if err := l.client.Get(l.t.Context(), key(), obj); err != nil {
		l.t.Fatal(err)
	}
	return obj
}

// step makes one request.
func (l *lab[O]) step() (reconcile.Result, error) {
	return l.Run(l.t.Context(), key())
}

// good makes one request that has to end well, and returns the artifact.
func (l *lab[O]) good() meta.Artifact {
	l.t.Helper()
	if _, err := l.step(); err != nil {
		l.t.Fatalf("the run failed: %v", err)
	}
	obj := l.get()
	if !status.IsTrue(obj.GetConditions(), meta.ReadyCondition) {
		l.t.Fatalf("not ready:\n%s", describe(obj.GetConditions()))
	}
	if obj.GetArtifact() == nil {
		l.t.Fatal("ready without an artifact")
	}
	if !status.IsTrue(obj.GetConditions(), sourcev1.ArtifactInStorageCondition) {
		l.t.Errorf("an artifact without the condition that says so:\n%s", describe(obj.GetConditions()))
	}
	return *obj.GetArtifact()
}

// bad makes one request that has to fail with a reason and a message, and returns the Ready condition. What was stored
// before stays.
func (l *lab[O]) bad() metav1.Condition {
	l.t.Helper()
	before := l.get().GetArtifact().DeepCopy()
	if _, err := l.step(); err != nil && strings.Contains(err.Error(), canary) {
		l.t.Errorf("the password is in the error: %v", err)
	}
	obj := l.get()
	ready := status.Find(obj.GetConditions(), meta.ReadyCondition)
	if ready == nil || ready.Status != metav1.ConditionFalse || ready.Reason == "" || ready.Message == "" {
		l.t.Fatalf("want Ready=False with a reason and a message:\n%s", describe(obj.GetConditions()))
	}
	if diff := cmp.Diff(before, obj.GetArtifact()); diff != "" {
		l.t.Errorf("a failure touched the artifact (-before +after):\n%s", diff)
	}
	for _, line := range l.Lines() {
		if strings.Contains(line, canary) {
			l.t.Errorf("the password is in an event: %s", line)
		}
	}
	if text := describe(obj.GetConditions()); strings.Contains(text, canary) {
		l.t.Errorf("the password is in a condition:\n%s", text)
	}
	return *ready
}

func describe(conditions []metav1.Condition) string {
	var b strings.Builder
	for _, c := range conditions {
		fmt.Fprintf(&b, "%s=%s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
	}
	return b.String()
}

// leftovers complains about what a run left in its temporary directory, or beside the directories it may use.
func (l *lab[O]) leftovers() {
	l.t.Helper()
	for dir, allowed := range map[string][]string{l.temp: nil, l.outside: {"storage", "temp"}} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			l.t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if diff := cmp.Diff(allowed, names); diff != "" {
			l.t.Errorf("in %s (-allowed +there):\n%s", dir, diff)
		}
	}
}
