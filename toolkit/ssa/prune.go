package ssa

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// pruneTries is how often a delete is tried when somebody writes between our look and our delete. Status updates of a busy
// workload count, so it takes more than a few.
const pruneTries = 10

// PruneRequest names what an owner no longer applies.
type PruneRequest struct {
	Owner kube.Owner
	// Stale are the entries to delete.
	Stale Inventory
	// Keep are the UIDs of objects that this run applied: an object may be in Stale under one API group and in the set under
	// another (reliability 143).
	Keep map[types.UID]struct{}
	// Shared names another owner whose inventory holds an object too: then it is not deleted (reliability 139). Optional.
	Shared func(ctx context.Context, id ID) (other kube.Owner, shared bool, err error)
	// HandOver gives shared objects to the other owner at once, by its labels, for an owner that will not come back to see
	// whether the other has taken them.
	HandOver bool
	// Preview looks and decides, and deletes nothing.
	Preview bool
}

// Pruned is what a prune did, also when some of it failed.
type Pruned struct {
	// Changes lists deleted and skipped objects (kustomization 83).
	Changes ChangeSet
	// Deleted are those whose DELETE was sent, with the UIDs they had: they may take time to go (see Gone).
	Deleted []Deletion
	// Remaining are the entries whose deletion is not confirmed; they belong back into the inventory (kustomization 82).
	Remaining Inventory
	// Yielding are the other owners of shared objects that still carry this owner's labels. Their entries are among Remaining,
	// so that one of the two deletes them if both drop them at once.
	Yielding []kube.Owner
}

// Deletion is one object that is going.
type Deletion struct {
	Ref kube.Ref
	ID  ID
	UID types.UID
}

// Prune deletes stale objects in reverse order, by identity: only an object that lives under the entry's id, carries this owner's
// labels and no mark against it, and was not applied in this run under another name is deleted, and only if it still is the very
// one that was looked at (reliability, design rule 2; kustomization 81, 82). The result is never nil; an error of type Errors
// lists the objects that could not be deleted.
func (a *Applier) Prune(ctx context.Context, req PruneRequest) (*Pruned, error) {
	out := &Pruned{}
	var items []staleItem
	var refused Errors
	for _, e := range req.Stale {
		id, err := ParseID(e.ID)
		if err != nil {
			refused = append(refused, &ObjectError{Err: err, text: err.Error()})
			out.Remaining = append(out.Remaining, e)
			continue
		}
		items = append(items, staleItem{e, id})
	}
	a.reverse(items)
	for i, it := range items {
		if ctx.Err() != nil {
			for _, rest := range items[i:] {
				out.Remaining = append(out.Remaining, rest.entry)
			}
			return out, context.Cause(ctx)
		}
		change, gone, err := a.prune(ctx, req, it.id, it.entry.Version)
		var yield *yielding
		if errors.As(err, &yield) {
			out.Remaining = append(out.Remaining, it.entry)
			out.Yielding = append(out.Yielding, yield.to)
			continue
		}
		if err != nil {
			refused = append(refused, failed(it.id, nil, "delete failed", err))
			out.Remaining = append(out.Remaining, it.entry)
			continue
		}
		out.Changes = append(out.Changes, change)
		if gone != nil {
			out.Deleted = append(out.Deleted, *gone)
		}
	}
	if len(refused) > 0 {
		return out, refused
	}
	return out, nil
}

type staleItem struct {
	entry Entry
	id    ID
}

// reverse puts items into the order of deletion, which is that of application from its end (kustomization 81).
func (a *Applier) reverse(items []staleItem) {
	slices.SortStableFunc(items, func(x, y staleItem) int {
		if c := stageOf(y.id.GroupKind(), a.StageKinds) - stageOf(x.id.GroupKind(), a.StageKinds); c != 0 {
			return c
		}
		return compare(y.id, x.id)
	})
}

// yielding says that an object is left to another owner.
type yielding struct{ to kube.Owner }

func (y *yielding) Error() string { return "it belongs to " + y.to.String() + " too" }

// prune deals with one entry. The Deletion is nil if nothing had to be deleted.
func (a *Applier) prune(ctx context.Context, req PruneRequest, id ID, version string) (Change, *Deletion, error) {
	if a.isGround(req.Owner, id) {
		return Change{id, Skipped}, nil, nil
	}
	res, err := a.Client.Mapper.Served(ctx, id.GroupKind(), version)
	if meta.IsNoMatchError(err) {
		// Only a fresh answer proves that the kind is gone, and with it the object (reliability 114, 121).
		res, err = a.Client.Mapper.ServedNow(ctx, id.GroupKind(), version)
	}
	if meta.IsNoMatchError(err) {
		a.forget(req.Owner, id)
		return Change{id, Deleted}, nil, nil
	}
	if err != nil {
		return Change{}, nil, err
	}
	ref := kube.Ref{Resource: res, Namespace: id.Namespace, Name: id.Name}
	if res.Namespaced && id.Namespace == "" {
		return Change{}, nil, fmt.Errorf("the inventory names it without a namespace, but %s is namespaced", res.Kind)
	}
	action, gone, err := a.remove(ctx, req, ref, id)
	if literal := strings.ReplaceAll(id.Name, ":", "__"); err == nil && gone == nil && action == Deleted && literal != id.Name {
		// The id does not tell a colon from two underscores. No object has the one name, so try the other.
		ref.Name = literal
		other := id
		other.Name = literal
		if action, gone, err = a.remove(ctx, req, ref, other); gone != nil || action == Skipped {
			id = other
		}
	}
	return Change{id, action}, gone, err
}

// isGround reports whether an id is something that must outlive what stands on it: the namespace of the process, that of the
// owner, which would take the owner along, and the definitions of the process's own kinds, which would take along every object
// of them. An owner comes to hold its own namespace by a targetNamespace, which renames Namespace objects (reliability 141).
func (a *Applier) isGround(owner kube.Owner, id ID) bool {
	switch {
	case id.Name == "":
		return false
	case id.Kind == "Namespace" && id.Group == "":
		return id.Name == a.OwnNamespace || id.Name == owner.Namespace
	case id.Kind == "CustomResourceDefinition" && id.Group == "apiextensions.k8s.io":
		return a.OwnGroups != "" && strings.HasSuffix(id.Name, "."+a.OwnGroups)
	}
	return false
}

// remove deletes one object if it is the owner's to delete.
func (a *Applier) remove(ctx context.Context, req PruneRequest, ref kube.Ref, id ID) (Action, *Deletion, error) {
	for try := 1; ; try++ {
		live, err := a.Client.GetMetadata(ctx, ref)
		if apierrors.IsNotFound(err) && plain404(err) && try < pruneTries {
			// Nobody answers for the path. That proves absence only if the kind is no longer served; it may be served in
			// another version, or a proxy may have lost its way.
			res, lookup := a.Client.Mapper.ServedNow(ctx, ref.GroupKind(), ref.Version)
			switch {
			case meta.IsNoMatchError(lookup):
			case lookup != nil:
				return "", nil, lookup
			case res.GroupVersionKind != ref.GroupVersionKind:
				ref.Resource = res
				continue
			default:
				return "", nil, err
			}
		}
		if apierrors.IsNotFound(err) {
			a.forget(req.Owner, id)
			return Deleted, nil, nil
		}
		if err != nil {
			return "", nil, err
		}
		if !req.Preview {
			a.forget(req.Owner, id)
		}
		if _, applied := req.Keep[live.UID]; applied || !a.mayDelete(req.Owner, live) {
			return Skipped, nil, nil
		}
		gone := &Deletion{Ref: ref, ID: id, UID: live.UID}
		if live.DeletionTimestamp != nil {
			if req.Preview {
				return Deleted, nil, nil
			}
			return Deleted, gone, nil
		}
		if other, shared, err := req.shared(ctx, id); err != nil {
			return "", nil, err
		} else if shared {
			err := a.yield(ctx, req, ref, live, other)
			if apierrors.IsConflict(err) && try < pruneTries {
				continue
			}
			return Skipped, nil, err
		}
		if req.Preview {
			return Deleted, gone, nil
		}
		err = a.Client.Delete(ctx, ref, live.UID, live.ResourceVersion, metav1.DeletePropagationBackground)
		switch {
		case err == nil:
			return Deleted, gone, nil
		case apierrors.IsNotFound(err) && !plain404(err):
			return Deleted, nil, nil
		case (apierrors.IsConflict(err) || apierrors.IsNotFound(err)) && try < pruneTries:
			// Written or replaced since the look: look again, it may no longer be ours.
		default:
			return "", nil, err
		}
	}
}

func (req *PruneRequest) shared(ctx context.Context, id ID) (kube.Owner, bool, error) {
	if req.Shared == nil {
		return kube.Owner{}, false, nil
	}
	return req.Shared(ctx, id)
}

// yield leaves an object to another owner. One that is handed over carries the other's labels from now on, so that it is the other
// who deletes it some day; else the entry stays until the other has applied the object.
func (a *Applier) yield(ctx context.Context, req PruneRequest, ref kube.Ref, live *metav1.PartialObjectMetadata, other kube.Owner) error {
	if !req.HandOver || req.Preview {
		return &yielding{other}
	}
	pointer := strings.NewReplacer("~", "~0", "/", "~1")
	patch, err := json.Marshal([]patchOp{
		{Op: "replace", Path: "/metadata/resourceVersion", Value: live.ResourceVersion},
		{Op: "replace", Path: "/metadata/labels/" + pointer.Replace(a.Lens.NameLabel()), Value: other.Name},
		{Op: "replace", Path: "/metadata/labels/" + pointer.Replace(a.Lens.NamespaceLabel()), Value: other.Namespace},
	})
	if err != nil {
		return err
	}
	_, err = a.Client.JSONPatch(ctx, ref, patch, a.Lens.Manager)
	return err
}

// plain404 reports whether a 404 came without the name of an object: the path, not the object, was not found.
func plain404(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	details := status.Status().Details
	return details == nil || slices.ContainsFunc(details.Causes, func(c metav1.StatusCause) bool {
		return c.Type == metav1.CauseTypeUnexpectedServerResponse
	})
}

func (a *Applier) mayDelete(owner kube.Owner, live *metav1.PartialObjectMetadata) bool {
	return a.Lens.Owner(live.Labels) == owner && !a.Lens.Marks(live.Labels, live.Annotations).Has(kube.NoPrune)
}

func (a *Applier) forget(owner kube.Owner, id ID) {
	if a.Memory != nil {
		a.Memory.drop(owner, id)
	}
}

// ErrStillThere is the error of Gone when its time was not enough.
var ErrStillThere = errors.New("objects are still being deleted")

// Gone waits until deleted objects no longer exist (deletionPolicy WaitForTermination, kustomization 111). An object that was
// created anew under the same name is another one. It polls every two seconds, sooner at first, and returns promptly when ctx
// ends, with its cause; run it through the caller's Park.
func (a *Applier) Gone(ctx context.Context, deleted []Deletion, timeout time.Duration) error {
	deadline := a.clock().Now().Add(timeout)
	for pause := pollFirst; ; pause = min(2*pause, pollMost) {
		var waiting []Deletion
		for _, d := range deleted {
			live, err := a.Client.GetMetadata(ctx, d.Ref)
			switch {
			case apierrors.IsNotFound(err) || err == nil && live.UID != d.UID:
			case ctx.Err() != nil:
				return context.Cause(ctx)
			default:
				// An object that cannot be looked at is not known to be gone.
				waiting = append(waiting, d)
			}
		}
		if len(waiting) == 0 {
			return nil
		}
		if !a.clock().Now().Before(deadline) {
			names := make([]string, len(waiting))
			for i, d := range waiting {
				names[i] = d.ID.Subject()
			}
			return fmt.Errorf("%w: %s", ErrStillThere, strings.Join(names, ", "))
		}
		if err := a.pause(ctx, pause); err != nil {
			return err
		}
		deleted = waiting
	}
}
