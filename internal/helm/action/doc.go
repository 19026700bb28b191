// Package action performs the actions of Helm on a cluster for one HelmRelease, and reads Helm's storage. What Helm decides is Helm's:
// this package gives it a client, a storage and a waiter that share connections, discovery and what was read between the releases of a
// cluster, that act as the HelmRelease, and that hold no work slot while they wait.
package action
