package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// reconcileOptions are the flags of one `flux reconcile` command.
type reconcileOptions struct {
	*Factory
	withSource bool
	// requests holds, per request of the kind, whether its flag was given.
	requests []*bool
}

func newReconcile(f *Factory) *cobra.Command {
	cmd := group("reconcile", nil, "Reconcile sources and resources")
	cmd.Long = "The reconcile sub-commands trigger a reconciliation of sources and resources."
	cross(cmd, with(f.Kinds, kind.Reconcile), single, groupShort("Reconcile"), func(k kind.Kind, cmd *cobra.Command) {
		o := &reconcileOptions{Factory: f}
		cmd.Use += nameArg
		cmd.Short = "Reconcile a " + k.Kind
		cmd.Long = fmt.Sprintf("The reconcile %s command asks for a reconciliation of a %s and waits for it to finish.", k.Label(), k.Kind)
		cmd.Example = fmt.Sprintf("  # Reconcile an object now\n  flux reconcile %s podinfo", k.Label())
		cmd.Args = exactly(k.Kind + " name")
		cmd.ValidArgsFunction = f.completeNames(k)
		if k.WithSource {
			cmd.Flags().BoolVar(&o.withSource, "with-source", false, "reconcile "+k.Kind+" source")
			cmd.Example += fmt.Sprintf("\n\n  # Fetch its source first\n  flux reconcile %s podinfo --with-source", k.Label())
		}
		for _, r := range k.Requests {
			o.requests = append(o.requests, cmd.Flags().Bool(r.Flag, false, r.Usage))
		}
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, args[0]) })
		}
	})
	return cmd
}

// run asks for a reconciliation and waits for it (cli 13-17).
func (o *reconcileOptions) run(ctx context.Context, k kind.Kind, name string) error {
	client, err := o.Ops()
	if err != nil {
		return err
	}
	obj, err := client.Get(ctx, k, o.Namespace(), name)
	if err != nil {
		return err
	}
	if err := suspended(k, obj); err != nil {
		return err
	}
	if o.withSource {
		if err := o.source(ctx, client, k, obj, nil); err != nil {
			return err
		}
		// The controller may have taken a new revision meanwhile; a stale token would be taken for the answer.
		if obj, err = client.Get(ctx, k, o.Namespace(), name); err != nil {
			return err
		}
	}
	var further []string
	for i, set := range o.requests {
		if *set {
			further = append(further, k.Requests[i].Annotation)
		}
	}
	return o.request(ctx, client, k, obj, further)
}

func suspended(k kind.Kind, obj kind.Object) error {
	if !obj.Suspended() {
		return nil
	}
	return hinted(fmt.Errorf("resource is suspended: %s", obj.Ref()),
		"flux resume %s %s -n %s", k.Label(), obj.GetName(), obj.GetNamespace())
}

// source reconciles what the object takes its content from, and before that the source of the source (cli 15).
func (o *reconcileOptions) source(ctx context.Context, client *ops.Client, k kind.Kind, obj kind.Object, seen []string) error {
	ref := k.Source(obj)
	if ref == nil {
		return fmt.Errorf("%s has no source to reconcile", obj.Ref())
	}
	if slices.Contains(seen, ref.String()) {
		return fmt.Errorf("%s is a source of itself", ref)
	}
	sk, known := o.Kinds.Named(ref.Kind)
	if !known || !sk.Has(kind.Reconcile) {
		o.Warnf("%s cannot be asked to reconcile, going on without", ref)
		return nil
	}
	src, err := client.Get(ctx, sk, ref.Namespace, ref.Name)
	if err != nil {
		return err
	}
	if err := suspended(sk, src); err != nil {
		return err
	}
	if sk.Source != nil {
		if err := o.source(ctx, client, sk, src, append(seen, ref.String())); err != nil {
			return err
		}
	}
	return o.request(ctx, client, sk, src, nil)
}

// request annotates one object and waits for the answer.
func (o *reconcileOptions) request(ctx context.Context, client *ops.Client, k kind.Kind, obj kind.Object, further []string) error {
	if k.IsStatic(obj) {
		o.Successf("%s %s is static: there is nothing to reconcile", k.Kind, obj.GetName())
		return nil
	}
	namespace, name := obj.GetNamespace(), obj.GetName()
	o.Actionf("annotating %s %s in %s namespace", k.Kind, name, namespace)
	token := client.Token()
	if _, err := client.Request(ctx, k, namespace, name, token, further...); err != nil {
		return err
	}
	o.Successf("%s annotated", k.Kind)
	o.Waitf("waiting for %s reconciliation", k.Kind)
	live := o.live()
	done, err := client.AwaitRequest(ctx, k, namespace, name, obj.HandledRequest(), token, live.show)
	live.clear()
	if err != nil {
		return fmt.Errorf("%s reconciliation failed: %w", k.Kind, err)
	}
	if k.Done != nil {
		o.Successf("%s", k.Done(done))
	}
	return nil
}
