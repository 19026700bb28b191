// Package image keeps images in Git up to date: ImageRepository knows the tags of an image, ImagePolicy picks one of them, and
// ImageUpdateAutomation commits it.
package image

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/seed-79636ae9/flux/internal/kind"
)

func gvk(name string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "image.toolkit.fluxcd.io", Version: "v1", Kind: name}
}

// RepositoryKind describes ImageRepository to the generic verbs.
func RepositoryKind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: gvk("ImageRepository"), Resource: "imagerepositories", Short: []string{"imgrepo", "imagerepo"},
		Words: []string{"image", "repository"}, ListWords: []string{"images", "repository"},
		Verbs: kind.AllVerbs,
		Columns: []kind.Column{
			kind.FieldColumn("LAST SCAN", "status", "lastScanResult", "scanTime"), kind.SuspendedColumn(), kind.WideField("IMAGE", "spec", "image"),
		},
		Secrets: kind.SecretRefs("secretRef", "certSecretRef", "proxySecretRef"),
		Done: func(o kind.Object) string {
			return "scan fetched " + o.Field("status", "lastScanResult", "tagCount") + " tags"
		},
	}
}

// PolicyKind describes ImagePolicy to the generic verbs.
func PolicyKind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: gvk("ImagePolicy"), Resource: "imagepolicies", Short: []string{"imgpol", "imagepol"},
		Words: []string{"image", "policy"}, ListWords: []string{"images", "policy"},
		Verbs: kind.AllVerbs,
		Columns: []kind.Column{
			kind.FieldColumn("IMAGE", "status", "latestRef", "name"), kind.FieldColumn("TAG", "status", "latestRef", "tag"),
		},
		Done: func(o kind.Object) string {
			return "selected ref " + o.Field("status", "latestRef", "name") + ":" + o.Field("status", "latestRef", "tag")
		},
		Related: func(o kind.Object) []kind.Ref {
			name, ns := o.Field("spec", "imageRepositoryRef", "name"), o.Field("spec", "imageRepositoryRef", "namespace")
			if ns == "" {
				ns = o.GetNamespace()
			}
			if name == "" {
				return nil
			}
			return []kind.Ref{{Kind: "ImageRepository", Namespace: ns, Name: name}}
		},
	}
}

// UpdateKind describes ImageUpdateAutomation to the generic verbs, which call it image update.
func UpdateKind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: gvk("ImageUpdateAutomation"), Resource: "imageupdateautomations", Short: []string{"iua", "imgupd", "imgauto"},
		Words: []string{"image", "update"}, ListWords: []string{"images", "update"},
		Verbs:   kind.AllVerbs,
		Columns: []kind.Column{kind.FieldColumn("LAST RUN", "status", "lastAutomationRunTime"), kind.SuspendedColumn()},
		Source:  func(o kind.Object) *kind.Ref { return o.SourceRef("spec", "sourceRef") },
		Done: func(o kind.Object) string {
			ready, _ := o.Condition("Ready")
			return ready.Message
		},
	}
}
