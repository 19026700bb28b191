package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

func newSuspend(f *Factory) *cobra.Command {
	cmd := group("suspend", nil, "Suspend a resource or resources")
	cmd.Long = "The suspend sub-commands suspend the reconciliation of a resource."
	all := cmd.PersistentFlags().Bool("all", false, "suspend all resources in that namespace")
	cross(cmd, with(f.Kinds, kind.Suspend), single, groupShort("Suspend"), func(k kind.Kind, cmd *cobra.Command) {
		cmd.Use += nameArg
		cmd.Short = "Suspend reconciliation of " + k.Kind
		cmd.Example = fmt.Sprintf("  # Suspend one object\n  flux suspend %s podinfo", k.Label())
		cmd.ValidArgsFunction = f.completeNames(k)
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return f.suspend(ctx, k, args, *all) })
		}
	})
	return cmd
}

// suspend stops the named objects. What is missing is told, but is not an error (cli 18).
func (f *Factory) suspend(ctx context.Context, k kind.Kind, names []string, all bool) error {
	client, err := f.Ops()
	if err != nil {
		return err
	}
	names, err = f.chosen(ctx, client, k, names, all)
	if err != nil {
		return err
	}
	for _, name := range names {
		f.Actionf("suspending %s %s in %s namespace", k.Label(), name, f.Namespace())
		err := client.Suspend(ctx, k, f.Namespace(), name)
		var absent *ops.NotFoundError
		switch {
		case errors.As(err, &absent):
			f.Failf("%s", f.describe(err, ""))
		case err != nil:
			return err
		default:
			f.Successf("%s suspended", k.Label())
		}
	}
	return nil
}

// chosen are the names given, once each, or all there are.
func (f *Factory) chosen(ctx context.Context, client *ops.Client, k kind.Kind, names []string, all bool) ([]string, error) {
	if len(names) == 0 && !all {
		return nil, &usageError{fmt.Errorf("%s name is required, or --all", k.Label())}
	}
	if !all {
		var once []string
		for _, n := range names {
			if !slices.Contains(once, n) {
				once = append(once, n)
			}
		}
		return once, nil
	}
	objects, _, err := client.List(ctx, k, f.Namespace(), ops.ListOptions{})
	if err != nil {
		return nil, err
	}
	if len(objects) == 0 {
		return nil, hinted(fmt.Errorf("no %s objects found in %q namespace", k.Kind, f.Namespace()), "%s -A", k.ListCommand())
	}
	out := make([]string, len(objects))
	for i := range objects {
		out[i] = objects[i].GetName()
	}
	return out, nil
}

func newResume(f *Factory) *cobra.Command {
	cmd := group("resume", nil, "Resume a suspended resource or resources")
	cmd.Long = "The resume sub-commands resume a suspended resource."
	all := cmd.PersistentFlags().Bool("all", false, "resume all resources in that namespace")
	wait := cmd.PersistentFlags().Bool("wait", false, "waits for one resource to reconcile before moving to the next one")
	cross(cmd, with(f.Kinds, kind.Suspend), single, groupShort("Resume"), func(k kind.Kind, cmd *cobra.Command) {
		cmd.Use += nameArg
		cmd.Short = "Resume a suspended " + k.Kind
		cmd.Example = fmt.Sprintf("  # Resume one object and wait until it is ready\n  flux resume %s podinfo", k.Label())
		cmd.ValidArgsFunction = f.completeNames(k)
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return f.resume(ctx, k, args, *all, *wait) })
		}
	})
	return cmd
}

// resume lets the named objects go on. With one name, or --wait, it waits until they are ready, all at once
// (cli 18).
func (f *Factory) resume(ctx context.Context, k kind.Kind, names []string, all, wait bool) error {
	client, err := f.Ops()
	if err != nil {
		return err
	}
	wait = wait || len(names) == 1 && !all
	names, err = f.chosen(ctx, client, k, names, all)
	if err != nil {
		return err
	}
	failed := 0
	var resumed []string
	for _, name := range names {
		f.Actionf("resuming %s %s in %s namespace", k.Label(), name, f.Namespace())
		if _, err := client.Resume(ctx, k, f.Namespace(), name); err != nil {
			if len(names) == 1 {
				return err
			}
			f.Failf("%s", f.describe(err, ""))
			failed++
			continue
		}
		f.Successf("%s resumed", k.Label())
		resumed = append(resumed, name)
	}
	if wait {
		n, err := f.awaitAll(ctx, client, k, resumed)
		if len(names) == 1 && err != nil {
			return err
		}
		failed += n
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d %s objects failed to resume", failed, len(names), k.Kind)
	}
	return nil
}

// awaitAll waits for all named objects at once. It returns how many failed, and the error of the first.
func (f *Factory) awaitAll(ctx context.Context, client *ops.Client, k kind.Kind, names []string) (failed int, first error) {
	for range names {
		f.Waitf("waiting for %s reconciliation", k.Kind)
	}
	live := f.live()
	type outcome struct {
		object kind.Object
		err    error
	}
	outcomes := make([]outcome, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			outcomes[i].object, outcomes[i].err = client.AwaitReady(ctx, k, f.Namespace(), name, live.show)
		})
	}
	wg.Wait()
	live.clear()
	for i, o := range outcomes {
		switch {
		case o.err != nil:
			if first == nil {
				first = fmt.Errorf("%s %s reconciliation failed: %w", k.Kind, names[i], o.err)
			}
			failed++
			if len(names) > 1 {
				f.Failf("%s", f.describe(o.err, ""))
			}
		case k.IsStatic(o.object):
			f.Successf("%s %s needs no reconciliation", k.Kind, names[i])
		default:
			f.Successf("%s %s reconciliation completed", k.Kind, names[i])
			if k.Done != nil {
				f.Successf("%s", k.Done(o.object))
			}
		}
	}
	return failed, first
}
