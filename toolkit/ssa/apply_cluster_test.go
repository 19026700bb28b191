package ssa_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

const fourObjects = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: web}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {key: one}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: example.com/web:1.0
`

// architecture 5b: the budget of a first apply, and an unchanged run that costs nothing; kustomization 65, 66, 67, 76.
func TestApplyBudget(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.log.take()
	res := l.mustApply(fourObjects)
	if diff := cmp.Diff(map[string]int{"PATCH dry-run": 4, "PATCH": 4}, l.log.take()); diff != "" {
		t.Errorf("requests of a first apply (-want +got):\n%s", diff)
	}
	want := strings.ReplaceAll("ServiceAccount/NS/web created\nConfigMap/NS/a created\nService/NS/web created\nDeployment/NS/web created", "NS", l.ns)
	if got := res.Changes().String(); got != want {
		t.Errorf("changes:\n%s\nwant:\n%s", got, want)
	}
	if len(l.persists) != 1 || len(l.persists[0]) != 4 {
		t.Errorf("write-ahead: %v, want one of four", l.persists)
	}
	l.synced(res)
	l.eventually("the controller manager notices the deployment", func() bool {
		return l.get("Deployment", "web").GetAnnotations()["deployment.kubernetes.io/revision"] == "1"
	})
	l.synced(res)
	l.log.take()
	res = l.mustApply(fourObjects)
	if got := l.log.take(); len(got) > 0 {
		t.Errorf("an unchanged run made requests: %v", got)
	}
	if n := len(res.Changes().Only(ssa.Unchanged)); n != 4 {
		t.Errorf("unchanged run: %v", res.Changes())
	}
	if len(l.persists) != 1 {
		t.Errorf("an unchanged run persisted an inventory: %v", l.persists[1:])
	}
	select {
	case <-l.touched:
		t.Error("our own writes and status updates were taken for somebody else's")
	default:
	}

	t.Run("one object of a new commit", func(t *testing.T) {
		res := l.mustApply(strings.Replace(fourObjects, "key: one", "key: two", 1))
		if diff := cmp.Diff(map[string]int{"PATCH dry-run": 1, "PATCH": 1, "GET": 1}, l.log.take()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if got := res.Changes().Only(ssa.Configured, ssa.Created).String(); got != "ConfigMap/"+l.ns+"/a configured" {
			t.Errorf("changes: %s", got)
		}
		// Now the content is known to the letter, so the next commit needs no read.
		l.synced(res)
		l.mustApply(strings.Replace(fourObjects, "key: one", "key: three", 1))
		if diff := cmp.Diff(map[string]int{"PATCH dry-run": 1, "PATCH": 1}, l.log.take()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
	})
	t.Run("after a restart", func(t *testing.T) {
		text := strings.Replace(fourObjects, "key: one", "key: three", 1)
		l.inView(l.mustApply(text), text)
		l.log.take()
		l.applier.Memory = ssa.NewMemory(ssa.MemoryOptions{Managed: l.managed})
		res := l.mustApply(text)
		// What the watch shows of the Deployment tells that it is the same.
		if diff := cmp.Diff(map[string]int{"PATCH dry-run": 4, "GET": 3}, l.log.take()); diff != "" {
			t.Errorf("requests (-want +got):\n%s", diff)
		}
		if n := len(res.Changes().Only(ssa.Unchanged)); n != 4 {
			t.Errorf("changes: %v", res.Changes())
		}
		l.mustApply(text)
		if got := l.log.take(); len(got) > 0 {
			t.Errorf("the second run after a restart made requests: %v", got)
		}
	})
}

// kustomization 67 (recording drift-corrected): a change by hand is seen at once and costs the dry-run of one object.
func TestDrift(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	res := l.mustApply(fourObjects)
	l.synced(res)
	l.patch("ConfigMap", "a", "other-tool", `{"data":{"extra":"from-other","key":"changed"}}`)
	if d := l.wasTouched(); d != 0 {
		t.Errorf("the first correction is delayed by %s", d)
	}
	l.log.take()
	res = l.mustApply(fourObjects)
	if diff := cmp.Diff(map[string]int{"PATCH dry-run": 1, "PATCH": 1, "GET": 1}, l.log.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if got := res.Changes().Only(ssa.Configured, ssa.Created).String(); got != "ConfigMap/"+l.ns+"/a configured" {
		t.Errorf("changes: %s", got)
	}
	// foreign-manager-field-kept: kustomization 71
	a := l.get("ConfigMap", "a")
	if field(a, "data", "key") != "one" || field(a, "data", "extra") != "from-other" {
		t.Errorf("data: %v", a.Object["data"])
	}
	if diff := cmp.Diff([]string{"kustomize-controller Apply", "other-tool Update"}, managers(a)); diff != "" {
		t.Errorf("managers (-want +got):\n%s", diff)
	}

	t.Run("what is not ours is no drift", func(t *testing.T) {
		l.synced(res)
		l.patch("ConfigMap", "a", "other-tool", `{"data":{"extra":"again"},"metadata":{"annotations":{"note":"x"}}}`)
		rv := l.patch("Deployment", "web", "scaler", `{"metadata":{"annotations":{"note":"x"}}}`).GetResourceVersion()
		l.eventually("the watch shows it", func() bool {
			s, _ := l.managed.Lookup(l.ref("Deployment", "web").GroupVersionKind().GroupKind(), l.ns, "web")
			return kube.NotOlder(s.ResourceVersion, rv)
		})
		l.log.take()
		l.mustApply(fourObjects)
		if got := l.log.take(); len(got) > 0 {
			t.Errorf("requests: %v", got)
		}
	})
	t.Run("a deleted object comes back", func(t *testing.T) {
		l.remove("ConfigMap", "a")
		l.wasTouched()
		res := l.mustApply(fourObjects)
		if got := res.Changes().Only(ssa.Configured, ssa.Created).String(); got != "ConfigMap/"+l.ns+"/a created" {
			t.Errorf("changes: %s", got)
		}
	})
	t.Run("an object that lost its owner label gets it back", func(t *testing.T) {
		l.synced(res)
		l.patch("ConfigMap", "a", "other-tool", `{"metadata":{"labels":{"`+group+`/name":null}}}`)
		l.wasTouched()
		l.mustApply(fourObjects)
		if got := l.get("ConfigMap", "a").GetLabels()[group+"/name"]; got != "app" {
			t.Errorf("owner label: %q", got)
		}
	})
}

// reliability 119: somebody who keeps changing an object back is answered ever more slowly, and reported once.
func TestDamping(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: one}\n"
	res := l.mustApply(one)
	var delays []time.Duration
	contested := 0
	for range 5 {
		l.synced(res)
		l.patch("ConfigMap", "a", "rival", `{"data":{"key":"mine"}}`)
		delays = append(delays, l.wasTouched())
		l.log.take()
		if delays[len(delays)-1] > 0 {
			if res, err := l.apply(one, func(r *ssa.Request) { r.Thorough = false }); err != nil || len(l.log.take()) > 0 {
				t.Errorf("a damped object was worked on: %v, %v", res.Changes(), err)
			}
		}
		res = l.mustApply(one)
		contested += len(res.Contested)
	}
	if delays[0] != 0 || delays[1] < time.Second || delays[4] < 2*delays[2] {
		t.Errorf("delays: %v", delays)
	}
	if contested != 1 {
		t.Errorf("the fight was reported %d times", contested)
	}
}

func (l *lab) wasTouched() time.Duration {
	l.t.Helper()
	select {
	case d := <-l.touched:
		return d
	case <-time.After(10 * time.Second):
		l.t.Fatal("nobody noticed the change")
		return 0
	}
}

// kustomization 73: all refusals of a stage, in its words; nothing is written and the inventory stays.
func TestRefusals(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	objects := l.normalised(`
apiVersion: v1
kind: ConfigMap
metadata: {name: fine}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: number}
data: {key: 42}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: lost, namespace: zz-absent}
---
apiVersion: v1
kind: Secret
metadata: {name: creds}
data: {password: 424242}
---
apiVersion: v1
kind: Service
metadata: {name: svc}
spec:
  ports: [{port: 99999}]
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: w}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ../../../../kube-system/configmaps/x}
`)
	nowhere := l.normalised("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nowhere}")[0]
	nowhere.SetNamespace("")
	objects = append(objects, nowhere)
	_, err := l.apply("", func(r *ssa.Request) { r.Objects = objects })
	var refused ssa.Errors
	if !errors.As(err, &refused) {
		t.Fatalf("error: %v", err)
	}
	want := strings.ReplaceAll(`ConfigMap/nowhere namespace not specified: the server could not find the requested resource
ConfigMap/NS/../../../../kube-system/configmaps/x dry-run failed: invalid name "../../../../kube-system/configmaps/x" of a ConfigMap: may not contain '/'
ConfigMap/NS/number dry-run failed: failed to create typed patch object (NS/number; /v1, Kind=ConfigMap): .data.key: expected string, got &value.valueUnstructured{Value:42}
ConfigMap/zz-absent/lost not found: namespaces "zz-absent" not found
Secret/NS/creds dry-run failed: failed to create typed patch object (NS/creds; /v1, Kind=Secret): .data.password: expected string, got &value.valueUnstructured{Value:***}
Service/NS/svc dry-run failed (Invalid): Service "svc" is invalid: [spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: Invalid value: 99999: must be between 1 and 65535, inclusive]
Widget/NS/w dry-run failed: no matches for kind "Widget" in version "example.com/v1"
`, "NS", l.ns)
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
	if l.get("ConfigMap", "fine") != nil {
		t.Error("something was written though the stage was refused (kustomization 66)")
	}
	if len(l.persists) > 0 {
		t.Error("the inventory was written though the stage was refused (kustomization 77)")
	}
	l.log.take()
	if _, err := l.apply("apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}"); err == nil || l.log.take()["DISCOVERY"] > 0 {
		t.Errorf("an unknown kind causes a discovery per attempt; error: %v", err)
	}
}

// reliability, design rule 1: the inventory is recorded before the first write, and without it nothing is written.
func TestWriteAhead(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	down := errors.New("status cannot be written")
	_, err := l.apply(fourObjects, func(r *ssa.Request) {
		r.Persist = func(context.Context, ssa.Inventory) error { return down }
	})
	if !errors.Is(err, down) {
		t.Errorf("error: %v", err)
	}
	if got := l.log.take()["PATCH"]; got != 0 {
		t.Errorf("%d writes without a recorded inventory", got)
	}
	l.mustApply(fourObjects, func(r *ssa.Request) {
		persist := r.Persist
		r.Persist = func(ctx context.Context, ahead ssa.Inventory) error {
			if got := l.log.take()["PATCH"]; got != 0 {
				t.Errorf("%d writes before the inventory was recorded", got)
			}
			return persist(ctx, ahead)
		}
	})
	t.Run("a write that fails leaves the wider inventory", func(t *testing.T) {
		broken := errors.New("connection lost")
		l.log.mu.Lock()
		l.log.fail = func(r *http.Request) error {
			if r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/web") && r.URL.Query().Get("dryRun") == "" {
				return broken
			}
			return nil
		}
		l.log.mu.Unlock()
		defer func() { l.log.mu.Lock(); l.log.fail = nil; l.log.mu.Unlock() }()
		renamed := strings.ReplaceAll(strings.Replace(fourObjects, "key: one", "key: two", 1), "{name: a}", "{name: b}")
		renamed = strings.Replace(renamed, "image: example.com/web:1.0", "image: example.com/web:1.1", 1)
		res, err := l.apply(renamed)
		if !errors.Is(err, broken) {
			t.Fatalf("error: %v", err)
		}
		if len(l.inv) != 5 {
			t.Errorf("inventory: %v, want old and new", l.inv)
		}
		if got := res.Changes().Only(ssa.Created).String(); got != "ConfigMap/"+l.ns+"/b created" {
			t.Errorf("changes: %s", got)
		}
	})
}

// architecture 5b.4: a full run dry-runs what the memory would pass over; a run without memory or watch knows nothing.
func TestFull(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
	l.synced(l.mustApply(text))
	// "full" comes first: the others teach the memory the content, and then there is nothing to get.
	for _, c := range []struct {
		name   string
		change func(*ssa.Request)
	}{
		{"full", func(r *ssa.Request) { r.Full = true }},
		{"forgotten", func(*ssa.Request) { l.memory.Forget(l.owner) }},
		{"unwatched", func(*ssa.Request) { l.applier.Memory = ssa.NewMemory(ssa.MemoryOptions{}) }},
		{"no memory", func(*ssa.Request) { l.applier.Memory = nil }},
	} {
		l.log.take()
		l.mustApply(text, c.change)
		l.applier.Memory = l.memory
		if diff := cmp.Diff(map[string]int{"PATCH dry-run": 1, "GET": 1}, l.log.take()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if _, err := l.apply(text + "---\n" + text); err == nil || !strings.Contains(err.Error(), "is declared twice") {
		t.Errorf("error: %v (reliability 154)", err)
	}
}
