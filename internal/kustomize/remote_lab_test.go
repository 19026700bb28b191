package kustomize

import (
	"context"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/component"
	"github.com/seed-79636ae9/flux/toolkit/cluster"
	"github.com/seed-79636ae9/flux/toolkit/cluster/clustertest"
	"github.com/seed-79636ae9/flux/toolkit/depend"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/loop/looptest"
)

// newRemoteLab is a lab without a real API server. The controller's own one is home, which is asked for nothing.
func newRemoteLab(t *testing.T, options ...func(*instance)) (l *lab, home *clustertest.Server) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, sourcev1.AddToScheme, kustomizev1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	home = clustertest.NewServer(t, "home")
	l = &lab{t: t, ns: "apps", client: fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&kustomizev1.Kustomization{}, &sourcev1.GitRepository{}).Build()}
	artifacts := l.openArtifacts()
	l.host = &component.Host{Client: l.client, Reader: l.client, Clusters: home.Clients(t), Artifacts: artifacts, Log: logr.Discard()}
	l.k = &Kustomizer{
		Options: Options{RequeueDependency: 30 * time.Second, ConcurrentSSA: 4},
		Cached:  l.client, Reader: l.client, Sources: resolver(l.host), Artifacts: artifacts,
		Graph: depend.NewGraph(), Namespace: "flux-system", Clock: clock.RealClock{}, touched: newOwnerSet(),
		yielding: newOwnerSet(), conflicts: newBulletin(), drifts: newBulletin(), wake: func(kube.Owner) {},
		Claims: func(context.Context, string) ([]kustomizev1.Kustomization, error) { return nil, nil },
	}
	i := &instance{}
	for _, option := range options {
		option(i)
	}
	i.watchManaged(t.Context(), l.k, l.host, func(kube.Owner, time.Duration) {})
	l.Bench = looptest.New(t, l.k.controller(l.host, nil), loop.Options{Client: l.client, Reader: l.client, Concurrent: 1, MaxParked: 1})
	if err := l.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.ns, Finalizers: []string{"test/held"}}}); err != nil {
		t.Fatal(err)
	}
	l.publish("main@sha1:1", map[string]string{"a.yaml": configMap("a", "one")})
	return l, home
}

// secret makes or replaces the Secret "fleet".
func (l *lab) secret(data map[string]string) {
	l.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "fleet"}, Data: map[string][]byte{}}
	for k, v := range data {
		s.Data[k] = []byte(v)
	}
	if err := l.client.Create(l.t.Context(), s); err == nil {
		return
	}
	if err := l.client.Update(l.t.Context(), s); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) removeSecret() {
	l.t.Helper()
	if err := l.client.Delete(l.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "fleet"}}); err != nil {
		l.t.Fatal(err)
	}
}

func toFleet(o *kustomizev1.Kustomization) {
	o.Spec.KubeConfig = &meta.KubeConfigReference{SecretRef: &meta.SecretKeyReference{Name: "fleet"}}
}

// try runs once, whatever comes of it, and returns the Ready condition.
func (l *lab) try() string {
	l.t.Helper()
	// A run that fails is one that the queue hears of.
	_, _ = l.Run(l.t.Context(), l.key())
	return l.condition(meta.ReadyCondition)
}

// holds gives the object an inventory of two objects, of the cluster with the id.
func (l *lab) holds(id string) {
	l.t.Helper()
	obj := l.get()
	obj.Status.Inventory = &meta.Inventory{Entries: []meta.InventoryEntry{{ID: "apps_a__ConfigMap", Version: "v1"}, {ID: "apps_b__ConfigMap", Version: "v1"}}}
	if id != "" {
		obj.Status.Conditions = append(obj.Status.Conditions, metav1.Condition{
			Type: cluster.Condition, Status: metav1.ConditionTrue, Reason: cluster.ConnectedReason, Message: id, LastTransitionTime: metav1.Now(),
		})
	}
	if err := l.client.Status().Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
}
