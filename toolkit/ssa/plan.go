package ssa

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// kindPatience is how long a kind whose CRD belongs to the same set may be missing from discovery.
const kindPatience = 10 * time.Second

// plan is what is to be done about one object.
type plan struct {
	id       ID
	ref      kube.Ref
	desired  *unstructured.Unstructured
	digest   uint64
	marks    kube.Marks
	ignored  [][]string                    // paths of fields that are not corrected
	live     *metav1.PartialObjectMetadata // of an object that exists, if it matters
	content  uint64                        // digest of what the write will store, if known
	unread   bool                          // decided without the content of the live object
	adopt    bool                          // fields and marks of earlier tools are to be taken over first
	recreate bool
	corrects bool // a write undoes somebody else's doing
	verdict  kube.Verdict
	drift    *Drift // what somebody else did; nil: nothing
	applied  Applied
}

// writes reports whether the plan changes the cluster.
func (p *plan) writes() bool { return p.applied.Action == Created || p.applied.Action == Configured }

// plan decides about all objects of a stage at once. It writes nothing.
func (r *run) plan(ctx context.Context, objects []*unstructured.Unstructured) ([]*plan, error) {
	plans := make([]*plan, len(objects))
	errs := make([]error, len(objects))
	slots := make(chan struct{}, r.concurrency())
	var wg sync.WaitGroup
	for i, o := range objects {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if plans[i], errs[i] = r.decide(ctx, o); errs[i] == nil {
				plans[i].applied.ID, plans[i].applied.Version = plans[i].id, plans[i].ref.Version
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var refused Errors
	for _, err := range errs {
		var one *ObjectError
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
	return plans, nil
}

// decide plans one object.
func (r *run) decide(ctx context.Context, o *unstructured.Unstructured) (*plan, error) {
	res, err := r.resource(ctx, o)
	if err != nil {
		return nil, failed(IDOf(o), nil, "dry-run failed", err)
	}
	if !res.Namespaced {
		o.SetNamespace("")
	}
	p := &plan{id: IDOf(o), desired: o, ref: kube.Ref{Resource: res, Namespace: o.GetNamespace(), Name: o.GetName()}}
	if res.Namespaced && o.GetNamespace() == "" {
		return nil, noNamespace(p.id)
	}
	p.marks = r.Lens.Marks(o.GetLabels(), o.GetAnnotations())
	if p.marks.Has(kube.NoApply) {
		p.applied.Action = Skipped
		return p, nil
	}
	p.ignored = r.req.Ignore.paths(o)
	p.digest = identity(r.Lens, o, p.ignored)
	var known recall
	if r.Memory != nil {
		known = r.Memory.recall(r.req.Owner, p.id, p.digest)
		p.corrects = known.corrects
	}
	if done := r.fromMemory(p, known); done {
		return p, nil
	}
	if p.marks.Has(kube.CreateOnly) && known.present && !r.full {
		p.applied.Action, p.applied.UID = Skipped, known.uid
		return p, nil
	}
	if p.marks.Has(kube.CreateOnly) {
		live, err := r.Client.GetMetadata(ctx, p.ref)
		if err == nil {
			p.applied.Action, p.applied.UID = Skipped, live.UID
			return p, nil
		}
		if !apierrors.IsNotFound(err) {
			return nil, p.failed("lookup failed", err)
		}
	}
	return p, r.dryRun(ctx, p, known)
}

// identity digests what is desired, and what of it is not insisted on: an object is applied anew when either changes.
func identity(lens *kube.Lens, desired *unstructured.Unstructured, ignored [][]string) uint64 {
	if len(ignored) == 0 {
		return lens.Digest(desired.Object)
	}
	paths := make([]any, len(ignored))
	for i, path := range ignored {
		paths[i] = strings.Join(path, "/")
	}
	return lens.Digest(map[string]any{"object": desired.Object, "ignored": paths})
}

// fromMemory settles an object without a call if nothing about it can have changed.
func (r *run) fromMemory(p *plan, known recall) bool {
	if r.full || !known.same && !(known.damped && !r.req.Thorough) {
		return false
	}
	p.applied.Action, p.applied.UID, p.verdict = Unchanged, known.uid, known.verdict
	if known.skipped || p.marks.Has(kube.CreateOnly) {
		p.applied.Action = Skipped
	}
	return true
}

// resource maps an object's kind, with patience for one that this very set defines.
func (r *run) resource(ctx context.Context, o *unstructured.Unstructured) (kube.Resource, error) {
	gvk := o.GroupVersionKind()
	res, err := r.Client.Mapper.Resource(ctx, gvk)
	if _, ours := r.defined[gvk.GroupKind()]; !ours {
		return res, err
	}
	deadline := r.clock().Now().Add(kindPatience)
	for pause := 50 * time.Millisecond; meta.IsNoMatchError(err) && r.clock().Now().Before(deadline); pause = min(2*pause, time.Second) {
		if err := r.pause(ctx, pause); err != nil {
			return res, err
		}
		r.Client.Mapper.Invalidate()
		res, err = r.Client.Mapper.Resource(ctx, gvk)
	}
	return res, err
}

func (a *Applier) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-a.clock().After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// dryRun asks the API server what an apply would do and compares it with what is there.
func (r *run) dryRun(ctx context.Context, p *plan, known recall) error {
	if r.req.MigrateAPIVersion {
		if err := r.migrate(ctx, p); err != nil {
			return p.failed("failed to migrate the API version of its managed fields", err)
		}
	}
	dry, err := r.Client.DryRunApply(ctx, p.ref, p.desired, r.Lens.Manager)
	if err != nil {
		return r.refused(ctx, p, err)
	}
	p.verdict = kube.Assess(dry)
	if dry.GetResourceVersion() == "" {
		p.applied.Action = Created
		return r.drift(ctx, p, nil, nil)
	}
	merged := r.Lens.Marks(dry.GetLabels(), dry.GetAnnotations())
	var live *unstructured.Unstructured
	exact, glance := known.exact, glance{}
	switch {
	case merged.Has(kube.NoApply) || len(p.ignored) > 0:
		exact = 0
	case exact == 0:
		glance = r.glance(p, dry)
	}
	if exact == 0 && glance.says == nothing {
		live, err = r.Client.Get(ctx, p.ref)
		if apierrors.IsNotFound(err) {
			p.applied.Action = Created
			return r.drift(ctx, p, nil, nil)
		}
		if err != nil {
			return p.failed("lookup failed", err)
		}
		if r.Lens.Marks(live.GetLabels(), live.GetAnnotations()).Has(kube.NoApply) {
			r.skip(p, r.Lens.Object(live))
			return nil
		}
	}
	compared, comparedLive := dry, live
	if live != nil {
		if len(p.ignored) > 0 {
			if p.desired, comparedLive, compared, err = disregard(r.Lens.Ownership, p.ignored, p.desired, live, dry); err != nil {
				return p.failed("drift detection failed", err)
			}
		}
		exact = content(r.Lens, comparedLive)
	}
	p.live = partial(dry)
	p.applied.UID = dry.GetUID()
	p.content = content(r.Lens, compared)
	p.adopt = !merged.Has(kube.KeepForeign) && !p.marks.Has(kube.KeepForeign) && r.foreign(p.live)
	drifted := p.content != exact
	if glance.says != nothing {
		drifted, p.unread = glance.says == differs, true
	}
	if len(p.ignored) > 0 {
		// What was compared is not the whole.
		p.content = 0
	}
	if drifted || p.adopt {
		p.applied.Action = Configured
		return r.drift(ctx, p, comparedLive, compared)
	}
	p.applied.Action = Unchanged
	switch {
	case live != nil:
		r.remember(p, r.Lens.Object(live))
	case p.unread:
		r.remember(p, glance.state)
	case r.Memory != nil:
		// Nobody looked, since the content was known to the letter: the note of the object's state still holds.
		r.Memory.rebase(r.req.Owner, p.id, p.digest)
	}
	p.applied.ResourceVersion, p.applied.Generation = p.live.ResourceVersion, p.live.Generation
	return nil
}

// remember notes an object that is as desired.
func (r *run) remember(p *plan, live kube.State) {
	if r.Memory != nil {
		r.Memory.commit(r.req.Owner, p.id, learned{desired: p.digest, content: p.content, state: live})
	}
}

// skip leaves an object alone for the marks it carries on the cluster.
func (r *run) skip(p *plan, live kube.State) {
	p.applied.Action, p.applied.UID = Skipped, live.UID
	if r.Memory != nil {
		r.Memory.commit(r.req.Owner, p.id, learned{desired: p.digest, state: live, skipped: true})
	}
}

// foreign reports whether an object carries fields or marks that an apply takes over (kustomization 71).
func (r *run) foreign(live *metav1.PartialObjectMetadata) bool {
	for _, e := range live.ManagedFields {
		if r.Lens.TakesOver(e.Manager, e.Operation, e.Subresource) {
			return true
		}
	}
	return len(stalePaths(r.Lens.Ownership, live)) > 0
}

// refused looks into a failed dry-run: the object may be one to leave alone, or one to recreate.
func (r *run) refused(ctx context.Context, p *plan, refusal error) error {
	if apierrors.IsNotFound(refusal) && plain404(refusal) {
		// The mapper may have missed that the kind is no longer served.
		if _, err := r.Client.Mapper.ServedNow(ctx, p.id.GroupKind(), p.ref.Version); err != nil {
			return p.failed("dry-run failed", err)
		}
	}
	if apierrors.IsNotFound(refusal) || ctx.Err() != nil {
		return p.dryRunFailed(refusal)
	}
	live, err := r.Client.GetMetadata(ctx, p.ref)
	if err != nil {
		// Absent, or not for us to see: then the refusal stands as it is.
		return p.dryRunFailed(refusal)
	}
	state := r.Lens.Metadata(live)
	if state.Marks.Has(kube.NoApply) {
		r.skip(p, state)
		return nil
	}
	if !r.req.Force && !p.marks.Has(kube.Recreate) || !isImmutable(refusal) {
		return p.dryRunFailed(refusal)
	}
	if r.req.Irreplaceable != nil && r.req.Irreplaceable(p.id.GroupKind()) {
		return p.failed("dry-run failed", fmt.Errorf("%w; it is not recreated, since its kind is protected: delete it by hand, or do not protect it", refusal))
	}
	if err := r.replaceable(ctx, p); err != nil {
		return p.failed("dry-run failed", fmt.Errorf("%w; it is not recreated, since the replacement is refused too: %v", refusal, err))
	}
	p.recreate, p.live = true, live
	p.applied.Action = Created
	return r.drift(ctx, p, nil, nil)
}

// replaceable asks whether an object could be created in place of the live one. AlreadyExists comes after validation and
// admission, so it is a yes; only with a yes may the live object be deleted (reliability, design rule 3).
func (r *run) replaceable(ctx context.Context, p *plan) error {
	probe := p.desired
	if p.id.Kind == "Service" && p.id.Group == "" {
		// The live Service still holds the addresses and ports that the replacement asks for.
		probe = probe.DeepCopy()
		for _, f := range []string{"clusterIP", "clusterIPs", "healthCheckNodePort"} {
			if v, _, _ := unstructured.NestedString(probe.Object, "spec", f); !strings.EqualFold(v, "None") {
				unstructured.RemoveNestedField(probe.Object, "spec", f)
			}
		}
		ports, _, _ := unstructured.NestedSlice(probe.Object, "spec", "ports")
		for _, port := range ports {
			if m, ok := port.(map[string]any); ok {
				delete(m, "nodePort")
			}
		}
		if len(ports) > 0 {
			if err := unstructured.SetNestedSlice(probe.Object, ports, "spec", "ports"); err != nil {
				return err
			}
		}
	}
	err := r.Client.DryRunCreate(ctx, p.ref, probe, r.Lens.Manager)
	if err == nil || apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
