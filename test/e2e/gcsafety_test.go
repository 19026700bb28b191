package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/oracle"
)

// TestSafety is about mistakes in Git and by hand, and what becomes of them (reliability 139 to 152).
func TestSafety(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, tt := range []struct {
		name string
		play func(*scene)
	}{
		{"139 an object of two owners, dropped by one", twoOwners},
		{"145 what stands on a definition goes before it", definitionLast},
		{"147 dropped from Git while suspended", droppedSuspended},
		{"151 a mass deletion is held until it is approved", massDeletion},
		{"152 the branch is replaced by an older one", olderBranch},
		{"a replica count changed by hand is put back", scaledByHand},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := r.newScene(t)
			defer s.abandonFailed()
			tt.play(s)
			s.clear()
		})
	}
}

// twoOwners: each of two Kustomizations declares the object; one drops it, then the other takes its turn, then both drop it.
func twoOwners(s *scene) {
	shared, own, other := s.configMap("shared", "x"), s.configMap("own", "x"), s.configMap("other", "x")
	file := func(o *unstructured.Unstructured) *testkit.GitFile {
		return &testkit.GitFile{Content: string(encode(s.t, o))}
	}
	b := s.child("b", "./b")
	kb := s.ks()
	kb.Name = b.GetName()
	mine, theirs := map[string][]*unstructured.Unstructured{}, map[string][]*unstructured.Unstructured{}
	s.law.Desired = s.desiredAt(mine, theirs)
	settle := func(inA, inB bool) {
		files := map[string]*testkit.GitFile{"a/own.yaml": file(own), "b/other.yaml": file(other), "a/shared.yaml": nil, "b/shared.yaml": nil}
		inOther := []*unstructured.Unstructured{other}
		s.want = []*unstructured.Unstructured{own}
		if inA {
			files["a/shared.yaml"], s.want = file(shared), append(s.want, shared)
		}
		if inB {
			files["b/shared.yaml"], inOther = file(shared), append(inOther, shared)
		}
		s.latest = s.push(files)
		mine[s.latest], theirs[s.latest] = s.want, inOther
	}
	reach := func() {
		s.request(s.gitRepository())
		s.awaitApplied(s.latest)
		if err := s.appliedBy(s.t.Context(), kb, s.latest); err != nil {
			s.t.Fatal(err)
		}
	}
	settle(true, true)
	s.source()
	s.create(b)
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.Path = "./a" })
	reach()
	live, err := s.judge.Live(s.t.Context(), shared)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, inA := range []bool{false, true} {
		settle(inA, !inA)
		reach()
		// The entry leaves the one inventory when the object carries the labels of the other.
		holder, former := oracle.Owner{Namespace: s.namespace, Name: kb.Name}, s.owner
		if inA {
			holder, former = former, holder
		}
		s.awaitHolder(shared, holder, former)
		now, err := s.judge.Live(s.t.Context(), shared)
		if err != nil || now.GetUID() != live.GetUID() {
			s.t.Errorf("the object was lost or created anew: %v", err)
		}
		settle(true, true)
		reach()
	}
	s.noDeletes()
	settle(false, false)
	reach()
	s.awaitRemoval(shared)
	s.verify()
	if err := s.client.Delete(s.t.Context(), kb); err != nil {
		s.t.Fatal(err)
	}
	s.awaitGone(kb.Name)
	s.absent(other)
}

// awaitHolder waits until an object carries the labels of its holder, and is in the inventory of it alone.
func (s *scene) awaitHolder(o *unstructured.Unstructured, holder, former oracle.Owner) {
	s.t.Helper()
	id := ""
	for k := range oracle.IDs([]*unstructured.Unstructured{o}) {
		id = k
	}
	for _, side := range []struct {
		owner oracle.Owner
		holds bool
	}{{holder, true}, {former, false}} {
		k := s.ks()
		k.Name = side.owner.Name
		await(s, &kustomizev1.KustomizationList{}, k, func(obj *kustomizev1.Kustomization) string {
			holds := false
			if obj != nil && obj.Status.Inventory != nil {
				for _, e := range obj.Status.Inventory.Entries {
					holds = holds || e.ID == id
				}
			}
			if holds != side.holds {
				return fmt.Sprintf("its inventory holds the object: %v, want %v", holds, side.holds)
			}
			return ""
		})
	}
	live, err := s.judge.Live(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := live.GetLabels()[kustomizev1.OwnerNameLabel]; got != holder.Name {
		s.t.Errorf("the object carries the label of %s, want %s", got, holder.Name)
	}
}

func definitionLast(s *scene) {
	objects := definition(s)
	s.commit(objects...)
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) {
		k.Spec.DeletionPolicy = kustomizev1.DeletionPolicyWaitForTermination
	})
	s.awaitApplied(s.latest)
	seq := s.proxy.Seq()
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	s.absent(objects[0])
	var order []string
	for _, q := range s.proxy.Requests(seq) {
		if q.Verb == "delete" && s.judge.Managed(&q) {
			order = append(order, q.Resource)
		}
	}
	if want := s.name + "things customresourcedefinitions"; strings.Join(order, " ") != want {
		s.t.Errorf("the order of the deletions is %q, want %q", order, want)
	}
}

func droppedSuspended(s *scene) {
	all := s.configMaps("a", "b")
	s.start(pick(all, "a b")...)
	s.suspend(s.ks(), true)
	s.commit(all["a"])
	s.request(s.gitRepository())
	s.awaitArtifact(s.latest)
	s.request(s.ks())
	s.present(pick(all, "a b")...)
	s.noDeletes()
	s.suspend(s.ks(), false)
	s.awaitApplied(s.latest)
	s.verify()
	s.absent(all["b"])
}

// massDeletion: all but one object leave Git by mistake; the second time on purpose, and `flux approve` says so.
func massDeletion(s *scene) {
	all := s.configMaps("a", "b", "c", "d", "new")
	s.commit(pick(all, "a b c d")...)
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) {
		k.Annotations = map[string]string{kustomizev1.PruneLimitAnnotation: "2,50%"}
	})
	s.awaitApplied(s.latest)

	s.commit(pick(all, "d new")...)
	s.request(s.gitRepository())
	s.awaitFailure(kustomizev1.HeldReason)
	s.present(pick(all, "a b c d")...)
	s.absent(all["new"])
	s.commit(pick(all, "a b c d")...)
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	s.noDeletes()
	s.verify()

	s.commit(pick(all, "d new")...)
	s.request(s.gitRepository())
	s.awaitFailure(kustomizev1.HeldReason)
	said, ok := attempt(s.t, nil, "approve", "kustomization", s.name, "-n", s.namespace, "--silent", "--kubeconfig", os.Getenv("FLUX_TEST_KUBECONFIG"))
	if !ok || !strings.Contains(said, "it would delete 3 of 4 objects, more than 2, more than 50%") || !strings.Contains(said, "applied revision "+s.latest) {
		s.t.Errorf("flux approve says %s", said)
	}
	s.awaitApplied(s.latest)
	s.verify()
	s.absent(pick(all, "a b c")...)
}

// olderBranch: a force push takes the branch back; what the newer commits brought goes, once, and a branch that is gone deletes nothing.
func olderBranch(s *scene) {
	all := s.configMaps("a", "b")
	s.start(all["a"])
	first := s.latest
	s.commit(pick(all, "a b")...)
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	if err := s.repo.SetBranch("main", strings.TrimPrefix(first, "main@sha1:")); err != nil {
		s.t.Fatal(err)
	}
	s.latest, s.want = first, pick(all, "a")
	s.request(s.gitRepository())
	s.awaitApplied(first)
	s.verify()
	s.absent(all["b"])

	s.patch(s.gitRepository(), `{"spec":{"ref":{"branch":"gone"}}}`)
	s.request(s.ks())
	s.awaitApplied(first)
	s.verify()
}

// scaledByHand: the interval is an hour, so that only the watch can have told.
func scaledByHand(s *scene) {
	labels := map[string]any{"app": s.name}
	web := object("apps/v1", "Deployment", s.namespace, s.name+"-web", map[string]any{"spec": map[string]any{
		"replicas": int64(1), "selector": map[string]any{"matchLabels": labels},
		"template": map[string]any{
			"metadata": map[string]any{"labels": labels},
			"spec":     map[string]any{"containers": []any{map[string]any{"name": "web", "image": "example.com/web:1"}}},
		},
	}})
	s.start(web)
	live := web.DeepCopy()
	scale := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": map[string]any{"replicas": int64(3)}}}
	if err := s.client.SubResource("scale").Update(s.t.Context(), live, client.WithSubResourceBody(scale)); err != nil {
		s.t.Fatal(err)
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(web.GroupVersionKind().GroupVersion().WithKind("DeploymentList"))
	await(s, list, web, func(o *unstructured.Unstructured) string {
		if o == nil {
			return "it does not exist"
		}
		// Generation 1 is the first apply, 2 the hand, 3 the correction.
		if n, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas"); n != 1 || o.GetGeneration() < 3 {
			return fmt.Sprintf("it has %d replicas at generation %d", n, o.GetGeneration())
		}
		return ""
	})
	s.collateral()
}
