package cluster

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

const (
	// Condition is the type of the condition that tells which other cluster the status of an object is about. It is absent for the
	// controller's own cluster, True otherwise, and its message is Move.To.
	Condition = "RemoteCluster"
	// ConnectedReason is its reason.
	ConnectedReason = "Connected"
	// ChangedReason is that of the event about objects that stay behind in another cluster.
	ChangedReason = "ClusterChanged"
)

// ownName is how messages call the controller's own cluster.
const ownName = "the controller's own cluster"

// Move compares the cluster that the status of an object is about with the one at hand.
type Move struct {
	// Moved tells that they are not the same: nothing that the status lists may be looked for, and deleted, in the one at hand
	// (reliability 136).
	Moved bool
	// From and To name the two.
	From, To string
}

// Since compares with the Condition of an object, nil for one that has none. observed tells whether the spec is the one that the status
// is about. Reach must have returned the cluster.
func (c *Cluster[W]) Since(recorded *metav1.Condition, observed bool) Move {
	if !c.Remote() {
		return compare(recorded, nil, observed)
	}
	id := c.identity()
	return compare(recorded, &id, observed)
}

// compare has here nil for the controller's own cluster.
func compare(recorded *metav1.Condition, here *kube.ClusterID, observed bool) Move {
	m := Move{Moved: elsewhere(recorded, here, observed), From: ownName, To: ownName}
	var before kube.ClusterID
	if recorded != nil {
		m.From, before = recorded.Message, kube.ParseClusterID(recorded.Message)
	}
	if here != nil {
		m.To = here.Known(before).String()
	}
	return m
}

// elsewhere decides whether a status is about another cluster than the one at hand. An object that 2.9 left behind has no record: its
// status is about the cluster that its spec says, if that has not changed since.
func elsewhere(recorded *metav1.Condition, here *kube.ClusterID, observed bool) bool {
	switch {
	case recorded == nil:
		return here != nil && !observed
	case here == nil:
		return true
	}
	return !kube.ParseClusterID(recorded.Message).Same(*here)
}
