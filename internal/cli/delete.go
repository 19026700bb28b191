package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/kind"
)

func newDelete(f *Factory) *cobra.Command {
	cmd := group("delete", nil, "Delete sources and resources")
	cmd.Long = "The delete sub-commands delete sources and resources."
	silent := cmd.PersistentFlags().BoolP("silent", "s", false, "delete resource without asking for confirmation")
	cross(cmd, with(f.Kinds, kind.Delete), single, groupShort("Delete"), func(k kind.Kind, cmd *cobra.Command) {
		cmd.Use += nameArg
		cmd.Short = "Delete a " + k.Kind
		cmd.Example = fmt.Sprintf("  # Delete an object\n  flux delete %s podinfo", k.Label())
		cmd.Args = exactly(k.Label() + " name")
		cmd.ValidArgsFunction = f.completeNames(k)
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return f.delete(ctx, k, args[0], *silent) })
		}
	})
	return cmd
}

// delete removes one object after confirmation, without waiting for its finalizers (cli 20).
func (f *Factory) delete(ctx context.Context, k kind.Kind, name string, silent bool) error {
	client, err := f.Ops()
	if err != nil {
		return err
	}
	if _, err := client.Get(ctx, k, f.Namespace(), name); err != nil {
		return err
	}
	if !silent {
		question := fmt.Sprintf("Are you sure you want to delete the %s %s in %s namespace?", k.Label(), name, f.Namespace())
		if err := f.confirm(question); err != nil {
			return fmt.Errorf("%s/%s/%s was not deleted: %w", k.Kind, f.Namespace(), name, err)
		}
	}
	f.Actionf("deleting %s %s in %s namespace", k.Label(), name, f.Namespace())
	if err := client.Delete(ctx, k, f.Namespace(), name); err != nil {
		return err
	}
	f.Successf("%s deleted", k.Label())
	return nil
}
