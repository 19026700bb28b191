package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/cluster/internal/home"
)

var errNotRunning = errors.New("the cluster is not running")

func statusCommand() *cobra.Command {
	var dir, output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what runs in a data directory; fails when nothing does",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, live, err := home.Read(dir)
			if err != nil {
				return err
			}
			if err := printState(cmd.OutOrStdout(), state, output); err != nil {
				return err
			}
			if !live {
				return errNotRunning
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDir(), "data directory")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func printState(w io.Writer, s home.State, output string) error {
	switch output {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(s)
	case "text":
	default:
		return fmt.Errorf("--output is %q: choose text or json", output)
	}
	fmt.Fprintf(w, "Phase:       %s\nProcess:     %d\nKubernetes:  %s\nServer:      %s\nKubeconfig:  %s\nPods:        %s\nKeep:        %t\n\n",
		s.Phase, s.PID, s.Kubernetes, s.Server, s.Kubeconfig, s.Pods, s.Keep)
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PART\tSTATE\tPROCESS\tRESTARTS\tLOG")
	for _, name := range slices.Sorted(maps.Keys(s.Parts)) {
		part := s.Parts[name]
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%s\n", name, part.State, part.PID, part.Restarts, part.Log)
	}
	return table.Flush()
}

func stopCommand() *cobra.Command {
	var dir string
	var remove bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop the cluster of a data directory and wait until it is gone",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("waited %s", timeout))
			defer cancel()
			return home.Stop(ctx, dir, remove)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", defaultDir(), "data directory")
	cmd.Flags().BoolVar(&remove, "delete", false, "also remove data that was to be kept")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait")
	return cmd
}
