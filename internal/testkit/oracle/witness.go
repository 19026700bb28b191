package oracle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/seed-79636ae9/flux/internal/testkit/apiproxy"
)

// Witness stands at the proxy and takes down, for each delete and before it happens, what O2 asks
// about: what is about to go, whose it is, and what its owner's inventory and source say right then.
type Witness struct {
	judge *Judge

	mu      sync.Mutex // guards deletes
	deletes []Delete
}

// NewWitness makes a witness. Give Capture and See to the proxy as its Capture and Witness.
func NewWitness(j *Judge) *Witness { return &Witness{judge: j} }

// Delete is one DELETE request as the witness saw it.
type Delete struct {
	Request apiproxy.Request
	// ID, UID and Owner are those of the object that was about to go; Owner is who its labels name.
	ID    string
	UID   types.UID
	Owner Owner
	// Precondition is the UID that the request insisted on; empty when it insisted on none.
	Precondition types.UID
	// Inventory is what the owner's status held.
	Inventory []string
	// OwnerGone: the owner was being deleted or no longer there.
	OwnerGone bool
	// Revision of the artifact of the owner's source.
	Revision string
	// Err says why the witness could not see; such a delete is not judged but reported.
	Err error
}

// Capture keeps the bodies of managed writes: deletes for their preconditions, the others for the
// UIDs that they applied.
func (w *Witness) Capture(r *apiproxy.Request) bool { return w.judge.Managed(r) }

// See takes down a delete.
func (w *Witness) See(ctx context.Context, r *apiproxy.Request) {
	if r.Verb != "delete" || !w.judge.Managed(r) {
		return
	}
	d, exists := w.look(ctx, r)
	if !exists {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deletes = append(w.deletes, d)
}

// Deletes returns what was seen of deletes of objects that existed.
func (w *Witness) Deletes() []Delete {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.deletes)
}

func (w *Witness) look(ctx context.Context, r *apiproxy.Request) (d Delete, exists bool) {
	j := w.judge
	d.Request = *r
	var options metav1.DeleteOptions
	if len(r.Body) > 0 {
		if err := json.Unmarshal(r.Body, &options); err != nil {
			d.Err = fmt.Errorf("reading the options of the delete: %w", err)
			return d, true
		}
	}
	if p := options.Preconditions; p != nil && p.UID != nil {
		d.Precondition = *p.UID
	}
	gvr := schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource}
	var live *unstructured.Unstructured
	var err error
	if r.Namespace == "" {
		live, err = j.dynamic.Resource(gvr).Get(ctx, r.Name, metav1.GetOptions{})
	} else {
		live, err = j.dynamic.Resource(gvr).Namespace(r.Namespace).Get(ctx, r.Name, metav1.GetOptions{})
	}
	if apierrors.IsNotFound(err) {
		return d, false
	}
	if err != nil {
		d.Err = fmt.Errorf("reading what is deleted: %w", err)
		return d, true
	}
	d.ID, d.UID, d.Owner = ID(live, live.GroupVersionKind()), live.GetUID(), j.owner(live)
	if d.Owner == (Owner{}) {
		return d, true
	}
	d.Inventory, d.OwnerGone, d.Revision, d.Err = j.situation(ctx, d.Owner)
	return d, true
}

// situation returns what an owner knows and is to apply.
func (j *Judge) situation(ctx context.Context, owner Owner) (held []string, gone bool, revision string, err error) {
	o, err := j.dynamic.Resource(j.kind.Resource).Namespace(owner.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, true, "", nil
	}
	if err != nil {
		return nil, false, "", fmt.Errorf("reading the owner: %w", err)
	}
	if j.kind.Sources == nil {
		return inventory(o), o.GetDeletionTimestamp() != nil, "", nil
	}
	ref, _, _ := unstructured.NestedStringMap(o.Object, "spec", "sourceRef")
	namespace := ref["namespace"]
	if namespace == "" {
		namespace = owner.Namespace
	}
	source, err := j.dynamic.Resource(j.kind.Sources[ref["kind"]]).Namespace(namespace).Get(ctx, ref["name"], metav1.GetOptions{})
	switch {
	case err == nil:
		revision, _, _ = unstructured.NestedString(source.Object, "status", "artifact", "revision")
	case !apierrors.IsNotFound(err):
		return nil, false, "", fmt.Errorf("reading the owner's source: %w", err)
	}
	return inventory(o), o.GetDeletionTimestamp() != nil, revision, nil
}

// Law says which deletes are right.
type Law struct {
	// Desired are the ids that an owner is to apply at a revision; false for a revision the test did
	// not make.
	Desired func(owner Owner, revision string) (ids map[string]bool, known bool)
	// Recreated are ids that may be deleted though they are desired, to be created anew (spec.force).
	Recreated map[string]bool
}

// Collateral is O2: of the requests, which are all that the process ever made, it returns the deletes
// after the sequence number since that should not have been. Each must name an object that
// was in its owner's inventory, is absent from the set desired at the time, carries the owner's
// labels, and is the very one that was applied, by its UID, which the request insists on.
func (w *Witness) Collateral(law Law, requests []apiproxy.Request, since int64) []string {
	applied := appliedUIDs(requests)
	var wrong []string
	for _, d := range w.Deletes() {
		if d.Request.Seq <= since {
			continue
		}
		for _, reason := range d.wrongs(law, applied) {
			wrong = append(wrong, fmt.Sprintf("O2: request %d, %s: %s", d.Request.Seq, d.Request.String(), reason))
		}
	}
	for i := range requests {
		if requests[i].Verb == "deletecollection" && requests[i].Seq > since {
			wrong = append(wrong, fmt.Sprintf("O2: request %d, %s: a whole collection", requests[i].Seq, requests[i].String()))
		}
	}
	return wrong
}

func (d *Delete) wrongs(law Law, applied map[types.UID]bool) []string {
	if d.Err != nil {
		return []string{"the witness saw nothing: " + d.Err.Error()}
	}
	if d.Owner == (Owner{}) {
		return []string{d.ID + " carries no owner labels"}
	}
	var wrong []string
	switch {
	case d.Precondition == "":
		wrong = append(wrong, "it insists on no UID")
	case d.Precondition != d.UID:
		// The API server refuses it: that is what the precondition is for.
		return nil
	}
	if !applied[d.UID] {
		wrong = append(wrong, fmt.Sprintf("the object of UID %s was never applied", d.UID))
	}
	if !slices.Contains(d.Inventory, d.ID) {
		wrong = append(wrong, fmt.Sprintf("%s is not in the inventory of %s", d.ID, d.Owner))
	}
	if d.OwnerGone || law.Recreated[d.ID] {
		return wrong
	}
	desired, known := law.Desired(d.Owner, d.Revision)
	switch {
	case !known:
		wrong = append(wrong, fmt.Sprintf("nobody knows what %s should be at revision %q", d.Owner, d.Revision))
	case desired[d.ID]:
		wrong = append(wrong, fmt.Sprintf("%s is desired at revision %s", d.ID, d.Revision))
	}
	return wrong
}

// appliedUIDs are the UIDs in the answers to writes, those included that the writer never got to see.
func appliedUIDs(requests []apiproxy.Request) map[types.UID]bool {
	out := map[types.UID]bool{}
	for i := range requests {
		r := &requests[i]
		if r.Verb == "delete" || r.DryRun || len(r.Answer) == 0 {
			continue
		}
		var answer metav1.PartialObjectMetadata
		if json.Unmarshal(r.Answer, &answer) == nil && answer.UID != "" {
			out[answer.UID] = true
		}
	}
	return out
}
