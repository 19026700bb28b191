package kustomize

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/toolkit/archive"
	"github.com/seed-79636ae9/flux/toolkit/artifact"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
	"github.com/seed-79636ae9/flux/toolkit/status"
)

// lab is a namespace of a real API server with a source whose content the test writes, and a controller that runs when told.
type lab struct {
	*looptest.Bench
	t      *testing.T
	ns     string
	client client.Client
	store  *artifact.Store
	k      *Kustomizer
	host   *component.Host
	// woken are those that a run woke.
	woken *ownerSet
	tally tally
}

func newLab(t *testing.T) *lab {
	t.Helper()
	config := kube.Config(testkit.Cluster(t), "kustomize-test")
	testkit.InstallCRDs(t, config)
	l := &lab{t: t, ns: testkit.Namespace(t, config), woken: newOwnerSet()}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &counted{next, &l.tally} })
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, rbacv1.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if l.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	clusters, err := kube.NewClients(kube.ClientsOptions{Config: config})
	if err != nil {
		t.Fatal(err)
	}
	artifacts := l.openArtifacts()
	l.host = &component.Host{
		Client: l.client, Reader: l.client, Clusters: clusters, Artifacts: artifacts, Log: logr.Discard(),
		Common: component.Common{RequeueDependency: 30 * time.Second},
	}
	l.k = &Kustomizer{
		Options: Options{RequeueDependency: 30 * time.Second, ConcurrentSSA: 4, StrictSubstitutions: true, MaxInventory: maxInventory},
		Cached:  l.client, Reader: l.client, Sources: resolver(l.host), Artifacts: artifacts,
		Graph: depend.NewGraph(), Namespace: "flux-system", Clock: clock.RealClock{}, touched: newOwnerSet(),
		yielding: newOwnerSet(), conflicts: newBulletin(), drifts: newBulletin(), Claims: l.claims, wake: l.woken.add,
	}
	(&instance{fullEvery: time.Hour}).watchManaged(t.Context(), l.k, l.host, func(o kube.Owner, _ time.Duration) { l.k.touched.add(o) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = l.k.Clusters.Home().Watch.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	l.Bench = looptest.New(t, l.k.controller(l.host, nil), loop.Options{Client: l.client, Reader: l.client, Concurrent: 1, MaxParked: 1})
	t.Cleanup(l.release)
	return l
}

// memory is what the process remembers of its own cluster.
func (l *lab) memory() *ssa.Memory { return l.k.Clusters.Home().Watch.memory }

// claims reads the inventories live.
func (l *lab) claims(ctx context.Context, id string) ([]kustomizev1.Kustomization, error) {
	var all kustomizev1.KustomizationList
	err := l.client.List(ctx, &all, client.InNamespace(l.ns))
	return slices.DeleteFunc(all.Items, func(o kustomizev1.Kustomization) bool { return !holds(&o, id) }), err
}

func holds(o *kustomizev1.Kustomization, id string) bool {
	_, ok := inventory(o).IDs()[id]
	return ok
}

// openArtifacts makes a store, its server, and the opener of a process elsewhere.
func (l *lab) openArtifacts() *artifact.Opener {
	l.t.Helper()
	var err error
	server := httptest.NewUnstartedServer(nil)
	l.store, err = artifact.OpenStore(l.t.TempDir(), artifact.StoreOptions{AdvertisedAddr: server.Listener.Addr().String(), RetentionTTL: time.Hour, RetentionRecords: 100})
	if err != nil {
		l.t.Fatal(err)
	}
	server.Config.Handler = l.store.Handler()
	server.Start()
	opener, err := artifact.NewOpener(nil, l.t.TempDir(), artifact.OpenerOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		server.Close()
		if err := opener.Close(); err != nil {
			l.t.Error(err)
		}
		if err := l.store.Close(); err != nil {
			l.t.Error(err)
		}
	})
	return opener
}

// release lets the objects of the test go, whatever state it left them in.
func (l *lab) release() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var all kustomizev1.KustomizationList
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

// publish gives the source "repo" a content, and returns its revision. Without files the source has no artifact.
func (l *lab) publish(revision string, files map[string]string) {
	l.t.Helper()
	ctx := l.t.Context()
	repo := &sourcev1.GitRepository{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "repo"}}
	if err := l.client.Get(ctx, client.ObjectKeyFromObject(repo), repo); err != nil {
		repo.Spec = sourcev1.GitRepositorySpec{URL: "https://git.test/app.git", Interval: meta.DurationOf(time.Hour)}
		if err := l.client.Create(ctx, repo); err != nil {
			l.t.Fatal(err)
		}
	}
	if files == nil {
		return
	}
	dir := l.t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			l.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "NAMESPACE", l.ns)), 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	a, err := l.store.Put(ctx, artifact.Name{Kind: "GitRepository", Namespace: l.ns, Object: "repo", File: strings.ReplaceAll(revision, ":", "-") + ".tar.gz"},
		func(w io.Writer) error { return archive.Write(ctx, w, archive.Dir(dir), archive.NewMatcher()) })
	if err != nil {
		l.t.Fatal(err)
	}
	a.Revision = revision
	repo.Status.Artifact = a
	if err := l.client.Status().Update(ctx, repo); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) key() types.NamespacedName { return types.NamespacedName{Namespace: l.ns, Name: "app"} }

// create creates the Kustomization "app" of the source "repo".
func (l *lab) create(change ...func(*kustomizev1.Kustomization)) {
	l.t.Helper()
	obj := &kustomizev1.Kustomization{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "app"},
		Spec: kustomizev1.KustomizationSpec{
			Interval: meta.DurationOf(10 * time.Minute), Prune: true, TargetNamespace: l.ns,
			SourceRef: kustomizev1.SourceReference{Kind: sourcev1.GitRepositoryKind, Name: "repo"},
		},
	}
	for _, f := range change {
		f(obj)
	}
	if err := l.client.Create(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) edit(change func(*kustomizev1.Kustomization)) {
	l.t.Helper()
	obj := l.get()
	change(obj)
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) request(token string) {
	l.t.Helper()
	l.edit(func(o *kustomizev1.Kustomization) {
		o.Annotations = map[string]string{meta.ReconcileRequestAnnotation: token}
	})
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

func (l *lab) get() *kustomizev1.Kustomization {
	l.t.Helper()
	obj := &kustomizev1.Kustomization{}
	if err := l.client.Get(l.t.Context(), l.key(), obj); err != nil {
		l.t.Fatal(err)
	}
	return obj
}

// condition returns "Status Reason: message", "-" when there is none.
func (l *lab) condition(conditionType string) string {
	l.t.Helper()
	c := status.Find(l.get().Status.Conditions, conditionType)
	if c == nil {
		return "-"
	}
	return l.plain(string(c.Status) + " " + c.Reason + ": " + c.Message)
}

var durations = regexp.MustCompile(`\b(\d+(\.\d+)?(ms|µs|s|ns))+\b`)

// plain writes NS for the namespace and TIME for times shorter than a minute.
func (l *lab) plain(text string) string {
	return durations.ReplaceAllString(strings.ReplaceAll(strings.TrimSpace(text), l.ns, "NS"), "TIME")
}

// told returns the events since the last call, plain.
func (l *lab) told() []string {
	var out []string
	for _, line := range l.Lines() {
		out = append(out, l.plain(line))
	}
	return out
}

func configMap(name, value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: {key: " + value + "}\n"
}

func (l *lab) has(name string) bool {
	l.t.Helper()
	err := l.client.Get(l.t.Context(), types.NamespacedName{Namespace: l.ns, Name: name}, &corev1.ConfigMap{})
	if client.IgnoreNotFound(err) != nil {
		l.t.Fatal(err)
	}
	return err == nil
}
