package ssa

import (
	"context"
	"errors"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Difference is what a run would do to one object.
type Difference struct {
	Change
	// Recreate is set if the object would be deleted and created anew.
	Recreate bool
	// Live and Next are the object as it is and as the apply would leave it; of one that would be Configured, both are set.
	Live, Next *unstructured.Unstructured
}

// Compare tells what Apply would do with the request and, if prune is set, what Prune would do after it. It writes nothing, so
// that what the set itself brings, a namespace or a kind, cannot be asked about: its objects would be created. An error of type
// Errors holds all refusals.
func (a *Applier) Compare(ctx context.Context, req Request, prune bool) ([]Difference, error) {
	// What was remembered of the cluster would save the very questions that are asked here.
	plain := *a
	plain.Memory = nil
	r := &run{Applier: &plain, req: req, result: &Result{}, full: true, defined: map[schema.GroupKind]struct{}{}}
	if err := r.label(); err != nil {
		return nil, err
	}
	c := &comparison{run: r, kinds: r.defined, namespaces: map[string]bool{}, uids: map[types.UID]struct{}{}}
	// Apply waits for kinds of its own set. Nobody creates them here.
	r.defined = nil
	for _, objects := range staged(req.Objects, a.StageKinds) {
		if err := c.stage(ctx, objects); err != nil {
			return nil, err
		}
	}
	if len(c.refused) > 0 {
		return nil, c.refused
	}
	if prune {
		if err := c.prune(ctx); err != nil {
			return nil, err
		}
	}
	return c.found, nil
}

// comparison is the state of one Compare.
type comparison struct {
	*run
	kinds      map[schema.GroupKind]struct{} // what CRDs of the set define
	namespaces map[string]bool               // those the set would create
	uids       map[types.UID]struct{}
	found      []Difference
	inventory  Inventory
	refused    Errors
}

func (c *comparison) stage(ctx context.Context, objects []*unstructured.Unstructured) error {
	found := make([]Difference, len(objects))
	plans := make([]*plan, len(objects))
	errs := make([]error, len(objects))
	slots := make(chan struct{}, c.concurrency())
	var wg sync.WaitGroup
	for i, o := range objects {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			found[i], plans[i], errs[i] = c.compare(ctx, o)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i, o := range objects {
		var one *ObjectError
		switch {
		case errors.As(errs[i], &one):
			c.refused = append(c.refused, one)
			continue
		case errs[i] != nil:
			return errs[i]
		}
		if plans[i] != nil && plans[i].applied.UID != "" {
			c.uids[plans[i].applied.UID] = struct{}{}
		}
		if o.GetKind() == "Namespace" && found[i].Action == Created {
			c.namespaces[o.GetName()] = true
		}
		c.found = append(c.found, found[i])
		c.inventory = append(c.inventory, EntryOf(o))
	}
	return nil
}

// compare asks about one object. The plan is nil if it could not be asked about.
func (c *comparison) compare(ctx context.Context, o *unstructured.Unstructured) (Difference, *plan, error) {
	p, err := c.decide(ctx, o)
	if err != nil && c.brought(o, err) {
		return Difference{Change: Change{IDOf(o), Created}, Next: o}, nil, nil
	}
	if err != nil {
		return Difference{}, nil, err
	}
	d := Difference{Change: Change{p.id, p.applied.Action}, Recreate: p.recreate, Next: p.desired}
	if d.Action != Configured {
		return d, p, nil
	}
	if d.Live, err = c.Client.Get(ctx, p.ref); err != nil {
		return d, p, p.failed("lookup failed", err)
	}
	if d.Next, err = c.Client.DryRunApply(ctx, p.ref, p.desired, c.Lens.Manager); err != nil {
		return d, p, p.dryRunFailed(err)
	}
	if content(c.Lens, d.Live) == content(c.Lens, d.Next) {
		// Only the managers of its fields would change.
		d.Action = Unchanged
	}
	return d, p, nil
}

// brought reports whether an object is refused only for what the set itself brings.
func (c *comparison) brought(o *unstructured.Unstructured, refusal error) bool {
	_, kind := c.kinds[o.GroupVersionKind().GroupKind()]
	return kind && meta.IsNoMatchError(refusal) || c.namespaces[o.GetNamespace()] && apierrors.IsNotFound(refusal)
}

// prune adds what would be deleted, in the order of deletion (kustomization 80-83).
func (c *comparison) prune(ctx context.Context) error {
	pruned, err := c.Prune(ctx, PruneRequest{
		Owner: c.req.Owner, Stale: c.req.Inventory.Minus(c.inventory), Keep: c.uids, Preview: true,
	})
	if err != nil {
		return err
	}
	for _, change := range pruned.Changes {
		// What is gone already counts as deleted, and is no difference.
		there := slices.ContainsFunc(pruned.Deleted, func(d Deletion) bool { return d.ID == change.ID })
		if there || change.Action != Deleted {
			c.found = append(c.found, Difference{Change: change})
		}
	}
	return nil
}
