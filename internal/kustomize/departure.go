package kustomize

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/event"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// departureGrace is how long a deletion waits for dependents that nobody has deleted yet: whoever removes several
// Kustomizations deletes one after another, in an order of their own.
const departureGrace = 5 * time.Second

// maxNamed is how many dependents a message names; the rest is counted.
const maxNamed = 5

// dependentsFirst lets those that depend on a deleted Kustomization go before what it applied (reliability 146). It holds no
// work slot: their departure wakes it. 2.9 deletes in the order of the requests.
func (k *Kustomizer) dependentsFirst(ctx context.Context, obj *kustomizev1.Kustomization, run *loop.Run) error {
	var all kustomizev1.KustomizationList
	// The list is only looked at, so that it need not be copied.
	if err := k.Cached.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list the Kustomizations that may depend on this one: %w", err)
	}
	d := departureOf(obj, all.Items)
	limit := obj.GetTimeout()
	since := k.Clock.Since(obj.DeletionTimestamp.Time)
	switch {
	case len(d.leaving) > 0 && since < limit:
		return departing(limit-since, "waiting up to %s for the deletion of %s, which depends on this", limit, list(d.leaving))
	case len(d.leaving) > 0:
		run.Event(event.Event{
			Severity: event.Error, Reason: lastReason(obj),
			Message: fmt.Sprintf("deletion goes on before that of %s, which depends on this and has not gone within %s: see what keeps it", list(d.leaving), limit),
		})
	case len(d.staying) > 0 && since < departureGrace:
		return departing(departureGrace-since, "waiting %s in case %s, which depends on this, is deleted too", departureGrace, list(d.staying))
	}
	return nil
}

// departing ends a run that waits for dependents.
func departing(rest time.Duration, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return loop.Wait(meta.ProgressingReason, rest, err).Announce(event.Event{
		Severity: event.Info, Reason: meta.ProgressingReason, Message: err.Error(),
	})
}

// departure are the dependents of a Kustomization that is being deleted.
type departure struct {
	leaving []types.NamespacedName // being deleted as well
	staying []types.NamespacedName
}

// departureOf finds the dependents of obj among all. One that obj depends on itself is left out, directly or not: in a cycle
// nobody can go last.
func departureOf(obj *kustomizev1.Kustomization, all []kustomizev1.Kustomization) departure {
	byName := make(map[types.NamespacedName]*kustomizev1.Kustomization, len(all))
	for i := range all {
		byName[client.ObjectKeyFromObject(&all[i])] = &all[i]
	}
	self := client.ObjectKeyFromObject(obj)
	before := needs(obj, byName)
	var out departure
	for i := range all {
		other := &all[i]
		key := client.ObjectKeyFromObject(other)
		switch {
		case key == self, before[key], !slices.Contains(dependencyKeys(other), self):
		case other.DeletionTimestamp.IsZero():
			out.staying = append(out.staying, key)
		default:
			out.leaving = append(out.leaving, key)
		}
	}
	for _, names := range [][]types.NamespacedName{out.leaving, out.staying} {
		slices.SortFunc(names, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	}
	return out
}

// needs is everything that obj depends on, directly or not.
func needs(obj *kustomizev1.Kustomization, byName map[types.NamespacedName]*kustomizev1.Kustomization) map[types.NamespacedName]bool {
	found := map[types.NamespacedName]bool{}
	queue := dependencyKeys(obj)
	for len(queue) > 0 {
		key := queue[0]
		queue = queue[1:]
		if found[key] {
			continue
		}
		found[key] = true
		if next := byName[key]; next != nil {
			queue = append(queue, dependencyKeys(next)...)
		}
	}
	return found
}

// dependencyKeys names what a Kustomization depends on.
func dependencyKeys(obj *kustomizev1.Kustomization) []types.NamespacedName {
	keys := make([]types.NamespacedName, 0, len(obj.Spec.DependsOn))
	for _, d := range obj.Spec.DependsOn {
		key := types.NamespacedName{Namespace: d.Namespace, Name: d.Name}
		if key.Namespace == "" {
			key.Namespace = obj.Namespace
		}
		keys = append(keys, key)
	}
	return keys
}

func list(keys []types.NamespacedName) string {
	return strings.Join(atMost(maxNamed, keys, func(key types.NamespacedName) string {
		return kustomizev1.KustomizationKind + "/" + key.String()
	}), ", ")
}

// onDeparture wakes the Kustomizations whose deletion may have waited for this one: it is gone, is going, or depends on
// something else now. The cached reader tells which are being deleted.
func onDeparture(cached func(types.NamespacedName) *kustomizev1.Kustomization) func(before, after client.Object) []types.NamespacedName {
	return func(before, after client.Object) []types.NamespacedName {
		was, _ := before.(*kustomizev1.Kustomization)
		is, _ := after.(*kustomizev1.Kustomization)
		if was == nil || is != nil && was.Generation == is.Generation && was.DeletionTimestamp.Equal(is.DeletionTimestamp) {
			return nil
		}
		var woken []types.NamespacedName
		for _, key := range dependencyKeys(was) {
			if on := cached(key); on != nil && !on.DeletionTimestamp.IsZero() {
				woken = append(woken, key)
			}
		}
		return woken
	}
}
