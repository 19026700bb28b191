package ops

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// Block is a paragraph of a trace.
type Block []kind.Line

// maxOwners bounds the walk up the owner references, which may form a cycle.
const maxOwners = 20

// Trace tells which toolkit object manages an object, and where that one takes its content from: a paragraph each
// for the object, its manager and the sources (cli 64). mapper is asked for the resources of owners.
func (c *Client) Trace(ctx context.Context, kinds kind.Set, mapper func() (meta.RESTMapper, error), obj kind.Object) ([]Block, error) {
	head := Block{{Title: "Object", Value: obj.GetKind() + "/" + obj.GetName()}}
	if ns := obj.GetNamespace(); ns != "" {
		head = append(head, kind.Line{Title: "Namespace", Value: ns})
	}
	k, ref, err := c.manager(ctx, kinds, mapper, obj)
	if err != nil {
		return nil, err
	}
	if ref == nil {
		return []Block{append(head, kind.Line{Title: "Status", Value: "Not managed by Flux"})}, nil
	}
	blocks := []Block{append(head, kind.Line{Title: "Status", Value: "Managed by Flux"})}
	for seen := map[kind.Ref]bool{}; ref != nil && !seen[*ref]; {
		seen[*ref] = true
		owner, err := c.Get(ctx, k, ref.Namespace, ref.Name)
		var absent *NotFoundError
		if errors.As(err, &absent) {
			blocks = append(blocks, Block{{Title: k.Kind, Value: ref.Name}, {Title: "Namespace", Value: ref.Namespace}, {Title: "Status", Value: "Not found"}})
			break
		}
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, describe(k, owner))
		if k.Source == nil {
			break
		}
		ref = k.Source(owner)
		if ref == nil {
			break
		}
		known := false
		if k, known = kinds.Named(ref.Kind); !known {
			blocks = append(blocks, Block{{Title: ref.Kind, Value: ref.Name}, {Title: "Namespace", Value: ref.Namespace}, {Title: "Status", Value: "Unknown kind"}})
			break
		}
	}
	return blocks, nil
}

// manager finds the toolkit object whose owner labels the object, or one of its owners, carries.
func (c *Client) manager(ctx context.Context, kinds kind.Set, mapper func() (meta.RESTMapper, error), obj kind.Object) (kind.Kind, *kind.Ref, error) {
	for range maxOwners {
		labels := obj.GetLabels()
		for _, k := range kinds {
			if k.Owner == nil {
				continue
			}
			if name, ok := labels[k.Owner.Name]; ok {
				return k, &kind.Ref{Kind: k.Kind, Namespace: labels[k.Owner.Namespace], Name: name}, nil
			}
		}
		owner := metav1.GetControllerOf(obj)
		if owner == nil && len(obj.GetOwnerReferences()) > 0 {
			owner = &obj.GetOwnerReferences()[0]
		}
		if owner == nil {
			return kind.Kind{}, nil, nil
		}
		m, err := mapper()
		if err != nil {
			return kind.Kind{}, nil, err
		}
		gvk := schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind)
		next, err := c.GetMapped(ctx, m, gvk, obj.GetNamespace(), owner.Name)
		if err != nil {
			return kind.Kind{}, nil, err
		}
		obj = next
	}
	return kind.Kind{}, nil, fmt.Errorf("%s has more than %d owners above each other", obj.Ref(), maxOwners)
}

// GetMapped reads an object of any kind. The namespace is ignored for kinds that have none.
func (c *Client) GetMapped(ctx context.Context, m meta.RESTMapper, gvk schema.GroupVersionKind, namespace, name string) (kind.Object, error) {
	versions := []string{gvk.Version}
	if gvk.Version == "" {
		versions = nil
	}
	mapping, err := m.RESTMapping(gvk.GroupKind(), versions...)
	if err != nil {
		return kind.Object{}, fmt.Errorf("find the resource of %s: %w", gvk.Kind, err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		namespace = ""
	}
	u, err := c.Dynamic.Resource(mapping.Resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return kind.Object{}, fmt.Errorf("read %s: %w", Name(named(gvk, namespace, name)), err)
	}
	return kind.Object{Unstructured: u}, nil
}

func named(gvk schema.GroupVersionKind, namespace, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// describe is the paragraph of a toolkit object.
func describe(k kind.Kind, o kind.Object) Block {
	b := Block{{Title: k.Kind, Value: o.GetName()}, {Title: "Namespace", Value: o.GetNamespace()}}
	if k.Describe != nil {
		b = append(b, k.Describe(o)...)
	}
	if o.Suspended() {
		b = append(b, kind.Line{Title: "Suspended", Value: "True"})
	}
	ready, found := o.Condition("Ready")
	switch {
	case k.IsStatic(o):
		return append(b, kind.Line{Title: "Status", Value: k.StaticMessage})
	case !found:
		return append(b, kind.Line{Title: "Status", Value: "Not yet reconciled"})
	case ready.Status == "False":
		b = append(b, kind.Line{Title: "Status", Value: "Last reconciliation failed at " + ready.LastTransitionTime})
	default:
		b = append(b, kind.Line{Title: "Status", Value: "Last reconciled at " + ready.LastTransitionTime})
	}
	return append(b, kind.Line{Title: "Message", Value: ready.Message})
}
