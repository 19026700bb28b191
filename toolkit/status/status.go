// Package status computes an object's conditions from what one reconcile run found out.
//
// Conditions are computed, not edited: a failure condition that nobody set in this run is gone, and only the
// conditions a kind declares sticky survive without being set again. That removes the class of defects where
// a stale condition outlives the fact it reported.
package status

import (
	"slices"
	"sort"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// MaxMessage is the longest condition message in bytes; longer ones are cut and end in "..." (_common 18).
const MaxMessage = 32768

// Table is what a kind declares about its conditions.
type Table struct {
	// Failures are the abnormal-true conditions that exist only while a run reports them, by precedence.
	// Their disappearance after a run is a recovery (_common 33).
	Failures []string
	// Sticky conditions keep their last value until a run sets or removes them.
	Sticky []string
	// ReadyReason is the reason of Ready=True, e.g. Succeeded or ReconciliationSucceeded.
	ReadyReason string
	// RecoveryReason is the reason of the event that tells a recovery; empty: the kind has none.
	RecoveryReason string
}

// owns reports whether the table, and so the running controller, decides about a condition type.
// Every other type belongs to someone else and is preserved (_common 15).
func (t Table) owns(conditionType string) bool {
	switch conditionType {
	case meta.ReadyCondition, meta.ReconcilingCondition, meta.StalledCondition:
		return true
	}
	return slices.Contains(t.Failures, conditionType) || slices.Contains(t.Sticky, conditionType)
}

// Failed reports whether the list holds one of the table's failure conditions.
func (t Table) Failed(conditions []metav1.Condition) bool {
	for _, c := range conditions {
		if c.Status == metav1.ConditionTrue && slices.Contains(t.Failures, c.Type) {
			return true
		}
	}
	return false
}

// Change is what a run says about the conditions.
type Change struct {
	// Set are the conditions of this run, Ready, Reconciling and Stalled included. Times and generations are
	// filled in by Compute.
	Set []metav1.Condition
	// Removed are sticky conditions that no longer hold.
	Removed []string
}

// Removes reports whether the change takes a condition away.
func (c Change) Removes(conditionType string) bool { return slices.Contains(c.Removed, conditionType) }

// Compute returns the conditions after a run, in the order of _common 19: what the run set, what is sticky
// and what belongs to others. A condition's time moves when its status, reason or message does (_common 17);
// its generation is the one the run worked on (_common 16).
func (t Table) Compute(previous []metav1.Condition, change Change, generation int64, now time.Time) []metav1.Condition {
	next := make([]metav1.Condition, 0, len(change.Set)+len(previous))
	for _, c := range change.Set {
		c.Message = Cut(c.Message, MaxMessage)
		c.ObservedGeneration = generation
		c.LastTransitionTime = metav1.NewTime(now.UTC().Truncate(time.Second))
		if old := Find(previous, c.Type); old != nil && same(*old, c) {
			c.LastTransitionTime = old.LastTransitionTime
		}
		next = append(next, c)
	}
	for _, c := range previous {
		if Find(next, c.Type) != nil || slices.Contains(change.Removed, c.Type) {
			continue
		}
		if slices.Contains(t.Sticky, c.Type) || !t.owns(c.Type) {
			next = append(next, c)
		}
	}
	Sort(next)
	return next
}

// Merge returns ours with the conditions of live that the table does not own: what a writer who lost a race
// against another must send instead (_common 15).
func (t Table) Merge(live, ours []metav1.Condition) []metav1.Condition {
	next := make([]metav1.Condition, 0, len(ours))
	for _, c := range ours {
		if t.owns(c.Type) {
			next = append(next, c)
		}
	}
	for _, c := range live {
		if !t.owns(c.Type) {
			next = append(next, c)
		}
	}
	Sort(next)
	return next
}

// Find returns the condition of a type, nil when the list has none.
func Find(conditions []metav1.Condition, conditionType string) *metav1.Condition {
	for i := range conditions {
		if conditions[i].Type == conditionType {
			return &conditions[i]
		}
	}
	return nil
}

// IsTrue reports whether the list holds the condition with status True.
func IsTrue(conditions []metav1.Condition, conditionType string) bool {
	c := Find(conditions, conditionType)
	return c != nil && c.Status == metav1.ConditionTrue
}

// Sort orders a list: Stalled, Reconciling, Ready, then the others by descending generation and by name (_common 19).
func Sort(conditions []metav1.Condition) {
	sort.SliceStable(conditions, func(i, j int) bool {
		a, b := conditions[i], conditions[j]
		if wa, wb := weight(a.Type), weight(b.Type); wa != wb {
			return wa < wb
		}
		if a.ObservedGeneration != b.ObservedGeneration {
			return a.ObservedGeneration > b.ObservedGeneration
		}
		return a.Type < b.Type
	})
}

// Cut shortens a text to at most limit bytes without splitting a UTF-8 sequence; a cut text ends in "...".
func Cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit-3], "") + "..."
}

func weight(conditionType string) int {
	switch conditionType {
	case meta.StalledCondition:
		return 0
	case meta.ReconcilingCondition:
		return 1
	case meta.ReadyCondition:
		return 2
	}
	return 3
}

func same(a, b metav1.Condition) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}
