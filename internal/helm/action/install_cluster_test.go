package action_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/seed-79636ae9/flux/internal/helm/action"
)

// helmrelease 34, 66, 70, 73: what is stored, who wrote it, and what it costs.
func TestInstall(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	parks := l.countParks()
	a := l.actions()
	rel, err := a.Install(t.Context(), l.obj, demo("1.0.0"), values("message: mine"))
	if err != nil {
		t.Fatalf("%v\n%s", err, a.Log())
	}
	if *parks != 1 {
		t.Errorf("parked %d times", *parks)
	}
	if rel.Version != 1 || rel.Info.Status != "deployed" || rel.Info.Description != "Install complete" || rel.Chart.Metadata.Version != "1.0.0" {
		t.Errorf("release %+v of chart %+v", rel.Info, rel.Chart.Metadata)
	}
	if got, want := l.records(), "v1 deployed"; got != want {
		t.Errorf("records: %s, want %s", got, want)
	}
	s := l.secret("sh.helm.release.v1.app.v1")
	for _, label := range []string{"createdAt", "modifiedAt"} {
		if _, has := s.Labels[label]; has != (label == "modifiedAt") {
			t.Errorf("label %s: %t", label, has)
		}
	}
	if s.Labels["name"] != "app" || s.Labels["owner"] != "helm" || s.Type != "helm.sh/release.v1" {
		t.Errorf("Secret %v of type %s", s.Labels, s.Type)
	}
	config := l.get("ConfigMap", "app-config")
	if got, want := managers(config), "helm-controller Apply"; got != want {
		t.Errorf("managers of the ConfigMap: %s", got)
	}
	if got, want := managers(l.get("Secret", s.Name)), "helm-controller Update"; got != want {
		t.Errorf("managers of the record: %s", got)
	}
	labels := map[string]string{"app.kubernetes.io/managed-by": "Helm", "helm.toolkit.fluxcd.io/name": "app", "helm.toolkit.fluxcd.io/namespace": l.ns}
	if d := cmp.Diff(labels, config.GetLabels()); d != "" {
		t.Errorf("labels (-want +got):\n%s", d)
	}
	if d := cmp.Diff(map[string]string{"meta.helm.sh/release-name": "app", "meta.helm.sh/release-namespace": l.ns}, config.GetAnnotations()); d != "" {
		t.Errorf("annotations (-want +got):\n%s", d)
	}
	written := a.Written()
	if len(written) != 1 || written[0].Info.Status != "deployed" || written[0].Config["message"] != "mine" || !strings.Contains(written[0].Manifest, "message: mine") {
		t.Errorf("written: %s", jsonOf(written))
	}
}

// A second release on the same cluster asks neither for the version nor for the kinds, and a look at what is known is one list.
func TestInstallRequests(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	if _, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), nil); err != nil {
		t.Fatal(err)
	}
	l.counted()
	l.obj.Name = "two"
	if _, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), values("replicas: 0")); err != nil {
		t.Fatal(err)
	}
	got := slices.DeleteFunc(l.counted(), func(r string) bool { return strings.HasSuffix(r, "/deployments/two") && strings.HasPrefix(r, "GET") })
	want := []string{
		"GET /api/v1/namespaces/NS/secrets",
		"POST /api/v1/namespaces/NS/secrets",
		"PATCH /api/v1/namespaces/NS/configmaps/two-config",
		"PATCH /apis/apps/v1/namespaces/NS/deployments/two",
		"PUT /api/v1/namespaces/NS/secrets/sh.helm.release.v1.two.v1",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("requests (-want +got):\n%s", d)
	}
	if _, err := l.actions().Latest(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want[:1], l.counted()); d != "" {
		t.Errorf("requests of a look (-want +got):\n%s", d)
	}
}

// helmrelease 66: the namespace is made only for a target namespace, with a label and without owners.
func TestInstallCreatesNamespace(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, targetNamespace: NS-target, install: {createNamespace: true}}")
	t.Cleanup(func() { _ = l.resource("Namespace").Delete(t.Context(), l.ns+"-target", metav1.DeleteOptions{}) })
	if _, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), nil); err != nil {
		t.Fatal(err)
	}
	ns := l.get("Namespace", l.ns+"-target")
	want := map[string]string{"kubernetes.io/metadata.name": l.ns + "-target", "name": l.ns + "-target"}
	if d := cmp.Diff(want, ns.GetLabels()); d != "" || managers(ns) != "helm-controller Apply" {
		t.Errorf("namespace with managers %s, labels (-want +got):\n%s", managers(ns), d)
	}
	if got := l.records(); got != "v1 deployed" {
		t.Errorf("records in the storage namespace: %q", got)
	}
}

// helmrelease 66: a missing namespace is a failure that counts, since it is recorded.
func TestInstallWithoutNamespace(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, targetNamespace: NS-missing}")
	a := l.actions()
	if _, err := a.Install(t.Context(), l.obj, demo("1.0.0"), nil); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("error: %v", err)
	}
	if got := l.records(); got != "v1 failed" || len(a.Written()) != 1 {
		t.Errorf("records: %q", got)
	}
}

// helmrelease 66, 70: objects of others are taken over, also where somebody else has set the fields.
func TestTakeOwnership(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	l.apply("someone", "{apiVersion: v1, kind: ConfigMap, metadata: {name: app-config}, data: {message: before, other: x}}")
	if _, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), nil); err != nil {
		t.Fatal(err)
	}
	o := l.get("ConfigMap", "app-config")
	data, _, _ := unstructured.NestedStringMap(o.Object, "data")
	want := map[string]string{"message": "hello", "other": "x", "release": "app." + l.ns}
	if d := cmp.Diff(want, data); d != "" || managers(o) != "helm-controller Apply, someone Apply" {
		t.Errorf("managers %q, data (-want +got):\n%s", managers(o), d)
	}
}

// helmrelease 57, 88: who may not do everything has each object read first, and what may not be read is no attempt.
func TestInstallReadsFirst(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, serviceAccountName: tenant}")
	rules := []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets", "configmaps"}, Verbs: []string{"*"}}}
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "tenant"}, Rules: rules}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: role.ObjectMeta, RoleRef: rbacv1.RoleRef{Kind: "Role", Name: "tenant"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: l.ns, Name: "tenant"}},
	}
	if _, err := l.client.RbacV1().Roles(l.ns).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.RbacV1().RoleBindings(l.ns).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	const want = "unable to continue with install: could not get information about the resource"
	for {
		_, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), nil)
		if err != nil && strings.Contains(err.Error(), `resource "secrets"`) {
			// The API server is still to see the rights.
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || l.records() != "" {
			t.Errorf("records %q, error: %v", l.records(), err)
		}
		return
	}
}

// helmrelease 57, 66: refused objects leave the storage as it was.
func TestDisableTakeOwnership(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, install: {disableTakeOwnership: true}}")
	l.apply("someone", "{apiVersion: v1, kind: ConfigMap, metadata: {name: app-config}, data: {message: before}}")
	a := l.actions()
	_, err := a.Install(t.Context(), l.obj, demo("1.0.0"), nil)
	const want = `unable to continue with install: ConfigMap "app-config" in namespace "NS" exists and cannot be imported into the current release: ` +
		`invalid ownership metadata; label validation error: missing key "app.kubernetes.io/managed-by": must be set to "Helm"; annotation validation ` +
		`error: missing key "meta.helm.sh/release-name": must be set to "app"; annotation validation error: missing key ` +
		`"meta.helm.sh/release-namespace": must be set to "NS"`
	if err == nil || strings.ReplaceAll(err.Error(), l.ns, "NS") != want {
		t.Errorf("error: %v", err)
	}
	if l.records() != "" || len(a.Written()) != 0 || l.message() != "before" {
		t.Errorf("records %q, message %q", l.records(), l.message())
	}
}

// helmrelease 57: an error of a template leaves the storage as it was, in Helm's words.
func TestRenderError(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	a := l.actions()
	_, err := a.Install(t.Context(), l.obj, demo("1.0.0", "bad.yaml", `{{ fail "name is needed" }}`), nil)
	if err == nil || err.Error() != "execution error at (demo/templates/bad.yaml:1:3): name is needed" || l.records() != "" {
		t.Errorf("error: %v, records %q", err, l.records())
	}
}

// helmrelease 66: a name whose history was kept can be used again only with replace.
func TestInstallReplace(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, uninstall: {keepHistory: true}}")
	if _, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), nil); err != nil {
		t.Fatal(err)
	}
	if err := l.actions().Uninstall(t.Context(), l.obj, "app"); err != nil {
		t.Fatal(err)
	}
	if got, want := l.records(), "v1 uninstalled"; got != want {
		t.Errorf("helmrelease 69: records %q, want %q", got, want)
	}
	if _, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), nil); err == nil || !strings.Contains(err.Error(), "cannot reuse a name that is still in use") {
		t.Errorf("without replace: %v", err)
	}
	l.spec("{interval: 10m, timeout: 30s, install: {replace: true}}")
	if _, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), nil); err != nil {
		t.Fatal(err)
	}
	if got, want := l.records(), "v1 superseded, v2 deployed"; got != want {
		t.Errorf("records %q, want %q", got, want)
	}
}

// reliability 122: a record that is too large is refused before anything is applied, by a limit that the error names.
func TestRecordTooLarge(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	noise := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(noise)
	c := demo("1.0.0")
	c.Files = append(c.Files, file("noise.bin", noise))
	for range 2 {
		_, err := l.actions().Install(t.Context(), l.obj, c, nil)
		if err == nil || !strings.Contains(err.Error(), "1032192") || !strings.Contains(err.Error(), ".helmignore") {
			t.Errorf("error: %v", err)
		}
		if l.records() != "" || l.message() != "-" {
			t.Errorf("records %q, message %q", l.records(), l.message())
		}
	}
}

// helmrelease 66, 67: without server-side apply the fields are of plain updates, and become those of applies when a release turns to it.
func TestClientSideThenServerSide(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, install: {serverSideApply: false}}")
	rel, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := managers(l.get("ConfigMap", "app-config")); rel.ApplyMethod != "csa" || got != "helm-controller Update" {
		t.Errorf("applied by %s, managers %s", rel.ApplyMethod, got)
	}
	// Auto does as before.
	if rel, err = l.actions().Upgrade(t.Context(), l.obj, demo("1.0.0"), values("message: two")); err != nil {
		t.Fatal(err)
	}
	if got := managers(l.get("ConfigMap", "app-config")); rel.ApplyMethod != "csa" || got != "helm-controller Update" || l.message() != "two" {
		t.Errorf("applied by %s, managers %s, message %s", rel.ApplyMethod, got, l.message())
	}
	l.spec("{interval: 10m, timeout: 30s, upgrade: {serverSideApply: enabled}}")
	if rel, err = l.actions().Upgrade(t.Context(), l.obj, chartOf("1.0.0", map[string]string{
		"config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app-config}\ndata: {message: three}\n",
	}), nil); err != nil {
		t.Fatal(err)
	}
	o := l.get("ConfigMap", "app-config")
	data, _, _ := unstructured.NestedStringMap(o.Object, "data")
	if d := cmp.Diff(map[string]string{"message": "three"}, data); d != "" || rel.ApplyMethod != "ssa" || managers(o) != "helm-controller Apply" {
		t.Errorf("applied by %s, managers %s, data (-want +got):\n%s", rel.ApplyMethod, managers(o), d)
	}
	if l.get("Deployment", "app") != nil {
		t.Error("the Deployment that is no longer part of the release is there")
	}
}

// helmrelease 66: with UseHelm3Defaults an install is client-side unless the spec says otherwise.
func TestHelm3Defaults(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	rel, err := l.actions(func(o *action.Options) { o.Helm3Defaults = true }).Install(t.Context(), l.obj, demo("1.0.0"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if rel.ApplyMethod != "csa" {
		t.Errorf("applied by %s", rel.ApplyMethod)
	}
}

func TestNotFound(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	if _, err := l.actions().Latest(t.Context(), "app"); !errors.Is(err, action.ErrNotFound) {
		t.Errorf("latest: %v", err)
	}
	if _, err := l.actions().Get(t.Context(), "app", 3); !errors.Is(err, action.ErrNotFound) {
		t.Errorf("get: %v", err)
	}
	if err := l.actions().Uninstall(t.Context(), l.obj, "app"); !errors.Is(err, action.ErrNotFound) {
		t.Errorf("helmrelease 91: uninstall: %v", err)
	}
	if _, err := l.actions().Upgrade(t.Context(), l.obj, demo("1.0.0"), nil); !errors.Is(err, action.ErrNotFound) {
		t.Errorf("upgrade: %v", err)
	}
}
