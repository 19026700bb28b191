package action_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	rcommon "helm.sh/helm/v4/pkg/release/common"
	release "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/internal/helm/action"
)

// helm is Helm's own storage on the namespace.
func (l *lab) helm() *storage.Storage {
	return storage.Init(driver.NewSecrets(l.client.CoreV1().Secrets(l.obj.GetStorageNamespace())))
}

// helmrelease 34: Helm's own tools read what is stored, whole.
func TestHelmReadsRecords(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	c := demo("1.0.0", "hook.yaml", hook("Job", "hook", "pre-install", "example.com/job:1", ""))
	templates := append([]*common.File(nil), c.Templates...)
	if _, err := l.actions().Install(t.Context(), l.obj, c, values("message: mine")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.actions().Upgrade(t.Context(), l.obj, demo("1.1.0"), values("message: two")); err != nil {
		t.Fatal(err)
	}
	history, err := l.helm().History("app")
	if err != nil || len(history) != 2 {
		t.Fatalf("history of %d: %v", len(history), err)
	}
	first, err := l.helm().Get("app", 1)
	if err != nil {
		t.Fatal(err)
	}
	rel := first.(*release.Release)
	if d := cmp.Diff(templates, rel.Chart.Templates); d != "" {
		t.Errorf("templates (-want +got):\n%s", d)
	}
	if rel.Info.Status != rcommon.StatusSuperseded || rel.Config["message"] != "mine" || len(rel.Hooks) != 1 || rel.Chart.Values["message"] != "hello" {
		t.Errorf("release: %s", jsonOf(rel))
	}
}

// Releases that Helm has made are adopted, upgraded and rolled back to with their charts whole.
func TestReadsRecordsOfHelm(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	made := &release.Release{
		Name: "app", Namespace: l.ns, Version: 1, Chart: demo("0.9.0"), ApplyMethod: "ssa",
		Manifest: "---\n# Source: demo/templates/config.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: app-config\ndata:\n  message: old\n",
		Info:     &release.Info{Status: rcommon.StatusDeployed, Description: "by hand"},
		Labels:   map[string]string{"team": "blue"},
	}
	if err := l.helm().Create(made); err != nil {
		t.Fatal(err)
	}
	rel, err := l.actions().Latest(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	if rel.Chart.Metadata.Version != "0.9.0" || rel.Chart.Templates != nil || rel.Info.Description != "by hand" || rel.Labels["team"] != "blue" || rel.Labels["owner"] != "" {
		t.Errorf("release: %s, labels %v", jsonOf(rel), rel.Labels)
	}
	if _, err := l.actions().Upgrade(t.Context(), l.obj, demo("1.0.0"), nil); err != nil {
		t.Fatal(err)
	}
	if err := l.actions().Rollback(t.Context(), l.obj, "app", 1); err != nil {
		t.Fatal(err)
	}
	for version, chartVersion := range map[int]string{1: "0.9.0", 2: "1.0.0", 3: "0.9.0"} {
		got, err := l.helm().Get("app", version)
		if err != nil {
			t.Fatal(err)
		}
		c := got.(*release.Release).Chart
		if c.Metadata.Version != chartVersion || len(c.Templates) != 2 {
			t.Errorf("version %d has chart %s with %d templates", version, c.Metadata.Version, len(c.Templates))
		}
	}
	if got := l.secret("sh.helm.release.v1.app.v3").Labels["team"]; got != "blue" {
		t.Errorf("label of the rolled back release: %q", got)
	}
}

// helmrelease 44: what an interrupted action has left is unlocked, once.
func TestUnlock(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	for _, status := range []rcommon.Status{rcommon.StatusPendingInstall, rcommon.StatusPendingUpgrade, rcommon.StatusPendingRollback} {
		name := string(status)
		made := &release.Release{Name: name, Namespace: l.ns, Version: 3, Chart: demo("1.0.0"), Info: &release.Info{Status: status}}
		if err := l.helm().Create(made); err != nil {
			t.Fatal(err)
		}
		a := l.actions()
		rel, err := a.Latest(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Unlock(t.Context(), rel); err != nil {
			t.Fatal(err)
		}
		got, err := l.helm().Get(name, 3)
		if err != nil {
			t.Fatal(err)
		}
		after := got.(*release.Release)
		if after.Info.Status != rcommon.StatusFailed || !strings.Contains(after.Info.Description, string(status)) || len(after.Chart.Templates) != 2 {
			t.Errorf("%s: %s", status, jsonOf(after))
		}
		if w := a.Written(); len(w) != 1 || w[0].Info.Status != rcommon.StatusFailed {
			t.Errorf("written: %s", jsonOf(w))
		}
		if err := a.Unlock(t.Context(), rel); err != nil || len(a.Written()) != 1 {
			t.Errorf("unlocked again: %v", err)
		}
	}
}

// reliability 150: a record that cannot be read is neither missing nor a crash. It is named.
func TestCorruptRecord(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	for name, data := range map[string]string{
		"no base64": "!",
		"no gzip":   base64.StdEncoding.EncodeToString([]byte{0x1f, 0x8b, 8, 0}),
		"no JSON":   base64.StdEncoding.EncodeToString([]byte("hello")),
		"no info":   base64.StdEncoding.EncodeToString([]byte(`{"name":"app","version":1}`)),
		"no hook":   base64.StdEncoding.EncodeToString([]byte(`{"name":"app","version":1,"info":{},"hooks":[null]}`)),
		"empty":     "",
	} {
		t.Run(name, func(t *testing.T) {
			l.t = t
			release := &release.Release{Name: "app", Namespace: l.ns, Version: 1, Chart: demo("1.0.0"), Info: &release.Info{Status: rcommon.StatusDeployed}}
			if err := l.helm().Create(release); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _, _ = l.helm().Delete("app", 1) })
			s := l.secret("sh.helm.release.v1.app.v1")
			s.Data["release"] = []byte(data)
			if _, err := l.client.CoreV1().Secrets(l.ns).Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = l.client.CoreV1().Secrets(l.ns).Delete(l.t.Context(), s.Name, metav1.DeleteOptions{})
			})
			_, err := l.actions().Latest(t.Context(), "app")
			if !errors.Is(err, action.ErrCorrupt) || errors.Is(err, action.ErrNotFound) || !strings.Contains(err.Error(), l.ns+"/sh.helm.release.v1.app.v1") {
				t.Errorf("latest: %v", err)
			}
			if err := l.actions().Uninstall(t.Context(), l.obj, "app"); !errors.Is(err, action.ErrCorrupt) {
				t.Errorf("uninstall: %v", err)
			}
			if err := l.client.CoreV1().Secrets(l.ns).Delete(t.Context(), s.Name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A record that somebody else has changed is read again.
func TestChangedRecord(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	l.install()
	got, err := l.helm().Get("app", 1)
	if err != nil {
		t.Fatal(err)
	}
	rel := got.(*release.Release)
	rel.Info.Description = "changed"
	if err := l.helm().Update(rel); err != nil {
		t.Fatal(err)
	}
	seen, err := l.actions().Latest(t.Context(), "app")
	if err != nil || seen.Info.Description != "changed" {
		t.Errorf("%v, %v", seen, err)
	}
	// Whoever gets a release may change it.
	seen.Info.Description, seen.Chart.Metadata = "mine", &chart.Metadata{Name: "mine"}
	if again, err := l.actions().Latest(t.Context(), "app"); err != nil || again.Info.Description != "changed" || again.Chart.Metadata.Name != "demo" {
		t.Errorf("%v, %v", again, err)
	}
}
