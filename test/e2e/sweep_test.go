package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
)

// script is a change that is interrupted at each of its writes in turn.
type script struct {
	name string
	// prepare brings the scene to where the kills begin.
	prepare func(*scene)
	// act starts the change.
	act func(*scene)
	// done waits for the end of the change, undisturbed or after a restart.
	done func(context.Context, *scene) error
	// meanwhile happens while the process is dead; back is called when it lives again.
	meanwhile, back func(*scene)
	// writes are those to kill at; the zero Match is all.
	writes apiproxy.Match
	// least is how many writes there must be: a sweep over none proves nothing.
	least int
}

// mostPositions ends a sweep over a script that never stops writing.
const mostPositions = 60

// scripts are the changes of reliability 088 to 098 and 107.
func scripts() []script {
	return []script{
		{
			// An artifact is stored and advertised: every write of the source itself.
			name: "source", least: 2, writes: apiproxy.Match{Verb: "write", Resource: "gitrepositories"},
			prepare: func(s *scene) {
				s.commit(pick(s.configMaps("a", "b"), "a b")...)
				s.kustomization(nil)
			},
			act:  func(s *scene) { s.source() },
			done: appliedLatest,
		},
		{
			// Two stages: a Namespace, and what lives in it.
			name: "first-apply", least: 7,
			prepare: func(s *scene) {
				ns := object("v1", "Namespace", "", s.namespace+"-"+s.name, nil)
				objects := []*unstructured.Unstructured{ns}
				for _, o := range s.configMaps("a", "b", "c") {
					o.SetNamespace(ns.GetName())
					objects = append(objects, o)
				}
				s.commit(objects...)
				s.source()
				s.awaitArtifact(s.latest)
			},
			act:  func(s *scene) { s.kustomization(nil) },
			done: appliedLatest,
		},
		{
			name: "drop-and-add", least: 5,
			prepare: prepareDropAndAdd,
			act:     commitNext,
			done:    appliedLatest,
		},
		{
			// The orphan trap (W1): while the process is dead, one of the objects that it may have just
			// created is dropped again, and it never sees the commit that held it.
			name: "orphan-trap", least: 5,
			prepare: prepareDropAndAdd,
			act:     commitNext,
			done:    appliedLatest,
			meanwhile: func(s *scene) {
				s.suspend(s.ks(), true)
				s.commit(s.want[:len(s.want)-1]...)
			},
			back: func(s *scene) {
				s.awaitArtifact(s.latest)
				s.suspend(s.ks(), false)
			},
		},
		{
			name: "prune", least: 7,
			prepare: func(s *scene) {
				all := s.configMaps("a", "b", "c", "d", "e", "f")
				s.start(pick(all, "a b c d e f")...)
				s.next = pick(all, "c")
			},
			act:  commitNext,
			done: appliedLatest,
		},
		{
			// A held revision that is approved, whose deletions are interrupted: the approval must hold to the end.
			name: "approved", least: 6,
			prepare: func(s *scene) {
				all := s.configMaps("a", "b", "c", "d", "e", "f")
				s.commit(pick(all, "a b c d e")...)
				s.source()
				s.kustomization(func(k *kustomizev1.Kustomization) {
					k.Annotations = map[string]string{kustomizev1.PruneLimitAnnotation: "1"}
				})
				s.awaitApplied(s.latest)
				s.next = pick(all, "d f")
				commitNext(s)
				s.awaitFailure(kustomizev1.HeldReason)
				s.present(pick(all, "a b c d e")...)
				s.absent(all["f"])
				s.noDeletes()
			},
			act:  approve,
			done: appliedLatest,
		},
		{
			name: "finalizer", least: 5,
			prepare: func(s *scene) { s.start(pick(s.configMaps("a", "b", "c", "d"), "a b c d")...) },
			act:     deleteKustomization,
			done:    gone,
		},
		{
			// An object that must be recreated is gone for a moment (reliability 089, 107).
			name: "recreate", least: 4,
			prepare: func(s *scene) {
				o := s.configMap("fixed", "one")
				o.Object["immutable"] = true
				s.commit(o)
				s.source()
				s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.Force = true })
				s.awaitApplied(s.latest)
				s.law.Recreated = map[string]bool{}
				for id := range s.revisions[s.latest] {
					s.law.Recreated[id] = true
				}
				changed := o.DeepCopy()
				changed.Object["data"] = map[string]any{"value": "two"}
				s.next = []*unstructured.Unstructured{changed}
			},
			act:  commitNext,
			done: appliedLatest,
		},
		{
			// A CRD and an object of its kind in one commit (reliability 098).
			name: "definition", least: 2, writes: apiproxy.Match{Verb: "apply"},
			prepare: func(s *scene) {
				s.commit(definition(s)...)
				s.source()
				s.awaitArtifact(s.latest)
			},
			act:  func(s *scene) { s.kustomization(nil) },
			done: appliedLatest,
		},
	}
}

// approve does what `flux approve` does.
func approve(s *scene) {
	var live kustomizev1.Kustomization
	if err := s.client.Get(s.t.Context(), client.ObjectKeyFromObject(s.ks()), &live); err != nil {
		s.t.Fatal(err)
	}
	newest := live.Status.History[0]
	s.patch(s.ks(), fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, kustomizev1.ApproveAnnotation, newest.Metadata["revision"]+"/"+newest.Digest))
}

func appliedLatest(ctx context.Context, s *scene) error {
	if err := s.artifact(ctx, s.latest); err != nil {
		return err
	}
	return s.applied(ctx, s.latest)
}

func deleteKustomization(s *scene) {
	if err := s.client.Delete(s.t.Context(), s.ks()); err != nil {
		s.t.Fatal(err)
	}
}

func gone(ctx context.Context, s *scene) error {
	return awaitErr(ctx, s, &kustomizev1.KustomizationList{}, s.ks(), goneKustomization)
}

// start applies a first commit and waits for rest.
func (s *scene) start(objects ...*unstructured.Unstructured) {
	s.t.Helper()
	s.commit(objects...)
	s.source()
	s.kustomization(nil)
	s.awaitApplied(s.latest)
}

func prepareDropAndAdd(s *scene) {
	all := s.configMaps("a", "b", "c", "d", "e", "f")
	s.start(pick(all, "a b c d")...)
	s.next = pick(all, "b c d e f")
}

// commitNext pushes the scene's next objects and tells the source.
func commitNext(s *scene) {
	s.commit(s.next...)
	s.request(s.gitRepository())
}

// definition is a CRD of this scene alone and one object of it.
func definition(s *scene) []*unstructured.Unstructured {
	group, plural := s.namespace+".e2e.test", s.name+"things"
	crd := object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", plural+"."+group, map[string]any{
		"spec": map[string]any{
			"group": group, "scope": "Namespaced",
			"names": map[string]any{"kind": "Thing" + s.name, "plural": plural},
			"versions": []any{map[string]any{
				"name": "v1", "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "x-kubernetes-preserve-unknown-fields": true,
				}},
			}},
		},
	})
	thing := object(group+"/v1", "Thing"+s.name, s.namespace, s.name, map[string]any{"spec": map[string]any{"size": int64(1)}})
	return []*unstructured.Unstructured{crd, thing}
}

// mode is what happens at the write.
type mode struct {
	name string
	// kills: the process dies there.
	kills bool
	fault apiproxy.Fault
	// scripts it is played with; nil: all.
	scripts []string
}

func modes() []mode {
	quick := []string{"first-apply", "drop-and-add", "prune", "approved", "finalizer", "recreate"}
	return []mode{
		{name: "killed-before", kills: true},
		{name: "killed-after", kills: true},
		{name: "answer-lost", fault: apiproxy.Fault{ResetAnswer: true}, scripts: quick},
		{name: "conflict", fault: apiproxy.Fault{Status: http.StatusConflict}, scripts: quick},
	}
}

// TestCrashSweep disturbs every write of a change in turn: kill -9 before the write is made, and after
// it is made but before its author knows, each followed by a restart; and, without a restart, an answer
// that gets lost and a conflict. Then the oracles say whether anything was lost, left behind, or hit
// that should not have been (reliability 088, 089, 096, 098, 104, 107, 109).
func TestCrashSweep(t *testing.T) {
	for _, sc := range scripts() {
		for _, m := range modes() {
			if m.scripts != nil && !slices.Contains(m.scripts, sc.name) {
				continue
			}
			t.Run(sc.name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				n := 1
				for reached := true; reached && !r.broken && n <= mostPositions; n++ {
					t.Run(fmt.Sprintf("%02d", n), func(t *testing.T) { reached = r.play(t, sc, m, n) })
				}
				if n -= 2; !r.broken && (n < sc.least || n >= mostPositions-1) {
					t.Errorf("the sweep ended after %d writes, want at least %d and an end", n, sc.least)
				}
			})
		}
	}
}

// play runs a script once and disturbs its nth write. It reports whether there was such a write.
func (r *rig) play(t *testing.T, sc script, m mode, n int) (reached bool) {
	s := r.newScene(t)
	// Whatever became of the scene, the next one starts without it.
	defer s.abandonFailed()
	sc.prepare(s)
	reached = s.disturb(sc, m, n)
	s.proxy.Clear()
	if s.lives() {
		s.verify()
	}
	s.clear()
	return reached
}

// disturb lets the change of a script happen, with a disturbance at its nth write, and waits for its end. It reports whether there was such
// a write.
func (s *scene) disturb(sc script, m mode, n int) (reached bool) {
	s.t.Helper()
	v := &victim{scene: s, dead: make(chan struct{})}
	s.proxy.Add(v.rule(sc, m, n))
	began := s.proxy.Seq()
	sc.act(s)
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	finished := make(chan error, 1)
	go func() { finished <- sc.done(ctx, s) }()
	select {
	case err := <-finished:
		if err != nil {
			s.t.Fatalf("write %d was not survived: %v", n, err)
		}
		// The end may have been seen before the author of the last write was killed.
		if reached = v.struck(began); reached && m.kills {
			<-v.dead
		}
	case <-v.dead:
		reached = true
		v.struck(began)
		cancel()
		<-finished
	}
	if reached && m.kills {
		v.revive(sc)
		if err := sc.done(s.t.Context(), s); err != nil {
			s.t.Fatalf("after the restart: %v", err)
		}
	}
	return reached
}

// victim is the process that is disturbed at a write.
type victim struct {
	*scene
	once sync.Once
	dead chan struct{}
	err  error
	// fault is the one of the rule; others may be in force too.
	fault string
}

func (v *victim) rule(sc script, m mode, n int) *apiproxy.Rule {
	rule := &apiproxy.Rule{Match: sc.writes, Nth: n, Fault: m.fault}
	if rule.Match == (apiproxy.Match{}) {
		rule.Match.Verb = "write"
	}
	no := false
	rule.Match.DryRun = &no
	switch m.name {
	case "killed-before":
		rule.Fault.Before = v.kill
	case "killed-after":
		rule.Fault.After = v.kill
	}
	v.fault = rule.Fault.Name()
	return rule
}

func (v *victim) kill(*apiproxy.Request) {
	v.once.Do(func() {
		v.err = v.sut.Kill()
		close(v.dead)
	})
}

// struck tells whether the rule has hit a request, perhaps one whose author still lives.
func (v *victim) struck(began int64) bool {
	for _, q := range v.proxy.Requests(began) {
		if q.Fault == v.fault {
			v.t.Logf("%s at: %s (request %d)", q.Fault, q.String(), q.Seq)
			return true
		}
	}
	return false
}

// revive starts the process again.
func (v *victim) revive(sc script) {
	v.t.Helper()
	if v.err != nil {
		v.t.Fatal(v.err)
	}
	if sc.meanwhile != nil {
		sc.meanwhile(v.scene)
	}
	if err := v.sut.Start(v.t.Context()); err != nil {
		v.t.Fatal(err)
	}
	if sc.back != nil {
		sc.back(v.scene)
	}
}
