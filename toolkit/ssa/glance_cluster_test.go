package ssa_test

import (
	"maps"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// application is what an upgrade mostly is about: the version is in the labels of all objects, and in an image.
const application = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, labels: {version: "1.0"}}
---
apiVersion: v1
kind: Service
metadata: {name: web, labels: {version: "1.0"}}
spec:
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {version: "1.0"}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: example.com/web:1.0
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, labels: {version: "1.0"}}
spec:
  rules:
  - host: web.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
`

// architecture 5b: an upgrade costs a dry run and a write of each object, whatever controllers have done to their statuses.
func TestUpgradeBudget(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.inView(l.mustApply(application), application)
	l.log.take()
	upgraded := strings.ReplaceAll(application, "1.0", "1.1")
	res := l.mustApply(upgraded)
	if diff := cmp.Diff(map[string]int{"PATCH dry-run": 4, "PATCH": 4}, l.log.take()); diff != "" {
		t.Errorf("requests of an upgrade (-want +got):\n%s", diff)
	}
	if n := len(res.Changes().Only(ssa.Configured)); n != 4 {
		t.Errorf("changes: %v", res.Changes())
	}
	l.inView(res, upgraded)
	l.log.take()
	if l.mustApply(upgraded); len(l.log.take()) > 0 {
		t.Error("an unchanged run after an upgrade made requests")
	}
}

// inView waits until the watch shows the objects of a text as they are, when nobody writes them any more.
func (l *lab) inView(res *ssa.Result, text string) {
	l.t.Helper()
	l.synced(res)
	l.eventually("the watch shows the objects as they are", func() bool {
		for _, o := range l.normalised(text) {
			gvk := o.GroupVersionKind()
			live := l.get(gvk.GroupVersion().String()+":"+gvk.Kind, o.GetName())
			state, sight := l.managed.Lookup(gvk.GroupKind(), l.ns, o.GetName())
			if live == nil || sight != kube.Present || state.ResourceVersion != live.GetResourceVersion() {
				return false
			}
			switch gvk.Kind {
			case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "PodDisruptionBudget":
				if field(live, "status", "observedGeneration") != field(live, "metadata", "generation") || kube.Assess(live).Status != kube.Current {
					return false
				}
			case "Job":
				if _, ok, _ := unstructured.NestedSlice(live.Object, "status", "conditions"); !ok {
					return false
				}
			}
		}
		return true
	})
}

// What the metadata tell is believed, kind by kind, and what they do not tell is read: of an object of which the process knows nothing.
func TestGlance(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	domain := l.ns + ".example.com"
	for name, subresources := range map[string]string{"Widget": "{status: {}}", "Gadget": "{}"} {
		plural := strings.ToLower(name) + "s"
		definition := "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: " + plural + "." + domain + "}\n" +
			"spec:\n  group: " + domain + "\n  scope: Namespaced\n  names: {plural: " + plural + ", kind: " + name + "}\n" +
			"  versions: [{name: v1, served: true, storage: true, subresources: " + subresources + ", schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]\n"
		l.mustApply(definition, func(r *ssa.Request) { r.Owner.Name = "definitions" })
		defer l.remove("apiextensions.k8s.io/v1:CustomResourceDefinition", plural+"."+domain)
	}
	l.mapper.Invalidate()
	const (
		read  = 1
		spare = 0
	)
	pod := "{metadata: {labels: {a: b}}, spec: {restartPolicy: RESTART, containers: [{name: main, image: example.com/a}]}}"
	always, never := strings.Replace(pod, "RESTART", "Always", 1), strings.Replace(pod, "RESTART", "Never", 1)
	for _, tc := range []struct {
		name, kind string // apiVersion:kind
		content    string
		edit       [2]string // makes another content of it
		// how often the live object is read when nothing differs, and when the content does
		same, other int
	}{
		{"Deployment", "apps/v1:Deployment", "spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: " + always + "}", [2]string{"com/a", "com/b"}, spare, spare},
		{"StatefulSet", "apps/v1:StatefulSet", "spec: {replicas: 0, serviceName: a, selector: {matchLabels: {a: b}}, template: " + always + "}", [2]string{"com/a", "com/b"}, spare, spare},
		{"DaemonSet", "apps/v1:DaemonSet", "spec: {selector: {matchLabels: {a: b}}, template: " + always + "}", [2]string{"com/a", "com/b"}, spare, spare},
		{"ReplicaSet", "apps/v1:ReplicaSet", "spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: " + always + "}", [2]string{"com/a", "com/b"}, spare, spare},
		{"Job", "batch/v1:Job", "spec: {suspend: true, parallelism: 1, template: " + never + "}", [2]string{"parallelism: 1", "parallelism: 2"}, spare, spare},
		{"CronJob", "batch/v1:CronJob", "spec: {suspend: true, schedule: '0 0 1 1 *', jobTemplate: {spec: {template: " + never + "}}}", [2]string{"com/a", "com/b"}, spare, spare},
		{"PodDisruptionBudget", "policy/v1:PodDisruptionBudget", "spec: {minAvailable: 1, selector: {matchLabels: {a: b}}}", [2]string{"minAvailable: 1", "minAvailable: 2"}, spare, spare},
		{"Ingress", "networking.k8s.io/v1:Ingress", "spec: {defaultBackend: {service: {name: a, port: {number: 1}}}}", [2]string{"number: 1", "number: 2"}, spare, spare},
		{"custom resource", domain + "/v1:Widget", "spec: {a: {b: [1, {c: x}]}}", [2]string{"c: x", "c: y"}, spare, spare},
		{"custom resource, outside its spec", domain + "/v1:Widget", "config: {a: 1.5}", [2]string{"1.5", "2.5"}, spare, spare},
		{"custom resource without a status of its own", domain + "/v1:Gadget", "spec: {a: b}", [2]string{"a: b", "a: c"}, spare, spare},
		{"no generation", "v1:ConfigMap", "data: {a: b}", [2]string{"a: b", "a: c"}, read, read},
		{"no generation, but a spec", "v1:Service", "spec: {selector: {a: b}, ports: [{port: 1}]}", [2]string{"port: 1", "port: 2"}, read, read},
		{"a generation that may move for nothing", "networking.k8s.io/v1:NetworkPolicy", "spec: {podSelector: {matchLabels: {a: b}}, ingress: [{from: []}]}", [2]string{"a: b", "a: c"}, read, read},
	} {
		t.Run(tc.name, func(t *testing.T) {
			apiVersion, kind, _ := strings.Cut(tc.kind, ":")
			base := strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(tc.name))
			var tried string // the version that the last dry run was about
			l.log.alter = func(o *unstructured.Unstructured) { tried = o.GetResourceVersion() }
			// step applies a text after a restart and checks what it costs and what becomes of the object. It is false, and nothing is
			// checked, if a controller wrote its status in between, so that the watch was behind.
			step := func(what, name, text string, reads int, want ssa.Action) bool {
				t.Helper()
				l.applier.Memory = ssa.NewMemory(ssa.MemoryOptions{Managed: l.managed})
				before := l.get(tc.kind, name)
				shown, _ := l.managed.Lookup(l.ref(tc.kind, name).GroupVersionKind().GroupKind(), l.ns, name)
				l.log.take()
				res := l.mustApply(text)
				got := l.log.take()
				if before != nil && tried != shown.ResourceVersion {
					return false
				}
				if got["GET"] != reads {
					t.Errorf("%s: requests %v, want %d reads", what, got, reads)
				}
				if len(res.Objects) != 1 || res.Objects[0].Action != want {
					t.Errorf("%s: %v, want %s", what, res.Changes(), want)
				}
				after := l.get(tc.kind, name)
				if changed := before == nil || !reflect.DeepEqual(desirable(before), desirable(after)); changed != (want != ssa.Unchanged) {
					t.Errorf("%s: the object has changed: %v", what, changed)
				}
				l.inView(res, text)
				l.log.take()
				if l.mustApply(text); len(l.log.take()) > 0 {
					t.Errorf("%s: the run after it made requests", what)
				}
				return true
			}
			story := func(name string) bool {
				text := "apiVersion: " + apiVersion + "\nkind: " + kind + "\nmetadata: {name: " + name + ", labels: {l: one}}\n" + tc.content + "\n"
				relabelled := strings.Replace(text, "l: one", "l: two", 1)
				edited := strings.Replace(relabelled, tc.edit[0], tc.edit[1], 1)
				return step("create", name, text, spare, ssa.Created) &&
					step("nothing", name, text, tc.same, ssa.Unchanged) &&
					step("a label", name, relabelled, spare, ssa.Configured) &&
					step("the content", name, edited, tc.other, ssa.Configured) &&
					step("nothing again", name, edited, tc.same, ssa.Unchanged)
			}
			for try := 1; !story(base + "-" + strconv.Itoa(try)); try++ {
				if try == 10 {
					t.Fatal("a controller wrote the object in each try")
				}
			}
		})
	}
}

// desirable is what of an object an apply is about.
func desirable(o *unstructured.Unstructured) map[string]any {
	out := maps.Clone(o.Object)
	delete(out, "metadata")
	delete(out, "status")
	out["labels"] = o.GetLabels()
	return out
}

// Metadata that promise a change which the write does not make are no reason to tell one.
func TestGlanceWithoutChange(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.inView(l.mustApply(application), application)
	l.applier.Memory = ssa.NewMemory(ssa.MemoryOptions{Managed: l.managed})
	l.log.alter = func(o *unstructured.Unstructured) {
		if o.GetKind() == "Ingress" {
			o.SetGeneration(o.GetGeneration() + 1)
		}
	}
	l.log.take()
	res := l.mustApply(application)
	if got := l.log.take(); got["PATCH"] != 1 {
		t.Errorf("requests: %v, want one write", got)
	}
	if n := len(res.Changes().Only(ssa.Unchanged)); n != 4 {
		t.Errorf("changes: %v", res.Changes())
	}
}
