package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
)

// lockdown are the flags for clusters that tenants share.
func lockdown() []string {
	return []string{"--no-cross-namespace-refs", "--default-service-account=default", "--no-remote-bases"}
}

// lets gives the account of the scene's namespace the rights of the role there.
func (s *scene) lets(account, role string) *unstructured.Unstructured {
	s.t.Helper()
	binding := object(rbacv1.SchemeGroupVersion.String(), "RoleBinding", s.namespace, account+"-"+role, map[string]any{
		"roleRef":  map[string]any{"apiGroup": rbacv1.GroupName, "kind": "ClusterRole", "name": role},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "namespace": s.namespace, "name": account}},
	})
	s.create(binding)
	return binding
}

// orphan lets the scene's objects go without a run, whatever rights are left.
func (s *scene) orphan() {
	s.t.Helper()
	s.patch(s.ks(), `{"spec":{"deletionPolicy":"Orphan"}}`)
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	s.collateral()
}

// audit fails on every request that used the controller's own rights for what is not the controller's own business (O7): objects of other
// namespaces, and writes to anything but the kinds of flux.
func audit(t *testing.T, r *rig, requests []apiproxy.Request) {
	t.Helper()
	if len(requests) == 0 {
		t.Error("O7: there were no requests to look at")
	}
	for _, q := range requests {
		flux := strings.HasSuffix(q.Group, ".toolkit.fluxcd.io")
		switch {
		case q.Impersonate != "", q.Resource == "":
		case (q.IsWrite() || q.DryRun) && !flux:
			t.Errorf("O7: %s was sent with the rights of the controller (request %d)", q.String(), q.Seq)
		case q.Namespace != "" && q.Namespace != r.namespace && q.Group != "coordination.k8s.io":
			t.Errorf("O7: %s looked into another namespace with the rights of the controller (request %d)", q.String(), q.Seq)
		}
	}
}

// TestTenants are the attacks of somebody who may write objects of flux in one namespace, against a process that is locked down.
func TestTenants(t *testing.T) {
	t.Parallel()
	r := newRig(t, lockdown()...)
	victim := testkit.Namespace(t, r.config)
	t.Run("no rights", func(t *testing.T) { noRights(r.newScene(t)) })
	t.Run("account names", func(t *testing.T) { accountNames(r.newScene(t)) })
	t.Run("children", func(t *testing.T) { children(r.newScene(t)) })
	t.Run("forged inventory", func(t *testing.T) { forgedInventory(r.newScene(t), victim) })
	t.Run("references", func(t *testing.T) { references(r.newScene(t), victim) })
	t.Run("remote bases", func(t *testing.T) { remoteBases(r.newScene(t)) })
	audit(t, r, r.proxy.Requests(0))
}

// noRights is reliability 030: who names no account acts as the default one of the namespace, and that may do nothing until somebody
// says so.
func noRights(s *scene) {
	defer s.abandonFailed()
	object := s.configMap("a", "1")
	s.commit(object)
	s.source()
	s.kustomization(nil)
	s.awaitMessage(meta.ReconciliationFailedReason, `User "system:serviceaccount:`+s.namespace+`:default" cannot`)
	s.absent(object)
	binding := s.lets("default", "admin")
	s.awaitApplied(s.latest)
	s.present(object)
	if err := s.client.Delete(s.t.Context(), binding); err != nil {
		s.t.Fatal(err)
	}
	s.orphan()
}

// accountNames is reliability 031: whatever the name, nobody is impersonated but accounts of the namespace.
func accountNames(s *scene) {
	defer s.abandonFailed()
	s.commit(s.configMap("a", "1"))
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.ServiceAccountName = "system:masters" })
	for _, name := range []string{"system:masters", "other:rec", "../rec", "rec/../../x", strings.Repeat("x", 300)} {
		s.patch(s.ks(), fmt.Sprintf(`{"spec":{"serviceAccountName":%q}}`, name))
		s.awaitMessage(meta.ReconciliationFailedReason, fmt.Sprintf("invalid service account name %q", name))
	}
	s.patch(s.ks(), `{"spec":{"serviceAccountName":""}}`)
	s.awaitMessage(meta.ReconciliationFailedReason, `User "system:serviceaccount:`+s.namespace+`:default" cannot`)
	for _, q := range s.proxy.Requests(s.since) {
		if q.Impersonate != "" && q.Impersonate != "system:serviceaccount:"+s.namespace+":default" {
			s.t.Errorf("%s was sent as %q", q.String(), q.Impersonate)
		}
	}
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
}

// children is reliability 032: a Kustomization that a Kustomization applies has no more rights than one that a person applies.
func children(s *scene) {
	defer s.abandonFailed()
	s.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "parent"}})
	s.create(object(rbacv1.SchemeGroupVersion.String(), "Role", s.namespace, "parent", map[string]any{"rules": []any{
		map[string]any{"apiGroups": []any{kustomizev1.GroupVersion.Group}, "resources": []any{"kustomizations"}, "verbs": []any{"*"}},
	}}))
	s.create(object(rbacv1.SchemeGroupVersion.String(), "RoleBinding", s.namespace, "parent", map[string]any{
		"roleRef":  map[string]any{"apiGroup": rbacv1.GroupName, "kind": "Role", "name": "parent"},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "namespace": s.namespace, "name": "parent"}},
	}))
	child := object(kustomizev1.GroupVersion.String(), kustomizev1.KustomizationKind, s.namespace, s.name+"-child", map[string]any{"spec": map[string]any{
		"sourceRef": map[string]any{"kind": "GitRepository", "name": s.name}, "path": "./child", "interval": "1h", "retryInterval": "1s", "prune": true,
	}})
	child.SetLabels(map[string]string{shard: s.namespace})
	loot := s.configMap("loot", "1")
	revision := s.push(map[string]*testkit.GitFile{
		"parent/child.yaml": {Content: string(encode(s.t, child))}, "child/loot.yaml": {Content: string(encode(s.t, loot))},
	})
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.Path, k.Spec.ServiceAccountName = "./parent", "parent" })
	s.awaitApplied(revision)
	as := &scene{rig: s.rig, t: s.t, name: s.name + "-child"}
	as.awaitMessage(meta.ReconciliationFailedReason, `User "system:serviceaccount:`+s.namespace+`:default" cannot`)
	s.absent(loot)
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	as.awaitKustomization(goneKustomization)
}

// forgedInventory is reliability 041: what somebody writes into the inventory is deleted neither with the rights of the controller nor
// without the labels of the owner.
func forgedInventory(s *scene, victim string) {
	defer s.abandonFailed()
	s.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "team"}})
	s.lets("team", "admin")
	kept := s.configMap("kept", "1")
	s.create(kept)
	loot := object("v1", "ConfigMap", victim, "loot", nil)
	// Even with labels that say it is the tenant's.
	loot.SetLabels(map[string]string{kustomizev1.GroupVersion.Group + "/name": s.name, kustomizev1.GroupVersion.Group + "/namespace": s.namespace})
	s.create(loot)
	s.commit(s.configMap("a", "1"))
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.ServiceAccountName = "team" })
	s.awaitApplied(s.latest)
	obj := s.ks()
	if err := s.client.Get(s.t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
		s.t.Fatal(err)
	}
	obj.Status.Inventory.Entries = append(obj.Status.Inventory.Entries,
		meta.InventoryEntry{ID: s.namespace + "_" + kept.GetName() + "__ConfigMap", Version: "v1"},
		meta.InventoryEntry{ID: victim + "_loot__ConfigMap", Version: "v1"},
		meta.InventoryEntry{ID: "kube-system_extension-apiserver-authentication__ConfigMap", Version: "v1"})
	if err := s.client.Status().Update(s.t.Context(), obj); err != nil {
		s.t.Fatal(err)
	}
	s.request(s.ks())
	s.awaitMessage(meta.PruneFailedReason, `User "system:serviceaccount:`+s.namespace+`:team" cannot`)
	s.present(kept, loot)
	for _, q := range s.proxy.Requests(s.since) {
		if q.Verb == "delete" && (q.Namespace == victim || q.Namespace == "kube-system" || q.Name == kept.GetName()) {
			s.t.Errorf("there was %s", q.String())
		}
	}
	s.orphan()
}

// references is reliability 028, 029 and 034: sources and dependencies of other namespaces are refused, and tell nothing by an expression.
func references(s *scene, victim string) {
	defer s.abandonFailed()
	s.commit(s.configMap("a", "1"))
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.SourceRef.Namespace = victim })
	s.awaitMessage(meta.AccessDeniedReason, victim)
	s.patch(s.ks(), `{"spec":{"sourceRef":{"namespace":null}}}`)
	s.patch(s.ks(), fmt.Sprintf(`{"spec":{"dependsOn":[{"name":"app","namespace":%q,"readyExpr":"dep.spec.path.startsWith('./a')"}]}}`, victim))
	s.awaitMessage(meta.AccessDeniedReason, victim)
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
}

// remoteBases: with the flag, a base that is not in the artifact is fetched from nowhere.
func remoteBases(s *scene) {
	defer s.abandonFailed()
	s.push(map[string]*testkit.GitFile{"kustomization.yaml": {Content: "resources: [\"" + s.git.URL + "/base.yaml\"]\n"}})
	s.source()
	s.kustomization(nil)
	s.awaitMessage(meta.BuildFailedReason, "remote bases are refused (--no-remote-bases)")
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
}

// TestTenantLeaves is reliability 045: a namespace is deleted with all that is in it, in whatever order, and nobody has to edit a
// finalizer.
func TestTenantLeaves(t *testing.T) {
	t.Parallel()
	r := newRig(t, lockdown()...)
	tenant := "leaves-" + r.namespace
	if err := r.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant}}); err != nil {
		t.Fatal(err)
	}
	s := r.newScene(t)
	home := s.namespace
	s.rig.namespace = tenant
	s.lets("default", "admin")
	s.commit(s.configMap("a", "1"))
	label := func(o client.Object) { o.SetLabels(map[string]string{shard: home}) }
	away := s.ks()
	away.Name = "away"
	label(away)
	away.Spec = kustomizev1.KustomizationSpec{
		SourceRef: kustomizev1.SourceReference{Kind: "GitRepository", Name: s.name}, Interval: "1h", RetryInterval: "1s", Prune: true,
		KubeConfig: &meta.KubeConfigReference{SecretRef: &meta.SecretKeyReference{Name: "missing"}},
	}
	s.source()
	s.patch(s.gitRepository(), fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, shard, home))
	s.kustomization(nil)
	s.patch(s.ks(), fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, shard, home))
	s.create(away)
	s.awaitApplied(s.latest)
	away.Status.Inventory = &meta.Inventory{Entries: []meta.InventoryEntry{{ID: tenant + "_x__ConfigMap", Version: "v1"}}}
	if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(away), away); err != nil {
		t.Fatal(err)
	}
	away.Status.Inventory = &meta.Inventory{Entries: []meta.InventoryEntry{{ID: tenant + "_x__ConfigMap", Version: "v1"}}}
	if err := s.client.Status().Update(t.Context(), away); err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant}}
	if err := s.client.Delete(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	err := poll(t.Context(), 2*time.Minute, func() bool {
		err := s.client.Get(t.Context(), client.ObjectKeyFromObject(ns), ns)
		return err != nil && client.IgnoreNotFound(err) == nil
	})
	if err != nil {
		t.Errorf("the namespace is still there: %v: %+v", err, ns.Status)
	}
	s.rig.namespace = home
}

// TestLockdownFlags is reliability 044: a flag that is misspelt, or has no effect, ends the process before it does anything.
func TestLockdownFlags(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("runs the built binary, and -short asks for tests without it")
	}
	flux := must[string](t)(testkit.FindFlux())
	for _, test := range []struct{ flags, want string }{
		{"kustomize-controller --no-cross-namespace-ref", "unknown flag"},
		{"source-controller --no-cross-namespace-refs=maybe", "invalid argument"},
		{"--default-serviceaccount=default", "unknown flag"},
		{"source-controller --default-service-account=default", "has no effect without a feature gate"},
		{"kustomize-controller --default-kubeconfig-service-account=default", "has no effect without a feature gate"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, flux, slices.Concat([]string{"run"}, strings.Fields(test.flags), []string{"--kubeconfig=/nowhere"})...)
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		cancel()
		if err == nil || ctx.Err() != nil && ctx.Err() != context.Canceled || !strings.Contains(out.String(), test.want) {
			t.Errorf("%s: %v, want %q in: %s", test.flags, err, test.want, out.String())
		}
	}
}
