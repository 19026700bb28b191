package cluster

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/toolkit/cluster/clustertest"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

func at(message string) *metav1.Condition { return &metav1.Condition{Message: message} }

// reliability 136: whether a status is about another cluster, and how both are called.
func TestMove(t *testing.T) {
	one := &kube.ClusterID{Address: "https://a", UID: "one"}
	shy := &kube.ClusterID{Address: "https://a"}
	for name, test := range map[string]struct {
		recorded *metav1.Condition
		here     *kube.ClusterID
		observed bool
		want     Move
	}{
		"own, as ever":                        {nil, nil, true, Move{false, ownName, ownName}},
		"own, spec changed":                   {nil, nil, false, Move{false, ownName, ownName}},
		"the same":                            {at("https://a (one)"), one, true, Move{false, "https://a (one)", "https://a (one)"}},
		"the same, moved":                     {at("https://b (one)"), one, false, Move{false, "https://b (one)", "https://a (one)"}},
		"the same, nothing told before":       {at("https://a"), one, false, Move{false, "https://a", "https://a (one)"}},
		"the same, nothing told now":          {at("https://a (one)"), shy, false, Move{false, "https://a (one)", "https://a (one)"}},
		"another at the address":              {at("https://a (two)"), one, true, Move{true, "https://a (two)", "https://a (one)"}},
		"another":                             {at("https://b (two)"), one, false, Move{true, "https://b (two)", "https://a (one)"}},
		"another, nothing told now":           {at("https://b (two)"), shy, false, Move{true, "https://b (two)", "https://a"}},
		"back to the own":                     {at("https://a (one)"), nil, false, Move{true, "https://a (one)", ownName}},
		"away from the own":                   {nil, one, false, Move{true, ownName, "https://a (one)"}},
		"left by 2.9, as the spec was before": {nil, one, true, Move{false, ownName, "https://a (one)"}},
	} {
		if got := compare(test.recorded, test.here, test.observed); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

// reliability 136: a cluster that was reached knows itself.
func TestSince(t *testing.T) {
	remote := clustertest.NewServer(t, "one")
	l := newLab(t)
	l.secret("fleet", map[string]string{"value": remote.Kubeconfig()})
	c := l.reach(to("a", "fleet"))
	here := remote.URL + " (one)"
	if got, want := c.Since(at(here), true), (Move{false, here, here}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := c.Since(at(remote.URL+" (two)"), true), (Move{true, remote.URL + " (two)", here}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := l.Home().Since(at(here), true), (Move{true, here, ownName}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
