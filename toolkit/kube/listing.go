package kube

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

// listing lists and watches one resource into a kindWatch.
type listing struct {
	resource  Resource
	reflector *cache.Reflector
}

// metadataOnly reports whether a kind's metadata tells all: built-in kinds without a status. It keeps Secrets' contents out
// of this process and spares the API server the encoding of the others.
func metadataOnly(gk schema.GroupKind) bool {
	switch gk.Group {
	case "":
		switch gk.Kind {
		case "Secret", "ConfigMap", "ServiceAccount", "LimitRange", "Endpoints", "PodTemplate":
			return true
		}
	case "rbac.authorization.k8s.io":
		return true
	case "scheduling.k8s.io":
		return gk.Kind == "PriorityClass"
	case "storage.k8s.io":
		return gk.Kind == "StorageClass" || gk.Kind == "CSIDriver"
	case "networking.k8s.io":
		return gk.Kind == "NetworkPolicy" || gk.Kind == "IngressClass"
	case "node.k8s.io":
		return gk.Kind == "RuntimeClass"
	case "discovery.k8s.io":
		return gk.Kind == "EndpointSlice"
	case "admissionregistration.k8s.io":
		return gk.Kind == "MutatingWebhookConfiguration" || gk.Kind == "ValidatingWebhookConfiguration"
	}
	return false
}

func (m *Managed) newListing(w *kindWatch, res Resource) (*listing, error) {
	selector := m.o.Lens.NameLabel()
	var lw cache.ListWatch
	c := m.o.Client
	if metadataOnly(res.GroupKind()) {
		mc, err := metadata.NewForConfigAndClient(c.config, c.http)
		if err != nil {
			return nil, fmt.Errorf("failed to build the metadata client: %w", err)
		}
		r := mc.Resource(res.GVR())
		lw.ListWithContextFunc = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			return r.List(ctx, o)
		}
		lw.WatchFuncWithContext = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			return r.Watch(ctx, o)
		}
	} else {
		dc, err := dynamic.NewForConfigAndClient(c.config, c.http)
		if err != nil {
			return nil, fmt.Errorf("failed to build the dynamic client: %w", err)
		}
		r := dc.Resource(res.GVR())
		lw.ListWithContextFunc = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = selector
			return r.List(ctx, o)
		}
		lw.WatchFuncWithContext = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = selector
			return r.Watch(ctx, o)
		}
	}
	log := m.o.Log
	return &listing{
		resource: res,
		reflector: cache.NewReflectorWithOptions(&lw, nil, &kindStore{m, w}, cache.ReflectorOptions{
			Name: "managed", TypeDescription: res.GroupVersionKind.String(), Logger: &log, Clock: m.o.Clock,
		}),
	}, nil
}

// observed is an object reduced to its state. The reflector wants something with a name, so it carries that too.
type observed struct {
	metav1.TypeMeta
	metav1.ObjectMeta
	state State
}

// DeepCopyObject makes observed a runtime.Object for the reflector's own store, which never copies.
func (o *observed) DeepCopyObject() runtime.Object { c := *o; return &c }

// kindStore is where a reflector delivers. It reduces each object at once, so that no list of whole objects is ever held
// longer than its decoding takes.
type kindStore struct {
	m *Managed
	w *kindWatch
}

func (s *kindStore) reduce(obj any) (any, error) {
	switch o := obj.(type) {
	case *observed:
		return o, nil
	case *unstructured.Unstructured:
		return reduced(o.GetNamespace(), o.GetName(), s.m.o.Lens.Object(o)), nil
	case *metav1.PartialObjectMetadata:
		return reduced(o.Namespace, o.Name, s.m.o.Lens.Metadata(o)), nil
	case cache.DeletedFinalStateUnknown:
		return s.reduce(o.Obj)
	}
	return nil, fmt.Errorf("a watch of managed objects delivered a %T", obj)
}

func reduced(namespace, name string, st State) *observed {
	return &observed{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, ResourceVersion: st.ResourceVersion}, state: st}
}

// Transformer lets the reflector reduce objects while it still streams the initial list.
func (s *kindStore) Transformer() cache.TransformFunc { return s.reduce }

func (s *kindStore) Add(obj any) error { return s.Update(obj) }

func (s *kindStore) Update(obj any) error {
	r, err := s.reduce(obj)
	if err != nil {
		return err
	}
	o := r.(*observed)
	s.m.put(s.w, o.Namespace, o.Name, &o.state)
	return nil
}

func (s *kindStore) Delete(obj any) error {
	r, err := s.reduce(obj)
	if err != nil {
		return err
	}
	o := r.(*observed)
	s.m.put(s.w, o.Namespace, o.Name, nil)
	return nil
}

func (s *kindStore) Replace(list []any, resourceVersion string) error {
	items := make([]*observed, 0, len(list))
	for _, obj := range list {
		r, err := s.reduce(obj)
		if err != nil {
			return err
		}
		items = append(items, r.(*observed))
	}
	s.m.replace(s.w, items, resourceVersion)
	return nil
}

// Resync has nothing to do: nothing queues behind this store.
func (s *kindStore) Resync() error { return nil }

// UpdateResourceVersion notes how far the watch has come, bookmarks included.
func (s *kindStore) UpdateResourceVersion(resourceVersion string) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.w.seen = resourceVersion
}
