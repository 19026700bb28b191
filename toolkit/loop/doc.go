// Package loop is the one reconcile loop of the house: a kind says what happened, the loop decides what that means.
//
// A kind writes Reconcile and returns a verdict: nil, Fail, Wait, Stall or Interrupted. The loop alone reads
// the object, keeps the finalizer, computes conditions, writes status, sends the events of failures and
// recoveries, measures, and decides when the object is looked at again.
//
// For every request: get; skip while the cache is older than our own last write; finalize, or ensure the
// finalizer; suspended?; Reconcile; verdict; conditions; one status patch; event; metrics; requeue.
package loop
