package kube

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// ClusterID tells clusters apart, whatever credentials reach them.
type ClusterID struct {
	// Address is the URL of the API server.
	Address string
	// UID is that of the namespace kube-system, which lives as long as its cluster; empty where it may not be read.
	UID types.UID
}

// Same reports whether two ids mean one cluster. Where a UID is unknown the addresses tell, so that a cluster that moved counts as
// another one: the safe mistake, since nothing is deleted in another cluster.
func (id ClusterID) Same(other ClusterID) bool {
	if id.UID != "" && other.UID != "" {
		return id.UID == other.UID
	}
	return id.Address == other.Address
}

// Known is the id with the UID that an earlier one of the same address had, where it has none: rights come and go.
func (id ClusterID) Known(earlier ClusterID) ClusterID {
	if id.UID == "" && id.Address == earlier.Address {
		id.UID = earlier.UID
	}
	return id
}

func (id ClusterID) String() string {
	if id.UID == "" {
		return id.Address
	}
	return fmt.Sprintf("%s (%s)", id.Address, id.UID)
}

// ParseClusterID reads what String wrote.
func ParseClusterID(text string) ClusterID {
	address, rest, _ := strings.Cut(text, " (")
	return ClusterID{Address: address, UID: types.UID(strings.TrimSuffix(rest, ")"))}
}

// Identify asks the API server which cluster it is, by the identity of the configuration. A server that does not let it see its
// namespace kube-system has no UID.
func (c *Clients) Identify(ctx context.Context) (ClusterID, error) {
	id := ClusterID{Address: c.o.Config.Host}
	namespaces := Resource{GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, Plural: "namespaces"}
	found, err := c.own.GetMetadata(ctx, Ref{Resource: namespaces, Name: "kube-system"})
	switch {
	case err == nil:
		id.UID = found.UID
	case apierrors.IsUnexpectedServerError(err):
		// Discovery takes the 404 of a web server for an API without kinds, and so every object for gone.
		return id, fmt.Errorf("failed to reach the cluster %s: what answers there is no API server: %w", id.Address, err)
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
	default:
		return id, fmt.Errorf("failed to reach the cluster %s: %w", id.Address, err)
	}
	return id, nil
}
