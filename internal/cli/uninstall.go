package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/manifests"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// uninstallOptions are the flags of `flux uninstall`.
type uninstallOptions struct {
	*Factory
	dryRun, silent, keepNamespace bool
}

func newUninstall(f *Factory) *cobra.Command {
	o := &uninstallOptions{Factory: f}
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Uninstall Flux and its custom resource definitions",
		Long: `The uninstall command removes the Flux components and its custom resource definitions from the cluster.
What Flux has applied stays in the cluster.`,
		Example: `  # Uninstall Flux components, its custom resources and namespace
  flux uninstall --namespace=flux-system

  # Show what would be removed
  flux uninstall --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.bounded(cmd.Context(), o.run) },
	}
	cmd.Flags().BoolVar(&o.keepNamespace, "keep-namespace", false, "skip namespace deletion")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "only print the objects that would be deleted")
	cmd.Flags().BoolVarP(&o.silent, "silent", "s", false, "delete components without asking for confirmation")
	return cmd
}

// run removes an installation and leaves all it has applied (cli 61).
func (o *uninstallOptions) run(ctx context.Context) error {
	client, err := o.Ops()
	if err != nil {
		return err
	}
	if err := o.alone(ctx, client); err != nil {
		return err
	}
	if !o.dryRun && !o.silent {
		cluster, err := o.cluster()
		if err != nil {
			return err
		}
		if err := o.confirm("Are you sure you want to delete Flux and its custom resource definitions from cluster " + cluster + "?"); err != nil {
			return fmt.Errorf("nothing was deleted: %w", err)
		}
	}
	o.Actionf("deleting components in %s namespace", o.Namespace())
	if err := o.components(ctx, client); err != nil {
		return err
	}
	if err := o.stopped(ctx, client); err != nil {
		return err
	}
	o.Actionf("deleting toolkit.fluxcd.io finalizers in all namespaces")
	if err := o.finalizers(ctx, client); err != nil {
		return err
	}
	o.Actionf("deleting toolkit.fluxcd.io custom resource definitions")
	if err := o.labelled(ctx, client, ops.Definition(), ""); err != nil {
		return err
	}
	if !o.keepNamespace {
		if err := o.remove(ctx, client, ops.Namespace(), "", o.Namespace()); err != nil {
			return err
		}
	}
	o.Successf("uninstall finished")
	return nil
}

// alone refuses while another installation runs: finalizers and definitions are shared, so that it would lose its objects, and
// then delete what they manage (reliability 153).
func (o *uninstallOptions) alone(ctx context.Context, client *ops.Client) error {
	running, _, err := client.List(ctx, ops.Deployment(), "", ops.ListOptions{LabelSelector: partOf})
	if err != nil {
		return err
	}
	for _, d := range running {
		if d.GetNamespace() != o.Namespace() {
			return hinted(fmt.Errorf("nothing was deleted: another installation runs in the cluster (%s), and shares the custom resource definitions",
				d.Ref()), "kubectl -n %s get deployments -l %s", d.GetNamespace(), partOf)
		}
	}
	return nil
}

// components removes what runs and what it was allowed to do.
func (o *uninstallOptions) components(ctx context.Context, client *ops.Client) error {
	for _, k := range ops.InNamespace() {
		if err := o.labelled(ctx, client, k, o.Namespace()); err != nil {
			return err
		}
	}
	for _, k := range ops.ClusterWide() {
		if err := o.labelled(ctx, client, k, ""); err != nil {
			return err
		}
	}
	return nil
}

// stopped waits until the controllers' pods are gone. One that still ran would put finalizers back, and then delete
// what it manages when its objects go. Pods are found by their own labels: an earlier, interrupted run may have
// removed their Deployments.
func (o *uninstallOptions) stopped(ctx context.Context, client *ops.Client) error {
	if o.dryRun {
		return nil
	}
	selectors := []string{partOf, "app in (" + strings.Join(append(manifests.KnownNames(), manifests.SingleName), ",") + ")"}
	timer := o.Clock.NewTicker(ops.PollInterval)
	defer timer.Stop()
	for told := false; ; told = true {
		var running []string
		for _, s := range selectors {
			pods, _, err := client.List(ctx, ops.Pod(), o.Namespace(), ops.ListOptions{LabelSelector: s})
			if err != nil {
				return err
			}
			for _, p := range pods {
				if !slices.Contains(running, p.GetName()) {
					running = append(running, p.GetName())
				}
			}
		}
		if len(running) == 0 {
			return nil
		}
		if !told {
			o.Waitf("waiting for the controllers to stop")
		}
		select {
		case <-ctx.Done():
			return hinted(fmt.Errorf("controllers still running, custom resources were left alone: %s", strings.Join(running, ", ")),
				"kubectl -n %s delete pod --force %s", o.Namespace(), strings.Join(running, " "))
		case <-timer.C():
		}
	}
}

func (o *uninstallOptions) finalizers(ctx context.Context, client *ops.Client) error {
	for _, k := range o.Kinds {
		objects, _, err := client.List(ctx, k, "", ops.ListOptions{})
		var unserved *ops.NotInstalledError
		if errors.As(err, &unserved) {
			continue
		}
		if err != nil {
			return err
		}
		for _, obj := range objects {
			if len(obj.GetFinalizers()) == 0 {
				continue
			}
			if !o.dryRun {
				if err := client.StripFinalizers(ctx, k, obj.GetNamespace(), obj.GetName()); err != nil {
					return err
				}
			}
			o.Successf("%s finalizers deleted%s", obj.Ref(), o.note())
		}
	}
	return nil
}

func (o *uninstallOptions) note() string {
	if o.dryRun {
		return " (dry run)"
	}
	return ""
}

// labelled removes the objects of a kind that belong to the installation.
func (o *uninstallOptions) labelled(ctx context.Context, client *ops.Client, k kind.Kind, namespace string) error {
	selector := partOf + ",app.kubernetes.io/instance=" + o.Namespace()
	objects, _, err := client.List(ctx, k, namespace, ops.ListOptions{LabelSelector: selector})
	if err != nil {
		return err
	}
	for _, obj := range objects {
		if err := o.remove(ctx, client, k, obj.GetNamespace(), obj.GetName()); err != nil {
			return err
		}
	}
	return nil
}

func (o *uninstallOptions) remove(ctx context.Context, client *ops.Client, k kind.Kind, namespace, name string) error {
	where := k.Kind + "/" + name
	if namespace != "" {
		where = k.Kind + "/" + namespace + "/" + name
	}
	if !o.dryRun {
		err := client.Delete(ctx, k, namespace, name)
		var absent *ops.NotFoundError
		if errors.As(err, &absent) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	o.Successf("%s deleted%s", where, o.note())
	return nil
}
