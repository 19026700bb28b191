package kube

import (
	"context"
	"fmt"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/cache"
)

// WatchDefinitions invalidates the client's mapper whenever a CustomResourceDefinition changes, until ctx ends.
func WatchDefinitions(ctx context.Context, c *Client, log logr.Logger) error {
	mc, err := metadata.NewForConfigAndClient(c.config, c.http)
	if err != nil {
		return fmt.Errorf("failed to build the metadata client: %w", err)
	}
	r := mc.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return r.List(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return r.Watch(ctx, o)
		},
	}
	cache.NewReflectorWithOptions(lw, nil, &definitionStore{c.Mapper}, cache.ReflectorOptions{
		Name: "definitions", TypeDescription: "CustomResourceDefinition", Logger: &log,
	}).RunWithContext(ctx)
	return nil
}

// definitionStore keeps nothing: that a definition changed is all there is to know.
type definitionStore struct{ mapper *Mapper }

func (s *definitionStore) Add(any) error { return s.changed() }

func (s *definitionStore) Update(any) error { return s.changed() }

func (s *definitionStore) Delete(any) error { return s.changed() }

func (s *definitionStore) Replace([]any, string) error { return s.changed() }

func (s *definitionStore) Resync() error { return nil }

// Transformer drops each object while the initial list still streams; definitions are large and many.
func (s *definitionStore) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		m, ok := obj.(*metav1.PartialObjectMetadata)
		if !ok {
			return obj, nil
		}
		return &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: m.Name, ResourceVersion: m.ResourceVersion}}, nil
	}
}

func (s *definitionStore) changed() error {
	s.mapper.Invalidate()
	return nil
}
