package action_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/seed-79636ae9/flux/internal/helm/action"
)

func (l *lab) install(c ...string) {
	l.t.Helper()
	a := l.actions()
	if _, err := a.Install(l.t.Context(), l.obj, demo("1.0.0", c...), nil); err != nil {
		l.t.Fatalf("install: %v\n%s", err, a.Log())
	}
}

const keptTemplate = `apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-kept
  annotations: {helm.sh/resource-policy: keep}
`

// helmrelease 67, 68, 69: the life of a release.
func TestLife(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, maxHistory: 2}")
	l.install("kept.yaml", keptTemplate, "gone.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app-gone}\n")
	a := l.actions()
	rel, err := a.Upgrade(t.Context(), l.obj, demo("1.1.0"), values("message: two"))
	if err != nil {
		t.Fatal(err)
	}
	if rel.Version != 2 || rel.Chart.Metadata.Version != "1.1.0" || l.message() != "two" {
		t.Errorf("version %d of chart %s, message %s", rel.Version, rel.Chart.Metadata.Version, l.message())
	}
	if l.get("ConfigMap", "app-gone") != nil || l.get("ConfigMap", "app-kept") == nil {
		t.Error("an object that is no longer part of the release stays, or one that is to be kept does not")
	}
	var told []string
	for _, w := range a.Written() {
		told = append(told, jsonOf([]any{w.Version, w.Info.Status}))
	}
	if d := cmp.Diff([]string{`[2,"deployed"]`, `[1,"superseded"]`}, told); d != "" {
		t.Errorf("written (-want +got):\n%s", d)
	}
	if err := l.actions().Rollback(t.Context(), l.obj, "app", 1); err != nil {
		t.Fatal(err)
	}
	last, err := l.actions().Latest(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	if last.Version != 3 || last.Info.Description != "Rollback to 1" || last.Chart.Metadata.Version != "1.0.0" || l.message() != "hello" || l.get("ConfigMap", "app-gone") == nil {
		t.Errorf("after the rollback: version %d, %q, chart %s, message %s", last.Version, last.Info.Description, last.Chart.Metadata.Version, l.message())
	}
	if got, want := l.records(), "v2 superseded, v3 deployed"; got != want {
		t.Errorf("helmrelease 67: records %q, want %q", got, want)
	}
	l.spec("{interval: 10m, timeout: 30s, uninstall: {keepHistory: true}}")
	if err := l.actions().Uninstall(t.Context(), l.obj, "app"); err != nil {
		t.Fatal(err)
	}
	if got, want := l.records(), "v2 superseded, v3 uninstalled"; got != want || l.message() != "-" {
		t.Errorf("records %q, want %q, message %q", got, want, l.message())
	}
	if err := l.actions().Uninstall(t.Context(), l.obj, "app"); !errors.Is(err, action.ErrAlreadyDeleted) {
		t.Errorf("helmrelease 92: %v", err)
	}
	l.spec("{interval: 10m, timeout: 30s}")
	if err := l.actions().UninstallRemediation(t.Context(), l.obj, "app"); err != nil {
		t.Fatal(err)
	}
	if got := l.records(); got != "" {
		t.Errorf("records %q", got)
	}
}

// helmrelease 69, 80: what an uninstall did is told although its records are gone.
func TestUninstall(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, uninstall: {deletionPropagation: foreground}}")
	l.install()
	a := l.actions()
	if err := a.Uninstall(t.Context(), l.obj, "app"); err != nil {
		t.Fatal(err)
	}
	written := a.Written()
	if len(written) != 1 || written[0].Info.Status != "uninstalling" || written[0].Info.Deleted.IsZero() {
		t.Errorf("written: %s", jsonOf(written))
	}
	if l.records() != "" || l.message() != "-" || l.get("Deployment", "app") != nil {
		t.Errorf("records %q, message %q: the wait ended before the objects were gone", l.records(), l.message())
	}
}

// helmrelease 67: a failed upgrade is recorded, and what it has created goes with cleanupOnFail.
func TestUpgradeFails(t *testing.T) {
	for _, tt := range []struct {
		spec string
		left bool
	}{{"{}", true}, {"{cleanupOnFail: true}", false}} {
		t.Run(tt.spec, func(t *testing.T) {
			l := newLab(t, "{interval: 10m, timeout: 2s, upgrade: "+tt.spec+"}")
			l.install()
			a := l.actions()
			_, err := a.Upgrade(t.Context(), l.obj, demo("1.0.0", "new.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app-new}\n"),
				values("image: example.com/never:1"))
			want := "timeout waiting for: [Deployment/" + l.ns + "/app status: 'InProgress']"
			if err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error: %v, want %s", err, want)
			}
			if got := l.records(); got != "v1 deployed, v2 failed" {
				t.Errorf("records %q", got)
			}
			last, err := l.actions().Latest(t.Context(), "app")
			if err != nil {
				t.Fatal(err)
			}
			if want = `Upgrade "app" failed: ` + want; !strings.HasPrefix(last.Info.Description, want) {
				t.Errorf("description %q", last.Info.Description)
			}
			if left := l.get("ConfigMap", "app-new") != nil; left != tt.left {
				t.Errorf("the new object is there: %t", left)
			}
		})
	}
}

// helmrelease 67: preserveValues adds the old values to the new.
func TestPreserveValues(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s, upgrade: {preserveValues: true}}")
	if _, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0"), values("{message: old, replicas: 0}")); err != nil {
		t.Fatal(err)
	}
	rel, err := l.actions().Upgrade(t.Context(), l.obj, demo("1.0.0"), values("replicas: 2"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := jsonOf(rel.Config), `{"message":"old","replicas":2}`; got != want || l.message() != "old" {
		t.Errorf("config %s, want %s; message %s", got, want, l.message())
	}
}

// helmrelease 67, 68: force replaces objects only without server-side apply.
func TestForce(t *testing.T) {
	for _, method := range []string{"enabled", "disabled"} {
		t.Run(method, func(t *testing.T) {
			l := newLab(t, "{interval: 10m, timeout: 30s, install: {serverSideApply: "+map[string]string{"enabled": "true", "disabled": "false"}[method]+
				"}, upgrade: {force: true, serverSideApply: "+method+"}, rollback: {force: true}}")
			l.install()
			l.apply("someone", "{apiVersion: v1, kind: ConfigMap, metadata: {name: app-config}, data: {foreign: x}}")
			foreign := func() bool {
				_, has, _ := unstructured.NestedString(l.get("ConfigMap", "app-config").Object, "data", "foreign")
				return has
			}
			if _, err := l.actions().Upgrade(t.Context(), l.obj, demo("1.0.0"), values("message: two")); err != nil {
				t.Fatal(err)
			}
			if foreign() != (method == "enabled") || l.message() != "two" {
				t.Errorf("after the upgrade: foreign field %t, message %s", foreign(), l.message())
			}
			if err := l.actions().Rollback(t.Context(), l.obj, "app", 1); err != nil {
				t.Fatal(err)
			}
			if l.message() != "hello" {
				t.Errorf("after the rollback: message %s", l.message())
			}
		})
	}
}
