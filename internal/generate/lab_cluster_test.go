package generate

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/sourceref"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// lab is a namespace of a real API server with sources whose content the test writes, and a controller that runs when told.
type lab struct {
	*looptest.Bench
	t      *testing.T
	ns     string
	client client.WithWatch
	// sources keeps what sources hold, store what generators make.
	sources, store *artifact.Store
	storeDir       string
	g              *Generator
	// fetches counts downloads, writes what the controller sends to the API server.
	fetches, writes atomic.Int64
	// refuse, when set, answers the writes of the controller in place of the API server.
	refuse func(verb string, obj client.Object) error
}

func newLab(t *testing.T) *lab {
	t.Helper()
	config := kube.Config(testkit.Cluster(t), "generate-test")
	testkit.InstallCRDs(t, config)
	l := &lab{t: t, ns: testkit.Namespace(t, config)}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{sourcev1.AddToScheme, v1beta1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if l.client, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	controlled := l.controlled()
	l.g = &Generator{
		Client: controlled, Reader: controlled, Artifacts: l.openArtifacts(), Store: l.store, URL: l.store.URL,
		Sources: &sourceref.Resolver{Reader: l.client, ExternalArtifact: true},
		Graph:   depend.NewGraph(), RequeueDependency: DefaultRequeueDependency, Timeout: time.Minute, Limits: DefaultLimits(), Clock: clock.RealClock{},
	}
	l.Bench = looptest.New(t, l.g.controller(nil), loop.Options{Client: controlled, Reader: l.client, Concurrent: 1})
	t.Cleanup(l.release)
	return l
}

// controlled is the client of the controller.
func (l *lab) controlled() client.Client {
	write := func(verb string, obj client.Object) error {
		l.writes.Add(1)
		if l.refuse != nil {
			return l.refuse(verb, obj)
		}
		return nil
	}
	return interceptor.NewClient(l.client, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, p client.Patch, o ...client.PatchOption) error {
			if err := write("patch", obj); err != nil {
				return err
			}
			return c.Patch(ctx, obj, p, o...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, p client.Patch, o ...client.SubResourcePatchOption) error {
			if err := write("status", obj); err != nil {
				return err
			}
			return c.SubResource(sub).Patch(ctx, obj, p, o...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, obj client.Object, o ...client.DeleteOption) error {
			if err := write("delete", obj); err != nil {
				return err
			}
			return c.Delete(ctx, obj, o...)
		},
	})
}

// openArtifacts makes the two stores, a server for the sources, and an opener that has to fetch.
func (l *lab) openArtifacts() *artifact.Opener {
	l.t.Helper()
	server := httptest.NewUnstartedServer(nil)
	l.storeDir = l.t.TempDir()
	open := func(dir, addr string) *artifact.Store {
		s, err := artifact.OpenStore(dir, artifact.StoreOptions{AdvertisedAddr: addr, RetentionTTL: time.Nanosecond, RetentionRecords: 1})
		if err != nil {
			l.t.Fatal(err)
		}
		return s
	}
	l.sources, l.store = open(l.t.TempDir(), server.Listener.Addr().String()), open(l.storeDir, "watcher.test")
	handler := l.sources.Handler()
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.fetches.Add(1)
		handler.ServeHTTP(w, r)
	})
	server.Start()
	opener, err := artifact.NewOpener(nil, l.t.TempDir(), artifact.OpenerOptions{TreeCacheBytes: -1, FileCacheBytes: -1})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		server.Close()
		for _, c := range []io.Closer{opener, l.sources, l.store} {
			if err := c.Close(); err != nil {
				l.t.Error(err)
			}
		}
	})
	return opener
}

// release lets the objects of the test go, whatever state it left them in.
func (l *lab) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var all v1beta1.ArtifactGeneratorList
	if err := l.client.List(ctx, &all, client.InNamespace(l.ns)); err != nil {
		l.t.Error(err)
	}
	for _, obj := range all.Items {
		if len(obj.Finalizers) == 0 {
			continue
		}
		if err := l.client.Patch(ctx, &obj, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))); client.IgnoreNotFound(err) != nil {
			l.t.Error(err)
		}
	}
}

// publish gives the GitRepository of a name an artifact; nil files take it away.
func (l *lab) publish(repo, revision string, content files) {
	l.t.Helper()
	ctx := l.t.Context()
	obj := &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: repo}}
	if err := l.client.Get(ctx, client.ObjectKeyFromObject(obj), obj); err != nil {
		obj.Spec = sourcev1.GitRepositorySpec{URL: "https://git.test/app.git", Interval: meta.DurationOf(time.Hour)}
		if err := l.client.Create(ctx, obj); err != nil {
			l.t.Fatal(err)
		}
	}
	obj.Status.Artifact = nil
	if content != nil {
		dir := dirOf(l.t, content)
		l.put(obj, revision, func(w io.Writer) error {
			return archive.Write(ctx, w, archive.Dir(dir), archive.NewMatcher())
		})
	}
	if err := l.client.Status().Update(ctx, obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) put(obj *sourcev1.GitRepository, revision string, write func(io.Writer) error) {
	l.t.Helper()
	name := artifact.Name{Kind: sourcev1.GitRepositoryKind, Namespace: l.ns, Object: obj.Name, File: strings.NewReplacer(":", "-", "/", "-").Replace(revision) + ".tar.gz"}
	a, err := l.sources.Put(l.t.Context(), name, write)
	if err != nil {
		l.t.Fatal(err)
	}
	a.Revision = revision
	obj.Status.Artifact = a
}

func (l *lab) key() types.NamespacedName { return types.NamespacedName{Namespace: l.ns, Name: "gen"} }

// create creates the ArtifactGenerator "gen", which makes "one" of all of the GitRepository "app".
func (l *lab) create(change ...func(*v1beta1.ArtifactGenerator)) {
	l.t.Helper()
	obj := generator()
	obj.ObjectMeta = metav1.ObjectMeta{Namespace: l.ns, Name: "gen"}
	for _, f := range change {
		f(obj)
	}
	if err := l.client.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) edit(change func(*v1beta1.ArtifactGenerator)) {
	l.t.Helper()
	obj := l.get()
	change(obj)
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) get() *v1beta1.ArtifactGenerator {
	l.t.Helper()
	obj := &v1beta1.ArtifactGenerator{}
	if err := l.client.Get(l.t.Context(), l.key(), obj); err != nil {
		l.t.Fatal(err)
	}
	return obj
}

// step runs once; the queue must hear of no error.
func (l *lab) step() reconcile.Result {
	l.t.Helper()
	result, err := l.Run(l.t.Context(), l.key())
	if err != nil {
		l.t.Fatal(err)
	}
	return result
}

// conditions returns "Type=Status Reason: message" of each.
func (l *lab) conditions() []string {
	l.t.Helper()
	var out []string
	for _, c := range l.get().Status.Conditions {
		out = append(out, l.plain(c.Type+"="+string(c.Status)+" "+c.Reason+": "+c.Message))
	}
	return out
}

// plain writes NS for the namespace and DIGEST for the digest of the artifact "one".
func (l *lab) plain(text string) string {
	for _, e := range l.get().Status.Inventory {
		text = strings.ReplaceAll(text, e.Digest, "DIGEST")
	}
	return strings.ReplaceAll(text, l.ns, "NS")
}

// told returns the events since the last call, plain.
func (l *lab) told() []string {
	var out []string
	for _, line := range l.Lines() {
		out = append(out, l.plain(line))
	}
	return out
}

// external returns an ExternalArtifact, nil when there is none.
func (l *lab) external(name string) *sourcev1.ExternalArtifact {
	l.t.Helper()
	obj := &sourcev1.ExternalArtifact{}
	err := l.client.Get(l.t.Context(), types.NamespacedName{Namespace: l.ns, Name: name}, obj)
	if client.IgnoreNotFound(err) != nil {
		l.t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return obj
}

// externals are the names of all ExternalArtifacts.
func (l *lab) externals() string {
	l.t.Helper()
	var list sourcev1.ExternalArtifactList
	if err := l.client.List(l.t.Context(), &list, client.InNamespace(l.ns)); err != nil {
		l.t.Fatal(err)
	}
	var names []string
	for _, o := range list.Items {
		names = append(names, o.Name)
	}
	return strings.Join(names, " ")
}

// content reads the artifact that an ExternalArtifact offers.
func (l *lab) content(name string) files {
	l.t.Helper()
	opener, err := artifact.NewOpener(l.store, l.t.TempDir(), artifact.OpenerOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	defer opener.Close()
	tree, err := opener.Open(l.t.Context(), l.external(name).Status.Artifact)
	if err != nil {
		l.t.Fatal(err)
	}
	defer tree.Close()
	root, err := readTree(l.t.Context(), tree.FS())
	if err != nil {
		l.t.Fatal(err)
	}
	return contentOf(l.t, root)
}

// has tells whether the store has a file of an artifact.
func (l *lab) has(a *meta.Artifact) bool { return l.store.Exists(a) }

func ready(obj *v1beta1.ArtifactGenerator) *metav1.Condition {
	return status.Find(obj.Status.Conditions, meta.ReadyCondition)
}

// spoil changes a stored file behind the store's back.
func (l *lab) spoil(path string) {
	l.t.Helper()
	if err := os.Chmod(path, 0o600); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("spoiled"), 0o600); err != nil {
		l.t.Fatal(err)
	}
}
