package action_test

import (
	"strings"
	"testing"

	release "helm.sh/helm/v4/pkg/release/v1"
)

func phases(rel *release.Release) string {
	var out []string
	for _, h := range rel.Hooks {
		out = append(out, h.Name+" "+string(h.LastRun.Phase))
	}
	return strings.Join(out, ", ")
}

// helmrelease 73, 76: hooks run, with the labels of the HelmRelease and nothing else of Helm's.
func TestHooks(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	rel, err := l.actions().Install(t.Context(), l.obj, demo("1.0.0",
		"pre.yaml", hook("Job", "pre", "pre-install", "example.com/job:1", ""),
		"post.yaml", hook("Pod", "post", "post-install", "example.com/job:1", "hook-succeeded")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := phases(rel), "app-post Succeeded, app-pre Succeeded"; got != want {
		t.Errorf("hooks: %s, want %s", got, want)
	}
	job := l.get("Job", "app-pre")
	if job == nil || l.get("Pod", "app-post") != nil {
		t.Fatalf("Job %v stays, the Pod goes", job)
	}
	labels := job.GetLabels()
	if labels["helm.toolkit.fluxcd.io/name"] != "app" || labels["app.kubernetes.io/managed-by"] != "" || !strings.HasPrefix(managers(job), "helm-controller Apply") {
		t.Errorf("labels %v, managers %s", labels, managers(job))
	}
	// A hook that is there is replaced before it runs again.
	if _, err := l.actions().Upgrade(t.Context(), l.obj, demo("1.0.0", "pre.yaml", hook("Job", "pre", "pre-upgrade", "example.com/job:2", "")), nil); err != nil {
		t.Fatal(err)
	}
	if again := l.get("Job", "app-pre"); again.GetUID() == job.GetUID() {
		t.Error("the hook has not run again")
	}
}

// helmrelease 76, 78: a failed hook ends the action at once, and says so in the words of 2.9.
func TestFailingHook(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 2m}")
	a := l.actions()
	_, err := a.Install(t.Context(), l.obj, demo("1.0.0", "pre.yaml", hook("Job", "hook", "pre-install", "example.com/fails:1", "")), nil)
	want := "failed pre-install: failed early due to stalled resources: [Job/" + l.ns + "/app-hook status: 'Failed']"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error: %v, want %s", err, want)
	}
	if !strings.Contains(err.Error(), "exit code 1") {
		t.Errorf("the error does not tell how the container ended: %v", err)
	}
	last, latestErr := l.actions().Latest(t.Context(), "app")
	if latestErr != nil {
		t.Fatal(latestErr)
	}
	if got, want := last.Info.Description, `Release "app" failed: `+err.Error(); got != want || last.Info.Status != "failed" || phases(last) != "app-hook Failed" {
		t.Errorf("%s: %q, hooks %s", last.Info.Status, got, phases(last))
	}
	if !strings.Contains(a.Log(), "updating release") {
		t.Errorf("log:\n%s", a.Log())
	}
}

// helmrelease 66-69: disableHooks runs none.
func TestDisableHooks(t *testing.T) {
	const off = "{disableHooks: true}"
	l := newLab(t, "{interval: 10m, timeout: 30s, install: "+off+", upgrade: "+off+", rollback: "+off+", uninstall: "+off+"}")
	c := func() string {
		return hook("Job", "hook", "pre-install,pre-upgrade,pre-rollback,pre-delete", "example.com/fails:1", "")
	}
	l.install("hook.yaml", c())
	if _, err := l.actions().Upgrade(t.Context(), l.obj, demo("1.0.0", "hook.yaml", c()), values("message: two")); err != nil {
		t.Error(err)
	}
	if err := l.actions().Rollback(t.Context(), l.obj, "app", 1); err != nil {
		t.Error(err)
	}
	if err := l.actions().Uninstall(t.Context(), l.obj, "app"); err != nil {
		t.Error(err)
	}
	if l.get("Job", "app-hook") != nil {
		t.Error("a hook has run")
	}
}

// helmrelease 77: tests run, filtered by name, and their results are stored.
func TestTests(t *testing.T) {
	l := newLab(t, "{interval: 10m, timeout: 30s}")
	l.install("good.yaml", hook("Pod", "good", "test", "example.com/job:1", ""), "bad.yaml", hook("Pod", "bad", "test", "example.com/fails:1", ""))
	a := l.actions()
	rel, err := a.Test(t.Context(), l.obj, "app")
	want := "failed early due to stalled resources: [Pod/" + l.ns + "/app-bad status: 'Failed']"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error: %v, want %s", err, want)
	}
	if got, want := phases(rel), "app-bad Failed, app-good "; got != want {
		t.Errorf("hooks: %s, want %s", got, want)
	}
	if w := a.Written(); len(w) != 1 || phases(w[0]) != phases(rel) || w[0].Info.Status != "deployed" {
		t.Errorf("written: %s", jsonOf(w))
	}
	for _, filters := range []string{"[{name: app-good}]", "[{name: app-bad, exclude: true}]"} {
		l.spec("{interval: 10m, timeout: 30s, test: {filters: " + filters + "}}")
		if rel, err = l.actions().Test(t.Context(), l.obj, "app"); err != nil {
			t.Errorf("filters %s: %v", filters, err)
		}
		if got := phases(rel); !strings.Contains(got, "app-good Succeeded") || !strings.Contains(got, "app-bad Failed") {
			t.Errorf("filters %s: hooks %s", filters, got)
		}
	}
}
