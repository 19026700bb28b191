package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/internal/kind"
)

// buildKustomizationOptions are the flags of `flux build kustomization`.
type buildKustomizationOptions struct {
	previewOptions
	dryRun bool
}

func newBuildKustomization(f *Factory, k kind.Kind) *cobra.Command {
	o := &buildKustomizationOptions{previewOptions: previewOptions{Factory: f}}
	cmd := &cobra.Command{
		Use: k.Label() + nameArg, Aliases: k.Aliases, Short: "Build " + k.Kind,
		Long: `The build command builds local files as the controller would build them from their source, and prints the objects.
The spec is that of the object in the cluster, or in a file. Values that SOPS has encrypted are masked.`,
		Example: `  # Build the local manifests as they were built on the cluster
  flux build kustomization my-app --path ./path/to/local/manifests

  # Build with a local Flux Kustomization file
  flux build kustomization my-app --path ./path/to/local/manifests --kustomization-file ./path/to/local/my-app.yaml

  # Build without a cluster; variables from ConfigMaps and Secrets are left out
  flux build kustomization my-app --path ./path/to/local/manifests --kustomization-file ./path/to/local/my-app.yaml --dry-run

  # Leave files out of a directory without a kustomization.yaml
  flux build kustomization my-app --path ./path/to/local/manifests --ignore-paths "/to_ignore/**/*.yaml,ignore.yaml"

  # Build the Kustomizations among the objects too
  flux build kustomization my-app --path ./path/to/local/manifests --recursive \
    --local-sources GitRepository/flux-system/my-repo=./path/to/local/git`,
		Args:              exactly(k.Label() + " name"),
		ValidArgsFunction: f.completeNames(k),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, args[0]) })
		},
	}
	o.bind(cmd.Flags())
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "do not read from the cluster; requires --kustomization-file")
	return cmd
}

// run prints the objects (cli 39-42).
func (o *buildKustomizationOptions) run(ctx context.Context, k kind.Kind, name string) error {
	if o.dryRun && o.file == "" {
		return &usageError{errors.New("--dry-run needs --kustomization-file: there is no cluster to read the spec from")}
	}
	var reader client.Reader
	if !o.dryRun {
		var err error
		if reader, err = o.reader(); err != nil {
			return err
		}
	}
	obj, err := o.spec(ctx, k, name)
	if err != nil {
		return err
	}
	built, err := o.build(ctx, obj, reader, nil)
	if err != nil {
		return err
	}
	return built.WriteYAML(o.Streams.Out)
}

// spec is that of the file, or of the cluster without one. The status has no part in a build.
func (o *buildKustomizationOptions) spec(ctx context.Context, k kind.Kind, name string) (*kustomizev1.Kustomization, error) {
	if o.file != "" {
		return o.described(name)
	}
	return o.kustomization(ctx, k, o.Namespace(), name)
}
