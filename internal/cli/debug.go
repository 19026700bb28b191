package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	kustomizev1 "github.com/seed-79636ae9/flux/api/kustomize/v1"
	"github.com/seed-79636ae9/flux/internal/helm"
	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/kustomize"
)

func newDebug(f *Factory) *cobra.Command {
	cmd := group("debug", nil, "Debug a flux resource")
	cmd.Long = "The debug command can be used to troubleshoot failing resource reconciliations."
	cmd.AddCommand(newDebugKustomization(f, kustomize.Kind()), newDebugHelmRelease(f, helm.Kind()))
	return cmd
}

// debugKustomizationOptions are the flags of `flux debug kustomization`.
type debugKustomizationOptions struct {
	*Factory
	status, vars, history bool
}

func newDebugKustomization(f *Factory, k kind.Kind) *cobra.Command {
	o := &debugKustomizationOptions{Factory: f}
	cmd := &cobra.Command{
		Use: k.Label() + nameArg, Aliases: k.Aliases, Short: "Debug a " + k.Kind,
		Long: `The debug command prints what helps to understand why a Kustomization does what it does.
WARNING: with --show-vars the values of Secrets are printed in plain text.`,
		Example: `  # Print the status of a Kustomization
  flux debug kustomization podinfo --show-status

  # Print the variables of its build, from spec.postBuild and what it refers to
  flux debug kustomization podinfo --show-vars

  # Print the history of its runs
  flux debug kustomization podinfo --show-history`,
		Args:              exactly(k.Label() + " name"),
		ValidArgsFunction: f.completeNames(k),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, args[0]) })
		},
	}
	cmd.Flags().BoolVar(&o.status, "show-status", false, "print the status of the Kustomization")
	cmd.Flags().BoolVar(&o.vars, "show-vars", false, "print the final variables in dotenv format, those from Secrets too")
	cmd.Flags().BoolVar(&o.history, "show-history", false, "print the history of the Kustomization in YAML format")
	return cmd
}

// run prints one of the three (cli 67).
func (o *debugKustomizationOptions) run(ctx context.Context, k kind.Kind, name string) error {
	asked := 0
	for _, flag := range []bool{o.status, o.vars, o.history} {
		if flag {
			asked++
		}
	}
	if asked != 1 {
		return &usageError{errors.New("exactly one of --show-status, --show-vars and --show-history is required")}
	}
	obj, err := o.kustomization(ctx, k, o.Namespace(), name)
	switch {
	case err != nil:
		return err
	case o.vars:
		return o.variables(ctx, obj)
	case o.history:
		return printAs(o.Streams.Out, "yaml", map[string]any{"history": obj.Status.History})
	}
	return printAs(o.Streams.Out, "yaml", map[string]any{"status": obj.Status})
}

func (o *debugKustomizationOptions) variables(ctx context.Context, obj *kustomizev1.Kustomization) error {
	reader, err := o.reader()
	if err != nil {
		return err
	}
	vars, err := kustomize.Variables(ctx, obj, reader)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		if _, err := fmt.Fprintf(o.Streams.Out, "%s=%s\n", name, vars[name]); err != nil {
			return err
		}
	}
	return nil
}
