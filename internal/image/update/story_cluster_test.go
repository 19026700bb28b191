package update

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// quiet forgets events: the stories look at Git and at statuses.
type quiet struct{}

func (quiet) Emit(client.Object, event.Event) {}

// world is a namespace of a real API server, a Git server over HTTP and SSH, and a running controller.
type world struct {
	t      *testing.T
	ns     string
	client client.Client
	repo   *testkit.GitRepo
	http   *testkit.GitServer
	ssh    *testkit.GitSSHServer
	scheme *runtime.Scheme
	start  func() (stop func())
}

func newWorld(t *testing.T) *world {
	t.Helper()
	config := kube.Config(testkit.Cluster(t), "update-test")
	testkit.InstallCRDs(t, config)
	w := &world{t: t, ns: testkit.Namespace(t, config), scheme: runtime.NewScheme()}
	w.check(errors.Join(sourcev1.AddToScheme(w.scheme), imagev1.AddToScheme(w.scheme), corev1.AddToScheme(w.scheme)))
	var err error
	w.client, err = client.New(config, client.Options{Scheme: w.scheme})
	w.check(err)
	root := t.TempDir()
	w.http, err = testkit.NewGitServer(root, nil)
	w.check(err)
	t.Cleanup(w.http.Close)
	w.ssh, err = testkit.NewGitSSHServer(root, testkit.SSHServerOptions{})
	w.check(err)
	t.Cleanup(w.ssh.Close)
	w.repo, err = w.http.Repo("app")
	w.check(err)
	w.start = func() func() {
		m, err := ctrl.NewManager(config, ctrl.Options{
			Scheme: w.scheme, Cache: cache.Options{DefaultNamespaces: map[string]cache.Config{w.ns: {}}},
			Metrics: metricsserver.Options{BindAddress: "0"}, Controller: ctrlConfig(),
			Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
		})
		w.check(err)
		a := New(Options{Objects: m.GetClient(), Reader: m.GetAPIReader(), ForcePushBranch: true, AllBranchReferences: true, TempDir: t.TempDir()})
		_, err = a.Controller("image-automation-controller").SetupWithManager(m, loop.Options{
			Client: m.GetClient(), Reader: m.GetAPIReader(), Events: quiet{}, Concurrent: 4, MaxParked: 100, MinRetryDelay: 100 * time.Millisecond,
		})
		w.check(err)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- m.Start(ctx) }()
		return func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	}
	// The objects have to be gone before the controller that holds their finalizers.
	t.Cleanup(w.release)
	return w
}

func ctrlConfig() config.Controller { return config.Controller{SkipNameValidation: ptr.To(true)} }

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// release lets the objects go, whatever state they are in.
func (w *world) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var all imagev1.ImageUpdateAutomationList
	w.check(w.client.List(ctx, &all, client.InNamespace(w.ns)))
	for i := range all.Items {
		o := &all.Items[i]
		w.check(client.IgnoreNotFound(w.client.Patch(ctx, o, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))))
	}
}

func (w *world) create(obj client.Object) {
	w.t.Helper()
	obj.SetNamespace(w.ns)
	w.check(w.client.Create(w.t.Context(), obj))
}

// choose lets a policy choose, as the other controller does.
func (w *world) choose(name, tag string) {
	w.t.Helper()
	var p imagev1.ImagePolicy
	w.check(w.client.Get(w.t.Context(), types.NamespacedName{Namespace: w.ns, Name: name}, &p))
	p.Status.LatestRef = &imagev1.ImageRef{Name: "registry.test/" + name, Tag: tag}
	w.check(w.client.Status().Update(w.t.Context(), &p))
}

// await waits until every automation is ready and what it says is so.
func (w *world) await(what string, n int, done func(*imagev1.ImageUpdateAutomation) bool) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		var all imagev1.ImageUpdateAutomationList
		w.check(w.client.List(w.t.Context(), &all, client.InNamespace(w.ns)))
		ready, last := 0, ""
		for i := range all.Items {
			o := &all.Items[i]
			if status.IsTrue(o.Status.Conditions, meta.ReadyCondition) && done(o) {
				ready++
			} else {
				last = fmt.Sprintf("%s: %+v", o.Name, o.Status.Conditions)
			}
		}
		if ready == n {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: %d of %d; %s", what, ready, n, last)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (w *world) git(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@example.com",
		"GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %v: %w: %s", args, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// reliability 083, 095: ten automations over HTTP and SSH, and a person with git, push to one branch; the controller ends in between and
// begins anew. imageupdateautomation 1: the choices alone start the runs.
func TestStory(t *testing.T) {
	const n = 10
	w := newWorld(t)
	files := map[string]*testkit.GitFile{}
	for i := range n {
		files[fmt.Sprintf("apps/%d/d.yaml", i)] = &testkit.GitFile{Content: fmt.Sprintf("image: registry.test/p%d:1.0.0 # {\"$imagepolicy\": \"%s:p%d\"}\n", i, w.ns, i)}
	}
	_, err := w.repo.Commit(testkit.GitCommit{Branch: "main", Message: "init", Files: files})
	w.check(err)
	w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "key"}, Data: map[string][]byte{"identity": w.ssh.Identity, "known_hosts": w.ssh.KnownHosts}})
	for name, spec := range map[string]sourcev1.GitRepositorySpec{
		"http": {URL: w.http.URL + "/app.git"}, "ssh": {URL: w.ssh.URL + "/app.git", SecretRef: &meta.LocalObjectReference{Name: "key"}},
	} {
		spec.Interval, spec.Ref = meta.DurationOf(10*time.Minute), &sourcev1.GitRepositoryRef{Branch: "main"}
		w.create(&sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec})
	}
	for i := range n {
		p := &imagev1.ImagePolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p%d", i)}}
		p.Spec.ImageRepositoryRef.Name, p.Spec.Policy.SemVer = "x", &imagev1.SemVerPolicy{Range: "*"}
		w.create(p)
		o := automation(func(o *imagev1.ImageUpdateAutomation) {
			o.Name, o.Generation = fmt.Sprintf("a%d", i), 0
			o.Spec.Interval = meta.DurationOf(10 * time.Minute)
			o.Spec.SourceRef.Name = []string{"http", "ssh"}[i%2]
			o.Spec.Update.Path = fmt.Sprintf("apps/%d", i)
			o.Spec.Git.Commit.MessageTemplate = "{{ .AutomationObject.Name }} {{ range .Changed.Changes }}{{ .NewValue }}{{ end }}"
		})
		w.create(o)
	}
	stop := w.start()
	w.await("the first runs", n, func(o *imagev1.ImageUpdateAutomation) bool { return o.Status.ObservedSourceRevision != "" })

	// A person pulls, commits and pushes, and starts again when somebody was faster.
	clone := filepath.Join(t.TempDir(), "clone")
	_, err = w.git("", "clone", "-q", w.http.URL+"/app.git", clone)
	w.check(err)
	var enough atomic.Bool
	pushed := make(chan int)
	go func() {
		count := 0
		for !enough.Load() {
			_, _ = w.git(clone, "pull", "-q", "--rebase")
			_ = os.WriteFile(filepath.Join(clone, "human"), fmt.Appendf(nil, "%d\n", count), 0o600)
			_, _ = w.git(clone, "add", "human")
			_, _ = w.git(clone, "commit", "-q", "-m", fmt.Sprintf("human %d", count))
			if _, err := w.git(clone, "push", "-q"); err == nil {
				count++
				continue
			}
			_, _ = w.git(clone, "reset", "-q", "--hard", "HEAD~1")
		}
		pushed <- count
	}()
	start := time.Now()
	for i := range n {
		w.choose(fmt.Sprintf("p%d", i), "1.1.0")
	}
	for range 2 {
		stop()
		stop = w.start()
	}
	tag := func(want string) func(*imagev1.ImageUpdateAutomation) bool {
		return func(o *imagev1.ImageUpdateAutomation) bool {
			return o.Status.ObservedPolicies["p"+strings.TrimPrefix(o.Name, "a")].Tag == want && o.Status.LastPushCommit != ""
		}
	}
	w.await("the first choice", n, tag("1.1.0"))
	for i := range n {
		w.choose(fmt.Sprintf("p%d", i), "1.2.0")
	}
	w.await("the second choice", n, tag("1.2.0"))
	t.Logf("%d commits in %s", 2*n, time.Since(start).Round(time.Millisecond))
	enough.Store(true)
	humans := <-pushed
	stop()

	log, err := w.git(w.repo.Dir, "log", "--format=%s", "main")
	w.check(err)
	counts := map[string]int{}
	for line := range strings.Lines(log) {
		counts[strings.TrimSpace(line)]++
	}
	for i := range n {
		for _, tag := range []string{"1.1.0", "1.2.0"} {
			want := fmt.Sprintf("a%d registry.test/p%d:%s", i, i, tag)
			if c := counts[want]; c != 1 {
				t.Errorf("%d commits %q", c, want)
			}
		}
		got, err := w.git(w.repo.Dir, "show", fmt.Sprintf("main:apps/%d/d.yaml", i))
		w.check(err)
		if want := fmt.Sprintf("image: registry.test/p%d:1.2.0 # {\"$imagepolicy\": \"%s:p%d\"}", i, w.ns, i); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		var o imagev1.ImageUpdateAutomation
		w.check(w.client.Get(t.Context(), types.NamespacedName{Namespace: w.ns, Name: fmt.Sprintf("a%d", i)}, &o))
		subject, err := w.git(w.repo.Dir, "log", "-1", "--format=%s", o.Status.LastPushCommit)
		if want := fmt.Sprintf("a%d registry.test/p%d:1.2.0", i, i); err != nil || subject != want {
			t.Errorf("lastPushCommit of a%d is %q, %v", i, subject, err)
		}
	}
	for i := range humans {
		if counts[fmt.Sprintf("human %d", i)] != 1 {
			t.Errorf("commit %d of %d of a person: %d times", i, humans, counts[fmt.Sprintf("human %d", i)])
		}
	}
	if humans == 0 || len(counts) != 1+2*n+humans {
		t.Errorf("%d sorts of commits, %d of a person", len(counts), humans)
	}
	_, err = w.git(w.repo.Dir, "fsck", "--strict")
	w.check(err)
}
