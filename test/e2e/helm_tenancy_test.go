package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// TestHelmTenants are the attacks of somebody who may write HelmReleases in one namespace, against a process that is locked down.
func TestHelmTenants(t *testing.T) {
	t.Parallel()
	r := newHelmRig(t, "--no-cross-namespace-refs", "--default-service-account=default")
	r.offer(t, plain())
	victim := testkit.Namespace(t, r.config)
	t.Run("030 no rights", func(t *testing.T) { helmNoRights(r.newAct(t)) })
	t.Run("033 namespaces", func(t *testing.T) { helmNamespaces(r.newAct(t), victim) })
	t.Run("028 references", func(t *testing.T) { helmReferences(r.newAct(t), victim) })
	audit(t, r.rig, r.proxy.Requests(0))
}

// helmNoRights: who names no account acts as the default one of the namespace, and that may do nothing until somebody says so (helmrelease
// 88, 90).
func helmNoRights(a *act) {
	defer a.leaveFailed()
	a.makePlain(firstValues, nil)
	a.awaitUnready(helmv2.StateErrorReason, `User "system:serviceaccount:`+a.namespace+`:default" cannot list resource "secrets"`)
	a.absent(a.want...)
	binding := a.lets("default", "admin")
	a.awaitDeployed()
	a.verifyRelease(1, a.deployed)
	a.end()
	if err := a.client.Delete(a.t.Context(), binding); err != nil {
		a.t.Fatal(err)
	}
}

// helmNamespaces: the rights of the account decide what a release may do in other namespaces, wherever these are named, and the status
// says so. A failed release can be deleted.
func helmNamespaces(a *act, victim string) {
	defer a.leaveFailed()
	a.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: "rec"}})
	a.lets("rec", "admin")
	denied := fmt.Sprintf(`User "system:serviceaccount:%s:rec" cannot`, a.namespace)
	for _, tt := range []struct {
		name, reason string
		values       plainValues
		change       func(*helmv2.HelmReleaseSpec)
	}{
		{"target", helmv2.InstallFailedReason, firstValues, func(spec *helmv2.HelmReleaseSpec) { spec.TargetNamespace = victim }},
		{"storage", helmv2.StateErrorReason, firstValues, func(spec *helmv2.HelmReleaseSpec) { spec.StorageNamespace = victim }},
		{"template", helmv2.InstallFailedReason, plainValues{Names: []string{"a"}, Namespace: victim}, nil},
		{"system", helmv2.InstallFailedReason, plainValues{Names: []string{"a"}, Namespace: "kube-system"}, nil},
	} {
		a.make(plain(), tt.values, func(spec *helmv2.HelmReleaseSpec) {
			spec.ServiceAccountName, spec.ReleaseName = "rec", a.name+"-"+tt.name
			if tt.change != nil {
				tt.change(spec)
			}
		})
		a.awaitUnready(tt.reason, denied)
		a.deleteHR()
		if err := a.goneHR(a.t.Context()); err != nil {
			a.t.Errorf("%s: %v", tt.name, err)
			return
		}
		for _, namespace := range []string{victim, "kube-system"} {
			var secrets corev1.SecretList
			var maps corev1.ConfigMapList
			if err := a.client.List(a.t.Context(), &secrets, client.InNamespace(namespace), client.MatchingLabels{"owner": "helm"}); err != nil {
				a.t.Fatal(err)
			}
			selector := client.MatchingLabels{helmv2.OwnerNameLabel: a.name}
			if err := a.client.List(a.t.Context(), &maps, client.InNamespace(namespace), selector); err != nil {
				a.t.Fatal(err)
			}
			if len(secrets.Items)+len(maps.Items) > 0 {
				a.t.Errorf("%s: namespace %s has %d records and %d objects of the tenant", tt.name, namespace, len(secrets.Items), len(maps.Items))
			}
		}
	}
}

// helmReferences: charts and dependencies of other namespaces are refused (helmrelease 14, 19).
func helmReferences(a *act, victim string) {
	defer a.leaveFailed()
	a.makePlain(firstValues, func(spec *helmv2.HelmReleaseSpec) { spec.ChartRef.Namespace = victim })
	a.awaitUnready("AccessDenied", victim)
	a.deleteHR()
	if err := a.goneHR(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
}

// TestHelmTenantLeaves is reliability 045: a namespace is deleted with a release and its HelmRelease in it, in whatever order, and nobody
// has to edit a finalizer.
func TestHelmTenantLeaves(t *testing.T) {
	t.Parallel()
	r := newHelmRig(t, "--no-cross-namespace-refs", "--default-service-account=default")
	tenant := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "leaves-" + r.home}}
	if err := r.client.Create(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	r.namespace = tenant.Name
	defer func() { r.namespace = r.home }()
	r.offer(t, plain())
	a := r.newAct(t)
	a.lets("default", "admin")
	a.makePlain(firstValues, nil)
	a.awaitDeployed()
	if err := r.client.Delete(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	if err := poll(t.Context(), 2*time.Minute, func() bool {
		err := r.client.Get(t.Context(), client.ObjectKeyFromObject(tenant), tenant)
		return err != nil && client.IgnoreNotFound(err) == nil
	}); err != nil {
		t.Errorf("the namespace is still there: %v: %+v", err, tenant.Status)
	}
}

// TestHelmTargetEnds is reliability 116: the target namespace of a release is being deleted and stays so for a while. The message says it,
// attempts are few, and everything is there again when the namespace is.
func TestHelmTargetEnds(t *testing.T) {
	t.Parallel()
	r := newHelmRig(t)
	r.offer(t, plain())
	a := r.newAct(t)
	defer a.leaveFailed()
	target := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ends-" + r.home}}
	a.create(target.DeepCopy())
	a.target = target.Name
	a.makePlain(firstValues, func(spec *helmv2.HelmReleaseSpec) {
		spec.TargetNamespace, spec.ReleaseName = target.Name, a.release
		spec.Upgrade = &helmv2.Upgrade{Strategy: &helmv2.UpgradeStrategy{Name: helmv2.RetryOnFailure, RetryInterval: "1s"}}
	})
	a.awaitDeployed()
	held := object("v1", "ConfigMap", target.Name, "held", nil)
	held.SetFinalizers([]string{"e2e.test/held"})
	a.create(held)
	if err := a.client.Delete(t.Context(), target.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	a.setValues(secondValues)
	a.awaitUnready(helmv2.UpgradeFailedReason, "is being terminated")
	a.patch(held, `{"metadata":{"finalizers":null}}`)
	a.awaitNamespaceGone(target)
	a.create(target.DeepCopy())
	t.Cleanup(func() {
		if err := r.client.Delete(context.WithoutCancel(t.Context()), target.DeepCopy()); err != nil {
			t.Error(err)
		}
	})
	a.awaitDeployed()
	a.want = a.renders(secondValues)
	// Each attempt is a version: one a second at most, and the two that are good.
	a.verifyRelease(int(time.Since(began)/time.Second)+4, a.deployed)
	a.end()
}
