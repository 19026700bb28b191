package cluster

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/cluster/clustertest"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// An object without spec.kubeConfig acts on the controller's own cluster: nobody is asked, and nothing is waited for.
func TestHome(t *testing.T) {
	l := newLab(t)
	c := l.reach(to("a", ""))
	if c != l.Home() || c.Remote() || c.Key() != "" || c.Clients != l.o.Own || c.Watch.host != l.home.URL {
		t.Errorf("got %+v", c)
	}
	if asked := l.home.Requests(); len(asked) > 0 || l.parks > 0 {
		t.Errorf("parked %d times and asked %q", l.parks, asked)
	}
}

// kustomization 96, 97, helmrelease 88, reliability 030, 032: an object that names no account acts as the default one, on another cluster
// too.
func TestIdentity(t *testing.T) {
	for name, test := range map[string]struct{ fallback, account, secret, want string }{
		"nobody":               {"", "", "", ""},
		"the default":          {"default", "", "", "default"},
		"its own":              {"default", "team", "", "team"},
		"the default, remote":  {"default", "", "fleet", "default"},
		"its own, remote":      {"", "team", "fleet", "team"},
		"the kubeconfig's own": {"", "", "fleet", ""},
	} {
		l := newLab(t, func(o *Options) { o.DefaultServiceAccount = test.fallback })
		r := to("a", test.secret)
		r.ServiceAccount = test.account
		if got := l.Identity(r); got != (kube.Identity{Namespace: "apps", ServiceAccount: test.want}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// reliability 081: clusters are shared by content, watched while they have an owner, and go with the last.
func TestSharing(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	l := newLab(t)
	l.secret("a", map[string]string{"value": remote.Kubeconfig()})
	l.secret("b", map[string]string{"value.yaml": remote.Kubeconfig()})
	a, b := to("a", "a"), to("b", "b")
	first := l.reach(a)
	if !first.Remote() || first.Watch.host != remote.URL || l.Of(a.Owner) != first {
		t.Fatalf("got %+v", first)
	}
	if !l.Home().Watch.forgot(a.Owner) {
		t.Error("what the object had at home is remembered")
	}
	if l.reach(a) != first || l.reach(b) != first {
		t.Error("equal kubeconfigs are not one cluster")
	}
	if l.Home().Watch.forgot(kube.Owner{Namespace: "apps", Name: "other"}) || first.Watch.forgot(a.Owner) {
		t.Error("too much is forgotten")
	}

	// One goes home, the other goes.
	if l.reach(to("a", "")) != l.Home() || l.Of(a.Owner) != l.Home() || !first.Watch.forgot(a.Owner) {
		t.Error("the object is still there")
	}
	select {
	case <-first.Watch.ended:
		t.Error("the cluster was closed with an owner left")
	default:
	}
	l.Forget(b.Owner)
	<-first.Watch.ended
	if !first.Watch.forgot(b.Owner) || !l.Home().Watch.forgot(b.Owner) || l.pool.Len() != 0 {
		t.Errorf("the object is remembered, and %d clusters are open", l.pool.Len())
	}
}

// reliability 027, 081: other credentials are another cluster, and what is taken away is used no longer.
func TestRotation(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	l := newLab(t)
	l.secret("fleet", map[string]string{"value": remote.Kubeconfig()})
	r := to("a", "fleet")
	first := l.reach(r)
	l.secret("fleet", map[string]string{"value": strings.Replace(remote.Kubeconfig(), "canary-token", "canary-renewed", 1)})
	second := l.reach(r)
	if second == first || second.Key() == first.Key() || !first.Watch.forgot(r.Owner) || l.pool.Len() != 1 {
		t.Error("the old token is still in use")
	}
	<-first.Watch.ended
	for name, spoil := range map[string]func(){
		"removed": func() { l.remove(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: "fleet"}}) },
		"spoiled": func() { l.secret("fleet", map[string]string{"value": "canary: ["}) },
	} {
		l.secret("fleet", map[string]string{"value": remote.Kubeconfig()})
		c := l.reach(r)
		spoil()
		if _, err := l.Reach(t.Context(), r, l.park); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: error = %v", name, err)
		}
		if l.Of(r.Owner) != l.Home() || l.pool.Len() != 0 {
			t.Errorf("%s: the credentials are still in use", name)
		}
		<-c.Watch.ended
	}
}

// What may pass takes nothing away: the watches of a cluster that is down for a moment go on.
func TestUnreachableIsKept(t *testing.T) {
	down := false
	remote := clustertest.NewServer(t, "one")
	remote.Instead = func(w http.ResponseWriter, _ *http.Request) bool {
		if down {
			http.Error(w, "no", http.StatusInternalServerError)
		}
		return down
	}
	l := newLab(t)
	l.secret("fleet", map[string]string{"value": remote.Kubeconfig()})
	r := to("a", "fleet")
	c := l.reach(r)
	down = true
	l.clock.SetTime(l.clock.Now().Add(2 * reached))
	_, err := l.Reach(t.Context(), r, l.park)
	if err == nil || !strings.HasPrefix(err.Error(), "failed to reach the cluster "+remote.URL) {
		t.Errorf("error = %v", err)
	}
	if l.Of(r.Owner) != c || c.Watch.forgot(r.Owner) {
		t.Error("the cluster was dropped")
	}
}

// Many objects of a cluster that come together ask it once whether it is there; the answer counts for a second.
func TestReachAsksOnce(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	l := newLab(t)
	l.secret("fleet", map[string]string{"value": remote.Kubeconfig()})
	want := []string{"GET /api/v1/namespaces/kube-system"}
	for range 2 {
		for _, name := range []string{"a", "b", "c"} {
			l.reach(to(name, "fleet"))
		}
		if diff := cmp.Diff(want, remote.Requests()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		l.clock.SetTime(l.clock.Now().Add(reached))
	}
}

// kustomization 99, reliability 081: all of it is parked, has an end, and is given up for something newer.
func TestReachIsParked(t *testing.T) {
	asked, hang := make(chan struct{}, 10), make(chan struct{})
	remote := clustertest.NewServer(t, "one")
	t.Cleanup(func() { close(hang) }) // before the server, which waits for its answers
	remote.Instead = func(http.ResponseWriter, *http.Request) bool {
		asked <- struct{}{}
		<-hang
		return true
	}
	l := newLab(t)
	l.secret("fleet", map[string]string{"value": remote.Kubeconfig()})
	r := to("a", "fleet")
	news := errors.New("something newer")
	_, err := l.Reach(t.Context(), r, func(ctx context.Context, wait func(context.Context) error) error {
		ctx, cancel := context.WithCancelCause(ctx)
		go func() { <-asked; cancel(news) }()
		return wait(ctx)
	})
	if !errors.Is(err, news) {
		t.Errorf("error = %v", err)
	}
	r.Timeout = time.Millisecond
	if _, err := l.Reach(t.Context(), r, l.park); !errors.Is(err, context.DeadlineExceeded) || l.parks != 1 {
		t.Errorf("error = %v after %d parks", err, l.parks)
	}
	no := errors.New("no slot")
	_, err = l.Reach(t.Context(), r, func(context.Context, func(context.Context) error) error { return no })
	if !errors.Is(err, no) {
		t.Errorf("error = %v", err)
	}
}

// reliability 045: only what cannot come back is lost.
func TestLost(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	for name, test := range map[string]struct {
		secret    bool
		vanishing bool // the namespace
		want      bool
	}{
		"no Secret":                       {false, false, false},
		"no Secret, nor a namespace soon": {false, true, true},
		"a Secret of no use":              {true, true, false},
	} {
		l := newLab(t)
		if test.secret {
			l.secret("fleet", map[string]string{"value": clustertest.Kubeconfig(remote.URL, remote.CA, "{}")})
		}
		l.put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps", Finalizers: []string{"test/held"}}})
		if test.vanishing {
			l.remove(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "apps"}})
		}
		_, err := l.Reach(t.Context(), to("a", "fleet"), l.park)
		if err == nil {
			t.Fatalf("%s: it was reached", name)
		}
		if got := l.Lost(t.Context(), to("a", "fleet"), err); got != test.want {
			t.Errorf("%s: %t after %v", name, got, err)
		}
	}
	if newLab(t).Lost(t.Context(), to("a", "fleet"), nil) {
		t.Error("there was no error")
	}
}

// kustomization 109: credentials of another cluster need not see accounts; our own must.
func TestAccountExists(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	l := newLab(t)
	l.secret("fleet", map[string]string{"value": remote.Kubeconfig()})
	r := to("a", "fleet")
	r.ServiceAccount = "team"
	exists, err := l.reach(r).AccountExists(t.Context(), l.Identity(r))
	if err != nil || !exists {
		t.Errorf("on the other cluster: %t, %v", exists, err)
	}
	if asked := remote.Requests(); !slices.Contains(asked, "GET /api/v1/namespaces/apps/serviceaccounts/team") {
		t.Errorf("asked %q", asked)
	}
	if exists, err = l.Home().AccountExists(t.Context(), l.Identity(r)); err == nil || exists {
		t.Errorf("at home: %t, %v", exists, err)
	}
	r.ServiceAccount = ""
	if exists, err = l.Home().AccountExists(t.Context(), l.Identity(r)); err != nil || !exists {
		t.Errorf("without an account: %t, %v", exists, err)
	}
}

// A spec.kubeConfig that names nothing, which the API server refuses, is told.
func TestNoReference(t *testing.T) {
	l := newLab(t)
	r := to("a", "fleet")
	r.KubeConfig = &meta.KubeConfigReference{}
	if _, err := l.Reach(t.Context(), r, l.park); err == nil || !strings.Contains(err.Error(), "set one of them") {
		t.Errorf("error = %v", err)
	}
}
