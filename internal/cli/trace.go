package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// traceOptions are the flags of `flux trace`.
type traceOptions struct {
	*Factory
	kind, apiVersion string
}

func newTrace(f *Factory) *cobra.Command {
	o := &traceOptions{Factory: f}
	cmd := &cobra.Command{
		Use:   "trace <resource> <name> [<name> ...]",
		Short: "Trace in-cluster objects throughout the GitOps delivery pipeline",
		Long: `The trace command shows how objects are managed by Flux:
which Kustomization or HelmRelease applies them, from which source, at which revision.`,
		Example: `  # Trace a Kubernetes Deployment
  flux trace -n apps deployment my-app

  # Trace several objects
  flux trace -n apps deployment/my-app service/my-app

  # Trace a Kubernetes custom resource
  flux trace helmrelease.helm.toolkit.fluxcd.io redis -n redis

  # Trace by kind and API version
  flux trace redis --kind=helmrelease --api-version=helm.toolkit.fluxcd.io/v2 -n redis`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, args) })
		},
	}
	cmd.Flags().StringVar(&o.kind, "kind", "", "the Kubernetes object kind, e.g. Deployment'")
	cmd.Flags().StringVar(&o.apiVersion, "api-version", "", "the Kubernetes object API version, e.g. 'apps/v1'")
	return cmd
}

// target is an object to trace: a kind in the user's words, and a name.
type target struct{ resource, name string }

func (o *traceOptions) targets(args []string) ([]target, error) {
	var out []target
	if o.kind != "" {
		for _, name := range args {
			out = append(out, target{o.kind, name})
		}
	} else if len(args) > 0 && strings.Contains(args[0], "/") {
		for _, a := range args {
			resource, name, ok := strings.Cut(a, "/")
			if !ok || resource == "" || name == "" {
				return nil, fmt.Errorf("'%s' is not of the form kind/name", a)
			}
			out = append(out, target{resource, name})
		}
	} else if len(args) > 1 {
		for _, name := range args[1:] {
			out = append(out, target{args[0], name})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("name the object to trace: <kind> <name> or <kind>/<name>")
	}
	if o.apiVersion != "" && o.kind == "" {
		return nil, errors.New("--api-version needs --kind")
	}
	return out, nil
}

// run traces the objects one after the other (cli 64).
func (o *traceOptions) run(ctx context.Context, args []string) error {
	targets, err := o.targets(args)
	if err != nil {
		return &usageError{err}
	}
	client, err := o.Ops()
	if err != nil {
		return err
	}
	for i, t := range targets {
		if i > 0 {
			fmt.Fprintln(o.Streams.Out)
		}
		obj, err := o.find(ctx, client, t)
		if err != nil {
			return err
		}
		blocks, err := client.Trace(ctx, o.Kinds, o.Mapper, obj)
		if err != nil {
			return err
		}
		printBlocks(o.Streams.Out, blocks)
	}
	return nil
}

// find reads the object. Toolkit kinds need no discovery.
func (o *traceOptions) find(ctx context.Context, client *ops.Client, t target) (kind.Object, error) {
	if k, known := o.Kinds.Named(t.resource); known && o.apiVersion == "" {
		return client.Get(ctx, k, o.Namespace(), t.name)
	}
	mapper, err := o.Mapper()
	if err != nil {
		return kind.Object{}, err
	}
	gvk, err := o.resolveKind(mapper, t.resource)
	if err != nil {
		return kind.Object{}, hinted(err, "kubectl api-resources")
	}
	return client.GetMapped(ctx, mapper, gvk, o.Namespace(), t.name)
}

func (o *traceOptions) resolveKind(mapper meta.RESTMapper, resource string) (schema.GroupVersionKind, error) {
	word, group, _ := strings.Cut(resource, ".")
	partial := schema.GroupVersionResource{Group: group, Resource: strings.ToLower(word)}
	if o.apiVersion != "" {
		gv, err := schema.ParseGroupVersion(o.apiVersion)
		if err != nil {
			return schema.GroupVersionKind{}, fmt.Errorf("read --api-version: %w", err)
		}
		partial.Group, partial.Version = gv.Group, gv.Version
	}
	gvk, err := mapper.KindFor(partial)
	if err != nil {
		return gvk, fmt.Errorf("the cluster knows no kind '%s': %w", resource, err)
	}
	return gvk, nil
}

// printBlocks writes paragraphs of aligned "Title: value" lines, split by "---".
func printBlocks(w io.Writer, blocks []ops.Block) {
	width := 0
	for _, b := range blocks {
		for _, l := range b {
			width = max(width, len(l.Title)+1)
		}
	}
	for i, b := range blocks {
		if i > 0 {
			fmt.Fprintln(w, "---")
		}
		for _, l := range b {
			fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-*s %s", width, l.Title+":", oneLine(l.Value)), " "))
		}
	}
}
