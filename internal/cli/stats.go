package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

func newStats(f *Factory) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Stats of Flux reconciles",
		Long:  "The stats command prints a report of Flux custom resources, and the disk space the artifacts of sources take.",
		Example: `  # Print the stats of one namespace
  flux stats --namespace flux-system

  # Print the stats of the whole cluster
  flux stats -A`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return f.stats(ctx, all) })
		},
	}
	cmd.PersistentFlags().BoolVarP(&all, "all-namespaces", "A", false, "list the statistics for objects across all namespaces")
	return cmd
}

// stats counts the objects of every kind that is installed (cli 66).
func (f *Factory) stats(ctx context.Context, all bool) error {
	client, err := f.Ops()
	if err != nil {
		return err
	}
	scope := f.Namespace()
	if all {
		scope = ""
	}
	lists := make([][]kind.Object, len(f.Kinds))
	errs := make([]error, len(f.Kinds))
	var wg sync.WaitGroup
	for i, k := range f.Kinds {
		wg.Go(func() { lists[i], _, errs[i] = client.List(ctx, k, scope, ops.ListOptions{}) })
	}
	wg.Wait()
	t := newTable("RECONCILERS", "RUNNING", "FAILING", "SUSPENDED", "STORAGE")
	for i, k := range f.Kinds {
		var unserved *ops.NotInstalledError
		if errors.As(errs[i], &unserved) {
			continue
		}
		if errs[i] != nil {
			return errs[i]
		}
		t.add(statsRow(k, lists[i])...)
	}
	return t.print(f.Streams.Out, true)
}

func statsRow(k kind.Kind, objects []kind.Object) []string {
	var running, failing, suspended int
	var size int64
	for _, o := range objects {
		if o.Suspended() {
			suspended++
		} else {
			running++
		}
		if ready, _ := o.Condition("Ready"); ready.Status == "False" {
			failing++
		}
		n, _ := strconv.ParseInt(o.Field("status", "artifact", "size"), 10, 64)
		size += n
	}
	storage := "-"
	if k.Artifact {
		storage = binarySize(size)
	}
	return []string{k.Kind, strconv.Itoa(running), strconv.Itoa(failing), strconv.Itoa(suspended), storage}
}

// binarySize renders bytes in binary units.
func binarySize(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	size, units := float64(n)/unit, []string{"KiB", "MiB", "GiB", "TiB"}
	i := 0
	for size >= unit && i < len(units)-1 {
		size /= unit
		i++
	}
	return fmt.Sprintf("%.1f %s", size, units[i])
}
