package ssa_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// kustomization 71 (recording adopts-kubectl-applied-object): what kubectl applied is taken over, and what the desired state
// lacks goes.
func TestAdopt(t *testing.T) {
	t.Parallel()
	const desired = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: one}\n"
	for _, tc := range []struct {
		name  string
		setup func(*lab)
		want  []string // managers
	}{
		{"server-side by kubectl", func(l *lab) {
			l.applyAs("kubectl", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: kubectl, extra: dropped}")
		}, []string{"kustomize-controller Apply"}},
		{"client-side by kubectl, with its annotation", func(l *lab) {
			l.create(l.parse("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: kubectl}"))
			l.patch("ConfigMap", "a", "kubectl-client-side-apply", `{"data":{"extra":"dropped"},"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}"}}}`)
		}, []string{"kustomize-controller Apply", "someone Update"}},
		{"equal but for its managers", func(l *lab) {
			l.applyAs("kubectl", desired+"\n")
			l.patch("ConfigMap", "a", "kubectl-label", `{"metadata":{"labels":{"`+group+`/name":"app","`+group+`/namespace":"`+l.ns+`"}}}`)
		}, []string{"kustomize-controller Apply"}},
		{"by an overridden manager", func(l *lab) {
			l.applyAs("legacy-tool", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: kubectl, extra: dropped}")
		}, []string{"kustomize-controller Apply"}},
		{"by another manager", func(l *lab) {
			l.applyAs("other", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {key: kubectl}")
		}, []string{"kustomize-controller Apply", "other Apply"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.applier.Lens.Overrides = []string{"legacy"}
			tc.setup(l)
			res := l.mustApply(desired)
			if got := res.Changes().String(); got != "ConfigMap/"+l.ns+"/a configured" {
				t.Errorf("changes: %s", got)
			}
			a := l.get("ConfigMap", "a")
			if diff := cmp.Diff(map[string]any{"key": "one"}, a.Object["data"]); diff != "" {
				t.Errorf("data (-want +got):\n%s", diff)
			}
			// A manager that applied the same value shares it; one whose value was overridden has lost it.
			want := tc.want
			if tc.name == "by another manager" {
				want = want[:1]
			}
			if diff := cmp.Diff(want, managers(a)); diff != "" {
				t.Errorf("managers (-want +got):\n%s", diff)
			}
			if len(a.GetAnnotations()) > 0 {
				t.Errorf("annotations: %v", a.GetAnnotations())
			}
			l.synced(res)
			l.log.take()
			l.mustApply(desired)
			if got := l.log.take(); len(got) > 0 {
				t.Errorf("the next run made requests: %v (reliability 118: no oscillation)", got)
			}
			l.patch("ConfigMap", "a", "kubectl-edit", `{"data":{"extra":"edited"}}`)
			l.wasTouched()
			l.mustApply(desired)
			if diff := cmp.Diff(map[string]any{"key": "one"}, l.get("ConfigMap", "a").Object["data"]); diff != "" {
				t.Errorf("data after an edit by kubectl (-want +got):\n%s", diff)
			}
		})
	}
}

// kustomization 69, 70: marks on the desired or the live object.
func TestMarks(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	const live = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: NAME}\ndata: {key: mine}\n---\n"
	for _, name := range []string{"if-not-present", "merged"} {
		l.create(l.parse(strings.ReplaceAll(live, "NAME", name)))
	}
	l.patch("ConfigMap", "merged", "kubectl-edit", `{"data":{"extra":"kept"}}`)
	set := func(value string) string {
		return strings.ReplaceAll(`
apiVersion: v1
kind: ConfigMap
metadata: {name: absent, annotations: {kustomize.toolkit.fluxcd.io/ssa: ifnotpresent}}
data: {key: VALUE}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: disabled}
data: {key: VALUE}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: if-not-present, annotations: {kustomize.toolkit.fluxcd.io/ssa: IfNotPresent}}
data: {key: VALUE}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ignored, labels: {kustomize.toolkit.fluxcd.io/ssa: Ignore}}
data: {key: VALUE}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: merged, annotations: {kustomize.toolkit.fluxcd.io/ssa: Merge}}
data: {key: VALUE}
`, "VALUE", value)
	}
	check := func(res *ssa.Result, want string) {
		t.Helper()
		want = strings.ReplaceAll(strings.TrimSpace(want), "NS", l.ns)
		if diff := cmp.Diff(want, res.Changes().String()); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		if len(res.Inventory) != 5 {
			t.Errorf("skipped objects left the inventory: %v", res.Inventory)
		}
	}
	res := l.mustApply(set("one"))
	check(res, `
ConfigMap/NS/absent created
ConfigMap/NS/disabled created
ConfigMap/NS/if-not-present skipped
ConfigMap/NS/ignored skipped
ConfigMap/NS/merged configured`)
	if l.get("ConfigMap", "ignored") != nil {
		t.Error("an ignored object was created")
	}
	if got := field(l.get("ConfigMap", "merged"), "data", "extra"); got != "kept" {
		t.Errorf("Merge removed a foreign field: %s", got)
	}
	l.synced(res)
	l.patch("ConfigMap", "disabled", "someone", `{"metadata":{"annotations":{"kustomize.toolkit.fluxcd.io/reconcile":"Disabled"}},"data":{"key":"manual"}}`)
	l.wasTouched()
	check(l.mustApply(set("two")), `
ConfigMap/NS/absent skipped
ConfigMap/NS/disabled skipped
ConfigMap/NS/if-not-present skipped
ConfigMap/NS/ignored skipped
ConfigMap/NS/merged configured`)
	if got := field(l.get("ConfigMap", "disabled"), "data", "key"); got != "manual" {
		t.Errorf("a disabled object was written: %s", got)
	}
	l.log.take()
	l.mustApply(set("two"))
	// The one that is not ours has to be looked up: nothing tells when it goes.
	if diff := cmp.Diff(map[string]int{"GET": 1}, l.log.take()); diff != "" {
		t.Errorf("requests of an unchanged run (-want +got):\n%s", diff)
	}
	t.Run("a disabled object whose desired state is invalid is no error", func(t *testing.T) {
		text := strings.Replace(set("two"), "data: {key: two}", "data: {key: 42}", 2)
		text = strings.Replace(text, "data: {key: 42}", "data: {key: two}", 1)
		l.mustApply(text)
	})
	t.Run("enabled again", func(t *testing.T) {
		l.patch("ConfigMap", "disabled", "someone", `{"metadata":{"annotations":{"kustomize.toolkit.fluxcd.io/reconcile":null}}}`)
		l.wasTouched()
		l.mustApply(set("two"))
		if got := field(l.get("ConfigMap", "disabled"), "data", "key"); got != "two" {
			t.Errorf("data: %s", got)
		}
	})
}

func deployment(app, image string) string {
	return strings.NewReplacer("APP", app, "IMAGE", image).Replace(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: APP}}
  template:
    metadata: {labels: {app: APP}}
    spec:
      containers:
      - name: main
        image: IMAGE
`)
}

// kustomization 72, reliability 106, 107, 117: a field that cannot be changed.
func TestImmutable(t *testing.T) {
	t.Parallel()
	force := func(r *ssa.Request) { r.Force = true }
	t.Run("without force it fails and changes nothing", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(deployment("web", "example.com/web:1"))
		uid := l.get("Deployment", "web").GetUID()
		_, err := l.apply(deployment("other", "example.com/web:1"))
		if err == nil || !strings.Contains(err.Error(), "field is immutable") || !strings.HasPrefix(err.Error(), "Deployment/"+l.ns+"/web dry-run failed (Invalid): ") {
			t.Errorf("error: %v", err)
		}
		if l.get("Deployment", "web").GetUID() != uid {
			t.Error("the object was recreated")
		}
		l.mustApply(deployment("web", "example.com/web:1"))
	})
	t.Run("with force it is recreated", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(deployment("web", "example.com/web:1"))
		uid := l.get("Deployment", "web").GetUID()
		res := l.mustApply(deployment("other", "example.com/web:1"), force)
		if got := res.Changes().String(); got != "Deployment/"+l.ns+"/web created" {
			t.Errorf("changes: %s (recording immutable-field-spec-force)", got)
		}
		if l.get("Deployment", "web").GetUID() == uid {
			t.Error("the object was not recreated")
		}
		l.synced(res)
		select {
		case <-l.touched:
			t.Error("our own recreation was taken for somebody else's doing")
		case <-time.After(300 * time.Millisecond):
		}
	})
	t.Run("with the annotation it is recreated", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(deployment("web", "example.com/web:1"))
		text := strings.Replace(deployment("other", "example.com/web:1"), "{name: web}", "{name: web, annotations: {kustomize.toolkit.fluxcd.io/force: enabled}}", 1)
		if got := l.mustApply(text).Changes().Only(ssa.Created); len(got) != 1 {
			t.Errorf("changes: %v", got)
		}
	})
	t.Run("a protected kind is never recreated", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(deployment("web", "example.com/web:1"))
		uid := l.get("Deployment", "web").GetUID()
		_, err := l.apply(deployment("other", "example.com/web:1"), force, func(r *ssa.Request) {
			r.Irreplaceable = func(gk schema.GroupKind) bool { return gk.Kind == "Deployment" }
		})
		if err == nil || !strings.Contains(err.Error(), "its kind is protected") || l.get("Deployment", "web").GetUID() != uid {
			t.Errorf("error: %v", err)
		}
	})
	t.Run("a replacement that would be refused leaves the object alone", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(deployment("web", "example.com/web:1"))
		uid := l.get("Deployment", "web").GetUID()
		for _, text := range []string{
			deployment("other", `""`),
			strings.Replace(deployment("other", "example.com/web:1"), "replicas: 1", "replicas: -1", 1),
		} {
			_, err := l.apply(text, force)
			if err == nil || !strings.Contains(err.Error(), "it is not recreated") {
				t.Errorf("error: %v", err)
			}
		}
		if l.get("Deployment", "web").GetUID() != uid {
			t.Error("the object was deleted for a replacement that is refused")
		}
	})
	t.Run("a service keeps its fixed address and port", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		const svc = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: NodePort, clusterIP: ADDRESS, ports: [{port: 80, nodePort: PORT}]}"
		l.mustApply("apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {type: NodePort, ports: [{port: 80}]}")
		live := l.get("Service", "s")
		ip := field(live, "spec", "clusterIP")
		ports, _ := live.Object["spec"].(map[string]any)["ports"].([]any)
		port := ports[0].(map[string]any)["nodePort"]
		other := ip[:strings.LastIndex(ip, ".")] + ".253"
		l.mustApply(strings.NewReplacer("ADDRESS", other, "PORT", toText(port)).Replace(svc), force)
		if got := field(l.get("Service", "s"), "spec", "clusterIP"); got != other {
			t.Errorf("address: %s, want %s", got, other)
		}
	})
	t.Run("a finalizer that never clears is reported and not answered with more deletes", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		l.mustApply(deployment("web", "example.com/web:1"))
		l.patch("Deployment", "web", "someone", `{"metadata":{"finalizers":["example.com/hold"]}}`)
		clock := newSteppingClock(10 * time.Second)
		l.applier.Clock = clock
		for range 2 {
			_, err := l.apply(deployment("other", "example.com/web:1"), force)
			if err == nil || !strings.Contains(err.Error(), "finalizers [example.com/hold] still hold it") {
				t.Errorf("error: %v", err)
			}
		}
		if got := l.log.take()["DELETE"]; got != 1 {
			t.Errorf("%d deletes", got)
		}
		l.patch("Deployment", "web", "someone", `{"metadata":{"finalizers":null}}`)
		l.mustApply(deployment("other", "example.com/web:1"), force)
	})
}

const widgetCRD = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.NS.example.com}
spec:
  group: NS.example.com
  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}
  scope: Namespaced
  conversion: {strategy: None}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, x-kubernetes-preserve-unknown-fields: true}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
    subresources: {status: {}}
  - name: v1beta1
    served: SERVED
    storage: false
    schema:
      openAPIV3Schema:
        type: object
        x-kubernetes-preserve-unknown-fields: true
    subresources: {status: {}}
`

const widget = `
---
apiVersion: NS.example.com/VERSION
kind: Widget
metadata: {name: w}
spec: {size: 1}
`

func (l *lab) widgets(text, version, served string) string {
	return strings.NewReplacer("NS", l.ns, "VERSION", version, "SERVED", served).Replace(text)
}

func (l *lab) removeCRD() {
	l.t.Cleanup(func() {
		u := l.ref("apiextensions.k8s.io/v1:CustomResourceDefinition", "widgets."+l.ns+".example.com")
		_ = l.resource(u).Delete(l.t.Context(), u.GetName(), metav1.DeleteOptions{})
	})
}

// kustomization 64, reliability 114: a definition and its objects, a namespace and its content, in one set.
func TestStages(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.removeCRD()
	parked := 0
	res := l.mustApply(l.widgets(widget, "v1", "")+"---\n"+l.widgets(widgetCRD, "", "false")+`
---
apiVersion: v1
kind: ConfigMap
metadata: {name: in, namespace: `+l.ns+`-two}
---
apiVersion: v1
kind: Namespace
metadata: {name: `+l.ns+`-two}
`, func(r *ssa.Request) {
		r.Park = parkCounting(&parked)
	})
	want := strings.ReplaceAll(`CustomResourceDefinition/widgets.NS.example.com created
Namespace/NS-two created
ConfigMap/NS-two/in created
Widget/NS/w created`, "NS", l.ns)
	if got := res.Changes().String(); got != want {
		t.Errorf("changes:\n%s\nwant:\n%s", got, want)
	}
	if parked != 1 {
		t.Errorf("parked %d times while the definition settled", parked)
	}
	if len(l.persists) != 2 || len(l.persists[0]) != 2 || len(l.persists[1]) != 4 {
		t.Errorf("write-ahead: %v, want one per stage that creates", l.persists)
	}
	l.synced(res)
	l.log.take()
	l.mustApply(l.widgets(widget, "v1", "") + "---\n" + l.widgets(widgetCRD, "", "false") +
		"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: in, namespace: " + l.ns + "-two}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: " + l.ns + "-two}\n")
	if got := l.log.take(); len(got) > 0 {
		t.Errorf("an unchanged run made requests: %v", got)
	}
	pruned, err := l.applier.Prune(t.Context(), ssa.PruneRequest{Owner: l.owner, Stale: l.inv})
	if err != nil {
		t.Fatal(err)
	}
	want = strings.ReplaceAll(`Widget/NS/w deleted
ConfigMap/NS-two/in deleted
Namespace/NS-two deleted
CustomResourceDefinition/widgets.NS.example.com deleted`, "NS", l.ns)
	if got := pruned.Changes.String(); got != want {
		t.Errorf("pruned (reliability 145):\n%s\nwant:\n%s", got, want)
	}
	if err := l.applier.Gone(t.Context(), pruned.Deleted, 20*time.Second); err != nil {
		t.Errorf("waiting for termination: %v", err)
	}
}

// architecture 3: a parked wait that is interrupted ends the run between two stages, and says by what.
func TestSettleInterrupted(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.removeCRD()
	newer := errors.New("a newer event")
	_, err := l.apply(l.widgets(widgetCRD, "", "false")+l.widgets(widget, "v1", ""), func(r *ssa.Request) {
		r.Park = func(ctx context.Context, wait func(context.Context) error) error {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(newer)
			return wait(ctx)
		}
	})
	if !errors.Is(err, newer) {
		t.Errorf("error: %v", err)
	}
	if len(l.inv) != 1 {
		t.Errorf("inventory: %v, want the definition", l.inv)
	}
	l.mustApply(l.widgets(widgetCRD, "", "false") + l.widgets(widget, "v1", ""))
}
