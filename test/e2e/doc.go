// Package e2e runs the built binary against a real API server and hurts it: kills at every write,
// refused and lost answers, broken watches, foreign hands. What must hold whatever happens is said
// once, by the oracles of internal/testkit/oracle.
//
// Sources are attacked, too: TestAttacks has one process follow the lying, stalling and flooding servers of
// internal/testkit/hostile, beside a healthy source that must not notice.
//
// Every process has an API proxy of its own, and looks only at objects of its own shard, so that the
// tests of this package run side by side on one control plane.
package e2e
