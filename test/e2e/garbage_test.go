package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/internal/testkit"
	"github.com/seed-79636ae9/flux/internal/testkit/oracle"
)

// TestGarbage is about what must not be deleted, and what must (reliability 134 to 147).
func TestGarbage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, tt := range []struct {
		name string
		play func(*scene)
	}{
		{"134 a path that is gone deletes nothing", pathGone},
		{"134 a manifest that does not parse deletes nothing", brokenManifest},
		{"135 a child goes though its path is gone too", childWithoutPath},
		{"136 renamed objects are replaced, new ones first", renamed},
		{"137 prune disabled, also for the finalizer", pruneDisabled},
		{"138 copied labels make nobody an owner", copiedLabels},
		{"139 an object that moves to another owner", moved},
		{"143 one object under two API groups", twoGroups},
		{"144 recreated by someone else", recreatedByOthers},
		{"114 objects whose kind is gone", kindGone},
		{"147 deleted while suspended", deletedSuspended},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := r.newScene(t)
			defer s.abandonFailed()
			tt.play(s)
			s.clear()
		})
	}
}

// awaitFailure waits until the Kustomization has failed for a reason.
func (s *scene) awaitFailure(reason string) {
	s.t.Helper()
	s.awaitKustomization(func(o *kustomizev1.Kustomization) string {
		if o == nil {
			return "it is gone"
		}
		if c := find(o.Status.Conditions, meta.ReadyCondition); c == nil || c.Status != "False" || c.Reason != reason {
			return fmt.Sprintf("it has not failed with %s: %s", reason, conditions(o.Status.Conditions))
		}
		return ""
	})
}

// present fails unless each object is on the cluster and not about to go.
func (s *scene) present(objects ...*unstructured.Unstructured) {
	s.t.Helper()
	for _, o := range objects {
		live, err := s.judge.Live(s.t.Context(), o)
		switch {
		case err != nil:
			s.t.Errorf("%s %s is lost: %v", o.GetKind(), o.GetName(), err)
		case live.GetDeletionTimestamp() != nil:
			s.t.Errorf("%s %s is being deleted", o.GetKind(), o.GetName())
		}
	}
}

// absent fails if an object is on the cluster.
func (s *scene) absent(objects ...*unstructured.Unstructured) {
	s.t.Helper()
	for _, o := range objects {
		if _, err := s.judge.Live(s.t.Context(), o); !apierrors.IsNotFound(err) {
			s.t.Errorf("%s %s is still there (%v)", o.GetKind(), o.GetName(), err)
		}
	}
}

// held fails unless the inventory holds exactly the objects.
func (s *scene) held(objects ...*unstructured.Unstructured) {
	s.t.Helper()
	ids, err := s.judge.Inventory(s.t.Context(), s.owner)
	if err != nil {
		s.t.Fatal(err)
	}
	want := oracle.IDs(objects)
	if len(ids) != len(want) || slices.ContainsFunc(ids, func(id string) bool { return !want[id] }) {
		s.t.Errorf("the inventory holds %v, want %v", ids, want)
	}
}

// noDeletes fails if the process has deleted anything in this scene.
func (s *scene) noDeletes() {
	s.t.Helper()
	for _, q := range s.proxy.Requests(s.since) {
		if q.Verb == "delete" {
			s.t.Errorf("there was %s (request %d)", q.String(), q.Seq)
		}
	}
}

func pathGone(s *scene) {
	s.dir = "app/"
	all := pick(s.configMaps("a", "b"), "a b")
	s.commit(all...)
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.Path = "./app" })
	s.awaitApplied(s.latest)
	first := s.latest
	s.push(map[string]*testkit.GitFile{s.dir + fileOf(all[0]): nil, s.dir + fileOf(all[1]): nil, "README": {Content: "moved"}})
	s.request(s.gitRepository())
	s.awaitFailure(meta.ArtifactFailedReason)
	s.present(all...)
	s.held(all...)
	s.noDeletes()
	// The revision is new although the content is the old one.
	s.want = nil
	s.commit(all...)
	if s.latest == first {
		s.t.Fatal("the commit that brings the path back is the first one")
	}
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	s.verify()
	s.noDeletes()
}

func brokenManifest(s *scene) {
	all := s.configMaps("a", "b", "c")
	s.start(pick(all, "a b")...)
	s.push(map[string]*testkit.GitFile{
		fileOf(all["a"]): nil, fileOf(all["b"]): {Content: "kind: ConfigMap\n  metadata:\n name: torn"},
		fileOf(all["c"]): {Content: string(encode(s.t, all["c"]))},
	})
	s.request(s.gitRepository())
	s.awaitFailure(meta.BuildFailedReason)
	s.present(pick(all, "a b")...)
	s.absent(all["c"])
	s.held(pick(all, "a b")...)
	s.noDeletes()
	s.commit(pick(all, "b c")...)
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	s.verify()
}

// childWithoutPath: the parent drops the child Kustomization in the commit that drops the child's path (flux2#2627).
func childWithoutPath(s *scene) {
	inner := s.configMap("inner", "x")
	child := s.child("child", "./child")
	files := func(there bool) map[string]*testkit.GitFile {
		out := map[string]*testkit.GitFile{
			"parent/child.yaml": {Content: string(encode(s.t, child))}, "child/inner.yaml": {Content: string(encode(s.t, inner))},
			"parent/own.yaml": {Content: string(encode(s.t, s.configMap("own", "x")))},
		}
		if !there {
			out["parent/child.yaml"], out["child/inner.yaml"] = nil, nil
		}
		return out
	}
	s.latest = s.push(files(true))
	s.law.Desired = s.desiredAt(map[string][]*unstructured.Unstructured{s.latest: {child, s.configMap("own", "x")}},
		map[string][]*unstructured.Unstructured{s.latest: {inner}})
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.Path = "./parent" })
	s.awaitApplied(s.latest)
	s.awaitReady(child.GetName())
	s.present(inner)

	latest := s.push(files(false))
	s.law.Desired = s.desiredAt(map[string][]*unstructured.Unstructured{latest: {s.configMap("own", "x")}}, nil)
	s.request(s.gitRepository())
	s.awaitApplied(latest)
	s.awaitGone(child.GetName())
	s.absent(inner)
}

// child is a Kustomization manifest on the scene's source.
func (s *scene) child(name, path string) *unstructured.Unstructured {
	o := object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", s.namespace, s.name+"-"+name, map[string]any{"spec": map[string]any{
		"sourceRef": map[string]any{"kind": "GitRepository", "name": s.name}, "path": path, "prune": true,
		"interval": "1h", "retryInterval": "1s", "timeout": "30s",
	}})
	o.SetLabels(map[string]string{shard: s.namespace})
	return o
}

// desiredAt is a law for a scene of two owners: the scene's own and any other.
func (s *scene) desiredAt(own, others map[string][]*unstructured.Unstructured) func(oracle.Owner, string) (map[string]bool, bool) {
	return func(owner oracle.Owner, revision string) (map[string]bool, bool) {
		sets := others
		if owner == s.owner {
			sets = own
		}
		objects, known := sets[revision]
		return oracle.IDs(objects), known
	}
}

func (s *scene) awaitReady(name string) {
	s.t.Helper()
	k := s.ks()
	k.Name = name
	await(s, &kustomizev1.KustomizationList{}, k, func(o *kustomizev1.Kustomization) string {
		if o == nil {
			return "it does not exist"
		}
		return unready(o, o.Status.Conditions, o.Status.ObservedGeneration, o.Status.LastHandledReconcileAt)
	})
}

func (s *scene) awaitGone(name string) {
	s.t.Helper()
	k := s.ks()
	k.Name = name
	await(s, &kustomizev1.KustomizationList{}, k, goneKustomization)
}

func renamed(s *scene) {
	old := pick(s.configMaps("a", "b"), "a b")
	s.start(old...)
	var now []*unstructured.Unstructured
	for _, o := range old {
		c := o.DeepCopy()
		c.SetName("new-" + o.GetName())
		now = append(now, c)
	}
	seq := s.proxy.Seq()
	s.revisions[s.latest] = oracle.IDs(now)
	s.want = now
	s.patch(s.ks(), `{"spec":{"namePrefix":"new-"}}`)
	s.awaitApplied(s.latest)
	s.absent(old...)
	s.verify()
	var order []string
	for _, q := range s.proxy.Requests(seq) {
		if s.judge.Managed(&q) {
			order = append(order, q.Verb)
		}
	}
	if got := strings.Join(order, " "); got != "apply apply delete delete" {
		s.t.Errorf("the order of the writes is %q, want the new objects before the end of the old", got)
	}
}

func pruneDisabled(s *scene) {
	all := s.configMaps("kept", "dropped", "stays")
	for _, name := range []string{"kept", "stays"} {
		all[name].SetAnnotations(map[string]string{"kustomize.toolkit.fluxcd.io/prune": "disabled"})
	}
	s.start(pick(all, "kept dropped stays")...)
	s.commit(all["stays"])
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	s.present(all["kept"])
	s.absent(all["dropped"])
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	s.present(all["kept"], all["stays"])
	s.remove(all["kept"], all["stays"])
}

// remove deletes what a test has left on purpose, so that it is no orphan to the next.
func (s *scene) remove(objects ...*unstructured.Unstructured) {
	s.t.Helper()
	for _, o := range objects {
		if err := s.client.Delete(s.t.Context(), o.DeepCopy()); client.IgnoreNotFound(err) != nil {
			s.t.Fatal(err)
		}
	}
}

func copiedLabels(s *scene) {
	all := s.configMaps("a", "b")
	s.start(pick(all, "a b")...)
	copied := s.configMap("copied", "by an operator")
	copied.SetLabels(map[string]string{
		"kustomize.toolkit.fluxcd.io/name": s.name, "kustomize.toolkit.fluxcd.io/namespace": s.namespace,
	})
	s.create(copied.DeepCopy())
	s.commit(all["b"])
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	s.present(copied)
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	s.present(copied)
	s.remove(copied)
}

// moved: an object moves from one Kustomization to another in one commit. Whoever comes first, it is there in the
// end, belongs to the new owner, and stays when the old one goes.
func moved(s *scene) {
	object, own := s.configMap("moved", "x"), s.configMap("own", "x")
	b := s.child("b", "./b")
	s.latest = s.push(map[string]*testkit.GitFile{
		"a/moved.yaml": {Content: string(encode(s.t, object))}, "a/own.yaml": {Content: string(encode(s.t, own))},
		"b/own.yaml": {Content: string(encode(s.t, s.configMap("other", "x")))},
	})
	before := s.latest
	s.source()
	s.create(b.DeepCopy())
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.Path = "./a" })
	s.awaitApplied(s.latest)
	s.awaitReady(b.GetName())

	s.latest = s.push(map[string]*testkit.GitFile{"a/moved.yaml": nil, "b/moved.yaml": {Content: string(encode(s.t, object))}})
	s.want = []*unstructured.Unstructured{own}
	theirs := []*unstructured.Unstructured{s.configMap("other", "x"), object}
	s.law.Desired = s.desiredAt(
		map[string][]*unstructured.Unstructured{before: {own, object}, s.latest: s.want},
		map[string][]*unstructured.Unstructured{before: theirs[:1], s.latest: theirs},
	)
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	k := s.ks()
	k.Name = b.GetName()
	if err := s.appliedBy(s.t.Context(), k, s.latest); err != nil {
		s.t.Fatal(err)
	}
	if err := s.judge.Converged(s.t.Context(), oracle.Owner{Namespace: s.namespace, Name: k.Name}, s.latest, theirs); err != nil {
		s.t.Error(err)
	}
	s.verify()
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	s.present(theirs...)
	if err := s.client.Delete(s.t.Context(), k); err != nil {
		s.t.Fatal(err)
	}
	s.awaitGone(k.Name)
	s.absent(theirs...)
}

// twoGroups: the objects of these groups are stored as one.
func twoGroups(s *scene) {
	at := "2026-01-01T00:00:00.000000Z"
	name := s.name + "-event"
	regarding := map[string]any{"kind": "Namespace", "name": s.namespace, "namespace": s.namespace}
	old := object("v1", "Event", s.namespace, name, map[string]any{
		"involvedObject": regarding, "eventTime": at, "action": "Test", "reason": "Test", "type": "Normal",
		"reportingComponent": "e2e.test/test", "reportingInstance": "one", "message": "hello",
	})
	s.start(old)
	live, err := s.judge.Live(s.t.Context(), old)
	if err != nil {
		s.t.Fatal(err)
	}
	now := object("events.k8s.io/v1", "Event", s.namespace, name, map[string]any{
		"regarding": regarding, "eventTime": at, "action": "Test", "reason": "Test", "type": "Normal",
		"reportingController": "e2e.test/test", "reportingInstance": "one", "note": "hello",
	})
	s.commit(now)
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	s.verify()
	s.noDeletes()
	after, err := s.judge.Live(s.t.Context(), now)
	if err != nil {
		s.t.Fatal(err)
	}
	if after.GetUID() != live.GetUID() {
		s.t.Error("the object was deleted and created anew")
	}
}

// recreatedByOthers: somebody replaced an object by one of his own while nobody looked.
func recreatedByOthers(s *scene) {
	all := s.configMaps("a", "b")
	s.start(pick(all, "a b")...)
	s.restart(func() {
		s.remove(all["a"])
		s.create(all["a"].DeepCopy())
		s.commit(all["b"])
		// At the old revision it would take the object over again, as it must.
		s.suspend(s.ks(), true)
	})
	s.awaitArtifact(s.latest)
	s.suspend(s.ks(), false)
	s.awaitApplied(s.latest)
	s.present(all["a"])
	s.verify()
	s.noDeletes()
	s.remove(all["a"])
}

// kindGone: the CRD is deleted by hand, then all is dropped from Git. What is gone is no error.
func kindGone(s *scene) {
	objects := definition(s)
	s.start(objects...)
	s.suspend(s.ks(), true)
	s.remove(objects[0])
	s.awaitRemoval(objects[0])
	own := s.configMap("own", "x")
	s.commit(own)
	s.request(s.gitRepository())
	s.awaitArtifact(s.latest)
	s.suspend(s.ks(), false)
	s.awaitApplied(s.latest)
	s.verify()
}

// awaitRemoval waits until an object is gone for good.
func (s *scene) awaitRemoval(o *unstructured.Unstructured) {
	s.t.Helper()
	list := &unstructured.UnstructuredList{}
	gvk := o.GroupVersionKind()
	gvk.Kind += "List"
	list.SetGroupVersionKind(gvk)
	await(s, list, o, func(live *unstructured.Unstructured) string {
		if live != nil {
			return "it still exists"
		}
		return ""
	})
}

func deletedSuspended(s *scene) {
	all := pick(s.configMaps("a", "b"), "a b")
	s.start(all...)
	s.suspend(s.ks(), true)
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	s.present(all...)
	s.noDeletes()
	s.remove(all...)
}

// TestOwnNamespace is reliability 141 (flux2#3949, #4570): spec.targetNamespace renames Namespace objects, to
// the Kustomization's own namespace if that is the target; when the manifest goes, the namespace must stay.
func TestOwnNamespace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.newScene(t)
	defer s.abandonFailed()
	own := s.configMap("own", "x")
	namespace := object("v1", "Namespace", "", s.name+"-other", nil)
	s.commit(own, namespace)
	namespace.SetName(s.namespace)
	s.revisions[s.latest] = oracle.IDs([]*unstructured.Unstructured{own, namespace})
	s.source()
	s.kustomization(func(k *kustomizev1.Kustomization) { k.Spec.TargetNamespace = s.namespace })
	s.awaitApplied(s.latest)
	s.held(own, namespace)

	s.latest = s.push(map[string]*testkit.GitFile{fileOf(object("v1", "Namespace", "", s.name+"-other", nil)): nil})
	s.want = []*unstructured.Unstructured{own}
	s.revisions[s.latest] = oracle.IDs(s.want)
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	s.present(namespace)
	s.noDeletes()

	// The finalizer, too, leaves the ground that it stands on.
	s.latest = s.push(map[string]*testkit.GitFile{"namespace.yaml": {Content: string(encode(t, namespace))}})
	s.revisions[s.latest] = oracle.IDs([]*unstructured.Unstructured{own, namespace})
	s.request(s.gitRepository())
	s.awaitApplied(s.latest)
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	s.absent(own)
	var live corev1.Namespace
	if err := s.client.Get(t.Context(), client.ObjectKey{Name: s.namespace}, &live); err != nil || live.DeletionTimestamp != nil {
		t.Errorf("the namespace of the Kustomization went with it (%v)", err)
	}
}

func encode(t *testing.T, o *unstructured.Unstructured) []byte {
	t.Helper()
	b, err := o.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
