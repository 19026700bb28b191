package e2e

import (
	"fmt"
	"strconv"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
)

// TestShards is reliability 040: processes with different labels keep off each other's objects, and an object whose label moves has
// exactly one owner again.
func TestShards(t *testing.T) {
	t.Parallel()
	one, two := newRig(t), newRig(t)
	s := one.newScene(t)
	s.start(s.configMap("a", "1"))
	if q := firstWrite(two.proxy.Requests(0), s.namespace); q != nil {
		t.Errorf("the other process sent %s", q.String())
	}
	move := func(to string) {
		t.Helper()
		for _, o := range []client.Object{s.gitRepository(), s.ks()} {
			s.patch(o, fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, shard, to))
			s.request(o)
		}
	}
	move(strconv.Quote(two.namespace))
	s.awaitArtifact(s.latest)
	s.awaitApplied(s.latest)
	seq := one.proxy.Seq()
	s.commit(s.configMap("b", "1"))
	s.request(s.gitRepository())
	s.awaitArtifact(s.latest)
	s.request(s.ks())
	s.awaitApplied(s.latest)
	s.present(s.configMap("b", "1"))
	s.absent(s.configMap("a", "1"))
	for _, q := range one.proxy.Requests(seq) {
		if (q.IsWrite() || q.DryRun) && q.Namespace == s.namespace {
			t.Errorf("the first process sent %s", q.String())
		}
	}
	if firstWrite(two.proxy.Requests(0), s.namespace) == nil {
		t.Error("the other process did nothing")
	}
	before := s.ks()
	if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(before), before); err != nil {
		t.Fatal(err)
	}
	move("null")
	for _, r := range []*rig{one, two} {
		near := r.newScene(t)
		near.start(near.configMap("a", "1"))
		near.clear()
	}
	obj := s.ks()
	if err := s.client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatal(err)
	}
	if obj.Status.LastHandledReconcileAt != before.Status.LastHandledReconcileAt {
		t.Error("an object of no shard was reconciled")
	}
	move(strconv.Quote(one.namespace))
	s.awaitArtifact(s.latest)
	s.awaitApplied(s.latest)
	deleteKustomization(s)
	s.awaitKustomization(goneKustomization)
	s.orphans()
}

// firstWrite is the first request that changed something in the namespace, or tried to.
func firstWrite(requests []apiproxy.Request, namespace string) *apiproxy.Request {
	for i, q := range requests {
		if (q.IsWrite() || q.DryRun) && q.Namespace == namespace {
			return &requests[i]
		}
	}
	return nil
}
