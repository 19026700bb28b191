package kustomize

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/seed-79636ae9/flux/api/meta"
)

// maxHistory is how many entries status.history keeps (wire.md 9).
const maxHistory = 5

// remember enters the run's outcome into the history, which has one entry per built content and outcome: a
// returning one moves to the front and counts on (kustomization 103).
func (k *Kustomizer) remember(w *work, outcome string) {
	now := metav1.NewTime(k.Clock.Now())
	entry := meta.Snapshot{Digest: w.built.Digest, LastReconciledStatus: outcome, FirstReconciled: now}
	rest := make([]meta.Snapshot, 0, len(w.obj.Status.History))
	for _, old := range w.obj.Status.History {
		if old.Digest == entry.Digest && old.LastReconciledStatus == outcome {
			entry = old
			continue
		}
		rest = append(rest, old)
	}
	entry.LastReconciled = now
	entry.LastReconciledDuration = meta.DurationOf(k.Clock.Since(w.start).Round(time.Microsecond))
	entry.TotalReconciliations++
	entry.Metadata = map[string]string{"revision": w.source.Revision}
	if w.source.OriginRevision != "" {
		entry.Metadata["originRevision"] = w.source.OriginRevision
	}
	history := append([]meta.Snapshot{entry}, rest...)
	w.obj.Status.History = history[:min(len(history), maxHistory)]
}
