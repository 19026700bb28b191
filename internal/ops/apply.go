package ops

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// Built-in kinds that installing deals with.
func builtin(group, version, name, resource string) kind.Kind {
	return kind.Kind{GroupVersionKind: schema.GroupVersionKind{Group: group, Version: version, Kind: name}, Resource: resource}
}

// Deployment is the kind Deployment, for the verbs of Client.
func Deployment() kind.Kind { return builtin("apps", "v1", "Deployment", "deployments") }

// Definition is the kind CustomResourceDefinition.
func Definition() kind.Kind {
	return builtin("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
}

// Namespace is the kind Namespace.
func Namespace() kind.Kind { return builtin("", "v1", "Namespace", "namespaces") }

// Pod is the kind Pod.
func Pod() kind.Kind { return builtin("", "v1", "Pod", "pods") }

// Event is the kind Event of the core group, which all controllers write.
func Event() kind.Kind { return builtin("", "v1", "Event", "events") }

// InNamespace are the kinds of an installation that live in its namespace, in the order to remove them.
func InNamespace() []kind.Kind {
	return []kind.Kind{
		Deployment(),
		builtin("", "v1", "Service", "services"),
		builtin("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
		builtin("", "v1", "ServiceAccount", "serviceaccounts"),
		builtin("", "v1", "ResourceQuota", "resourcequotas"),
	}
}

// ClusterWide are the kinds of an installation's permissions.
func ClusterWide() []kind.Kind {
	return []kind.Kind{
		builtin("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings"),
		builtin("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles"),
	}
}

// Applied is what applying an object did: Created, Configured or Unchanged.
type Applied string

// The results of Apply.
const (
	Created    Applied = "created"
	Configured Applied = "configured"
	Unchanged  Applied = "unchanged"
)

// Apply server-side applies an object of a built-in kind, taking over fields that others own.
func (c *Client) Apply(ctx context.Context, obj *unstructured.Unstructured) (Applied, error) {
	gvr, _ := meta.UnsafeGuessKindToResource(obj.GroupVersionKind())
	api := c.Dynamic.Resource(gvr).Namespace(obj.GetNamespace())
	doing := func(err error) error { return fmt.Errorf("apply %s: %w", Name(obj), err) }
	before, err := api.Get(ctx, obj.GetName(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return "", doing(err)
	}
	data, err := json.Marshal(obj.Object)
	if err != nil {
		return "", doing(err)
	}
	after, err := api.Patch(ctx, obj.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: FieldManager, Force: ptr.To(true)})
	switch {
	case err != nil:
		return "", doing(err)
	case before == nil || before.GetUID() != after.GetUID():
		return Created, nil
	case before.GetResourceVersion() == after.GetResourceVersion():
		return Unchanged, nil
	}
	return Configured, nil
}

// Name is Kind/namespace/name, or Kind/name where there is no namespace.
func Name(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + "/" + o.GetName()
	}
	return o.GetKind() + "/" + o.GetNamespace() + "/" + o.GetName()
}

// AwaitDefinition waits until the API server serves the kinds of a CustomResourceDefinition.
func (c *Client) AwaitDefinition(ctx context.Context, name string) error {
	obj, err := c.Until(ctx, Definition(), "", name, func(o kind.Object) (bool, error) {
		if names, ok := o.Condition("NamesAccepted"); ok && names.Status == "False" {
			return false, &FailedError{o, names.Message}
		}
		return o.IsTrue("Established"), nil
	})
	return overdue(err, obj)
}

// AwaitDeployment waits until all replicas of a Deployment run its present template.
func (c *Client) AwaitDeployment(ctx context.Context, namespace, name string) error {
	obj, err := c.Until(ctx, Deployment(), namespace, name, func(o kind.Object) (bool, error) {
		done, _, err := Rollout(o)
		return done, err
	})
	return overdue(err, obj)
}

// Rollout tells whether a Deployment is complete, and what is missing. An error means that it gave up.
func Rollout(o kind.Object) (done bool, missing string, err error) {
	var d appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &d); err != nil {
		return false, "", fmt.Errorf("read %s: %w", Name(o.Unstructured), err)
	}
	want := ptr.Deref(d.Spec.Replicas, 1)
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" {
			return false, "", &FailedError{o, c.Message}
		}
	}
	switch {
	case d.Status.ObservedGeneration < d.Generation:
		return false, "waiting for its controller", nil
	case d.Status.UpdatedReplicas < want || d.Status.Replicas > d.Status.UpdatedReplicas:
		return false, fmt.Sprintf("%d of %d replicas updated", d.Status.UpdatedReplicas, want), nil
	case d.Status.AvailableReplicas < want:
		return false, fmt.Sprintf("%d of %d replicas available", d.Status.AvailableReplicas, want), nil
	}
	return true, "", nil
}

// StripFinalizers lets an object go without its controller.
func (c *Client) StripFinalizers(ctx context.Context, k kind.Kind, namespace, name string) error {
	_, err := c.patch(ctx, k, namespace, name, `{"metadata":{"finalizers":null}}`)
	return err
}
