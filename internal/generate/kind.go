package generate

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	v1beta1 "github.com/seed-79636ae9/flux/api/extensions/v1beta1"
	sourcev1 "github.com/seed-79636ae9/flux/api/source/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
)

// ExternalArtifact describes the kind to the generic verbs. No controller reconciles it: whoever makes artifacts writes it
// (externalartifact 1, 7).
func ExternalArtifact() kind.Kind {
	return kind.Kind{
		GroupVersionKind: sourcev1.GroupVersion.WithKind(sourcev1.ExternalArtifactKind), Resource: "externalartifacts", Short: []string{"ea"},
		Words: []string{"source", "external"}, ListWords: []string{"sources", "external"},
		Verbs: kind.Export, ShortenHashes: true, Artifact: true,
		Columns: []kind.Column{kind.RevisionColumn(kind.Object.Revision), {Header: "SOURCE", Value: func(o kind.Object) string {
			if r := o.SourceRef("spec", "sourceRef"); r != nil {
				return r.String()
			}
			return ""
		}}},
		Source:   func(o kind.Object) *kind.Ref { return o.SourceRef("spec", "sourceRef") },
		Describe: kind.DescribeArtifact,
	}
}

// Kind describes ArtifactGenerator to the generic verbs.
func Kind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: v1beta1.GroupVersion.WithKind(v1beta1.ArtifactGeneratorKind), Resource: "artifactgenerators", Short: []string{"ag"},
		Words: []string{"artifact", "generator"}, ListWords: []string{"artifacts", "generators"}, ListAliases: []string{"generator"},
		Verbs:   kind.Export | kind.Tree,
		Columns: []kind.Column{kind.SuspendedColumn()},
		Related: func(o kind.Object) []kind.Ref {
			var refs []kind.Ref
			list, _, _ := unstructured.NestedSlice(o.Object, "spec", "sources")
			for i := range list {
				m, _ := list[i].(map[string]any)
				r := (kind.Object{Unstructured: &unstructured.Unstructured{Object: m}}).SourceRef()
				if r == nil {
					continue
				}
				if r.Namespace == "" {
					r.Namespace = o.GetNamespace()
				}
				refs = append(refs, *r)
			}
			return refs
		},
		Children: func(o kind.Object) []kind.Entry {
			list, _, _ := unstructured.NestedSlice(o.Object, "status", "inventory")
			var out []kind.Entry
			for _, item := range list {
				m, _ := item.(map[string]any)
				e := kind.Entry{Version: sourcev1.GroupVersion.Version}
				e.Group, e.Kind = sourcev1.GroupVersion.Group, sourcev1.ExternalArtifactKind
				e.Namespace, _ = m["namespace"].(string)
				e.Name, _ = m["name"].(string)
				out = append(out, e)
			}
			return out
		},
	}
}
