package image

import (
	imagev1 "github.com/seed-79636ae9/flux/api/image/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
)

// RepositoryKind describes ImageRepository to the generic verbs.
func RepositoryKind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: imagev1.GroupVersion.WithKind(imagev1.ImageRepositoryKind), Resource: "imagerepositories",
		Short: []string{"imgrepo", "imagerepo"},
		Words: []string{"image", "repository"}, ListWords: []string{"images", "repository"},
		Verbs: kind.AllVerbs,
		Columns: []kind.Column{
			kind.FieldColumn("LAST SCAN", "status", "lastScanResult", "scanTime"), kind.SuspendedColumn(), kind.WideField("IMAGE", "spec", "image"),
		},
		Secrets: kind.SecretRefs("secretRef", "certSecretRef", "proxySecretRef"),
		Done: func(o kind.Object) string {
			return "scan fetched " + o.Field("status", "lastScanResult", "tagCount") + " tags"
		},
		Create: &kind.Create{
			Short: "Create or update an ImageRepository resource",
			Long:  "The create image repository command generates an ImageRepository resource: an image whose tags are listed at every interval.",
			Example: `  # Look for new tags of a public image every ten minutes
  flux create image repository webapp \
    --image=registry.example.com/org/webapp \
    --interval=10m

  # Look for those of a private image, with credentials from a Secret
  flux create secret oci registry-auth \
    --url=registry.example.com \
    --username=username \
    --password=password
  flux create image repository webapp \
    --image=registry.example.com/org/webapp \
    --secret-ref=registry-auth`,
			Bind: bindRepository,
			Done: func(kind.Object) string { return "ImageRepository reconciliation completed" },
		},
	}
}

// PolicyKind describes ImagePolicy to the generic verbs.
func PolicyKind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: imagev1.GroupVersion.WithKind(imagev1.ImagePolicyKind), Resource: "imagepolicies", Short: []string{"imgpol", "imagepol"},
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
			return []kind.Ref{{Kind: imagev1.ImageRepositoryKind, Namespace: ns, Name: name}}
		},
		Create: &kind.Create{
			Short: "Create or update an ImagePolicy resource",
			Long:  "The create image policy command generates an ImagePolicy resource: which tag of an image is the latest.",
			Example: `  # Choose the highest version
  flux create image policy webapp \
    --image-ref=webapp \
    --select-semver=">=1.0.0"

  # Choose the newest build of the main branch, whose tags look like main-0a1b2c3d-1767323045, and fix its digest
  flux create image policy webapp \
    --image-ref=webapp \
    --filter-regex='^main-[a-f0-9]+-(?P<timestamp>[0-9]+)$' \
    --filter-extract='$timestamp' \
    --select-numeric=asc \
    --reflect-digest=IfNotPresent`,
			Bind: bindPolicy,
			Done: func(kind.Object) string { return "ImagePolicy reconciliation completed" },
		},
	}
}

// UpdateKind describes ImageUpdateAutomation to the generic verbs, which call it image update.
func UpdateKind() kind.Kind {
	return kind.Kind{
		GroupVersionKind: imagev1.GroupVersion.WithKind(imagev1.ImageUpdateAutomationKind), Resource: "imageupdateautomations",
		Short: []string{"iua", "imgupd", "imgauto"},
		Words: []string{"image", "update"}, ListWords: []string{"images", "update"},
		Verbs:   kind.AllVerbs,
		Columns: []kind.Column{kind.FieldColumn("LAST RUN", "status", "lastAutomationRunTime"), kind.SuspendedColumn()},
		Source:  func(o kind.Object) *kind.Ref { return o.SourceRef("spec", "sourceRef") },
		Done: func(o kind.Object) string {
			ready, _ := o.Condition("Ready")
			return ready.Message
		},
		Create: &kind.Create{
			Short: "Create or update an ImageUpdateAutomation resource",
			Long:  "The create image update command generates an ImageUpdateAutomation resource: where and how the tags chosen by policies are committed.",
			Example: `  # Commit to the branch that is deployed
  flux create image update webapp \
    --git-repo-ref=flux-system \
    --git-repo-path="./clusters/production" \
    --checkout-branch=main \
    --author-name=flux \
    --author-email=flux@example.com \
    --commit-template="{{range .Changed.Changes}}{{print .OldValue}} -> {{println .NewValue}}{{end}}"

  # Commit to a branch of its own, which people review and merge
  flux create image update webapp \
    --git-repo-ref=flux-system \
    --checkout-branch=main \
    --push-branch=image-updates \
    --author-email=flux@example.com \
    --signing-key-secret=signing-key`,
			Bind: bindUpdate,
			Done: func(kind.Object) string { return "ImageUpdateAutomation reconciliation completed" },
		},
	}
}
