package ops

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// Save creates an object, or replaces the spec and labels of the one that is there (cli 22).
func (c *Client) Save(ctx context.Context, k kind.Kind, obj kind.Object) (created bool, err error) {
	created, err = save(ctx, c.resource(k, obj.GetNamespace()), obj, "spec")
	return created, explain(err, k, obj.GetNamespace(), obj.GetName(), "write")
}

// SaveSecret creates or replaces a Secret.
func (c *Client) SaveSecret(ctx context.Context, obj kind.Object) error {
	secrets := c.Dynamic.Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(obj.GetNamespace())
	if _, err := save(ctx, secrets, obj, "data", "stringData"); err != nil {
		return fmt.Errorf("write Secret/%s/%s: %w", obj.GetNamespace(), obj.GetName(), err)
	}
	return nil
}

func save(ctx context.Context, api dynamic.ResourceInterface, obj kind.Object, fields ...string) (created bool, err error) {
	for attempt := 0; ; attempt++ {
		live, err := api.Get(ctx, obj.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) && !notServed(err) {
			_, err := api.Create(ctx, obj.Unstructured, metav1.CreateOptions{FieldManager: FieldManager})
			return true, err
		}
		if err != nil {
			return false, err
		}
		for _, f := range fields {
			if v, found := obj.Object[f]; found {
				live.Object[f] = v
			} else {
				delete(live.Object, f)
			}
		}
		live.SetLabels(union(live.GetLabels(), obj.GetLabels()))
		live.SetAnnotations(union(live.GetAnnotations(), obj.GetAnnotations()))
		_, err = api.Update(ctx, live, metav1.UpdateOptions{FieldManager: FieldManager})
		if err == nil || attempt == 5 || !apierrors.IsConflict(err) {
			return false, err
		}
	}
}

// union returns both maps in one; the second wins.
func union(first, second map[string]string) map[string]string {
	if len(second) == 0 {
		return first
	}
	all := maps.Clone(first)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, second)
	return all
}
