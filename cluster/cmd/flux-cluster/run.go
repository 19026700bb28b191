package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/cluster/internal/launch"
)

// supervisorGOGC keeps the supervisor's own heap close to what it uses: it hardly allocates once the cluster is up.
const supervisorGOGC = 20

type runFlags struct {
	launch.Options
	progress  string
	withStdin bool
}

func (f *runFlags) add(cmd *cobra.Command, dir, progress string) {
	flags := cmd.Flags()
	flags.StringVar(&f.Dir, "dir", dir, "data directory; it must be new, empty, or one of an earlier run")
	flags.IntVar(&f.Port, "port", 0, "port of the API server on 127.0.0.1; 0 takes a free one, or that of the kept cluster")
	flags.StringVar(&f.Pods, "pods", launch.PodsSimulated, "simulated: pods are bound to a node named \"simulated\" and walk through their states without running; none: no node, no simulator")
	flags.BoolVar(&f.Keep, "keep", false, "keep the data when the cluster stops, and continue with it at the next run; without it nothing waits for the disk, and the data is removed")
	flags.StringVar(&f.AuditPolicy, "audit-policy", "", "audit policy file of the API server")
	flags.StringVar(&f.AuditLog, "audit-log", "", "file that takes the audit log of the API server")
	flags.DurationVar(&f.StartTimeout, "start-timeout", 2*time.Minute, "how long the cluster may take to become ready")
	flags.StringVar(&f.progress, "progress", progress, "plain, json (one object a line) or none")
	flags.BoolVar(&f.withStdin, "stop-on-stdin-eof", false, "stop when standard input ends, for programs that start this one")
}

// reporter returns the writer of progress lines to w.
func reporter(how string, w io.Writer) (func(launch.Progress), error) {
	switch how {
	case "none":
		return nil, nil
	case "json":
		encoder := json.NewEncoder(w)
		return func(p launch.Progress) { _ = encoder.Encode(p) }, nil
	case "plain":
		return func(p launch.Progress) { fmt.Fprintln(w, plainLine(p)) }, nil
	}
	return nil, fmt.Errorf("--progress is %q: choose plain, json or none", how)
}

func plainLine(p launch.Progress) string {
	line := fmt.Sprintf("%6s  %s", p.Elapsed, p.Phase)
	if p.State != "" {
		line += " " + p.State
	}
	if p.Kubeconfig != "" {
		line += fmt.Sprintf(": %s\n\n  export KUBECONFIG=%s\n", p.Server, p.Kubeconfig)
	}
	if p.Error != "" {
		line += ": " + p.Error
	}
	return line
}

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a cluster until this process is told to stop",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := reporter(f.progress, cmd.OutOrStdout())
			if err != nil {
				return err
			}
			f.Report = report
			ctx, cancel := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer cancel()
			if f.withStdin {
				ctx = untilEOF(ctx, cmd.InOrStdin())
			}
			return runUntilDone(ctx, f.Options)
		},
	}
	f.add(cmd, defaultDir(), "plain")
	return cmd
}

func runUntilDone(ctx context.Context, o launch.Options) error {
	debug.SetGCPercent(supervisorGOGC)
	cluster, err := launch.Up(ctx, o)
	if ctx.Err() != nil && err != nil {
		// Told to stop while starting: nothing is left, and that is what was asked for.
		return nil
	}
	if err != nil {
		return err
	}
	debug.FreeOSMemory()
	<-ctx.Done()
	return cluster.Down()
}

// untilEOF returns a context that ends when r does.
func untilEOF(ctx context.Context, r io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, r)
		cancel()
	}()
	return ctx
}

// defaultDir is below the user's cache directory, or empty where there is none.
func defaultDir() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "flux", "cluster")
}
