package cluster

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/cluster/clustertest"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// watcher notes what becomes of it.
type watcher struct {
	host  string
	ended chan struct{} // closed when Run has ended

	mu        sync.Mutex // guards forgotten
	forgotten []kube.Owner
}

func (w *watcher) Run(ctx context.Context) error {
	<-ctx.Done()
	close(w.ended)
	return nil
}

func (w *watcher) Forget(owner kube.Owner) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgotten = append(w.forgotten, owner)
}

func (w *watcher) forgot(owner kube.Owner) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.forgotten, owner)
}

// lab is a Set in a controller's own cluster.
type lab struct {
	*Set[*watcher]
	t      *testing.T
	home   *clustertest.Server
	client client.Client
	clock  *clocktesting.FakePassiveClock
	parks  int
}

func newLab(t *testing.T, options ...func(*Options)) *lab {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	l := &lab{
		t: t, home: clustertest.NewServer(t, "home"), client: fake.NewClientBuilder().WithScheme(scheme).Build(),
		clock: clocktesting.NewFakePassiveClock(time.Now()),
	}
	o := Options{Kind: "Thing", Own: l.home.Clients(t), Reader: l.client, Clock: l.clock, Log: logr.Discard()}
	for _, option := range options {
		option(&o)
	}
	l.Set = New(t.Context(), o, func(c *kube.Client) *watcher { return &watcher{host: c.Config().Host, ended: make(chan struct{})} })
	return l
}

// park counts.
func (l *lab) park(ctx context.Context, wait func(context.Context) error) error {
	l.parks++
	return wait(ctx)
}

func (l *lab) put(o client.Object) {
	l.t.Helper()
	if err := l.client.Create(l.t.Context(), o); err == nil {
		return
	}
	if err := l.client.Update(l.t.Context(), o); err != nil {
		l.t.Fatal(err)
	}
}

// secret makes or replaces a Secret in the namespace "apps".
func (l *lab) secret(name string, data map[string]string) {
	l.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name}, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	l.put(s)
}

func (l *lab) remove(o client.Object) {
	l.t.Helper()
	if err := l.client.Delete(l.t.Context(), o); err != nil {
		l.t.Fatal(err)
	}
}

// to is the request of an object in the namespace "apps" whose kubeconfig is in a Secret; without one it acts at home.
func to(object, secret string) Request {
	r := Request{Owner: kube.Owner{Namespace: "apps", Name: object}, Timeout: time.Minute}
	if secret != "" {
		r.KubeConfig = &meta.KubeConfigReference{SecretRef: &meta.SecretKeyReference{Name: secret}}
	}
	return r
}

func (l *lab) reach(r Request) *Cluster[*watcher] {
	l.t.Helper()
	c, err := l.Reach(l.t.Context(), r, l.park)
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}
