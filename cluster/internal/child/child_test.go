package child

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/seed-79636ae9/flux/cluster/internal/plan"
)

func TestFlags(t *testing.T) {
	var a, b string
	into := map[string]*string{"a": &a, "b-c": &b}
	if err := flags([]string{"--a=1", "--b-c=x=y"}, into); err != nil || a != "1" || b != "x=y" {
		t.Errorf("a=%q b-c=%q, %v", a, b, err)
	}
	for _, bad := range []string{"--d=1", "--a", "a", "", "--=1"} {
		if err := flags([]string{bad}, into); err == nil {
			t.Errorf("argument %q was taken", bad)
		}
	}
}

// TestPlannedFlagsAreKnown holds the plan to what our own parts read. The Kubernetes programs judge theirs themselves.
func TestPlannedFlagsAreKnown(t *testing.T) {
	var dir, socket, peer, durable, kubeconfig string
	err := flags(plan.EtcdCommand(plan.Options{Home: "/d", Durable: true}).Args,
		map[string]*string{"data-dir": &dir, "socket": &socket, "peer-socket": &peer, "durable": &durable})
	if diff := cmp.Diff([]string{"etcd", "etcd.sock", "peer.sock", "true"}, []string{dir, socket, peer, durable}); err != nil || diff != "" {
		t.Errorf("etcd: %v %s", err, diff)
	}
	err = flags(plan.SimulatorCommand("/k").Args, map[string]*string{"kubeconfig": &kubeconfig})
	if err != nil || kubeconfig != "/k" {
		t.Errorf("simulator: %v %q", err, kubeconfig)
	}
}
