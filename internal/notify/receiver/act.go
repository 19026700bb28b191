package receiver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	extensionsv1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	"github.com/seed-79636ae9/flux/api/meta"
	notificationv1 "github.com/seed-79636ae9/flux/api/notification/v1"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
)

const (
	// maxRequests is how many requests to the API server one call has under way.
	maxRequests = 16
	// pageSize is how many objects are listed at a time.
	pageSize = 500
	// maxTold bounds the failures that an error names.
	maxTold = 10
)

// action asks the resources of a Receiver to reconcile, for one call.
type action struct {
	options   Options
	backend   *backend
	object    *notificationv1.Receiver
	rules     *rules
	variables map[string]any // of the filters, without "res"
	token     string
	slots     chan struct{} // one for each request under way
	thinking  *thinking
	asked     atomic.Int64 // how many objects were asked
}

// run tries all resources, at the same time, and returns what failed (receiver 11).
func (a *action) run(ctx context.Context) error {
	var all failures
	var wg sync.WaitGroup
	for n := range a.object.Spec.Resources {
		wg.Go(func() { all.try(func() error { return a.resource(ctx, n) }) })
	}
	wg.Wait()
	return all.join()
}

// resource asks the objects that one resource selects.
func (a *action) resource(ctx context.Context, n int) error {
	r := &a.object.Spec.Resources[n]
	namespace := r.Namespace
	if namespace == "" {
		namespace = a.object.Namespace
	}
	name := fmt.Sprintf("%s '%s/%s'", r.Kind, namespace, r.Name)
	if a.options.NoCrossNamespaceRefs && namespace != a.object.Namespace {
		return fmt.Errorf("%s is in another namespace, which --no-cross-namespace-refs forbids", name)
	}
	gvk, err := kindOf(r)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if r.Name == notificationv1.AnyName {
		return a.all(ctx, n, gvk, namespace)
	}
	obj := &metav1.PartialObjectMetadata{}
	obj.SetGroupVersionKind(gvk)
	obj.Namespace, obj.Name = namespace, r.Name
	// Without a filter nothing needs to be known of the object: the patch says whether it is there.
	if a.filtered(n) {
		if err := a.slot(ctx, func() error { return a.backend.reader.Get(ctx, client.ObjectKeyFromObject(obj), obj) }); err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		obj.SetGroupVersionKind(gvk)
	}
	return a.ask(ctx, n, obj)
}

// all asks the objects with the labels of a resource (receiver 16).
func (a *action) all(ctx context.Context, n int, gvk schema.GroupVersionKind, namespace string) error {
	r := &a.object.Spec.Resources[n]
	if len(r.MatchLabels) == 0 {
		return fmt.Errorf("%s with the name '*' needs matchLabels", r.Kind)
	}
	var all failures
	var wg sync.WaitGroup
	found := 0
	list := &metav1.PartialObjectMetadataList{}
	for {
		list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
		options := []client.ListOption{
			client.InNamespace(namespace), client.MatchingLabels(r.MatchLabels), client.Limit(pageSize), client.Continue(list.Continue),
		}
		list.Items = nil
		if err := a.slot(ctx, func() error { return a.backend.reader.List(ctx, list, options...) }); err != nil {
			all.add(fmt.Errorf("listing every %s in the namespace '%s': %w", r.Kind, namespace, err))
			break
		}
		found += len(list.Items)
		for i := range list.Items {
			obj := &list.Items[i]
			obj.SetGroupVersionKind(gvk)
			wg.Go(func() { all.try(func() error { return a.ask(ctx, n, obj) }) })
		}
		// Before the next page: what is under way is bounded, and so is what is kept.
		wg.Wait()
		if list.Continue == "" {
			break
		}
	}
	if found == 0 && len(all.errs) == 0 {
		log := a.options.Log.WithValues("receiver", client.ObjectKeyFromObject(a.object))
		log.Info("no object has the labels of a resource", "kind", r.Kind, "namespace", namespace)
	}
	return all.join()
}

// ask asks an object to reconcile, unless a filter says no (receiver 14, 17).
func (a *action) ask(ctx context.Context, n int, obj *metav1.PartialObjectMetadata) error {
	name := fmt.Sprintf("%s '%s/%s'", obj.Kind, obj.Namespace, obj.Name)
	if a.filtered(n) {
		if wanted, err := a.wanted(ctx, n, obj); err != nil || !wanted {
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		}
	}
	patch, err := annotation(meta.ReconcileRequestAnnotation, a.token)
	if err != nil {
		return err
	}
	err = a.slot(ctx, func() error {
		target := &metav1.PartialObjectMetadata{}
		target.SetGroupVersionKind(obj.GroupVersionKind())
		target.Namespace, target.Name = obj.Namespace, obj.Name
		return a.backend.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(Name))
	})
	if err != nil {
		return fmt.Errorf("asking %s to reconcile: %w", name, err)
	}
	a.asked.Add(1)
	return nil
}

// requestToken is the value of the annotation that asks for a reconciliation (receiver 17).
func requestToken(now time.Time) string { return now.UTC().Round(0).String() }

// annotation is the merge patch that asks for a reconciliation.
func annotation(name, value string) ([]byte, error) {
	return json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{name: value}}})
}

func (a *action) filtered(n int) bool { return a.rules.filter != nil || a.rules.filters[n] != nil }

// wanted asks the filters, both of which must hold.
func (a *action) wanted(ctx context.Context, n int, obj *metav1.PartialObjectMetadata) (bool, error) {
	res, err := plain(obj)
	if err != nil {
		return false, err
	}
	variables := maps.Clone(a.variables)
	variables[resVariable] = res
	wanted := true
	err = a.thinking.do(ctx, func(ctx context.Context) error {
		for _, f := range []*expression{a.rules.filter, a.rules.filters[n]} {
			if f == nil || !wanted {
				continue
			}
			var err error
			if wanted, err = f.holds(ctx, variables); err != nil {
				return err
			}
		}
		return nil
	})
	return wanted && err == nil, err
}

// plain is the metadata of an object as JSON values.
func plain(obj *metav1.PartialObjectMetadata) (map[string]any, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encoding the metadata: %w", err)
	}
	var out map[string]any
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("decoding the metadata: %w", err)
	}
	return out, nil
}

// slot makes a request once there is room for it.
func (a *action) slot(ctx context.Context, request func() error) error {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
		return request()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kindOf returns the kind that a resource selects (receiver 15, 35).
func kindOf(r *notificationv1.ReceiverResource) (schema.GroupVersionKind, error) {
	if r.APIVersion != "" {
		gv, err := schema.ParseGroupVersion(r.APIVersion)
		if err != nil {
			return schema.GroupVersionKind{}, fmt.Errorf("apiVersion '%s' is not of the form group/version", r.APIVersion)
		}
		return gv.WithKind(r.Kind), nil
	}
	switch r.Kind {
	case sourcev1.BucketKind, sourcev1.GitRepositoryKind, sourcev1.HelmChartKind, sourcev1.HelmRepositoryKind, sourcev1.OCIRepositoryKind:
		return sourcev1.GroupVersion.WithKind(r.Kind), nil
	case "ImageRepository":
		return schema.GroupVersionKind{Group: "image.toolkit.fluxcd.io", Version: "v1", Kind: r.Kind}, nil
	case extensionsv1beta1.ArtifactGeneratorKind:
		return extensionsv1beta1.GroupVersion.WithKind(r.Kind), nil
	}
	return schema.GroupVersionKind{}, errors.New("apiVersion is empty, and the kind has no default: set it")
}

// failures collects errors from several goroutines.
type failures struct {
	mu   sync.Mutex // guards errs
	errs []error
}

// try takes a panic for an error: outside of the goroutine of a call, nobody else would.
func (f *failures) try(do func() error) {
	defer func() {
		if p := recover(); p != nil {
			f.add(fmt.Errorf("internal error: panic: %v\n%s", p, debug.Stack()))
		}
	}()
	f.add(do())
}

func (f *failures) add(err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

// join returns one error for all, of a length that fits a log line.
func (f *failures) join() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if more := len(f.errs) - maxTold; more > 0 {
		return errors.Join(append(f.errs[:maxTold:maxTold], fmt.Errorf("and %d more", more))...)
	}
	return errors.Join(f.errs...)
}
