package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
)

// fleet is another cluster, which Kustomizations reach by a proxy.
type fleet struct {
	t      *testing.T
	config *rest.Config
	client client.Client
	proxy  *apiproxy.Proxy
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("needs control planes, and -short asks for tests without one")
	}
	plane, err := testkit.StartControlPlane(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := plane.Stop(); err != nil {
			t.Error(err)
		}
	})
	f := &fleet{t: t, config: plane.Config}
	if f.client, err = client.New(f.config, client.Options{}); err != nil {
		t.Fatal(err)
	}
	return f
}

// in is the fleet as a test of its own uses it.
func (f *fleet) in(t *testing.T) *fleet {
	c := *f
	c.t = t
	c.proxy = c.door()
	return &c
}

// door is one more address of the cluster.
func (f *fleet) door() *apiproxy.Proxy {
	f.t.Helper()
	p, err := apiproxy.New(f.config, apiproxy.Options{HTTP2: true})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(p.Close)
	return p
}

// kubeconfig of a door.
func (f *fleet) kubeconfig(p *apiproxy.Proxy) []byte {
	f.t.Helper()
	path := filepath.Join(f.t.TempDir(), "kubeconfig")
	if err := p.WriteKubeconfig(path); err != nil {
		f.t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		f.t.Fatal(err)
	}
	return content
}

func (f *fleet) create(o client.Object) {
	f.t.Helper()
	if err := f.client.Create(f.t.Context(), o); err != nil {
		f.t.Fatal(err)
	}
}

// live reads the object as it is there; nil: it is not.
func (f *fleet) live(o *unstructured.Unstructured) *unstructured.Unstructured {
	f.t.Helper()
	found := o.DeepCopy()
	err := f.client.Get(f.t.Context(), client.ObjectKeyFromObject(o), found)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return found
}

// await reads the object until it is as wanted.
func (f *fleet) await(o *unstructured.Unstructured, what string, so func(*unstructured.Unstructured) bool) {
	f.t.Helper()
	if err := poll(f.t.Context(), patience, func() bool { return so(f.live(o)) }); err != nil {
		f.t.Fatalf("%s %s is not %s: %v", o.GetKind(), o.GetName(), what, err)
	}
}

// send makes the scene's Kustomization one of the fleet, by the Secret "fleet".
func (f *fleet) send(s *scene, change func(*kustomizev1.Kustomization)) {
	s.t.Helper()
	labels := map[string]string{"reconcile.fluxcd.io/watch": "Enabled"}
	s.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name, Labels: labels}, Data: map[string][]byte{"value": f.kubeconfig(f.proxy)}})
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) {
		k.Spec.KubeConfig = &meta.KubeConfigReference{SecretRef: &meta.SecretKeyReference{Name: s.name}}
		if change != nil {
			change(k)
		}
	})
}

// shut makes the cluster hang, or refuse connections, until the returned function is called.
func (f *fleet) shut(fault apiproxy.Fault) (open func()) {
	f.proxy.Add(&apiproxy.Rule{Times: -1, Fault: fault})
	return f.proxy.Clear
}

// awaitMessage waits until Ready is False and says so.
func (s *scene) awaitMessage(reason, part string) {
	s.t.Helper()
	s.awaitKustomization(func(o *kustomizev1.Kustomization) string {
		if o == nil {
			return "it is gone"
		}
		c := find(o.Status.Conditions, meta.ReadyCondition)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != reason || !strings.Contains(c.Message, part) {
			return fmt.Sprintf("it has not failed with %s and %q: %s", reason, part, conditions(o.Status.Conditions))
		}
		return ""
	})
}

// TestRemote starts another cluster, which takes a while, once for all that is done there.
func TestRemote(t *testing.T) {
	f := newFleet(t)
	t.Run("cluster", func(t *testing.T) { remoteCluster(t, f.in(t)) })
	t.Run("slow", func(t *testing.T) { remoteSlow(t, f.in(t)) })
	t.Run("health", func(t *testing.T) { remoteHealth(t, f.in(t)) })
	t.Run("account", func(t *testing.T) { remoteAccount(t, f.in(t)) })
	t.Run("rights", func(t *testing.T) { remoteRights(t, f.in(t)) })
	t.Run("target", func(t *testing.T) { remoteBecomesOwn(t, f.in(t)) })
}

// remoteCluster is kustomization 97 and reliability 081: on another cluster everything is as on the own one, and while that
// cluster is away only its own Kustomizations suffer.
func remoteCluster(t *testing.T, f *fleet) {
	r := newRig(t, "--remote-limit-time=2s")
	f.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}})
	near, s := r.newScene(t), r.newScene(t)
	near.start(near.configMap("a", "1"))
	a, b := s.configMap("a", "1"), s.configMap("b", "1")
	s.commit(a, b)
	f.send(s, nil)
	s.awaitApplied(s.latest)
	if f.live(a) == nil || f.live(b) == nil {
		t.Fatal("the objects are not on the other cluster")
	}
	s.absent(a, b)

	t.Run("drift", func(t *testing.T) {
		if err := f.client.Patch(t.Context(), b.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"data":{"value":"drifted"}}`))); err != nil {
			t.Fatal(err)
		}
		f.await(b, "put right", func(o *unstructured.Unstructured) bool {
			value, _, _ := unstructured.NestedString(o.Object, "data", "value")
			return value == "1"
		})
	})
	t.Run("rest", func(t *testing.T) { remoteRest(t, f, s) })
	t.Run("prune", func(t *testing.T) {
		s.commit(a)
		s.request(s.gitRepository())
		s.awaitApplied(s.latest)
		if f.live(b) != nil {
			t.Error("it is not pruned")
		}
	})
	t.Run("restart", func(t *testing.T) {
		s.restart(nil)
		seq := f.proxy.Seq()
		s.request(s.ks())
		s.awaitApplied(s.latest)
		s.held(a)
		for _, q := range f.proxy.Requests(seq) {
			if q.IsWrite() {
				t.Errorf("after a restart there was %s", q.String())
			}
		}
	})
	t.Run("away", func(t *testing.T) { away(t, f, s, near) })
	t.Run("another door", func(t *testing.T) { anotherDoor(t, f, s, a) })
	t.Run("deletion", func(t *testing.T) {
		open := f.shut(apiproxy.Fault{Reset: true})
		deleteKustomization(s)
		s.awaitMessage(meta.PruneFailedReason, "set spec.deletionPolicy to Orphan")
		if f.live(a) == nil {
			t.Error("an object is lost")
		}
		open()
		s.awaitKustomization(goneKustomization)
		if f.live(a) != nil {
			t.Error("an object is left behind")
		}
	})
	near.clear()
}

// remoteRest: a run that finds nothing new asks whether the cluster is there, and nothing else.
func remoteRest(t *testing.T, f *fleet, s *scene) {
	s.patch(s.ks(), `{"spec":{"interval":"1s"}}`)
	s.awaitApplied(s.latest)
	seq := f.proxy.Seq()
	runs := func() (n int) {
		for _, q := range f.proxy.Requests(seq) {
			if q.Resource == "namespaces" && q.Name == "kube-system" {
				n++
			}
		}
		return n
	}
	if err := poll(t.Context(), patience, func() bool { return runs() >= 3 }); err != nil {
		t.Fatalf("three runs: %v", err)
	}
	for _, q := range f.proxy.Requests(seq) {
		if q.Name != "kube-system" && q.Verb != "watch" {
			t.Errorf("a run without news asked for %s", q.String())
		}
	}
	s.patch(s.ks(), `{"spec":{"interval":"1h"}}`)
	s.awaitApplied(s.latest)
}

// away: the cluster hangs, then refuses; the others go on; it comes back.
func away(t *testing.T, f *fleet, s, near *scene) {
	for name, fault := range map[string]apiproxy.Fault{"hangs": {Hang: true}, "refuses": {Reset: true}} {
		open := f.shut(fault)
		s.commit(append(s.want, s.configMap(name, "1"))...)
		s.request(s.gitRepository())
		s.awaitMessage(meta.ReconciliationFailedReason, "failed to reach the cluster "+f.proxy.URL)
		near.commit(near.configMap("a", name))
		near.request(near.gitRepository())
		near.awaitApplied(near.latest)
		open()
		s.awaitApplied(s.latest)
	}
}

// remoteSlow is reliability 043 and 081: a cluster that hangs in the middle of a run does not hold the only work slot.
func remoteSlow(t *testing.T, f *fleet) {
	r := newRig(t, "--kustomize-concurrent=1", "--remote-limit-time=10m")
	f.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}})
	near, s := r.newScene(t), r.newScene(t)
	asked, hold := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.proxy.Add(&apiproxy.Rule{Match: apiproxy.Match{Resource: "configmaps", Verb: "apply"}, Times: -1, Fault: apiproxy.Fault{Hold: hold}, When: func(*apiproxy.Request) bool {
		once.Do(func() { close(asked) })
		return true
	}})
	s.commit(s.configMap("a", "1"))
	f.send(s, nil)
	select {
	case <-asked:
	case <-time.After(patience):
		t.Fatal("the cluster was asked for nothing")
	}
	near.start(near.configMap("a", "1"))
	close(hold)
	f.proxy.Clear()
	s.awaitApplied(s.latest)
	for _, done := range []*scene{s, near} {
		deleteKustomization(done)
		done.awaitKustomization(goneKustomization)
	}
}

// anotherDoor: new credentials and another address of the same cluster change nothing about its objects, and the old ones are used no
// longer (reliability 136).
func anotherDoor(t *testing.T, f *fleet, s *scene, o *unstructured.Unstructured) {
	s.commit(o)
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	before := f.live(o).GetUID()
	old := f.proxy
	f.proxy = f.door()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name}}
	if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(secret), secret); err != nil {
		t.Fatal(err)
	}
	secret.Data = map[string][]byte{"value": f.kubeconfig(f.proxy)}
	if err := s.client.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	// kustomization 5: the label makes it an event.
	if err := poll(t.Context(), patience, func() bool { return len(f.proxy.Requests(0)) > 0 }); err != nil {
		t.Errorf("the change of the Secret woke nobody: %v", err)
	}
	s.request(s.ks())
	s.awaitApplied(s.latest)
	seq := old.Seq()
	s.request(s.ks())
	s.awaitApplied(s.latest)
	if got := old.Requests(seq); len(got) > 0 {
		t.Errorf("the old address was asked for %s", got[0].String())
	}
	s.held(o)
	if f.live(o).GetUID() != before {
		t.Error("the object was made anew")
	}
}

// awaitEvent waits for an event of the Kustomization.
func (s *scene) awaitEvent(reason, part string) {
	s.t.Helper()
	err := poll(s.t.Context(), patience, func() bool {
		var events corev1.EventList
		if err := s.client.List(context.WithoutCancel(s.t.Context()), &events, client.InNamespace(s.namespace)); err != nil {
			return false
		}
		for _, e := range events.Items {
			if e.InvolvedObject.Name == s.name && e.Reason == reason && strings.Contains(e.Message, part) {
				return true
			}
		}
		return false
	})
	if err != nil {
		s.t.Errorf("no event %s with %q: %v", reason, part, err)
	}
}
