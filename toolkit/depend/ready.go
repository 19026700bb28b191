package depend

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/seed-79636ae9/flux/api/meta"
	"github.com/seed-79636ae9/flux/toolkit/health"
)

var (
	// ErrNotReady is the property of errors that pass when the dependency becomes ready. Their text is that of the Ready condition
	// (kustomization 16).
	ErrNotReady = errors.New("dependency is not ready")
	// ErrAccessDenied says that policy forbids a readyExpr.
	ErrAccessDenied = errors.New("access denied")
)

// ExpressionError says that a readyExpr cannot be used, which only a change of the spec can help (kustomization 18).
type ExpressionError struct {
	// Dependency is the name of the object in the reference.
	Dependency string
	Err        error
}

// Error is the recorded text of 2.9.
func (e *ExpressionError) Error() string {
	return fmt.Sprintf("terminal error: failed to evaluate dependency %s: %v", e.Dependency, e.Err)
}

// Unwrap returns the error of the expression.
func (e *ExpressionError) Unwrap() error { return e.Err }

// notReady is an ErrNotReady with nothing but its own text.
type notReady string

func (e notReady) Error() string        { return string(e) }
func (e notReady) Is(target error) bool { return target == ErrNotReady }

// Rules are what kinds and flags make of the check. The zero value is that of a kind without a source.
type Rules struct {
	// Additive makes readyExpr one more condition instead of the only one (feature gate AdditiveCELDependencyCheck).
	Additive bool
	// Source, when given, is the source of the waiting object: a dependency on the same one must have applied the same revision
	// (kustomization 17).
	Source *Source
	// NoCrossNamespaceRefs refuses a readyExpr about an object of another namespace: through it one could read, bit by bit, what one
	// may not see (reliability 034). Waiting for the object as such stays allowed (kustomization 20).
	NoCrossNamespaceRefs bool
	// Missing formats the message for an object that is not there, from "namespace/name" and the error; "" is that of Kustomization.
	Missing string
}

// Source names what an object is built from, and at which revision.
type Source struct {
	Kind, Namespace, Name, Revision string
}

const defaultMissing = "dependency '%s' not found: %v"

// Check reads what self depends on and returns nil when all of it is ready. Dependencies are of self's kind and read one after another
// through reader, which should not be a cache: a dependent is woken by the same change that a cache has yet to see (kustomization 15).
//
// Errors: *ExpressionError; ErrAccessDenied; ErrNotReady for the first dependency that is not ready; others when reading failed.
func Check(ctx context.Context, reader client.Reader, gvk schema.GroupVersionKind, self client.Object, refs []meta.DependencyReference, rules Rules) error {
	checks, err := compile(self.GetNamespace(), refs, rules)
	if err != nil {
		return err
	}
	for _, c := range checks {
		dep := &unstructured.Unstructured{}
		dep.SetGroupVersionKind(gvk)
		err := reader.Get(ctx, c.key, dep)
		switch {
		case apierrors.IsNotFound(err):
			missing := rules.Missing
			if missing == "" {
				missing = defaultMissing
			}
			return notReady(fmt.Sprintf(missing, c.key, err))
		case err != nil:
			return fmt.Errorf("read dependency '%s': %w", c.key, err)
		}
		if err := c.ready(ctx, gvk, self, dep, rules); err != nil {
			return err
		}
	}
	return nil
}

// Ready tells, without reading anything, whether one dependency is ready for self: nil, or the errors of Check.
func Ready(ctx context.Context, gvk schema.GroupVersionKind, self client.Object, dep *unstructured.Unstructured, ref meta.DependencyReference, rules Rules) error {
	checks, err := compile(self.GetNamespace(), []meta.DependencyReference{ref}, rules)
	if err != nil {
		return err
	}
	return checks[0].ready(ctx, gvk, self, dep, rules)
}

// check is a reference made ready for use.
type check struct {
	key        types.NamespacedName
	expression *health.Expression // nil when there is none
}

// compile looks at all expressions before anything is read: a bad one is bad whether or not the other dependencies are ready.
func compile(namespace string, refs []meta.DependencyReference, rules Rules) ([]check, error) {
	checks := make([]check, 0, len(refs))
	for _, ref := range refs {
		c := check{key: types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}}
		if c.key.Namespace == "" {
			c.key.Namespace = namespace
		}
		if ref.ReadyExpr != "" {
			if rules.NoCrossNamespaceRefs && c.key.Namespace != namespace {
				return nil, fmt.Errorf("%w: readyExpr of dependency '%s' reads an object of another namespace, and cross-namespace references are blocked: remove the expression",
					ErrAccessDenied, c.key)
			}
			expression, err := health.ParseExpression(ref.ReadyExpr, "dep", "self")
			if err != nil {
				return nil, &ExpressionError{Dependency: ref.Name, Err: err}
			}
			c.expression = expression
		}
		checks = append(checks, c)
	}
	return checks, nil
}

func (c check) ready(ctx context.Context, gvk schema.GroupVersionKind, self client.Object, dep *unstructured.Unstructured, rules Rules) error {
	if c.expression != nil {
		if err := c.evaluate(ctx, gvk, self, dep); err != nil {
			return err
		}
		if !rules.Additive {
			return nil
		}
	}
	if !ready(dep) {
		return notReady(fmt.Sprintf("dependency '%s' is not ready", c.key))
	}
	if rules.Source != nil && sameSource(dep, rules.Source) {
		if applied, _, _ := unstructured.NestedString(dep.Object, "status", "lastAppliedRevision"); applied != rules.Source.Revision {
			return notReady(fmt.Sprintf("dependency '%s' revision is not up to date", c.key))
		}
	}
	return nil
}

func (c check) evaluate(ctx context.Context, gvk schema.GroupVersionKind, self client.Object, dep *unstructured.Unstructured) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(self)
	if err != nil {
		return fmt.Errorf("convert %s '%s/%s' for a readyExpr: %w", gvk.Kind, self.GetNamespace(), self.GetName(), err)
	}
	// Typed objects come without these.
	(&unstructured.Unstructured{Object: content}).SetGroupVersionKind(gvk)
	ok, err := c.expression.Bool(ctx, map[string]any{"self": content, "dep": dep.Object})
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return notReady(err.Error())
	case !ok:
		return notReady(fmt.Sprintf("dependency '%s' is not ready according to readyExpr eval", c.key))
	}
	return nil
}

// ready is the built-in check: the newest generation was reconciled and Ready is True. A suspended object counts by its last status
// (kustomization 19).
func ready(dep *unstructured.Unstructured) bool {
	observed, found, err := unstructured.NestedInt64(dep.Object, "status", "observedGeneration")
	if err != nil || !found || observed != dep.GetGeneration() {
		return false
	}
	conditions, _, err := unstructured.NestedSlice(dep.Object, "status", "conditions")
	if err != nil {
		return false
	}
	for _, c := range conditions {
		if condition, ok := c.(map[string]any); ok && condition["type"] == meta.ReadyCondition {
			return condition["status"] == "True"
		}
	}
	return false
}

func sameSource(dep *unstructured.Unstructured, source *Source) bool {
	ref, _, err := unstructured.NestedStringMap(dep.Object, "spec", "sourceRef")
	if err != nil {
		return false
	}
	namespace := ref["namespace"]
	if namespace == "" {
		namespace = dep.GetNamespace()
	}
	return ref["kind"] == source.Kind && namespace == source.Namespace && ref["name"] == source.Name
}
