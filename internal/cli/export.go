package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// exportOptions are the flags of `flux export`.
type exportOptions struct {
	*Factory
	all             bool
	withCredentials bool
}

func newExport(f *Factory) *cobra.Command {
	o := &exportOptions{Factory: f}
	cmd := group("export", nil, "Export resources in YAML format")
	cmd.Long = "The export sub-commands export resources in YAML format."
	cmd.PersistentFlags().BoolVar(&o.all, "all", false, "select all resources")
	parent := func(word string) *cobra.Command {
		g := group(word, nil, "Export "+word+" resources")
		if word == "source" {
			g.PersistentFlags().BoolVar(&o.withCredentials, "with-credentials", false, "include credential secrets")
		}
		return g
	}
	cross(cmd, with(f.Kinds, kind.Export), single, parent, func(k kind.Kind, cmd *cobra.Command) {
		cmd.Use += nameArg
		cmd.Short = "Export " + k.Kind + " resources in YAML format"
		cmd.Example = fmt.Sprintf("  # Export all of them\n  flux export %s --all > all.yaml", k.Label())
		cmd.Args = atMostName
		cmd.ValidArgsFunction = f.completeNames(k)
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, args) })
		}
	})
	return cmd
}

// run prints objects as a human would commit them (cli 22, 30).
func (o *exportOptions) run(ctx context.Context, k kind.Kind, args []string) error {
	if len(args) == 0 && !o.all {
		return &usageError{fmt.Errorf("%s name is required, or --all", k.Label())}
	}
	client, err := o.Ops()
	if err != nil {
		return err
	}
	var objects []kind.Object
	if o.all {
		if objects, _, err = client.List(ctx, k, o.Namespace(), ops.ListOptions{}); err != nil {
			return err
		}
		if len(objects) == 0 {
			return hinted(fmt.Errorf("no %s objects found in %q namespace", k.Kind, o.Namespace()), "%s -A", k.ListCommand())
		}
	} else {
		obj, err := client.Get(ctx, k, o.Namespace(), args[0])
		if err != nil {
			return err
		}
		objects = append(objects, obj)
	}
	printed := map[string]bool{}
	for _, obj := range objects {
		if err := printDocument(o.Streams.Out, ops.Export(obj).Object); err != nil {
			return err
		}
		if !o.withCredentials || k.Secrets == nil {
			continue
		}
		for _, name := range k.Secrets(obj) {
			if printed[name] {
				continue
			}
			printed[name] = true
			secret, err := client.Secret(ctx, obj.GetNamespace(), name)
			if err != nil {
				return err
			}
			if err := printDocument(o.Streams.Out, ops.ExportSecret(secret).Object); err != nil {
				return err
			}
		}
	}
	return nil
}
