package update

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// lab is a real Git server with automations that run when told; only the API server is not real.
type lab struct {
	*looptest.Bench
	t      testing.TB
	repo   *testkit.GitRepo
	url    string
	root   string
	client client.Client
	// options are changed before a test opens the controller anew.
	options Options
	// requests are what the Git server was asked, as "GET git-upload-pack" or "POST git-receive-pack".
	mu       sync.Mutex // guards requests
	requests []string
	// onRequest runs before the Git server answers, and tells whether it answers.
	onRequest func(what string) bool
	// onStatus answers the writes of a status in place of the API server, unless it returns nil.
	onStatus func(obj client.Object) error
	// stale, when set, is what the cache shows of the policies.
	stale atomic.Pointer[imagev1.ImagePolicyList]
}

const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    spec:
      containers:
      - name: main
        image: registry.test/web:1.0.0 # {"$imagepolicy": "apps:web"}
`

const values = `# values
image:
  repository: registry.test/web # {"$imagepolicy": "apps:web:name"}
  tag: 1.0.0 # {"$imagepolicy": "apps:web:tag"}
other:   keep  # spacing
`

func newLab(t testing.TB, objects ...client.Object) *lab {
	t.Helper()
	l := &lab{t: t, root: t.TempDir()}
	handler, err := testkit.GitHandler(l.root)
	l.check(err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service := r.URL.Query().Get("service")
		if service == "" {
			service = filepath.Base(r.URL.Path)
		}
		what := r.Method + " " + service
		l.mu.Lock()
		l.requests = append(l.requests, what)
		f := l.onRequest
		l.mu.Unlock()
		if f == nil || f(what) {
			handler.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	l.url = server.URL
	l.repo, err = testkit.NewGitRepo(filepath.Join(l.root, "app.git"))
	l.check(err)
	l.commit("main", "init", map[string]string{"deploy/d.yaml": deployment, "deploy/values.yaml": values, "other/d.yaml": deployment, "deploy/notes.txt": "x"})

	scheme := runtime.NewScheme()
	l.check(errors.Join(sourcev1.AddToScheme(scheme), imagev1.AddToScheme(scheme), corev1.AddToScheme(scheme)))
	objects = append(objects, &sourcev1.GitRepository{
		ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "app", Generation: 1},
		Spec:       sourcev1.GitRepositorySpec{URL: l.url + "/app.git", Ref: &sourcev1.GitRepositoryRef{Branch: "main"}, Timeout: meta.DurationOf(20 * time.Second)},
	}, policy("web", "registry.test/web", "1.1.0", ""))
	l.client = interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&imagev1.ImageUpdateAutomation{}).Build(), interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, o ...client.SubResourcePatchOption) error {
			if l.onStatus != nil {
				if err := l.onStatus(obj); err != nil {
					return err
				}
			}
			return c.SubResource(sub).Patch(ctx, obj, p, o...)
		},
	})
	l.options = Options{ForcePushBranch: true, AllBranchReferences: true}
	l.open()
	return l
}

// open starts the controller, as after a start of the process.
func (l *lab) open() {
	l.t.Helper()
	o := l.options
	o.Objects, o.Reader = &staleReader{l.client, &l.stale}, l.client
	if o.TempDir == "" {
		o.TempDir = l.t.TempDir()
	}
	l.Bench = looptest.New(l.t, New(o).Controller("image-automation-controller"), loop.Options{
		Client: l.client, Reader: l.client, Concurrent: 4, MaxParked: 100,
	})
}

// staleReader is a cache that lags behind with the policies.
type staleReader struct {
	client.Reader
	stale *atomic.Pointer[imagev1.ImagePolicyList]
}

func (s *staleReader) List(ctx context.Context, list client.ObjectList, o ...client.ListOption) error {
	if old := s.stale.Load(); old != nil {
		if policies, ok := list.(*imagev1.ImagePolicyList); ok {
			old.DeepCopyInto(policies)
			return nil
		}
	}
	return s.Reader.List(ctx, list, o...)
}

func policy(name, image, tag, digest string) *imagev1.ImagePolicy {
	p := &imagev1.ImagePolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name, Labels: map[string]string{"name": name}}}
	if image != "" {
		p.Status.LatestRef = &imagev1.ImageRef{Name: image, Tag: tag, Digest: digest}
	}
	return p
}

func (l *lab) check(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// commit puts a commit on top of a branch, as somebody else does.
func (l *lab) commit(branch, message string, files map[string]string) string {
	l.t.Helper()
	if tip := l.git("for-each-ref", "--format=%(objectname)", "refs/heads/"+branch); tip != "" {
		l.check(l.repo.SetBranch(branch, tip))
	}
	c := testkit.GitCommit{Branch: branch, Message: message, Files: map[string]*testkit.GitFile{}}
	for name, content := range files {
		c.Files[name] = &testkit.GitFile{Content: content}
	}
	hash, err := l.repo.Commit(c)
	l.check(err)
	return hash
}

// git runs git in the repository of the server.
func (l *lab) git(args ...string) string {
	l.t.Helper()
	cmd := exec.Command("git", append([]string{"-C", l.repo.Dir}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=dev", "GIT_AUTHOR_EMAIL=dev@example.com",
		"GIT_COMMITTER_NAME=dev", "GIT_COMMITTER_EMAIL=dev@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (l *lab) tip(branch string) string { l.t.Helper(); return l.git("rev-parse", branch) }

// show is a file of a branch.
func (l *lab) show(branch, file string) string {
	l.t.Helper()
	return l.git("show", branch+":"+file) + "\n"
}

// setPolicy lets a policy choose.
func (l *lab) setPolicy(name, image, tag, digest string) {
	l.t.Helper()
	var p imagev1.ImagePolicy
	l.check(l.client.Get(l.t.Context(), types.NamespacedName{Namespace: "apps", Name: name}, &p))
	p.Status.LatestRef = &imagev1.ImageRef{Name: image, Tag: tag, Digest: digest}
	l.check(l.client.Update(l.t.Context(), &p))
}

func keyOf(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "apps", Name: name}
}

// create makes an automation that updates ./deploy of main.
func (l *lab) create(name string, edit func(*imagev1.ImageUpdateAutomation)) {
	l.t.Helper()
	obj := automation(func(o *imagev1.ImageUpdateAutomation) {
		o.Name = name
		o.Spec.Interval = meta.DurationOf(10 * time.Minute)
		o.Spec.Update.Path = "./deploy"
	})
	if edit != nil {
		edit(obj)
	}
	l.check(l.client.Create(l.t.Context(), obj))
}

func (l *lab) get(name string) *imagev1.ImageUpdateAutomation {
	l.t.Helper()
	var obj imagev1.ImageUpdateAutomation
	l.check(l.client.Get(l.t.Context(), keyOf(name), &obj))
	return &obj
}

// change edits the spec, and moves the generation as the API server does.
func (l *lab) change(name string, edit func(*imagev1.ImageUpdateAutomation)) {
	l.t.Helper()
	obj := l.get(name)
	edit(obj)
	obj.Generation++
	l.check(l.client.Update(l.t.Context(), obj))
}

// run makes one request and returns Ready as "status Reason: message".
func (l *lab) run(name string) string {
	l.t.Helper()
	_, _ = l.Run(l.t.Context(), keyOf(name))
	return l.condition(name, meta.ReadyCondition)
}

func (l *lab) condition(name, kind string) string {
	l.t.Helper()
	c := status.Find(l.get(name).Status.Conditions, kind)
	if c == nil {
		return "-"
	}
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
}

// result makes one request and returns what the queue is told.
func (l *lab) result(name string) (reconcile.Result, error) { return l.Run(l.t.Context(), keyOf(name)) }

// asked returns what the Git server was asked since the last call.
func (l *lab) asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.requests
	l.requests = nil
	return out
}

func (l *lab) intercept(f func(what string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onRequest = f
}

// subjects are the messages of the commits on a branch that bots have made, newest first.
func (l *lab) subjects(branch string) []string {
	l.t.Helper()
	out := l.git("log", "--author=bot", "--format=%s", branch)
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

func expect(t testing.TB, what, want, got string) {
	t.Helper()
	if want != got {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

const upToDate = "True Succeeded: repository up-to-date"

// hook makes a hook of the repository.
func (l *lab) hook(name, script string) {
	l.t.Helper()
	l.check(os.WriteFile(filepath.Join(l.repo.Dir, "hooks", name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
}

func serve(t testing.TB, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

// files are the names in a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}
