package cli

import (
	"github.com/seed-79636ae9/flux/internal/app"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/kustomize"
	"github.com/seed-79636ae9/flux/internal/manifests"
	"github.com/seed-79636ae9/flux/internal/source/git"
)

// Kinds are all kinds of the contract, in the order `flux get all` prints them.
func Kinds() kind.Set {
	return kind.Set{
		kind.OCIRepository(), kind.Bucket(), git.Kind(), kind.HelmRepository(), kind.HelmChart(), kind.ExternalArtifact(),
		kind.ArtifactGenerator(),
		kind.HelmRelease(), kustomize.Kind(),
		kind.Receiver(), kind.AlertProvider(), kind.Alert(),
		kind.ImageRepository(), kind.ImagePolicy(), kind.ImageUpdateAutomation(),
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
