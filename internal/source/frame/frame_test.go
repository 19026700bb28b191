package frame

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// world is what the upstreams of a lab see.
type world struct {
	mu       sync.Mutex
	revision string
	trust    string
	refuse   bool
	// swap is what a fetch brings instead of the revision that was observed.
	swap  string
	calls []string
	// hang, for a host, is what a look at it waits for.
	hang map[string]chan struct{}
	// arrived tells that a look at a hanging host has begun.
	arrived chan string
}

func (w *world) note(call string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call)
}

func (w *world) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.calls
	w.calls = nil
	return out
}

// fakeKind is a kind whose upstream is a world; spec.url names the host.
type fakeKind struct {
	world *world
	early bool
}

func (k *fakeKind) Connect(_ context.Context, obj *sourcev1.OCIRepository, run *loop.Run) (Upstream[*sourcev1.OCIRepository], error) {
	u := &fakeUpstream{world: k.world, run: run, host: strings.TrimPrefix(obj.Spec.URL, "oci://")}
	if k.early {
		return &fakeProver{u}, nil
	}
	return u, nil
}

type fakeUpstream struct {
	world *world
	run   *loop.Run
	host  string
}

func (u *fakeUpstream) Settled(obj *sourcev1.OCIRepository) bool {
	return obj.Status.ObservedIgnore == nil
}
func (u *fakeUpstream) Settle(*sourcev1.OCIRepository) {}
func (u *fakeUpstream) Close()                         {}
func (u *fakeUpstream) Host() string                   { return u.host }
func (u *fakeUpstream) Trust() string                  { return u.world.trust }

func (u *fakeUpstream) Observe(ctx context.Context) (string, error) {
	u.world.note("observe")
	if hang := u.world.hang[u.host]; hang != nil {
		u.world.arrived <- u.host
		select {
		case <-hang:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
	return u.world.revision, nil
}

func (u *fakeUpstream) verify() error {
	if u.world.refuse {
		err := errors.New("bad signature")
		u.run.Set(sourcev1.SourceVerifiedCondition, metav1.ConditionFalse, sourcev1.VerificationErrorReason, "%v", err)
		return loop.Fail(sourcev1.VerificationErrorReason, err)
	}
	u.run.Set(sourcev1.SourceVerifiedCondition, metav1.ConditionTrue, meta.SucceededReason, "verified by %s", u.world.trust)
	return nil
}

func (u *fakeUpstream) content() *Content {
	revision := u.world.revision
	if u.world.swap != "" {
		revision = u.world.swap
	}
	return &Content{Revision: revision, File: revision + ".tar.gz", Write: func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, revision)
		return err
	}}
}

func (u *fakeUpstream) Fetch(context.Context, string) (*Content, error) {
	u.world.note("fetch")
	if u.world.trust != "" {
		if err := u.verify(); err != nil {
			return nil, err
		}
	}
	return u.content(), nil
}

// fakeProver checks signatures before it fetches.
type fakeProver struct{ *fakeUpstream }

func (p *fakeProver) Prove(_ context.Context, revision string) error {
	p.world.note("prove " + revision)
	return p.verify()
}

func (p *fakeProver) Fetch(context.Context, string) (*Content, error) {
	p.world.note("fetch")
	return p.content(), nil
}

type lab struct {
	*looptest.Bench
	t          *testing.T
	world      *world
	client     client.Client
	clock      *testclock.FakeClock
	store      *artifact.Store
	reconciler *Reconciler[*sourcev1.OCIRepository]
}

func newLab(t *testing.T, early bool) *lab {
	t.Helper()
	l := &lab{t: t, world: &world{revision: "r1", arrived: make(chan string, 10)}, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
	scheme := runtime.NewScheme()
	if err := sourcev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	l.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&sourcev1.OCIRepository{}).Build()
	store, err := artifact.OpenStore(t.TempDir(), artifact.StoreOptions{AdvertisedAddr: "storage.test", Clock: l.clock})
	if err != nil {
		t.Fatal(err)
	}
	l.store = store
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	l.reconciler = &Reconciler[*sourcev1.OCIRepository]{
		Kind: sourcev1.OCIRepositoryKind, Alias: "latest.tar.gz", Store: store, TempDir: t.TempDir(), Hosts: NewHosts(l.clock),
		Source: &fakeKind{world: l.world, early: early},
		Words: Words[*sourcev1.OCIRepository]{
			Outdated: func(_ *sourcev1.OCIRepository, revision string) string { return "new revision " + revision },
			Stored: func(o *sourcev1.OCIRepository) (string, string) {
				return "", "stored " + o.Status.Artifact.Revision
			},
			News: func(o *sourcev1.OCIRepository) string { return "news of " + o.Status.Artifact.Revision },
		},
	}
	l.Bench = looptest.New(t, &loop.Controller[*sourcev1.OCIRepository]{
		Name: "source-controller", Kind: sourcev1.OCIRepositoryKind, New: func() *sourcev1.OCIRepository { return &sourcev1.OCIRepository{} },
		Reconciler: l.reconciler, Conditions: Conditions(nil, []string{sourcev1.SourceVerifiedCondition}), FailReason: "Failed", Policy: Policy(),
	}, loop.Options{Client: l.client, Reader: l.client, Clock: l.clock, Concurrent: 1, MaxParked: 10})
	return l
}

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "apps", Name: name}
}

func (l *lab) create(name, host string) {
	l.t.Helper()
	obj := &sourcev1.OCIRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name, Generation: 1, UID: types.UID(name)},
		Spec:       sourcev1.OCIRepositorySpec{URL: "oci://" + host, Interval: meta.DurationOf(time.Minute)},
	}
	obj.SetObservedGeneration(-1)
	if err := l.client.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) get(name string) *sourcev1.OCIRepository {
	l.t.Helper()
	var obj sourcev1.OCIRepository
	if err := l.client.Get(l.t.Context(), key(name), &obj); err != nil {
		l.t.Fatal(err)
	}
	return &obj
}

// ready is the Ready condition as "status reason: message".
func (l *lab) ready(name string) string {
	l.t.Helper()
	c := status.Find(l.get(name).Status.Conditions, meta.ReadyCondition)
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
}

func expect(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// _common 30; reliability 066: a signature is checked anew whenever the trust changes, also that of the revision which is stored.
func TestTrust(t *testing.T) {
	for _, test := range []struct {
		name  string
		early bool
		// first, same, changed and refused are the calls of the runs of the story.
		first, same, changed, refused []string
	}{
		{"before the fetch", true,
			[]string{"observe", "prove r1", "fetch"}, []string{"observe"}, []string{"observe", "prove r1"}, []string{"observe", "prove r1"}},
		{"with the fetch", false,
			[]string{"fetch"}, []string{"observe"}, []string{"fetch"}, []string{"fetch"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t, test.early)
			run := func(what string, want []string) {
				t.Helper()
				// A verdict that fails is the queue's to retry; what the run did is what matters here.
				_, _ = l.Run(t.Context(), key("app"))
				expect(t, what, want, l.world.take())
			}
			l.create("app", "a.test")
			l.world.trust = "key one"
			run("the first run", test.first)
			run("the same trust", test.same)
			expect(t, "Ready", "True Succeeded: stored r1", l.ready("app"))

			l.world.trust = "key two"
			run("another trust", test.changed)
			run("the same trust again", test.same)

			l.world.trust, l.world.refuse = "key three", true
			run("a trust that refuses", test.refused)
			expect(t, "Ready", "False VerificationError: bad signature", l.ready("app"))
			if l.get("app").Status.Artifact == nil {
				t.Error("a refused signature removed the artifact")
			}
			// What was refused is asked for again until it is accepted.
			run("refused again", test.refused)
			l.world.trust, l.world.refuse = "key two", false
			run("an old trust again", test.refused)
			expect(t, "Ready", "True Succeeded: stored r1", l.ready("app"))

			l.world.trust = ""
			run("no trust", []string{"observe"})
		})
	}
}

// What was checked is what is stored: content of another revision than the checked one is refused.
func TestProvenRevision(t *testing.T) {
	l := newLab(t, true)
	l.create("app", "a.test")
	l.world.trust, l.world.swap = "key", "r2"
	_, _ = l.Run(t.Context(), key("app"))
	if l.get("app").Status.Artifact != nil {
		t.Error("content of a revision that nobody checked was stored")
	}
	expect(t, "Ready", "False VerificationError: the revision changed from 'r1' to 'r2' between the look and the fetch", l.ready("app"))
}

// ocirepository 4, 5; helmrepository 8, 19: the fixed name of the latest artifact is told while there is one.
func TestAlias(t *testing.T) {
	l := newLab(t, false)
	l.create("app", "a.test")
	for _, revision := range []string{"r1", "r2"} {
		l.world.revision = revision
		if _, err := l.Run(t.Context(), key("app")); err != nil {
			t.Fatal(err)
		}
		expect(t, "status.url", "http://storage.test/ocirepository/apps/app/latest.tar.gz", l.get("app").Status.URL)
		answer := httptest.NewRecorder()
		l.store.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/ocirepository/apps/app/latest.tar.gz", nil))
		expect(t, "what the fixed name serves", revision, answer.Body.String())
	}
	expect(t, "events", []string{"info NewArtifact: news of r1", "info NewArtifact: news of r2"}, l.Lines())

	if err := l.store.Remove(l.get("app").Status.Artifact); err != nil {
		t.Fatal(err)
	}
	l.world.hang = map[string]chan struct{}{}
	l.world.refuse, l.world.trust = true, "key"
	_, _ = l.Run(t.Context(), key("app"))
	expect(t, "status.url of a lost artifact that cannot be fetched", "", l.get("app").Status.URL)
}

// reliability 069: a server that hangs costs its own sources time, and the others nothing, with a single work slot.
func TestHangingServer(t *testing.T) {
	l := newLab(t, true)
	release := make(chan struct{})
	l.world.hang = map[string]chan struct{}{"hangs.test": release}
	var names []string
	for i := range 4 {
		names = append(names, fmt.Sprintf("hanging-%d", i))
		l.create(names[i], "hangs.test")
	}
	l.create("healthy", "well.test")

	var wg sync.WaitGroup
	start := func(name string) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if _, err := l.Run(t.Context(), key(name)); err != nil {
				t.Error(err)
			}
		}()
		<-l.world.arrived
	}
	// The first one holds the only slot until its patience is lost ...
	start(names[0])
	l.clock.Step(patience)
	// ... the further ones begin without a slot.
	for _, name := range names[1:] {
		start(name)
	}
	if _, err := l.Run(t.Context(), key("healthy")); err != nil {
		t.Fatal(err)
	}
	expect(t, "Ready", "True Succeeded: stored r1", l.ready("healthy"))

	close(release)
	wg.Wait()
	for _, name := range names {
		expect(t, "Ready of "+name, "True Succeeded: stored r1", l.ready(name))
	}
	if len(l.reconciler.Hosts.slow) != 0 {
		t.Error("a server is remembered as slow after the last of its calls")
	}
}

// The more servers hang, the sooner the next one loses its work slot: a hundred of them hold it for sixteen seconds, not
// for five minutes (reliability 069).
func TestManyHangingServers(t *testing.T) {
	h := NewHosts(nil)
	var sum time.Duration
	for i := range 100 {
		sum += h.patience()
		h.enter(fmt.Sprintf("hangs-%d.test", i), true)
	}
	if limit := 16 * time.Second; sum > limit {
		t.Errorf("a hundred servers that hang hold a slot for %s, want at most %s", sum, limit)
	}
	for i := range 100 {
		h.leave(fmt.Sprintf("hangs-%d.test", i))
	}
	if got := h.patience(); got != patience {
		t.Errorf("with no slow server left the patience is %s, want %s", got, patience)
	}
}

// A panic beside the run's own goroutine reaches the loop, which contains it (reliability 101).
func TestPanicOfACall(t *testing.T) {
	defer func() {
		if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "on purpose\n") {
			t.Errorf("recovered %q", p)
		}
	}()
	_ = NewHosts(nil).call(t.Context(), nil, "a.test", func(context.Context) error { panic("on purpose") })
	t.Error("the panic is lost")
}
