package ops

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// Export reduces an object to what a human would commit: spec, name, namespace, labels and annotations (cli 30).
func Export(o kind.Object) *unstructured.Unstructured {
	out := &unstructured.Unstructured{Object: map[string]any{}}
	out.SetAPIVersion(o.GetAPIVersion())
	out.SetKind(o.GetKind())
	out.SetName(o.GetName())
	out.SetNamespace(o.GetNamespace())
	out.SetLabels(o.GetLabels())
	out.SetAnnotations(o.GetAnnotations())
	if spec, found := o.Object["spec"]; found {
		out.Object["spec"] = spec
	}
	return out
}

// ExportSecret reduces a Secret likewise.
func ExportSecret(s *unstructured.Unstructured) *unstructured.Unstructured {
	out := Export(kind.Object{Unstructured: s})
	for _, field := range []string{"type", "data", "immutable"} {
		if v, found := s.Object[field]; found {
			out.Object[field] = v
		}
	}
	return out
}
