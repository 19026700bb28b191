// Package testkit is what the integration tests stand on: a real control plane, the servers a
// cluster follows (Git, OCI, static files), the servers it talks to (event endpoint, notification
// sink) and a runner for the built binary. Only tests import it.
package testkit
