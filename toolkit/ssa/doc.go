// Package ssa brings a set of objects to a cluster by server-side apply, stage by stage, remembers what it did so that an
// unchanged set costs no call, and deletes what left the set, by identity.
package ssa
