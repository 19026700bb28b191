package helm

import (
	"context"
	"errors"
	"fmt"

	rcommon "helm.sh/helm/v4/pkg/release/common"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/internal/helm/action"
	"github.com/seed-79636ae9/flux/toolkit/loop"
)

// observe finds out what Helm's storage holds (helmrelease 38, 39, 49, 90).
func (r *Releaser) observe(ctx context.Context, w *work) error {
	w.record, w.latest, w.known, w.targetLost, w.unread, w.untouched = nil, nil, false, false, false, false
	rel, err := w.actions.Observe(ctx, w.obj.GetReleaseName())
	switch {
	case errors.Is(err, action.ErrNotFound):
		return nil
	case ctx.Err() != nil && err != nil:
		return err
	case err != nil:
		return undetermined(err)
	}
	history := w.obj.Status.History
	digest := ""
	if len(history) > 0 {
		digest = history[0].OCIDigest
	}
	w.record = rel
	if w.latest, err = observe(rel, digest, r.DigestAlgorithm); err != nil {
		return undetermined(err)
	}
	w.known = len(history) > 0 && w.latest.same(&history[0], r.seen.has(w.obj.UID, history[0].Digest))
	if !w.known {
		if s := w.situation(r); !s.found() || s.differs() == "" && w.latest.Status == string(rcommon.StatusDeployed) {
			return nil
		}
		if len(history) == 0 {
			return nil
		}
		if err := r.recall(ctx, w); err != nil {
			return err
		}
		history = w.obj.Status.History
	}
	if _, failed := tested(&history[0]); failed || w.latest.Status == string(rcommon.StatusFailed) {
		return r.observeTarget(ctx, w)
	}
	return nil
}

// recall takes into the history what an attempt has written that did not live to tell: its own record, and what became of the older ones. The
// release to go back to would be lost otherwise.
func (r *Releaser) recall(ctx context.Context, w *work) error {
	history := w.obj.Status.History
	recalled := []helmv2.Snapshot{w.latest.Snapshot}
	for i := range history {
		entry := history[i]
		rel, err := w.actions.Get(ctx, entry.Name, entry.Version)
		switch {
		case errors.Is(err, action.ErrNotFound), errors.Is(err, action.ErrCorrupt):
			continue
		case ctx.Err() != nil && err != nil:
			return err
		case err != nil:
			return undetermined(err)
		}
		if s, err := observe(rel, entry.OCIDigest, r.DigestAlgorithm); err == nil && s.continues(&entry) {
			entry.Digest, entry.Status = s.Digest, s.Status
		}
		recalled = append(recalled, entry)
	}
	w.obj.Status.History = recalled[:min(len(recalled), maxHistory)]
	r.mark(w.obj)
	r.list(ctx, w, w.record)
	w.known = true
	return nil
}

// observeTarget finds out whether the release to go back to is still in storage as it was (helmrelease 49).
func (r *Releaser) observeTarget(ctx context.Context, w *work) error {
	target := previous(w.obj.Status.History, attemptsOf(w.obj, w.obj.Status.LastAttemptedReleaseAction).ignoreTests)
	if target == nil {
		return nil
	}
	rel, err := w.actions.Get(ctx, target.Name, target.Version)
	switch {
	case errors.Is(err, action.ErrNotFound), errors.Is(err, action.ErrCorrupt):
		w.targetLost = true
		return nil
	case ctx.Err() != nil && err != nil:
		return err
	case err != nil:
		return undetermined(err)
	}
	s, err := observe(rel, target.OCIDigest, r.DigestAlgorithm)
	w.targetLost = err != nil || !s.same(target, r.seen.has(w.obj.UID, target.Digest))
	return nil
}

// undetermined is the verdict on a storage that does not tell (helmrelease 63, 90).
func undetermined(err error) error {
	return loop.Fail(helmv2.StateErrorReason, fmt.Errorf("Could not determine release state: %w", err)).Quiet() //nolint:staticcheck // the text is API
}
