package kustomize

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
)

// later moves the clock of the controller.
func (l *lab) later(d time.Duration) { l.k.Clock = clocktesting.NewFakeClock(time.Now().Add(d)) }

// gone reports whether a Kustomization is no longer there.
func (l *lab) gone(name string) bool {
	l.t.Helper()
	err := l.client.Get(l.t.Context(), types.NamespacedName{Namespace: l.ns, Name: name}, &kustomizev1.Kustomization{})
	if err != nil && !apierrors.IsNotFound(err) {
		l.t.Fatal(err)
	}
	return err != nil
}

func (l *lab) delete(name string) {
	l.t.Helper()
	if err := l.client.Delete(l.t.Context(), &kustomizev1.Kustomization{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: name}}); err != nil {
		l.t.Fatal(err)
	}
}

// chain makes "app", which has applied the ConfigMap a, and "next", which depends on it.
func chain(t *testing.T, change ...func(*kustomizev1.Kustomization)) *lab {
	t.Helper()
	l := newLab(t)
	l.publish("main@sha1:1", map[string]string{"a.yaml": configMap("a", "one")})
	l.create(change...)
	l.step()
	l.create(func(o *kustomizev1.Kustomization) { o.Name, o.Spec.Path = "next", "./"; on("app")(o) })
	l.run("next")
	l.told()
	return l
}

// reliability 146: of two Kustomizations that are deleted, the dependent goes first, whichever was deleted first.
func TestDependentsGoFirst(t *testing.T) {
	t.Parallel()
	l := chain(t)
	l.delete("app")
	if result := l.step(); result.RequeueAfter <= 0 || result.RequeueAfter > departureGrace {
		t.Errorf("with a dependent that stays, it is looked at again after %s", result.RequeueAfter)
	}
	const staying = "waiting TIME in case Kustomization/NS/next, which depends on this, is deleted too"
	expect(t, "Ready", "False Progressing: "+staying, l.condition("Ready"))
	expect(t, "events", []string{"info Progressing: " + staying}, l.told())

	l.delete("next")
	if result := l.step(); result.RequeueAfter <= departureGrace || result.RequeueAfter > 9*time.Minute+30*time.Second {
		t.Errorf("with a dependent that goes, it is looked at again after %s", result.RequeueAfter)
	}
	const going = "waiting up to 9m30s for the deletion of Kustomization/NS/next, which depends on this"
	expect(t, "Ready", "False Progressing: "+going, l.condition("Ready"))
	expect(t, "events", []string{"info Progressing: " + going}, l.told())
	expect(t, "a is there", true, l.has("a"))

	l.run("next")
	expect(t, "next is gone", true, l.gone("next"))
	l.step()
	expect(t, "app is gone", true, l.gone("app"))
	expect(t, "a is there", false, l.has("a"))
}

// reliability 146: nothing waits for ever: neither for a dependent that stays, nor for one that cannot go.
func TestDependentsThatDoNotGo(t *testing.T) {
	t.Parallel()
	t.Run("one that stays", func(t *testing.T) {
		t.Parallel()
		l := chain(t)
		l.delete("app")
		l.later(departureGrace + 2*time.Second)
		l.step()
		expect(t, "app is gone", true, l.gone("app"))
		expect(t, "events", []string{"info ReconciliationSucceeded: ConfigMap/NS/a skipped", finished}, skippedOrDeleted(l.told()))
	})
	t.Run("one that cannot go", func(t *testing.T) {
		t.Parallel()
		l := chain(t, func(o *kustomizev1.Kustomization) { o.Spec.Timeout = "2m" })
		l.delete("app")
		l.delete("next")
		l.later(2*time.Minute + 2*time.Second)
		l.step()
		expect(t, "app is gone", true, l.gone("app"))
		expect(t, "next is gone", false, l.gone("next"))
		want := "error ReconciliationSucceeded: deletion goes on before that of Kustomization/NS/next, which depends on this and has not gone within 2m0s: see what keeps it"
		if told := l.told(); len(told) == 0 || told[0] != want {
			t.Errorf("events: %q\nwant first: %s", told, want)
		}
	})
	t.Run("a cycle", func(t *testing.T) {
		t.Parallel()
		l := chain(t)
		l.edit(on("next"))
		l.delete("app")
		l.delete("next")
		l.step()
		l.run("next")
		expect(t, "both are gone", true, l.gone("app") && l.gone("next"))
	})
	t.Run("when nothing is deleted anyway", func(t *testing.T) {
		t.Parallel()
		l := chain(t)
		l.edit(func(o *kustomizev1.Kustomization) { o.Spec.DeletionPolicy = kustomizev1.DeletionPolicyOrphan })
		l.delete("app")
		l.delete("next")
		l.step()
		expect(t, "app is gone", true, l.gone("app"))
		expect(t, "a is there", true, l.has("a"))
	})
}

// skippedOrDeleted makes the two outcomes of a shared object one: who applied it last keeps it.
func skippedOrDeleted(lines []string) []string {
	for i := range lines {
		lines[i] = strings.ReplaceAll(lines[i], "a deleted", "a skipped")
	}
	return lines
}

// reliability 045, kustomization 109: the Kustomization of a tenant whose account and rights went first leaves its objects and
// goes; the namespace needs nobody's help.
func TestTenantRemoval(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "deployer"}}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "deployer"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: l.ns, Name: "deployer"}},
	}
	l.publish("main@sha1:1", map[string]string{"a.yaml": configMap("a", "one")})
	l.create(func(o *kustomizev1.Kustomization) { o.Spec.ServiceAccountName = "deployer" })
	for _, create := range []func() error{
		func() error { return l.client.Create(t.Context(), account) },
		func() error { return l.client.Create(t.Context(), binding) },
	} {
		if err := create(); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); !l.has("a"); {
		// The authorizer of the API server learns of the binding by a watch.
		if time.Now().After(deadline) {
			t.Fatal(l.condition("Ready"))
		}
		l.step()
	}
	l.told()
	if err := l.client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.ns}}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if err := l.client.Get(t.Context(), types.NamespacedName{Name: l.ns}, &corev1.Namespace{}); apierrors.IsNotFound(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the namespace is still there: %v", l.told())
		}
		// The queue repeats a failure.
		_, _ = l.Run(t.Context(), l.key())
	}
}
