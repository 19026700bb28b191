// Package drift compares the objects of a Helm release with the cluster, and puts right what differs.
package drift

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	helmv2 "github.com/seed-79636ae9/flux/api/helm/v2"
	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/kube"
	"github.com/seed-79636ae9/flux/toolkit/ssa"
)

// Release is whose objects are compared.
type Release struct{ Name, Namespace string }

// Request says what is compared, as whom, and what does not count.
type Request struct {
	// Client has the identity of the HelmRelease.
	Client *kube.Client
	// Manifest is the release's, as Helm stores it: without hooks, and without what Helm adds on its way to the cluster.
	Manifest string
	Release  Release
	// Namespace is that of objects that name none.
	Namespace string
	// Ignore is spec.driftDetection.ignore.
	Ignore []meta.IgnoreRule
	// OverrideManagers are field managers whose fields become the release's, by the beginnings of their names (--override-manager).
	OverrideManagers []string
	// Manager is the field manager of the release's objects.
	Manager string
	// Concurrency bounds the objects looked at at once; 0 means ssa.DefaultConcurrency.
	Concurrency int
	// Owner is the HelmRelease. Only Memory needs it.
	Owner kube.Owner
	// Memory makes objects free that nobody has touched since they were last compared. Forget the owner in it before an action
	// of Helm: that changes objects behind the Memory's back. Lens is the one of its watch. Optional.
	Memory *ssa.Memory
	Lens   *kube.Lens
}

// Change is an object that differs from the release.
type Change struct {
	ID ssa.ID
	// Missing: the object does not exist.
	Missing bool
	// Refused is why the API server does not take the object as the release has it, so that nobody can tell what would change; nil
	// when it does.
	Refused error
	// Additions, Changes and Removals count what makes the object what the release says.
	Additions, Changes, Removals int
	// Live and Next are the object as it is, nil if it is missing, and as the release would have it. Both may hold secrets.
	Live, Next *unstructured.Unstructured

	object *object
	patch  []operation
}

// String is the object's line of an event (helmrelease 85). It holds no values.
func (c *Change) String() string {
	switch {
	case c.Refused != nil:
		return fmt.Sprintf("%s differs in what cannot be changed: %v", c.ID.Subject(), c.Refused)
	case c.Missing:
		return c.ID.Subject() + " removed"
	}
	return fmt.Sprintf("%s changed (%d additions, %d changes, %d removals)", c.ID.Subject(), c.Additions, c.Changes, c.Removals)
}

// Result is all that differs, in the order of the manifest.
type Result struct {
	Changes []*Change
	// Compared is how many objects count: all of the manifest but those that it says are to be left alone.
	Compared int
	// Contested are objects that another writer keeps changing back, as Correct has found out; each fight is told once.
	Contested []ssa.ID
}

// Empty reports whether nothing differs.
func (r *Result) Empty() bool { return len(r.Changes) == 0 }

// maxListed bounds the lines of an event; an event holds no more anyway.
const maxListed = 100

// Summary has a line for each object that differs (helmrelease 85).
func (r *Result) Summary() string {
	lines := make([]string, 0, min(len(r.Changes), maxListed+1))
	for i, c := range r.Changes {
		if i == maxListed {
			lines = append(lines, fmt.Sprintf("and %d more", len(r.Changes)-i))
			break
		}
		lines = append(lines, c.String())
	}
	return strings.Join(lines, "\n")
}

// Detect compares all objects of a release with the cluster by dry runs of server-side apply. It writes nothing. Objects that the
// API server refuses as invalid are told in the Result; any other failure is an error of type ssa.Errors, which names the objects.
func Detect(ctx context.Context, r Request) (*Result, error) {
	d, err := newDetection(r)
	if err != nil {
		return nil, err
	}
	objects, err := Objects(ctx, r.Manifest, r.Namespace, r.Client.Mapper)
	if err != nil {
		return nil, err
	}
	d.full = r.Memory != nil && r.Memory.ClaimFull(r.Owner)
	changes, errs := make([]*Change, len(objects)), make([]error, len(objects))
	slots := make(chan struct{}, d.concurrency())
	var wg sync.WaitGroup
	for i, o := range objects {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if changes[i], errs[i] = d.detect(ctx, o); errs[i] != nil {
				return
			}
			if changes[i] == nil {
				// What is as it should be need not stay in memory until all have been looked at.
				objects[i] = nil
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return d.result(changes, errs)
}

// detection is the state of one Detect.
type detection struct {
	Request
	ignore *ssa.Ignore
	full   bool

	mu  sync.Mutex // guards ids
	ids map[ssa.ID]struct{}

	contested []ssa.ID // during a correction
}

func newDetection(r Request) (*detection, error) {
	ignore, err := ssa.NewDriftIgnore("spec.driftDetection.ignore", r.Ignore)
	if err != nil {
		return nil, err
	}
	if r.Lens == nil {
		r.Lens = kube.NewLens(kube.Ownership{Group: helmv2.GroupName, Manager: r.Manager, Overrides: r.OverrideManagers})
	}
	return &detection{Request: r, ignore: ignore, ids: map[ssa.ID]struct{}{}}, nil
}

func (d *detection) concurrency() int {
	if d.Concurrency <= 0 {
		return ssa.DefaultConcurrency
	}
	return d.Concurrency
}

func (d *detection) result(changes []*Change, errs []error) (*Result, error) {
	var refused ssa.Errors
	for _, err := range errs {
		var one *ssa.ObjectError
		switch {
		case errors.As(err, &one):
			refused = append(refused, one)
		case err != nil:
			return nil, err
		}
	}
	if len(refused) > 0 {
		return nil, refused
	}
	if d.Memory != nil {
		d.Memory.Retain(d.Owner, d.ids)
	}
	out := &Result{Compared: len(d.ids)}
	for _, c := range changes {
		if c != nil {
			out.Changes = append(out.Changes, c)
		}
	}
	return out, nil
}

// object is one object of the release on its way through a comparison.
type object struct {
	id      ssa.ID
	ref     kube.Ref
	desired *unstructured.Unstructured
	digest  uint64
}

// detect compares one object. It returns nil if that is as it should be, or left alone.
func (d *detection) detect(ctx context.Context, desired *unstructured.Unstructured) (*Change, error) {
	if disabled(desired) {
		return nil, nil
	}
	res, err := d.Client.Mapper.Resource(ctx, desired.GroupVersionKind())
	if err != nil {
		return nil, ssa.NewObjectError(desired, "lookup failed", err)
	}
	if err := d.mark(desired); err != nil {
		return nil, err
	}
	o := &object{
		id: ssa.IDOf(desired), desired: desired, digest: d.ignore.Identity(d.Lens, desired),
		ref: kube.Ref{Resource: res, Namespace: desired.GetNamespace(), Name: desired.GetName()},
	}
	d.mu.Lock()
	d.ids[o.id] = struct{}{}
	d.mu.Unlock()
	if d.Memory != nil && !d.full && d.Memory.Same(d.Owner, o.id, o.digest) {
		return nil, nil
	}
	return d.compare(ctx, o)
}

// What Helm sets on each object of a release (helmrelease 73).
const (
	managedByLabel      = "app.kubernetes.io/managed-by"
	managedByHelm       = "Helm"
	releaseAnnotation   = "meta.helm.sh/release-name"
	namespaceAnnotation = "meta.helm.sh/release-namespace"
)

// mark adds to an object what Helm adds.
func (d *detection) mark(o *unstructured.Unstructured) error { return Mark(o, d.Release) }

// Mark adds to an object of a release what Helm adds on its way to the cluster (helmrelease 73). An error is about labels or annotations
// that are no map.
func Mark(o *unstructured.Unstructured, r Release) error {
	for _, m := range []struct{ field, key, value string }{
		{"labels", managedByLabel, managedByHelm},
		{"annotations", releaseAnnotation, r.Name},
		{"annotations", namespaceAnnotation, r.Namespace},
	} {
		entries, _, err := unstructured.NestedFieldNoCopy(o.Object, "metadata", m.field)
		if all, ok := entries.(map[string]any); ok && err == nil {
			all[m.key] = m.value
			continue
		}
		if err != nil || entries != nil {
			return ssa.NewObjectError(o, "comparison failed", fmt.Errorf("its metadata.%s is no map", m.field))
		}
		if err := unstructured.SetNestedField(o.Object, map[string]any{m.key: m.value}, "metadata", m.field); err != nil {
			return ssa.NewObjectError(o, "comparison failed", err)
		}
	}
	return nil
}

// disabled reports whether an object asks to be left alone (helmrelease 84).
func disabled(o metav1.Object) bool {
	for _, m := range []map[string]string{o.GetAnnotations(), o.GetLabels()} {
		if strings.EqualFold(m[helmv2.DriftDetectionAnnotation], helmv2.DriftDetectionDisabled) {
			return true
		}
	}
	return false
}

// compare asks the API server what an apply would make of an object.
func (d *detection) compare(ctx context.Context, o *object) (*Change, error) {
	var live, next *unstructured.Unstructured
	for try := 1; ; try++ {
		var err error
		if next, err = d.Client.DryRunApply(ctx, o.ref, o.desired, d.Manager); err != nil {
			return d.refused(ctx, o, err)
		}
		if next.GetResourceVersion() == "" {
			return d.missing(o, nil), nil
		}
		if live, err = d.Client.Get(ctx, o.ref); apierrors.IsNotFound(err) {
			return d.missing(o, nil), nil
		} else if err != nil {
			return nil, ssa.NewObjectError(o.desired, "lookup failed", err)
		}
		// What somebody has written in between is not in the dry run, and would be taken for drift.
		if live.GetResourceVersion() == next.GetResourceVersion() || try == maxTries {
			break
		}
	}
	if disabled(live) {
		d.found(o, ssa.Comparison{Desired: o.digest, State: d.Lens.Object(live), Skipped: true})
		return nil, nil
	}
	if err := d.disown(live, next); err != nil {
		return nil, ssa.NewObjectError(o.desired, "comparison failed", err)
	}
	d.ignore.Spare(o.desired, live, next)
	c := &Change{ID: o.id, Live: live, Next: next, object: o, patch: patch(live, next)}
	if len(c.patch) == 0 {
		d.found(o, ssa.Comparison{Desired: o.digest, State: d.Lens.Object(live)})
		return nil, nil
	}
	for _, p := range c.patch {
		switch p.op {
		case opAdd:
			c.Additions++
		case opReplace:
			c.Changes++
		case opRemove:
			c.Removals++
		}
	}
	d.found(o, ssa.Comparison{State: d.Lens.Object(live)})
	return c, nil
}

func (d *detection) missing(o *object, refusal error) *Change {
	d.forget(o)
	return &Change{ID: o.id, Missing: true, Refused: refusal, Next: o.desired, object: o}
}

// refused looks into a failed dry run: the object may be one to leave alone, or differ in a field that cannot be changed.
func (d *detection) refused(ctx context.Context, o *object, refusal error) (*Change, error) {
	invalid := apierrors.IsInvalid(refusal)
	if ctx.Err() != nil || apierrors.IsNotFound(refusal) {
		return nil, ssa.NewObjectError(o.desired, "dry-run failed", refusal)
	}
	live, err := d.Client.GetMetadata(ctx, o.ref)
	switch {
	case err == nil && disabled(live):
		d.found(o, ssa.Comparison{Desired: o.digest, State: d.Lens.Metadata(live), Skipped: true})
		return nil, nil
	case err == nil && invalid:
		d.found(o, ssa.Comparison{State: d.Lens.Metadata(live)})
		return &Change{ID: o.id, Refused: ssa.NewObjectError(o.desired, "dry-run failed", refusal), object: o}, nil
	case apierrors.IsNotFound(err) && invalid:
		return d.missing(o, ssa.NewObjectError(o.desired, "dry-run failed", refusal)), nil
	}
	return nil, ssa.NewObjectError(o.desired, "dry-run failed", refusal)
}

func (d *detection) found(o *object, c ssa.Comparison) {
	if d.Memory != nil {
		d.Memory.Compared(d.Owner, o.id, c)
	}
}

func (d *detection) forget(o *object) {
	if d.Memory != nil {
		d.Memory.Compared(d.Owner, o.id, ssa.Comparison{})
	}
}
