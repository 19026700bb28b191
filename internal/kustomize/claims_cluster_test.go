package kustomize

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// patch merge-patches a ConfigMap as somebody else.
func (l *lab) patch(name, body string) {
	l.t.Helper()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: name}}
	if err := l.client.Patch(l.t.Context(), cm, client.RawPatch(types.MergePatchType, []byte(body)), client.FieldOwner("someone")); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) remove(name string) {
	l.t.Helper()
	if err := l.client.Delete(l.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: name}}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) configMap(name string) *corev1.ConfigMap {
	l.t.Helper()
	cm := &corev1.ConfigMap{}
	if err := l.client.Get(l.t.Context(), client.ObjectKey{Namespace: l.ns, Name: name}, cm); err != nil {
		l.t.Fatal(err)
	}
	return cm
}

// pair is two Kustomizations "a" and "b" that both declare the ConfigMap "x", and one of their own.
func newPair(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.both("main@sha1:1", "x", "x")
	for _, name := range []string{"a", "b"} {
		l.create(func(o *kustomizev1.Kustomization) { o.Name, o.Spec.Path = name, "./"+name })
	}
	return l
}

// both publishes what a and b declare besides their own.
func (l *lab) both(revision string, a, b string) {
	l.t.Helper()
	out := map[string]string{"a/own.yaml": configMap("own-a", "one"), "b/own.yaml": configMap("own-b", "one")}
	for dir, name := range map[string]string{"a": a, "b": b} {
		if name != "" {
			out[dir+"/"+name+".yaml"] = configMap(name, "one")
		}
	}
	l.publish(revision, out)
}

func (l *lab) run(name string) {
	l.t.Helper()
	if _, err := l.Run(l.t.Context(), types.NamespacedName{Namespace: l.ns, Name: name}); err != nil {
		l.t.Fatal(err)
	}
}

// ask runs an object because somebody asked for it, so that it is done whole.
func (l *lab) ask(name string) {
	l.t.Helper()
	obj := l.named(name)
	obj.Annotations = map[string]string{meta.ReconcileRequestAnnotation: obj.ResourceVersion}
	if err := l.client.Update(l.t.Context(), obj); err != nil {
		l.t.Fatal(err)
	}
	l.run(name)
}

func (l *lab) named(name string) *kustomizev1.Kustomization {
	l.t.Helper()
	obj := &kustomizev1.Kustomization{}
	if err := l.client.Get(l.t.Context(), types.NamespacedName{Namespace: l.ns, Name: name}, obj); err != nil {
		l.t.Fatal(err)
	}
	return obj
}

func (l *lab) holder(name string) string {
	l.t.Helper()
	return l.configMap(name).Labels[kustomizev1.OwnerNameLabel]
}

func (l *lab) owner(name string) kube.Owner { return kube.Owner{Namespace: l.ns, Name: name} }

// reliability 139: two owners of one object. While both declare it that is told once by each; who drops it does not delete it, keeps
// it in its inventory until the other has put its labels on it, and wakes the other; when both drop it, it goes.
func TestTwoOwners(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	l.run("a")
	l.run("b")
	l.told()
	uid := l.configMap("x").UID

	conflict := "error OwnershipConflict: two Kustomizations declare one object, remove it from one of them:\nConfigMap/NS/x is also applied by Kustomization NS/"
	for _, name := range []string{"b", "a"} {
		l.ask(name)
		told := strings.Join(l.told(), "\n")
		if want := conflict + map[string]string{"a": "b", "b": "a"}[name]; !strings.Contains(told, want) {
			t.Errorf("%s told %q, want %q in it", name, told, want)
		}
		l.ask(name)
		if told := strings.Join(l.told(), "\n"); strings.Contains(told, "OwnershipConflict") {
			t.Errorf("%s told it again: %s", name, told)
		}
	}

	// The last to apply it was a, so the labels are a's when a drops it.
	expect(t, "owner", "a", l.holder("x"))
	l.both("main@sha1:2", "", "x")
	l.run("a")
	expect(t, "UID", uid, l.configMap("x").UID)
	expect(t, "b was woken", true, l.woken.take(l.owner("b")))
	expect(t, "a keeps its entry", true, holds(l.named("a"), l.ns+"_x__ConfigMap"))
	told := strings.Join(l.told(), "\n")
	if strings.Contains(told, "/x ") {
		t.Errorf("a told %q of an object that has not moved yet", told)
	}
	l.run("b")
	expect(t, "owner", "b", l.holder("x"))
	for deadline := time.Now().Add(10 * time.Second); !l.woken.take(l.owner("a")); {
		if time.Now().After(deadline) {
			t.Fatal("a was not woken when b had taken the object")
		}
	}
	l.run("a")
	expect(t, "a keeps its entry", false, holds(l.named("a"), l.ns+"_x__ConfigMap"))
	expect(t, "UID", uid, l.configMap("x").UID)

	// Back, and then out of both at once, in either order.
	l.both("main@sha1:3", "x", "x")
	l.run("b")
	l.run("a")
	l.both("main@sha1:4", "", "")
	l.run("a")
	expect(t, "the object is there while b holds it", true, l.has("x"))
	before := l.named("b")
	l.run("b")
	woken := []types.NamespacedName{l.owner("a").Key()}
	expect(t, "woken when b lets go", woken, l.k.onClaim(before, l.named("b")))
	expect(t, "woken when b is gone", woken, l.k.onClaim(before, nil))
	expect(t, "woken when nothing changed", []types.NamespacedName(nil), l.k.onClaim(before, before))
	l.run("a")
	expect(t, "woken when nobody waits", []types.NamespacedName(nil), l.k.onClaim(before, nil))
	expect(t, "the object is there when nobody holds it", false, l.has("x"))
	expect(t, "a keeps its entry", false, holds(l.named("a"), l.ns+"_x__ConfigMap"))
}

// reliability 139: who is deleted hands what another one holds over to it; the other deletes it some day.
func TestTwoOwnersOneDeleted(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	l.run("b")
	l.run("a")
	uid := l.configMap("x").UID
	if err := l.client.Delete(t.Context(), l.named("a")); err != nil {
		t.Fatal(err)
	}
	l.told()
	l.run("a")
	if told := strings.Join(l.told(), "\n"); !strings.Contains(told, "ConfigMap/NS/x skipped") || !strings.Contains(told, "ConfigMap/NS/own-a deleted") {
		t.Errorf("a told %q", told)
	}
	expect(t, "UID", uid, l.configMap("x").UID)
	expect(t, "owner", "b", l.holder("x"))
	l.both("main@sha1:2", "", "")
	l.run("b")
	expect(t, "the object is there when nobody holds it", false, l.has("x"))
}

// reliability 139: both are deleted at once; neither waits for the other, and nothing is left.
func TestTwoOwnersBothDeleted(t *testing.T) {
	t.Parallel()
	l := newPair(t)
	l.run("b")
	l.run("a")
	for _, name := range []string{"a", "b"} {
		if err := l.client.Delete(t.Context(), l.named(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"b", "a"} {
		l.run(name)
		if err := l.client.Get(t.Context(), types.NamespacedName{Namespace: l.ns, Name: name}, &kustomizev1.Kustomization{}); !apierrors.IsNotFound(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	expect(t, "x is left", false, l.has("x"))
}

// reliability 139: inventories of another cluster are about other objects.
func TestSameCluster(t *testing.T) {
	remote := func(namespace, secret string) *kustomizev1.Kustomization {
		obj := &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: secret}}
		if secret != "" {
			obj.Spec.KubeConfig = &meta.KubeConfigReference{SecretRef: &meta.SecretKeyReference{Name: secret}}
		}
		return obj
	}
	for name, tt := range map[string]struct {
		a, b *kustomizev1.Kustomization
		want bool
	}{
		"both here":            {remote("a", ""), remote("b", ""), true},
		"here and there":       {remote("a", ""), remote("a", "s"), false},
		"the same Secret":      {remote("a", "s"), remote("a", "s"), true},
		"another Secret":       {remote("a", "s"), remote("a", "t"), false},
		"in another namespace": {remote("a", "s"), remote("b", "s"), false},
		"there and here":       {remote("a", "s"), remote("a", ""), false},
	} {
		expect(t, name, tt.want, sameCluster(tt.a, tt.b))
	}
}
