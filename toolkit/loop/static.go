package loop

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/seed-79636ae9/flux/api/meta"
)

// retire removes what a static object has left of a time when it was none. The finalizer goes last, so that a failure in
// between is made good by the next request. A suspended object is left as it is, unless it is to go (helmrepository 2, 34).
func (s *session[O]) retire(ctx context.Context, fin Finalizer[O]) (reconcile.Result, error) {
	was, err := statusOf(s.base)
	if err != nil {
		return reconcile.Result{}, err
	}
	deleted := !s.obj.GetDeletionTimestamp().IsZero()
	held := controllerutil.ContainsFinalizer(s.obj, meta.Finalizer)
	if untouched(was) && !held || deleted && !held || s.obj.IsSuspended() && !deleted {
		return reconcile.Result{}, nil
	}
	if fin != nil {
		panicked, err := s.guard(func() error { return fin.Finalize(ctx, s.obj, s.run) })
		if err != nil {
			result, err := s.finish(ctx, err)
			if panicked != nil {
				panic(panicked)
			}
			return result, err
		}
	}
	if !untouched(was) && !deleted {
		if err := s.emptyStatus(ctx, was); err != nil {
			return s.quietly(ctx, fmt.Errorf("emptying the status: %w", err))
		}
	}
	if held {
		if err := s.removeFinalizer(ctx); err != nil {
			return s.quietly(ctx, fmt.Errorf("removing the finalizer: %w", err))
		}
	}
	s.e.o.Metrics.forget(s.e.c.Kind, s.key.Name, s.key.Namespace)
	return reconcile.Result{}, nil
}

// untouched reports whether a status is empty. What the API server fills in for a new object counts as something that
// is left over, as in 2.9: readers of a static object find no status at all.
func untouched(status map[string]any) bool { return len(status) == 0 }

// emptyStatus takes all fields of a status away. A status that is taken away as a whole would come back with what the API
// server fills in.
func (s *session[O]) emptyStatus(ctx context.Context, was map[string]any) error {
	fields := make(map[string]any, len(was))
	for name := range was {
		fields[name] = nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patchTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{"resourceVersion": s.base.GetResourceVersion()}, "status": fields})
	if err != nil {
		return err
	}
	answer := s.e.c.New()
	answer.SetName(s.key.Name)
	answer.SetNamespace(s.key.Namespace)
	err = s.e.o.Client.Status().Patch(ctx, answer, client.RawPatch(types.MergePatchType, data), client.FieldOwner(s.e.c.fieldManager()))
	if err != nil {
		return err
	}
	s.e.writes.note(s.key, answer.GetResourceVersion())
	s.adopt(answer)
	return nil
}
