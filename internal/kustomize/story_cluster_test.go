package kustomize

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
)

func expect(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// historyOf writes the history as "status total revision".
func historyOf(obj *kustomizev1.Kustomization) []string {
	var out []string
	for _, h := range obj.Status.History {
		out = append(out, fmt.Sprintf("%s %d %s", h.LastReconciledStatus, h.TotalReconciliations, h.Metadata["revision"]))
	}
	return out
}

const finished = "info ReconciliationSucceeded: Reconciliation finished in TIME, next run in 10m0s"

// A Kustomization from its first revision to its deletion.
func TestLife(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	both := map[string]string{"a.yaml": configMap("a", "one"), "b.yaml": configMap("b", "one")}
	l.publish("main@sha1:1", both)
	l.create()

	// kustomization 26, 27, 76, 78, 100, 102: one event for what changed and one for the end, with the reason Ready has at that time.
	result := l.step()
	expect(t, "next run", 10*time.Minute, result.RequeueAfter)
	expect(t, "events", []string{"info Progressing: ConfigMap/NS/a created\nConfigMap/NS/b created", finished}, l.told())
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:1", l.condition("Ready"))
	obj := l.get()
	expect(t, "observedGeneration (kustomization 104)", obj.Generation, obj.Status.ObservedGeneration)
	expect(t, "revisions", []string{"main@sha1:1", "main@sha1:1"}, []string{obj.Status.LastAttemptedRevision, obj.Status.LastAppliedRevision})
	expect(t, "history", []string{"ReconciliationSucceeded 1 main@sha1:1"}, historyOf(obj))

	// kustomization 21, 100, 103, the way they are here: a routine run writes and tells nothing. A requested one does what it did in 2.9.
	l.step()
	expect(t, "version after a routine run", obj.ResourceVersion, l.get().ResourceVersion)
	expect(t, "number of events of a routine run", 0, len(l.told()))
	l.request("1")
	l.step()
	expect(t, "events", []string{finished}, l.told())
	expect(t, "history", []string{"ReconciliationSucceeded 2 main@sha1:1"}, historyOf(l.get()))

	// kustomization 79, 83, 84, 86, 92, 93: what is gone is pruned before the health of the rest is looked at.
	l.edit(func(o *kustomizev1.Kustomization) { o.Spec.Wait = true })
	l.publish("main@sha1:2", map[string]string{"a.yaml": configMap("a", "two")})
	l.step()
	expect(t, "events", []string{
		"info Progressing: ConfigMap/NS/a configured", "info Progressing: ConfigMap/NS/b deleted", "info Progressing: Health check passed in TIME", finished,
	}, l.told())
	expect(t, "Healthy", "True Succeeded: Health check passed in TIME", l.condition("Healthy"))
	expect(t, "inventory", []meta.InventoryEntry{{ID: l.ns + "_a__ConfigMap", Version: "v1"}}, l.get().Status.Inventory.Entries)

	// kustomization 85: without a check there is no Healthy.
	l.edit(func(o *kustomizev1.Kustomization) { o.Spec.Wait = false })
	l.step()
	expect(t, "Healthy", "-", l.condition("Healthy"))
	l.told()

	// kustomization 38, 101, 103, 104: a build that fails keeps the generation unobserved and enters no history; the next try comes
	// after the retry interval to the second.
	before := l.get()
	l.edit(func(o *kustomizev1.Kustomization) { o.Spec.RetryInterval = meta.DurationOf(2 * time.Minute) })
	l.publish("main@sha1:3", map[string]string{"a.yaml": "{"})
	result = l.step()
	expect(t, "next run", 2*time.Minute, result.RequeueAfter)
	after := l.get()
	expect(t, "observedGeneration", before.Status.ObservedGeneration, after.Status.ObservedGeneration)
	expect(t, "history", historyOf(before), historyOf(after))
	expect(t, "revisions", []string{"main@sha1:3", "main@sha1:2"}, []string{after.Status.LastAttemptedRevision, after.Status.LastAppliedRevision})
	if got := l.condition("Ready"); !strings.HasPrefix(got, "False BuildFailed: ") {
		t.Errorf("Ready = %q", got)
	}
	if lines := l.told(); len(lines) != 1 || !strings.HasPrefix(lines[0], "error BuildFailed: ") {
		t.Errorf("events = %q (kustomization 102)", lines)
	}

	// kustomization 103: a content that returns goes to the front and counts on; the sixth content pushes the oldest out.
	l.publish("main@sha1:4", both)
	l.step()
	expect(t, "history", []string{"ReconciliationSucceeded 3 main@sha1:4", "ReconciliationSucceeded 2 main@sha1:2"}, historyOf(l.get()))
	for i := 5; i < 9; i++ {
		l.publish(fmt.Sprintf("main@sha1:%d", i), map[string]string{"a.yaml": configMap("a", fmt.Sprintf("v%d", i))})
		l.step()
	}
	expect(t, "history", []string{
		"ReconciliationSucceeded 1 main@sha1:8", "ReconciliationSucceeded 1 main@sha1:7", "ReconciliationSucceeded 1 main@sha1:6",
		"ReconciliationSucceeded 1 main@sha1:5", "ReconciliationSucceeded 3 main@sha1:4",
	}, historyOf(l.get()))
	l.told()

	// kustomization 106: another content of the same revision comes with the next run, whenever that is.
	l.publish("main@sha1:8", map[string]string{"a.yaml": configMap("a", "other")})
	l.step()
	expect(t, "events", []string{"info Progressing: ConfigMap/NS/a configured", finished}, l.told())

	// kustomization 107, 112: deletion takes the objects along, under the reason Ready had.
	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	l.step()
	expect(t, "events", []string{"info ReconciliationSucceeded: ConfigMap/NS/a deleted", finished}, l.told())
	if l.has("a") {
		t.Error("the object is still there")
	}
	if err := l.client.Get(t.Context(), l.key(), &kustomizev1.Kustomization{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Kustomization is still there: %v", err)
	}
}

// kustomization 7: what comes before the work, in its order: each obstacle is seen only when those before it are gone.
func TestPreflightOrder(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	badExprs := []meta.HealthCheckExpr{{APIVersion: "v1", Kind: "ConfigMap", Current: "]"}}
	l.create(func(o *kustomizev1.Kustomization) {
		o.Spec.Suspend = true
		o.Spec.HealthCheckExprs = badExprs
		o.Spec.DependsOn = []meta.DependencyReference{{Name: "base"}}
		o.Spec.RetryInterval = meta.DurationOf(2 * time.Minute)
	})
	// _common 2, 4: suspended from birth: the finalizer, and nothing else.
	result := l.step()
	expect(t, "next run", time.Duration(0), result.RequeueAfter)
	expect(t, "finalizers", []string{meta.Finalizer}, l.get().Finalizers)
	expect(t, "Ready", "-", l.condition("Ready"))

	// kustomization 8, 104: a terminal error stalls and counts as observed.
	l.edit(func(o *kustomizev1.Kustomization) { o.Spec.Suspend = false })
	expect(t, "next run", time.Duration(0), l.step().RequeueAfter)
	for _, conditionType := range []string{"Ready", "Stalled"} {
		if got := l.condition(conditionType); !strings.Contains(got, " InvalidCELExpression: Reconciliation failed terminally due to configuration error: ") {
			t.Errorf("%s = %q", conditionType, got)
		}
	}
	expect(t, "observedGeneration", l.get().Generation, l.get().Status.ObservedGeneration)
	l.told()

	// kustomization 10: no source; looked for again after the retry interval, and no event.
	l.edit(func(o *kustomizev1.Kustomization) { o.Spec.HealthCheckExprs = nil })
	expect(t, "next run", 2*time.Minute, l.step().RequeueAfter)
	expect(t, "Ready", `False ArtifactFailed: GitRepository.source.toolkit.fluxcd.io "repo" not found`, l.condition("Ready"))
	expect(t, "Stalled", "-", l.condition("Stalled"))

	// kustomization 12: a source without an artifact.
	l.publish("", nil)
	expect(t, "next run", 30*time.Second, l.step().RequeueAfter)
	expect(t, "Ready", "False ArtifactFailed: Source artifact not found, retrying in TIME", l.condition("Ready"))
	expect(t, "number of events", 0, len(l.told()))

	// kustomization 16, _common 24: no dependency.
	l.publish("main@sha1:1", map[string]string{"a.yaml": configMap("a", "one")})
	expect(t, "next run", 30*time.Second, l.step().RequeueAfter)
	if got := l.condition("Ready"); !strings.HasPrefix(got, "False DependencyNotReady: dependency 'NS/base' not found: ") {
		t.Errorf("Ready = %q", got)
	}
	expect(t, "Reconciling", "-", l.condition("Reconciling"))
	events := l.Events()
	if len(events) != 1 || events[0].Message != "Dependencies do not meet ready condition, retrying in 30s" || events[0].Metadata["revision"] != "main@sha1:1" {
		t.Errorf("events = %+v", events)
	}

	// kustomization 22: an artifact that is no longer served.
	l.edit(func(o *kustomizev1.Kustomization) { o.Spec.DependsOn = nil })
	if _, err := l.store.RemoveAll("GitRepository", l.ns, "repo"); err != nil {
		t.Fatal(err)
	}
	expect(t, "next run", 30*time.Second, l.step().RequeueAfter)
	expect(t, "Ready", "False ArtifactFailed: Source artifact not found, retrying in TIME", l.condition("Ready"))
	expect(t, "number of events", 0, len(l.told()))

	// kustomization 108: without an inventory the object goes at once.
	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	l.step()
	if err := l.client.Get(t.Context(), l.key(), &kustomizev1.Kustomization{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Kustomization is still there: %v", err)
	}
}

// account gives the objects of the lab an account that may do what it is told to ConfigMaps.
func (l *lab) account(verbs ...string) {
	l.t.Helper()
	named := metav1.ObjectMeta{Namespace: l.ns, Name: "tenant"}
	for _, obj := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: named},
		&rbacv1.Role{ObjectMeta: named, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: verbs}}},
		&rbacv1.RoleBinding{
			ObjectMeta: named, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "tenant"},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: l.ns, Name: "tenant"}},
		},
	} {
		if err := l.client.Create(l.t.Context(), obj); err != nil {
			l.t.Fatal(err)
		}
	}
}

// allowEverything widens what the account may do.
func (l *lab) allowEverything() {
	l.t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: l.ns, Name: "tenant"}}
	role.Rules = []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"*"}}}
	if err := l.client.Update(l.t.Context(), role); err != nil {
		l.t.Fatal(err)
	}
}

// Deletes that the account may not make, in a run and at the end.
func TestDeleteRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.account("get", "list", "watch", "create", "patch", "update")
	l.publish("main@sha1:1", map[string]string{"a.yaml": configMap("a", "one"), "b.yaml": configMap("b", "one")})
	l.create(func(o *kustomizev1.Kustomization) { o.Spec.ServiceAccountName = "tenant" })
	l.step()
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:1", l.condition("Ready"))
	l.told()

	// kustomization 82, 96, 103: what could not be deleted stays in the inventory, so that the next run tries again.
	l.publish("main@sha1:2", map[string]string{"a.yaml": configMap("a", "one")})
	expect(t, "next run", 10*time.Minute, l.step().RequeueAfter)
	if got := l.condition("Ready"); !strings.HasPrefix(got, "False PruneFailed: ") || !strings.Contains(got, "forbidden") {
		t.Errorf("Ready = %q", got)
	}
	expect(t, "inventory", []meta.InventoryEntry{{ID: l.ns + "_a__ConfigMap", Version: "v1"}, {ID: l.ns + "_b__ConfigMap", Version: "v1"}}, l.get().Status.Inventory.Entries)
	expect(t, "last applied", "main@sha1:1", l.get().Status.LastAppliedRevision)
	expect(t, "history", []string{"PruneFailed 1 main@sha1:2", "ReconciliationSucceeded 1 main@sha1:1"}, historyOf(l.get()))
	l.told()

	// kustomization 110: a deletion that fails is told, keeps the finalizer and is tried again with backoff.
	if err := l.client.Delete(t.Context(), l.get()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Run(t.Context(), l.key()); err == nil {
		t.Error("the queue was not told to try again")
	}
	expect(t, "finalizers", []string{meta.Finalizer}, l.get().Finalizers)
	lines := l.told()
	if len(lines) == 0 || !strings.Contains(lines[len(lines)-1], "pruning for deleted resource failed") || !strings.HasPrefix(lines[len(lines)-1], "error ") {
		t.Errorf("events = %q", lines)
	}
	l.allowEverything()
	for deadline := time.Now().Add(30 * time.Second); ; {
		// The authorizer of the API server learns of the role by a watch.
		if _, err := l.Run(t.Context(), l.key()); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if l.has("a") || l.has("b") {
		t.Error("objects are left")
	}
}

// kustomization 107: what happens to the objects, by policy.
func TestDeletionPolicies(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change  func(*kustomizev1.Kustomization)
		deletes bool
		lines   int
	}{
		"MirrorPrune, prune on":  {func(*kustomizev1.Kustomization) {}, true, 2},
		"MirrorPrune, prune off": {func(o *kustomizev1.Kustomization) { o.Spec.Prune = false }, false, 1},
		"Delete, prune off": {func(o *kustomizev1.Kustomization) {
			o.Spec.Prune, o.Spec.DeletionPolicy = false, kustomizev1.DeletionPolicyDelete
		}, true, 2},
		"kustomization 111: WaitForTermination": {func(o *kustomizev1.Kustomization) {
			o.Spec.DeletionPolicy = kustomizev1.DeletionPolicyWaitForTermination
		}, true, 2},
		"Orphan":    {func(o *kustomizev1.Kustomization) { o.Spec.DeletionPolicy = kustomizev1.DeletionPolicyOrphan }, false, 1},
		"suspended": {func(o *kustomizev1.Kustomization) { o.Spec.Suspend = true }, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.publish("main@sha1:1", map[string]string{"a.yaml": configMap("a", "one")})
			l.create()
			l.step()
			l.edit(test.change)
			l.told()
			if err := l.client.Delete(t.Context(), l.get()); err != nil {
				t.Fatal(err)
			}
			l.step()
			expect(t, "number of events", test.lines, len(l.told()))
			expect(t, "the object is gone", test.deletes, !l.has("a"))
			if err := l.client.Get(t.Context(), l.key(), &kustomizev1.Kustomization{}); !apierrors.IsNotFound(err) {
				t.Errorf("the Kustomization is still there: %v", err)
			}
		})
	}
}

// What is waited for.
func TestHealth(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	self := `apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app}
spec:
  interval: 10m
  prune: true
  wait: true
  targetNamespace: NAMESPACE
  sourceRef: {kind: GitRepository, name: repo}
`
	// kustomization 87: the Kustomization itself, which is never ready while it waits, is not waited for.
	l.publish("main@sha1:1", map[string]string{"a.yaml": configMap("a", "one"), "self.yaml": self})
	l.create(func(o *kustomizev1.Kustomization) { o.Spec.Wait = true })
	l.step()
	expect(t, "Ready", "True ReconciliationSucceeded: Applied revision: main@sha1:1", l.condition("Ready"))

	// kustomization 86: an entry without apiVersion is of apps/v1; with wait the list has no effect.
	l.edit(func(o *kustomizev1.Kustomization) {
		o.Spec.HealthChecks = []meta.NamespacedObjectKindReference{{Kind: "Deployment", Namespace: l.ns, Name: "none"}, {APIVersion: "v1", Kind: "ConfigMap", Namespace: l.ns, Name: "a"}}
	})
	obj := l.get()
	w := &work{obj: obj}
	w.obj.Spec.Wait = false
	checks, err := l.k.checks(w)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range checks {
		got = append(got, c.GroupVersionKind.String()+" "+c.Name)
	}
	expect(t, "checks", []string{"apps/v1, Kind=Deployment none", "/v1, Kind=ConfigMap a"}, got)

	// kustomization 88: the timeout is spec.timeout, or the interval less 30 s, and at least 30 s.
	for _, test := range []struct {
		interval, timeout string
		want              time.Duration
	}{{"10m", "", 9*time.Minute + 30*time.Second}, {"10m", "2m", 2 * time.Minute}, {"10m", "5s", 30 * time.Second}, {"40s", "", 30 * time.Second}} {
		obj.Spec.Interval, obj.Spec.Timeout = meta.Duration(test.interval), meta.Duration(test.timeout)
		expect(t, "timeout of interval "+test.interval+", timeout "+test.timeout, test.want, obj.GetTimeout())
	}
}

// kustomization 48, 50: ciphertext is never applied as if it were the secret.
func TestEncrypted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ annotation, field, want string }{
		"kustomization 50: data": {"", "data: {password: RU5DWw==}", "False ReconciliationFailed: Secret/NS/s is SOPS encrypted, configuring decryption is required for this secret to be reconciled"},
		// 2.9 applies this one (see docs/compatibility.md).
		"kustomization 50: stringData":        {"", "stringData: {password: ENC}", "False ReconciliationFailed: Secret/NS/s is SOPS encrypted, configuring decryption is required for this secret to be reconciled"},
		"kustomization 48: decrypt: Disabled": {", annotations: {kustomize.toolkit.fluxcd.io/decrypt: Disabled}", "data: {password: RU5DWw==}", ".sops: field not declared in schema"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.publish("main@sha1:1", map[string]string{"s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s" + test.annotation + "}\n" + test.field + "\nsops: {mac: x}\n"})
			l.create()
			l.step()
			if got := l.condition("Ready"); !strings.HasPrefix(got, "False ReconciliationFailed: ") || !strings.Contains(got, test.want) {
				t.Errorf("Ready = %q, want %q in it", got, test.want)
			}
			err := l.client.Get(t.Context(), client.ObjectKey{Namespace: l.ns, Name: "s"}, &corev1.Secret{})
			if !apierrors.IsNotFound(err) {
				t.Errorf("the Secret was applied (%v)", err)
			}
		})
	}
}
