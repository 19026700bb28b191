package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/kind"
)

func newApprove(f *Factory) *cobra.Command {
	cmd := group("approve", nil, "Approve what a resource is held for")
	cmd.Long = "The approve sub-commands let a resource go on that waits for approval, for example of its deletions."
	silent := cmd.PersistentFlags().BoolP("silent", "s", false, "approve without asking for confirmation")
	cross(cmd, with(f.Kinds, kind.Approve), single, groupShort("Approve"), func(k kind.Kind, cmd *cobra.Command) {
		cmd.Use += nameArg
		cmd.Short = "Approve what a " + k.Kind + " is held for"
		cmd.Long = fmt.Sprintf("The approve %s command shows what a %s is held for, asks, and lets it go on. The approval is for what is shown: it does not cover another revision.", k.Label(), k.Kind)
		cmd.Example = fmt.Sprintf("  # Show what would be deleted, and approve it\n  flux approve %s podinfo", k.Label())
		cmd.Args = exactly(k.Label() + " name")
		cmd.ValidArgsFunction = f.completeNames(k)
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return f.approve(ctx, k, args[0], *silent) })
		}
	})
	return cmd
}

// approve lets one held object go on and waits for what becomes of it.
func (f *Factory) approve(ctx context.Context, k kind.Kind, name string, silent bool) error {
	client, err := f.Ops()
	if err != nil {
		return err
	}
	obj, err := client.Get(ctx, k, f.Namespace(), name)
	if err != nil {
		return err
	}
	if err := suspended(k, obj); err != nil {
		return err
	}
	approval, held := k.Approval(obj)
	if !held {
		return hinted(fmt.Errorf("%s is not held: there is nothing to approve", obj.Ref()), "flux get %s %s -n %s", k.Label(), name, f.Namespace())
	}
	_, message := obj.State()
	f.Warnf("%s", message)
	if !silent {
		if err := f.confirm(fmt.Sprintf("Approve this for the %s %s in %s namespace?", k.Label(), name, f.Namespace())); err != nil {
			return fmt.Errorf("%s was not approved: %w", obj.Ref(), err)
		}
	}
	f.Actionf("approving %s %s in %s namespace", k.Label(), name, f.Namespace())
	token := client.Token()
	if _, err := client.Approve(ctx, k, f.Namespace(), name, token, approval); err != nil {
		return err
	}
	f.Successf("%s approved", k.Label())
	f.Waitf("waiting for %s reconciliation", k.Kind)
	live := f.live()
	done, err := client.AwaitRequest(ctx, k, f.Namespace(), name, obj.HandledRequest(), token, live.show)
	live.clear()
	if err != nil {
		return fmt.Errorf("%s reconciliation failed: %w", k.Kind, err)
	}
	f.Successf("%s", k.Done(done))
	return nil
}
