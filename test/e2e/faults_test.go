package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
	"github.com/seed-79636ae9/flux/internal/testkit/oracle"
)

// codes are the ways in which an API server fails without saying that something is gone.
func codes() []int {
	return []int{http.StatusInternalServerError, http.StatusForbidden, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
}

// TestOnlyNotFoundMeansGone is reliability 105: while the API server refuses to look at or to delete what is to
// go, neither inventory nor finalizer goes, and all is done when it answers again.
func TestOnlyNotFoundMeansGone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, verb := range []string{"get", "delete"} {
		for _, code := range codes() {
			rule := func(s *scene) *apiproxy.Rule {
				return &apiproxy.Rule{
					Match: apiproxy.Match{Verb: verb, Resource: "configmaps", Namespace: s.namespace}, Times: -1, Fault: apiproxy.Fault{Status: code},
				}
			}
			t.Run(fmt.Sprintf("prune/%s %d", verb, code), func(t *testing.T) { refusedPrune(r.newScene(t), rule) })
			t.Run(fmt.Sprintf("finalizer/%s %d", verb, code), func(t *testing.T) { refusedFinalizer(r.newScene(t), rule) })
		}
	}
	for _, code := range codes() {
		t.Run(fmt.Sprintf("account %d", code), func(t *testing.T) { refusedAccount(r.newScene(t), code) })
	}
}

func refusedPrune(s *scene, rule func(*scene) *apiproxy.Rule) {
	defer s.abandonFailed()
	all := s.configMaps("a", "b", "c")
	s.start(pick(all, "a b c")...)
	s.proxy.Add(rule(s))
	s.commit(all["b"])
	s.request(s.gitRepository())
	s.awaitFailure(meta.PruneFailedReason)
	s.present(pick(all, "a b c")...)
	s.held(pick(all, "a b c")...)
	s.proxy.Clear()
	s.awaitApplied(s.latest)
	s.absent(pick(all, "a c")...)
	s.verify()
	s.clear()
}

func refusedFinalizer(s *scene, rule func(*scene) *apiproxy.Rule) {
	defer s.abandonFailed()
	all := pick(s.configMaps("a", "b"), "a b")
	s.start(all...)
	s.proxy.Add(rule(s))
	deleteKustomization(s)
	s.awaitFailure(meta.PruneFailedReason)
	s.present(all...)
	s.held(all...)
	s.proxy.Clear()
	s.awaitKustomization(goneKustomization)
	s.absent(all...)
	s.clear()
}

// refusedAccount: a service account that cannot be looked up is not one that is gone (W10); one that is gone
// leaves its objects behind (kustomization 109).
func refusedAccount(s *scene, code int) {
	defer s.abandonFailed()
	all := pick(s.configMaps("a", "b"), "a b")
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: s.name}}
	s.create(account)
	s.create(&unstructured.Unstructured{Object: map[string]any{
		"apiVersion": rbacv1.SchemeGroupVersion.String(), "kind": "RoleBinding",
		"metadata": map[string]any{"namespace": s.namespace, "name": s.name},
		"roleRef":  map[string]any{"apiGroup": rbacv1.GroupName, "kind": "ClusterRole", "name": "cluster-admin"},
		"subjects": []any{map[string]any{"kind": "ServiceAccount", "namespace": s.namespace, "name": s.name}},
	}})
	s.commit(all...)
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.ServiceAccountName = s.name })
	s.awaitApplied(s.latest)
	s.proxy.Add(&apiproxy.Rule{Match: apiproxy.Match{Verb: "get", Resource: "serviceaccounts"}, Times: -1, Fault: apiproxy.Fault{Status: code}})
	deleteKustomization(s)
	s.awaitFailure(meta.PruneFailedReason)
	s.present(all...)
	s.held(all...)
	s.proxy.Clear()
	s.awaitKustomization(goneKustomization)
	s.absent(all...)
	s.clear()
}

// abandonFailed ends the scene of a failed test.
func (s *scene) abandonFailed() {
	if s.t.Failed() {
		s.abandon()
	}
}

// TestWatchesEnd is reliability 110: watches that end all the time or are told 410 Gone lose nothing and cause
// nothing to be done twice.
func TestWatchesEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, tt := range endings() {
		t.Run(tt.name, func(t *testing.T) {
			s := r.newScene(t)
			defer s.abandonFailed()
			s.proxy.Add(tt.rules...)
			// Established watches know nothing of the rules: only a restart makes them all anew.
			s.restart(nil)
			prepareDropAndAdd(s)
			commitNext(s)
			s.awaitApplied(s.latest)
			s.verify()
			s.corrected()
			s.proxy.Clear()
			s.clear()
		})
	}
}

// ending is a way in which watches end.
type ending struct {
	name  string
	rules []*apiproxy.Rule
}

// endings are made anew for each use: rules count.
func endings() []ending {
	watches := apiproxy.Match{Verb: "watch"}
	short := func() *apiproxy.Rule {
		return &apiproxy.Rule{Match: watches, Times: -1, Fault: apiproxy.Fault{EndAfter: 300 * time.Millisecond}}
	}
	return []ending{
		{"after a short while", []*apiproxy.Rule{short()}},
		{"with 410 Gone", []*apiproxy.Rule{{Match: watches, Times: 8, Fault: apiproxy.Fault{Status: http.StatusGone}}, short()}},
		{"without an answer", []*apiproxy.Rule{{Match: watches, Times: 4, Fault: apiproxy.Fault{Reset: true}}, short()}},
	}
}

// corrected changes an object by hand and waits for the correction.
func (s *scene) corrected() {
	s.t.Helper()
	o := s.want[0].DeepCopy()
	value := o.Object["data"].(map[string]any)["value"]
	s.patch(o, `{"data":{"value":"by hand"}}`)
	list := &unstructured.UnstructuredList{}
	list.SetAPIVersion("v1")
	list.SetKind("ConfigMapList")
	await(s, list, s.want[0].DeepCopy(), func(live *unstructured.Unstructured) string {
		if live == nil {
			return "it is gone"
		}
		if got, _, _ := unstructured.NestedString(live.Object, "data", "value"); got != value {
			return fmt.Sprintf("its value is %q, want %q again", got, value)
		}
		return ""
	})
}

// TestConflicts is reliability 104: half of all writes are refused with a conflict, while others write to the
// same objects. All converges, and no one's fields get lost.
func TestConflicts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.newScene(t)
	defer s.abandonFailed()
	prepareDropAndAdd(s)
	dice := rand.New(rand.NewPCG(*seed, 1))
	s.proxy.Add(&apiproxy.Rule{
		Match: apiproxy.Match{Verb: "write"}, Times: -1, Fault: apiproxy.Fault{Status: http.StatusConflict},
		When: func(*apiproxy.Request) bool { return dice.IntN(2) == 0 },
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	writer := make(chan error, 1)
	kept := s.next[0].DeepCopy()
	go func() { writer <- s.meddle(ctx, kept) }()
	commitNext(s)
	s.awaitApplied(s.latest)
	stop()
	if err := <-writer; err != nil {
		t.Fatal(err)
	}
	s.proxy.Clear()
	s.awaitApplied(s.latest)
	s.verify()
	for _, o := range []client.Object{s.ks(), s.gitRepository(), kept} {
		if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Fatal(err)
		}
		if o.GetLabels()["foreign"] == "" || o.GetAnnotations()["foreign"] == "" {
			t.Errorf("%T %s has lost the label or the annotation that somebody else has set", o, o.GetName())
		}
	}
	s.clear()
}

// meddle writes foreign labels and annotations until ctx ends.
func (s *scene) meddle(ctx context.Context, managed *unstructured.Unstructured) error {
	return meddleWith(ctx, s.client, s.ks(), s.gitRepository(), managed)
}

func meddleWith(ctx context.Context, c client.Client, objects ...client.Object) error {
	for i := 0; ; i++ {
		for _, o := range objects {
			body := fmt.Sprintf(`{"metadata":{"labels":{"foreign":"%d"},"annotations":{"foreign":"%d"}}}`, i, i)
			err := c.Patch(ctx, o.DeepCopyObject().(client.Object), client.RawPatch("application/merge-patch+json", []byte(body)), client.FieldOwner("somebody"))
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("meddling with %s: %w", o.GetName(), err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestRestartStorm is reliability 093: commit after commit, each met by a kill at some write that the seed
// chooses. After the last restart all is as it should be.
func TestRestartStorm(t *testing.T) {
	t.Parallel()
	const rounds = 10
	r := newRig(t)
	s := r.newScene(t)
	defer s.abandonFailed()
	all := s.configMaps("a", "b", "c", "d", "e", "f")
	s.start(pick(all, "a b c d e f")...)
	// A run goes on with the revision it started from when the source moves on, so an object may go that any
	// revision leaves out which the source may have advertised since the run began: a kill may have kept it from
	// advertising the one before.
	var history []string
	floor := map[string]int{} // by revision, where in the history such revisions begin
	s.law.Desired = func(_ oracle.Owner, revision string) (map[string]bool, bool) {
		at := slices.Index(history, revision)
		if at < 0 {
			return nil, false
		}
		all := maps.Clone(s.revisions[revision])
		for _, earlier := range history[floor[revision]:at] {
			maps.DeleteFunc(all, func(id string, _ bool) bool { return !s.revisions[earlier][id] })
		}
		return all, true
	}
	advertised := s.latest
	history = append(history, s.latest)
	for round := range rounds {
		v := &victim{scene: s, dead: make(chan struct{})}
		m := modes()[s.rand.IntN(2)]
		s.proxy.Add(v.rule(script{}, m, 1+s.rand.IntN(6)))
		began := s.proxy.Seq()
		var names []string
		for name := range all {
			if s.rand.IntN(2) == 0 {
				names = append(names, name)
			}
		}
		for _, o := range all {
			o.Object["data"] = map[string]any{"value": fmt.Sprint(round)}
		}
		history = append(history, s.commit(pick(all, strings.Join(names, " "))...))
		floor[s.latest] = slices.Index(history, advertised)
		s.request(s.gitRepository())
		ctx, cancel := context.WithCancel(t.Context())
		finished := make(chan error, 1)
		go func() { finished <- appliedLatest(ctx, s) }()
		select {
		case err := <-finished:
			if err != nil {
				t.Fatal(err)
			}
			advertised = s.latest
			if v.struck(began) {
				<-v.dead
				v.revive(script{})
			}
		case <-v.dead:
			v.struck(began)
			cancel()
			<-finished
			// Read while nobody lives who could move it.
			advertised = s.advertised()
			v.revive(script{})
		}
		cancel()
		s.proxy.Clear()
	}
	if err := appliedLatest(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	s.verify()
	s.clear()
}

// TestManyStale is reliability 096: forty objects go, and the process dies after the first, the twentieth and the
// thirty-ninth delete, in a prune and in the finalizer.
func TestManyStale(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, tt := range []struct {
		name string
		act  func(*scene)
		done func(context.Context, *scene) error
	}{
		{"prune", commitNext, appliedLatest},
		{"finalizer", deleteKustomization, gone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := r.newScene(t)
			defer s.abandonFailed()
			var names []string
			for i := range 40 {
				names = append(names, fmt.Sprintf("n%02d", i))
			}
			all := s.configMaps(append(names, "kept")...)
			s.start(pick(all, strings.Join(names, " ")+" kept")...)
			s.next = pick(all, "kept")
			deletes := script{writes: apiproxy.Match{Verb: "delete"}}
			acted := false
			for _, n := range []int{1, 19, 19} {
				v := &victim{scene: s, dead: make(chan struct{})}
				s.proxy.Add(v.rule(deletes, mode{name: "killed-after"}, n))
				if !acted {
					tt.act(s)
					acted = true
				} else if err := s.sut.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				select {
				case <-v.dead:
				case <-time.After(patience):
					t.Fatalf("delete %d did not come", n)
				}
				s.proxy.Clear()
			}
			if err := s.sut.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := tt.done(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if s.lives() {
				s.verify()
			}
			s.absent(pick(all, strings.Join(names, " "))...)
			s.clear()
		})
	}
}
