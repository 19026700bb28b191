package git

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// lab is a GitRepository with a real Git server and a real store; only the API server is not real.
type lab struct {
	*looptest.Bench
	t      *testing.T
	repo   *testkit.GitRepo
	client client.Client
	clock  *testclock.FakeClock
	// storage and temp are the directories of the store and of the runs.
	storage, temp string
	// requests counts what the Git server was asked.
	requests atomic.Int32
	// onRequest runs before the Git server answers; may be nil.
	onRequest func()
	secrets   client.Client
	store     *artifact.Store
	opener    *artifact.Opener
	url       string
	root      string // of the repositories
	// options are changed before a test opens the controller anew.
	options Options
}

func key() types.NamespacedName { return types.NamespacedName{Namespace: "apps", Name: "app"} }

// newLab starts a server of an empty repository. The secrets can be read live only.
func newLab(t *testing.T, secrets ...client.Object) *lab {
	t.Helper()
	l := &lab{t: t, clock: testclock.NewFakeClock(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)), storage: t.TempDir(), temp: t.TempDir()}
	root := t.TempDir()
	handler, err := testkit.GitHandler(root)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.requests.Add(1)
		if l.onRequest != nil {
			l.onRequest()
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	l.url, l.root = server.URL, root
	if l.repo, err = testkit.NewGitRepo(filepath.Join(root, "app.git")); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := sourcev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	l.client = fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&sourcev1.GitRepository{}).Build()
	l.secrets = fake.NewClientBuilder().WithScheme(scheme).WithObjects(secrets...).Build()
	l.open("storage.test")
	return l
}

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
	if l.opener, err = artifact.NewOpener(store, l.t.TempDir(), artifact.OpenerOptions{}); err != nil {
		l.t.Fatal(err)
	}
	l.options.TempDir, l.options.Objects, l.options.Artifacts = l.temp, l.client, l.opener
	l.Bench = looptest.New(l.t, Controller("source-controller", l.secrets, store, l.options), loop.Options{
		Client: l.client, Reader: l.client, Clock: l.clock, Concurrent: 1,
	})
}

func (l *lab) closeStore() {
	if l.store == nil {
		return
	}
	if err := errors.Join(l.opener.Close(), l.store.Close()); err != nil {
		l.t.Error(err)
	}
	l.store = nil
}

// create creates the object; its URL is the repository's unless changed.
func (l *lab) create(change ...func(*sourcev1.GitRepository)) {
	l.t.Helper()
	obj := &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: key().Namespace, Name: key().Name, Generation: 1},
		Spec: sourcev1.GitRepositorySpec{
			URL: l.url + "/app.git", Interval: meta.DurationOf(10 * time.Minute), Ref: &sourcev1.GitRepositoryRef{Branch: "main"},
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

// commit adds a commit to main.
func (l *lab) commit(message string, files map[string]string) string {
	l.t.Helper()
	c := testkit.GitCommit{Branch: "main", Message: message, Files: map[string]*testkit.GitFile{}}
	for name, content := range files {
		c.Files[name] = &testkit.GitFile{Content: content}
	}
	hash, err := l.repo.Commit(c)
	if err != nil {
		l.t.Fatal(err)
	}
	return hash
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

func (l *lab) get() *sourcev1.GitRepository {
	l.t.Helper()
	obj := &sourcev1.GitRepository{}
	if err := l.client.Get(l.t.Context(), key(), obj); err != nil {
		l.t.Fatal(err)
	}
	return obj
}

// edit changes the spec, which makes a new generation.
func (l *lab) edit(change func(*sourcev1.GitRepository)) {
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
func (l *lab) setStatus(change func(*sourcev1.GitRepositoryStatus)) {
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

// files returns what the store serves, by path.
func (l *lab) files() []string {
	l.t.Helper()
	var out []string
	root := filepath.Join(l.storage, "gitrepository")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err == nil && !e.IsDir() {
			out = append(out, strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(l.storage)+"/"))
		}
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	slices.Sort(out)
	return out
}
