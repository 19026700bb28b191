package e2e

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
)

// remoteHealth is kustomization 85 on another cluster: the end of the wait is seen there.
func remoteHealth(t *testing.T, f *fleet) {
	r := newRig(t)
	f.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}})
	s := r.newScene(t)
	claim := object("v1", "PersistentVolumeClaim", s.namespace, s.name, map[string]any{"spec": map[string]any{
		"accessModes": []any{"ReadWriteOnce"}, "storageClassName": "none", "resources": map[string]any{"requests": map[string]any{"storage": "1Gi"}},
	}})
	s.commit(claim)
	f.send(s, func(k *kustomizev1.Kustomization) { k.Spec.Wait, k.Spec.Timeout = true, "5m" })
	f.await(claim, "applied", func(o *unstructured.Unstructured) bool { return o != nil })
	s.awaitKustomization(func(o *kustomizev1.Kustomization) string {
		if c := find(o.Status.Conditions, meta.HealthyCondition); c == nil || c.Status != metav1.ConditionUnknown {
			return "it does not wait for health: " + conditions(o.Status.Conditions)
		}
		return ""
	})
	if err := f.client.Status().Patch(t.Context(), claim.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(`{"status":{"phase":"Bound"}}`))); err != nil {
		t.Fatal(err)
	}
	s.awaitApplied(s.latest)
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
}

// remoteAccount is kustomization 97: with an account, the one of that name on the other cluster decides what may be done there.
func remoteAccount(t *testing.T, f *fleet) {
	r := newRig(t)
	f.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}})
	s := r.newScene(t)
	s.commit(s.configMap("a", "1"))
	f.send(s, func(k *kustomizev1.Kustomization) { k.Spec.ServiceAccountName = "team" })
	user := "system:serviceaccount:" + s.namespace + ":team"
	s.awaitMessage(meta.ReconciliationFailedReason, `User "`+user+`" cannot`)
	f.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "team"}})
	f.create(admin(s.namespace, "team"))
	s.awaitApplied(s.latest)
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	for _, q := range f.proxy.Requests(0) {
		if (q.IsWrite() || q.DryRun) && q.Impersonate != user {
			t.Errorf("%s was sent as %q", q.String(), q.Impersonate)
		}
	}
}

// remoteRights: credentials that may neither watch all namespaces nor tell one cluster from another suffice for what they may do.
// What they may not watch is polled.
func remoteRights(t *testing.T, f *fleet) {
	r := newRig(t)
	f.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}})
	s := r.newScene(t)
	config := rest.AnonymousClientConfig(f.config)
	config.BearerToken = f.token(s.namespace, "deployer")
	narrow := *f
	narrow.config = config
	narrow.proxy = narrow.door()
	a, b := s.configMap("a", "1"), s.configMap("b", "1")
	s.commit(a, b)
	narrow.send(s, func(k *kustomizev1.Kustomization) { k.Spec.Wait = true })
	s.awaitApplied(s.latest)
	s.awaitKustomization(func(o *kustomizev1.Kustomization) string {
		if c := find(o.Status.Conditions, "RemoteCluster"); c == nil || c.Message != narrow.proxy.URL {
			return "it does not say where it is: " + conditions(o.Status.Conditions)
		}
		return ""
	})
	if err := f.client.Delete(t.Context(), b.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	s.request(s.ks())
	f.await(b, "put right", func(o *unstructured.Unstructured) bool { return o != nil })
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	if f.live(a) != nil || f.live(b) != nil {
		t.Error("objects are left behind")
	}
}

// token makes an account that is admin of its namespace, and returns a token of it.
func (f *fleet) token(namespace, name string) string {
	f.t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	f.create(account)
	f.create(admin(namespace, name))
	request := &authenticationv1.TokenRequest{}
	if err := f.client.SubResource("token").Create(f.t.Context(), account, request); err != nil {
		f.t.Fatal(err)
	}
	return request.Status.Token
}

// admin binds an account to the role admin of its namespace.
func admin(namespace, account string) *unstructured.Unstructured {
	return object(rbacv1.SchemeGroupVersion.String(), "RoleBinding", namespace, account, map[string]any{
		"roleRef":  map[string]any{"apiGroup": rbacv1.GroupName, "kind": "ClusterRole", "name": "admin"},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "namespace": namespace, "name": account}},
	})
}

// remoteBecomesOwn is reliability 136: when the target changes, nothing of the same name is deleted in the new cluster, and what
// stays in the old one is told.
func remoteBecomesOwn(t *testing.T, f *fleet) {
	r := newRig(t)
	f.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.namespace}})
	s := r.newScene(t)
	a, b := s.configMap("a", "1"), s.configMap("b", "1")
	s.commit(a, b)
	f.send(s, nil)
	s.awaitApplied(s.latest)
	// The object of the same name carries the very labels that would let it be pruned.
	twin := b.DeepCopy()
	twin.SetLabels(f.live(b).GetLabels())
	s.create(twin)
	s.suspend(s.ks(), true)
	s.commit(a)
	s.request(s.gitRepository())
	s.awaitArtifact(s.latest)
	s.patch(s.ks(), `{"spec":{"kubeConfig":null,"suspend":false}}`)
	s.awaitApplied(s.latest)
	s.present(a, twin)
	s.held(a)
	if f.live(a) == nil || f.live(b) == nil {
		t.Error("objects of the old cluster are gone")
	}
	s.awaitEvent("ClusterChanged", "2 objects stay in the old one")
	if err := s.client.Delete(t.Context(), twin); err != nil {
		t.Fatal(err)
	}
	s.clear()
}
