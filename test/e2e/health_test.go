package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
)

// TestNewerRevisionEndsWait: a wait for what never becomes healthy ends with the commit that mends it, not with its timeout, which
// is longer than the patience of a test (kustomization 94).
func TestNewerRevisionEndsWait(t *testing.T) {
	t.Parallel()
	s := newRig(t).newScene(t)
	labels := map[string]any{"app": "stuck"}
	s.commit(object("apps/v1", "Deployment", s.namespace, "stuck", map[string]any{"spec": map[string]any{
		"selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{
			"metadata": map[string]any{"labels": labels},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": "main", "image": "example.com/never:1"}}},
		},
	}}))
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.Wait, k.Spec.Timeout = true, "30m" })
	s.awaitKustomization(func(o *kustomizev1.Kustomization) string {
		if o == nil {
			return "it does not exist"
		}
		if c := find(o.Status.Conditions, meta.HealthyCondition); c == nil || c.Status != metav1.ConditionUnknown {
			return "it does not wait: " + conditions(o.Status.Conditions)
		}
		return ""
	})
	s.commit(s.configMap("mended", "x"))
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	s.clear()
}

// TestDeletionOrder is about what goes first, and that everything goes.
func TestDeletionOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, tt := range []struct {
		name string
		play func(*scene)
	}{
		{"145 objects of a CRD that wait for somebody else", customObjectHeld},
		{"146 dependents go first when a parent drops both", dependentsFirst},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := r.newScene(t)
			defer s.abandonFailed()
			tt.play(s)
			s.clear()
		})
	}
}

// dependentsFirst: the parent deletes what the other child depends on first, since it prunes in reverse order.
func dependentsFirst(s *scene) {
	base, app := s.child("z-base", "./base"), s.child("a-app", "./app")
	if err := unstructured.SetNestedSlice(app.Object, []any{map[string]any{"name": base.GetName()}}, "spec", "dependsOn"); err != nil {
		s.t.Fatal(err)
	}
	of := map[*unstructured.Unstructured]*unstructured.Unstructured{base: s.configMap("base", "x"), app: s.configMap("app", "x")}
	own := s.configMap("own", "x")
	files := map[string]*testkit.GitFile{
		"parent/own.yaml": {Content: string(encode(s.t, own))},
		"base/base.yaml":  {Content: string(encode(s.t, of[base]))}, "app/app.yaml": {Content: string(encode(s.t, of[app]))},
	}
	for child := range of {
		files["parent/"+child.GetName()+".yaml"] = &testkit.GitFile{Content: string(encode(s.t, child))}
	}
	s.latest = s.push(files)
	inner := []*unstructured.Unstructured{of[base], of[app]}
	s.law.Desired = s.desiredAt(map[string][]*unstructured.Unstructured{s.latest: {base, app, own}}, map[string][]*unstructured.Unstructured{s.latest: inner})
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.Path = "./parent" })
	s.awaitApplied(s.latest)
	s.awaitReady(app.GetName())

	latest := s.push(map[string]*testkit.GitFile{"parent/" + base.GetName() + ".yaml": nil, "parent/" + app.GetName() + ".yaml": nil})
	s.law.Desired = s.desiredAt(map[string][]*unstructured.Unstructured{latest: {own}}, map[string][]*unstructured.Unstructured{latest: inner})
	s.request(s.gitRepository())
	s.awaitApplied(latest)
	s.awaitGone(base.GetName())
	s.awaitGone(app.GetName())
	s.absent(inner...)
	var order []string
	for _, q := range s.proxy.Requests(s.since) {
		if q.Verb == "delete" && q.Resource == "configmaps" && q.Code == http.StatusOK {
			order = append(order, q.Name)
		}
	}
	if want := []string{of[app].GetName(), of[base].GetName()}; !slices.Equal(order, want) {
		s.t.Errorf("deleted in the order %v, want %v", order, want)
	}
}

// customObjectHeld: an object has a finalizer of somebody else when it and its CRD are deleted, and the deletion waits for both.
func customObjectHeld(s *scene) {
	objects := definition(s)
	thing := objects[1]
	thing.SetFinalizers([]string{"e2e.test/held"})
	s.commit(objects...)
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) {
		k.Spec.DeletionPolicy, k.Spec.Timeout = kustomizev1.DeletionPolicyWaitForTermination, "5m"
	})
	s.awaitApplied(s.latest)
	if err := s.client.Delete(s.t.Context(), s.ks()); err != nil {
		s.t.Fatal(err)
	}
	s.awaitDeletion(thing)
	s.held(s.want...)
	live, err := s.judge.Live(s.t.Context(), thing)
	if err != nil {
		s.t.Fatal(err)
	}
	s.patch(live, `{"metadata":{"finalizers":null}}`)
	s.awaitKustomization(goneKustomization)
	s.absent(objects...)
}

// awaitDeletion waits until somebody has deleted an object that is held.
func (s *scene) awaitDeletion(o *unstructured.Unstructured) {
	s.t.Helper()
	err := poll(s.t.Context(), patience, func() bool {
		live, err := s.judge.Live(s.t.Context(), o)
		return err == nil && live.GetDeletionTimestamp() != nil
	})
	if err != nil {
		s.t.Fatalf("%s %s is not being deleted: %v", o.GetKind(), o.GetName(), err)
	}
}

// Sizes of what reliability 039 asks for.
const (
	chainLength = 50
	fanIn       = 200
)

// TestDependencyShapes: cycles, what is missing, long chains and wide fans; nobody runs hot, and nobody else is held up
// (reliability 039, kustomization 4, 16).
func TestDependencyShapes(t *testing.T) {
	t.Parallel()
	const requeue = 5 * time.Second
	r := newRig(t, "--requeue-dependency="+requeue.String())
	s := r.newScene(t)
	s.push(map[string]*testkit.GitFile{"nothing/README": {Content: "no manifests"}})
	s.source()
	start := time.Now()
	depends := map[string][]string{"cycle-a": {"cycle-b"}, "cycle-b": {"cycle-a"}, "self": {"self"}, "lost": {"missing"}, "fan": nil, "free": nil}
	for i := range chainLength {
		depends[link(i)] = nil
		if i > 0 {
			depends[link(i)] = []string{link(i - 1)}
		}
	}
	for i := range fanIn {
		name := fmt.Sprintf("leaf-%03d", i)
		depends[name], depends["fan"] = nil, append(depends["fan"], name)
	}
	for name, on := range depends {
		k := &kustomizev1.Kustomization{ObjectMeta: s.meta(), Spec: kustomizev1.KustomizationSpec{
			SourceRef: kustomizev1.SourceReference{Kind: "GitRepository", Name: s.name}, Path: "./nothing", Interval: "1h", Prune: true,
		}}
		k.Name = name
		for _, d := range on {
			k.Spec.DependsOn = append(k.Spec.DependsOn, meta.DependencyReference{Name: d})
		}
		s.create(k)
	}
	// By the requeue interval alone the chain would take four minutes.
	for _, name := range []string{"free", "fan", link(chainLength - 1)} {
		s.awaitReady(name)
	}
	for name, text := range map[string]string{
		"cycle-a": "dependency cycle " + s.namespace + "/cycle-a -> " + s.namespace + "/cycle-b -> " + s.namespace + "/cycle-a",
		"cycle-b": "dependency cycle " + s.namespace + "/cycle-b -> " + s.namespace + "/cycle-a -> " + s.namespace + "/cycle-b",
		"self":    "dependency cycle " + s.namespace + "/self -> " + s.namespace + "/self",
		"lost":    "dependency '" + s.namespace + "/missing' not found",
	} {
		s.awaitWaiting(name, text)
		// One run for each interval, and some for what happened at the start.
		if runs, most := s.runsOf(name), int(time.Since(start)/requeue)+15; runs == 0 || runs > most {
			t.Errorf("%s: %d runs, want at most %d", name, runs, most)
		}
	}
	if err := s.client.DeleteAllOf(t.Context(), &kustomizev1.Kustomization{}, client.InNamespace(s.namespace)); err != nil {
		t.Fatal(err)
	}
	err := poll(t.Context(), patience, func() bool {
		var left kustomizev1.KustomizationList
		return s.client.List(t.Context(), &left, client.InNamespace(s.namespace)) == nil && len(left.Items) == 0
	})
	if err != nil {
		t.Errorf("Kustomizations are left: %v", err)
	}
}

func link(i int) string { return fmt.Sprintf("link-%02d", i) }

// awaitWaiting waits until a Kustomization says what it waits for.
func (s *scene) awaitWaiting(name, text string) {
	s.t.Helper()
	k := s.ks()
	k.Name = name
	await(s, &kustomizev1.KustomizationList{}, k, func(o *kustomizev1.Kustomization) string {
		if o == nil {
			return "it does not exist"
		}
		c := find(o.Status.Conditions, meta.ReadyCondition)
		if c == nil || c.Status != metav1.ConditionFalse || c.Reason != meta.DependencyNotReadyReason || !strings.Contains(c.Message, text) {
			return fmt.Sprintf("it does not wait with %q: %s", text, conditions(o.Status.Conditions))
		}
		return ""
	})
}

// runsOf reads from the metrics how often a Kustomization was reconciled.
func (s *scene) runsOf(name string) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.sut.MetricsAddr+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, "gotk_reconcile_duration_seconds_count{") || !strings.Contains(line, `name="`+name+`"`) {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(line[strings.LastIndexByte(line, ' ')+1:]))
		if err != nil {
			s.t.Fatal(err)
		}
		return n
	}
	return 0
}
