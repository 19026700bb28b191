package cli

import (
	"github.com/seed-79636ae9/flux/internal/app"
	"github.com/seed-79636ae9/flux/internal/generate"
	"github.com/seed-79636ae9/flux/internal/helm"
	"github.com/seed-79636ae9/flux/internal/image"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/kustomize"
	"github.com/seed-79636ae9/flux/internal/manifests"
	"github.com/seed-79636ae9/flux/internal/notify"
	"github.com/seed-79636ae9/flux/internal/source/bucket"
	"github.com/seed-79636ae9/flux/internal/source/git"
	"github.com/seed-79636ae9/flux/internal/source/helmchart"
	"github.com/seed-79636ae9/flux/internal/source/helmrepo"
	"github.com/seed-79636ae9/flux/internal/source/oci"
)

// Kinds are all kinds of the contract, in the order `flux get all` prints them.
func Kinds() kind.Set {
	return kind.Set{
		oci.Kind(), bucket.Kind(), git.Kind(), helmrepo.Kind(), helmchart.Kind(), generate.ExternalArtifact(),
		generate.Kind(),
		helm.Kind(), kustomize.Kind(),
		notify.ReceiverKind(), notify.ProviderKind(), notify.AlertKind(),
		image.RepositoryKind(), image.PolicyKind(), image.UpdateKind(),
	}
}

// Components are what `flux install` can install.
func Components() []manifests.Component {
	var out []manifests.Component
	for _, c := range app.Components() {
		out = append(out, c.Manifest)
	}
	return out
}
