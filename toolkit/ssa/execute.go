package ssa

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// Patience of an apply: with a deleted object's finalizers, and with a stage that others depend on (kustomization 64). The
// polls start short, since most waits are over at once.
const (
	recreatePatience = time.Minute
	settlePatience   = time.Minute
	pollFirst        = 50 * time.Millisecond
	pollMost         = 2 * time.Second
	adoptTries       = 5
)

// execute carries out one plan.
func (r *run) execute(ctx context.Context, p *plan) error {
	if !p.writes() {
		return nil
	}
	if r.Memory != nil {
		r.Memory.begin(r.req.Owner, p.id)
	}
	meta, err := r.write(ctx, p)
	if err != nil {
		if r.Memory != nil {
			r.Memory.abort(r.req.Owner, p.id)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return Errors{p.failed("apply failed", err)}
	}
	if p.unread && !p.adopt && meta.ResourceVersion == p.live.ResourceVersion {
		// The metadata promised a change, and nothing was stored.
		p.applied.Action = Unchanged
	}
	p.applied.UID, p.applied.ResourceVersion, p.applied.Generation = meta.UID, meta.ResourceVersion, meta.Generation
	if r.Memory == nil {
		return nil
	}
	l := learned{desired: p.digest, state: r.Lens.Metadata(meta), corrected: p.corrects}
	if p.applied.Action != Created && !p.adopt {
		// A create's dry-run lacks what the server allocates, and one before a take-over lacks its effect.
		l.content = p.content
	}
	if r.Memory.commit(r.req.Owner, p.id, l) {
		r.result.Contested = append(r.result.Contested, p.id)
	}
	return nil
}

func (r *run) write(ctx context.Context, p *plan) (*metav1.PartialObjectMetadata, error) {
	if p.recreate {
		if err := r.remove(ctx, p); err != nil {
			return nil, err
		}
	}
	if p.adopt {
		if err := r.adopt(ctx, p); err != nil {
			return nil, err
		}
	}
	return r.Client.Apply(ctx, p.ref, p.desired, r.Lens.Manager)
}

// remove deletes the live object so that its replacement can be created, and waits until it is gone. One that already is being
// deleted is only waited for: a finalizer that never clears must not turn into a loop of deletes (reliability 107).
func (r *run) remove(ctx context.Context, p *plan) error {
	if p.live.DeletionTimestamp == nil {
		err := r.Client.Delete(ctx, p.ref, p.live.UID, "", metav1.DeletePropagationBackground)
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("failed to delete it for recreation: %w", err)
		}
	}
	deadline := r.clock().Now().Add(recreatePatience)
	for pause := pollFirst; ; pause = min(2*pause, pollMost) {
		live, err := r.Client.GetMetadata(ctx, p.ref)
		switch {
		case apierrors.IsNotFound(err) || err == nil && live.UID != p.live.UID:
			return nil
		case err != nil:
			return fmt.Errorf("failed to see whether it is deleted: %w", err)
		case r.clock().Now().After(deadline):
			return fmt.Errorf("it is being deleted for recreation, but finalizers %v still hold it after %s", live.Finalizers, recreatePatience)
		}
		if err := r.pause(ctx, pause); err != nil {
			return err
		}
	}
}

// adopt makes the fields of earlier tools ours, so that the apply that follows removes those the desired state lacks, and
// removes their marks (kustomization 71). It is tried anew when somebody writes in between.
func (r *run) adopt(ctx context.Context, p *plan) error {
	live := p.live
	for try := 1; ; try++ {
		patch, err := adoption(r.Lens.Ownership, live, p.ref.GroupVersion().String())
		if err != nil || patch == nil {
			return err
		}
		_, err = r.Client.JSONPatch(ctx, p.ref, patch, r.Lens.Manager)
		switch {
		case err == nil:
			return nil
		case apierrors.IsNotFound(err):
			return nil
		case !apierrors.IsConflict(err) && !apierrors.IsInvalid(err) || try == adoptTries:
			return fmt.Errorf("failed to take over the fields of earlier managers: %w", err)
		}
		if live, err = r.Client.GetMetadata(ctx, p.ref); apierrors.IsNotFound(err) {
			return nil
		} else if err != nil {
			return fmt.Errorf("failed to take over the fields of earlier managers: %w", err)
		}
	}
}

// migrate rewrites the version of managed fields that were recorded under another one: an apply fails when that version is no longer
// served. The patch holds for the version that was looked at; who loses the race is tried in the next run.
func (r *run) migrate(ctx context.Context, p *plan) error {
	live, err := r.Client.GetMetadata(ctx, p.ref)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	want := p.ref.GroupVersion().String()
	entries := slices.Clone(live.ManagedFields)
	stale := false
	for i := range entries {
		stale = stale || entries[i].APIVersion != want
		entries[i].APIVersion = want
	}
	if !stale || r.Lens.Marks(live.Labels, live.Annotations).Has(kube.NoApply) {
		return nil
	}
	patch, err := json.Marshal([]patchOp{
		{Op: "replace", Path: "/metadata/resourceVersion", Value: live.ResourceVersion},
		{Op: "replace", Path: "/metadata/managedFields", Value: entries},
	})
	if err != nil {
		return err
	}
	if _, err = r.Client.JSONPatch(ctx, p.ref, patch, r.Lens.Manager); apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

type patchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// adoption is the JSON patch that merges the entries to be taken over into our own apply entry and removes stale marks; nil if
// there is nothing to do. It holds for the given resource version only.
func adoption(own kube.Ownership, live *metav1.PartialObjectMetadata, apiVersion string) ([]byte, error) {
	var ops []patchOp
	kept, merged, err := TakeOver(own.Manager, live.ManagedFields, apiVersion, func(e metav1.ManagedFieldsEntry) bool {
		return own.TakesOver(e.Manager, e.Operation, e.Subresource)
	})
	if err != nil {
		return nil, err
	}
	if merged {
		ops = append(ops, patchOp{Op: "replace", Path: "/metadata/managedFields", Value: kept})
	}
	for _, path := range stalePaths(own, live) {
		ops = append(ops, patchOp{Op: "remove", Path: path})
	}
	if len(ops) == 0 {
		return nil, nil
	}
	ops = slices.Insert(ops, 0, patchOp{Op: "replace", Path: "/metadata/resourceVersion", Value: live.ResourceVersion})
	return json.Marshal(ops)
}

// TakeOver joins the entries of an object's managed fields that are to be taken over with the apply entry of a manager. It reports
// false if there are none.
func TakeOver(manager string, entries []metav1.ManagedFieldsEntry, apiVersion string, takes func(metav1.ManagedFieldsEntry) bool) ([]metav1.ManagedFieldsEntry, bool, error) {
	ours := metav1.ManagedFieldsEntry{
		Manager: manager, Operation: metav1.ManagedFieldsOperationApply, APIVersion: apiVersion, FieldsType: "FieldsV1",
	}
	fields := &fieldpath.Set{}
	var kept []metav1.ManagedFieldsEntry
	var merged bool
	for _, e := range entries {
		mine := e.Manager == manager && e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == ""
		over := takes(e)
		if !mine && !over {
			kept = append(kept, e)
			continue
		}
		merged = merged || over
		if mine {
			ours.APIVersion = e.APIVersion
		}
		if e.Time != nil && (ours.Time == nil || ours.Time.Before(e.Time)) {
			ours.Time = e.Time
		}
		if e.FieldsV1 == nil {
			continue
		}
		var set fieldpath.Set
		if err := set.FromJSON(bytes.NewReader(e.FieldsV1.Raw)); err != nil {
			return nil, false, fmt.Errorf("failed to read the fields of manager %q: %w", e.Manager, err)
		}
		fields = fields.Union(&set)
	}
	if !merged {
		return nil, false, nil
	}
	raw, err := fields.ToJSON()
	if err != nil {
		return nil, false, fmt.Errorf("failed to encode the fields of manager %q: %w", manager, err)
	}
	ours.FieldsV1 = &metav1.FieldsV1{Raw: raw}
	return append(kept, ours), true, nil
}

// stalePaths are the JSON pointers of the marks of earlier tools on an object.
func stalePaths(own kube.Ownership, live *metav1.PartialObjectMetadata) []string {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	var out []string
	for _, k := range own.StaleAnnotations() {
		if _, ok := live.Annotations[k]; ok {
			out = append(out, "/metadata/annotations/"+escape.Replace(k))
		}
	}
	for _, k := range own.StaleLabels() {
		if _, ok := live.Labels[k]; ok {
			out = append(out, "/metadata/labels/"+escape.Replace(k))
		}
	}
	return out
}

// settle waits until the objects of a stage are Current, so that the next can stand on them (kustomization 64). What was Current
// before and was not written needs no look.
func (r *run) settle(ctx context.Context, plans []*plan) error {
	var open []*plan
	for _, p := range plans {
		switch {
		case p.applied.Action == Skipped:
		case p.writes() && p.id.Kind == "CustomResourceDefinition":
			r.Client.Mapper.Invalidate()
			open = append(open, p)
		case p.writes() && hasStatus(p.id),
			p.verdict.Status == kube.Terminating,
			!p.writes() && p.verdict.Status != "" && p.verdict.Status != kube.Current:
			open = append(open, p)
		}
	}
	if len(open) == 0 {
		return nil
	}
	wait := func(ctx context.Context) error { return r.awaitCurrent(ctx, open) }
	if r.req.Park != nil {
		return r.req.Park(ctx, wait)
	}
	return wait(ctx)
}

// hasStatus reports whether an object of the first stages may still become something after it was written.
func hasStatus(id ID) bool {
	switch id.Kind {
	case "Namespace", "ClusterRole", "PriorityClass", "StorageClass", "IngressClass", "RuntimeClass":
		return false
	}
	return true
}

func (r *run) awaitCurrent(ctx context.Context, open []*plan) error {
	deadline := r.clock().Now().Add(settlePatience)
	for pause := pollFirst; ; pause = min(2*pause, pollMost) {
		var waiting []string
		for i := 0; i < len(open); i++ {
			p := open[i]
			live, err := r.Client.Get(ctx, p.ref)
			if ctx.Err() != nil {
				// A parked wait that is interrupted says by what.
				return context.Cause(ctx)
			}
			status := kube.NotFound
			if err == nil {
				status = kube.Assess(live).Status
			} else if !apierrors.IsNotFound(err) {
				return Errors{p.failed("lookup failed", err)}
			}
			switch status {
			case kube.Current:
				open = slices.Delete(open, i, i+1)
				i--
			case kube.Failed:
				return fmt.Errorf("failed early due to stalled resources: [%s status: '%s']", p.id.Subject(), status)
			case kube.Terminating:
				return fmt.Errorf("%s is being deleted: what depends on it is applied once it is gone and created anew", p.id.Subject())
			default:
				waiting = append(waiting, fmt.Sprintf("%s status: '%s'", p.id.Subject(), status))
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		if !r.clock().Now().Before(deadline) {
			return fmt.Errorf("timeout waiting for: [%s]", strings.Join(waiting, ", "))
		}
		if err := r.pause(ctx, pause); err != nil {
			return err
		}
	}
}
