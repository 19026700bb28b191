package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/preview"
	"github.com/seed-79636ae9/flux/toolkit/kube"
)

// diffKustomizationOptions are the flags of `flux diff kustomization`.
type diffKustomizationOptions struct {
	previewOptions
	progress, ignoreNotFound bool
}

func newDiffKustomization(f *Factory, k kind.Kind) *cobra.Command {
	o := &diffKustomizationOptions{previewOptions: previewOptions{Factory: f, skipRemote: true}}
	cmd := &cobra.Command{
		Use: k.Label() + nameArg, Aliases: k.Aliases, Short: "Diff " + k.Kind,
		Long: `The diff command builds local files as the controller would build them, asks the API server what applying them would
change, and prints that. It writes nothing. Values of Secrets are masked.

It exits with 0 if nothing would change, with 1 if something would, and with 2 after an error.`,
		Example: `  # Preview local changes as they were applied on the cluster
  flux diff kustomization my-app --path ./path/to/local/manifests

  # Preview using a local Flux Kustomization file
  flux diff kustomization my-app --path ./path/to/local/manifests --kustomization-file ./path/to/local/my-app.yaml

  # Preview a Kustomization that is not in the cluster yet
  flux diff kustomization my-app --path ./path/to/local/manifests --kustomization-file ./path/to/local/my-app.yaml --ignore-not-found

  # Preview the Kustomizations among the objects too
  flux diff kustomization my-app --path ./path/to/local/manifests --recursive \
    --local-sources GitRepository/flux-system/my-repo=./path/to/local/git`,
		Args:              exactly(k.Label() + " name"),
		ValidArgsFunction: f.completeNames(k),
		Annotations:       map[string]string{exitOnError: "2"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, args[0]) })
		},
	}
	o.bind(cmd.Flags())
	cmd.Flags().BoolVar(&o.progress, "progress-bar", true, "show what is being compared, on a terminal")
	cmd.Flags().BoolVar(&o.ignoreNotFound, "ignore-not-found", false, "take a Kustomization that is not in the cluster for one that has applied nothing; requires --kustomization-file")
	return cmd
}

// errChanges says that something would change (cli 2).
var errChanges = errors.New("identified at least one change, exiting with non-zero exit code")

// run prints what would change (cli 43, 44).
func (o *diffKustomizationOptions) run(ctx context.Context, k kind.Kind, name string) error {
	if o.ignoreNotFound && o.file == "" {
		return &usageError{errors.New("--ignore-not-found needs --kustomization-file: without it there is nothing to build")}
	}
	obj, err := o.subject(ctx, k, name, o.ignoreNotFound)
	if err != nil {
		return err
	}
	if obj.Spec.KubeConfig != nil {
		o.Warnf("%s/%s/%s applies to another cluster (spec.kubeConfig): it is compared with the one of the current context", k.Kind, obj.Namespace, obj.Name)
	}
	reader, err := o.reader()
	if err != nil {
		return err
	}
	config, err := o.RESTConfig()
	if err != nil {
		return err
	}
	clients, err := kube.NewClients(kube.ClientsOptions{Config: config, Clock: o.Clock})
	if err != nil {
		return &connectError{err}
	}
	line := o.live()
	defer line.clear()
	telling := func(doing string) func(string) {
		return func(what string) {
			if o.progress {
				line.text(doing + " " + what)
			}
		}
	}
	built, err := o.build(ctx, obj, reader, telling("building"))
	if err != nil {
		return err
	}
	changes, err := built.Diff(ctx, preview.Cluster{Client: clients.Own(), Status: o.status(k), Progress: telling("comparing")})
	if err != nil {
		return err
	}
	line.clear()
	changed, err := preview.WriteChanges(o.Streams.Out, changes)
	switch {
	case err != nil:
		return fmt.Errorf("print the changes: %w", err)
	case changed:
		return errChanges
	}
	return nil
}
