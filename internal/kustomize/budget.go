package kustomize

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// maxListed is how many objects a message names; the count tells the rest.
const maxListed = 20

// Budget is how much of what a Kustomization has applied one revision may delete without approval (reliability 151). The zero
// Budget has no limit.
type Budget struct {
	count, percent *int
	kinds          []string
}

// ParseBudget reads a limit ("10", "25%", "10,25%") and a list of protected kinds ("Namespace,PersistentVolumeClaim"); empty or
// "none" is no limit and no kind.
func ParseBudget(limit, kinds string) (Budget, error) {
	var b Budget
	for _, part := range listed(limit) {
		number, isPercent := strings.CutSuffix(part, "%")
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || isPercent && n > 100 {
			return b, fmt.Errorf("%q is neither a number of objects nor a percentage: want for example 10, 25%% or 10,25%%", part)
		}
		field := &b.count
		if isPercent {
			field = &b.percent
		}
		if *field != nil {
			return b, fmt.Errorf("%q sets the same limit twice", limit)
		}
		*field = &n
	}
	b.kinds = listed(kinds)
	return b, nil
}

func listed(s string) []string {
	if strings.EqualFold(strings.TrimSpace(s), kustomizev1.NoneValue) {
		return nil
	}
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// protects reports whether objects of a kind are deleted only with approval. Kinds are named without their group.
func (b *Budget) protects(gk schema.GroupKind) bool {
	return slices.ContainsFunc(b.kinds, func(k string) bool { return strings.EqualFold(k, gk.Kind) })
}

// excess says why deletions out of an inventory of a size need approval; empty: they do not.
func (b *Budget) excess(doomed []ssa.ID, size int) string {
	n := len(doomed)
	var reasons []string
	if b.count != nil && n > *b.count {
		reasons = append(reasons, fmt.Sprintf("more than %d", *b.count))
	}
	if b.percent != nil && n*100 > *b.percent*size {
		reasons = append(reasons, fmt.Sprintf("more than %d%%", *b.percent))
	}
	for _, id := range doomed {
		if word := "of the protected kind " + id.Kind; b.protects(id.GroupKind()) && !slices.Contains(reasons, word) {
			reasons = append(reasons, word)
		}
	}
	return strings.Join(reasons, ", ")
}

// budgetOf is the budget of an object: its annotations, and the flags where it has none.
func (k *Kustomizer) budgetOf(obj *kustomizev1.Kustomization) (Budget, error) {
	out := k.Budget
	if limit, ok := obj.Annotations[kustomizev1.PruneLimitAnnotation]; ok {
		own, err := ParseBudget(limit, "")
		if err != nil {
			return out, fmt.Errorf("annotation %s: %w", kustomizev1.PruneLimitAnnotation, err)
		}
		out.count, out.percent = own.count, own.percent
	}
	if kinds, ok := obj.Annotations[kustomizev1.PruneProtectAnnotation]; ok {
		out.kinds = listed(kinds)
	}
	return out, nil
}

// guard holds a revision that would delete more than the budget allows, before its first write: what would be applied may be as
// wrong as what would be deleted (reliability 151). Approval is for one revision and what was built of it.
func (k *Kustomizer) guard(ctx context.Context, w *work, planned ssa.Inventory) error {
	old := inventory(w.obj)
	if !w.obj.Spec.Prune || len(old) == 0 {
		return nil
	}
	stale := old.Minus(planned)
	if w.budget.excess(idsOf(stale), len(old)) == "" {
		return nil
	}
	// What is stale may be gone, marked, or somebody else's by now.
	preview, err := k.applier(w.cluster, w.client).Prune(ctx, ssa.PruneRequest{Owner: owner(w.obj), Stale: stale, Shared: k.shared(w.obj), Preview: true})
	if err != nil {
		return k.failed(w, meta.ReconciliationFailedReason, fmt.Errorf("failed to see what would be deleted: %w", err))
	}
	var doomed []ssa.ID
	for _, d := range preview.Deleted {
		doomed = append(doomed, d.ID)
	}
	excess := w.budget.excess(doomed, len(old))
	if excess == "" || w.approved() {
		return nil
	}
	return k.hold(w, doomed, len(old), excess)
}

func idsOf(inv ssa.Inventory) []ssa.ID {
	var out []ssa.ID
	for _, e := range inv {
		if id, err := ssa.ParseID(e.ID); err == nil {
			out = append(out, id)
		}
	}
	return out
}

// approval is the value of the annotation that lets a held run go on.
func approval(revision, digest string) string { return revision + "/" + digest }

// approved reports whether the deletions of this run were approved, and the approval is not spent: a revision that comes back
// after another one was applied deletes other objects than those that were approved.
func (w *work) approved() bool {
	if w.obj.Annotations[kustomizev1.ApproveAnnotation] != approval(w.source.Revision, w.built.Digest) {
		return false
	}
	for _, h := range w.obj.Status.History {
		switch {
		case h.LastReconciledStatus == meta.ReconciliationSucceededReason:
			return false
		case w.isHeld(h):
			return true
		}
	}
	return false
}

func (w *work) isHeld(h meta.Snapshot) bool {
	return h.LastReconciledStatus == kustomizev1.HeldReason && h.Digest == w.built.Digest && h.Metadata["revision"] == w.source.Revision
}

// hold ends a run that needs approval. What it waits for is an annotation, so there is no hurry to look again.
func (k *Kustomizer) hold(w *work, doomed []ssa.ID, size int, excess string) error {
	if h := w.obj.Status.History; len(h) == 0 || !w.isHeld(h[0]) || w.run.Requested() {
		k.remember(w, kustomizev1.HeldReason)
	}
	err := fmt.Errorf("revision %s is held: it would delete %d of %d objects, %s. Nothing of it is applied. To approve it, run `flux approve kustomization %s -n %s`, or set the annotation %s to %s. It would delete:\n%s",
		w.source.Revision, len(doomed), size, excess, w.obj.Name, w.obj.Namespace, kustomizev1.ApproveAnnotation, approval(w.source.Revision, w.built.Digest), bounded(doomed))
	return loop.Wait(kustomizev1.HeldReason, w.obj.GetInterval(), err).
		Announce(event.Event{Severity: event.Error, Reason: kustomizev1.HeldReason, Message: err.Error()})
}

// bounded lists objects, one a line, as many as a message should hold.
func bounded(ids []ssa.ID) string {
	return strings.Join(atMost(maxListed, ids, ssa.ID.Subject), "\n")
}

// atMost names the first n things, and counts the rest.
func atMost[T any](n int, things []T, name func(T) string) []string {
	var names []string
	for _, thing := range things[:min(len(things), n)] {
		names = append(names, name(thing))
	}
	if more := len(things) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return names
}

// onSteering wakes a Kustomization of which an annotation was changed that decides whether it may go on.
func onSteering(before, after client.Object) []types.NamespacedName {
	if before == nil || after == nil {
		return nil
	}
	for _, a := range []string{kustomizev1.ApproveAnnotation, kustomizev1.PruneLimitAnnotation, kustomizev1.PruneProtectAnnotation, kustomizev1.DriftAnnotation} {
		if before.GetAnnotations()[a] != after.GetAnnotations()[a] {
			return []types.NamespacedName{client.ObjectKeyFromObject(after)}
		}
	}
	return nil
}
