package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/cluster/internal/launch"
)

func execCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "exec [flags] -- COMMAND [ARGUMENTS...]",
		Short: "Run a command with a cluster of its own",
		Long: "Starts a cluster, runs COMMAND with KUBECONFIG and FLUX_TEST_KUBECONFIG naming its kubeconfig, stops the cluster, and exits with\n" +
			"COMMAND's code. Progress goes to standard error.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := reporter(f.progress, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			f.Report = report
			if f.Dir == "" {
				dir, err := os.MkdirTemp("", "flux-cluster-")
				if err != nil {
					return fmt.Errorf("make data directory: %w", err)
				}
				defer os.Remove(dir)
				f.Dir = dir
			}
			return execIn(cmd.Context(), f.Options, args)
		},
	}
	f.add(cmd, "", "plain")
	cmd.Flag("dir").Usage += " (default: a temporary one)"
	return cmd
}

func execIn(ctx context.Context, o launch.Options, args []string) error {
	debug.SetGCPercent(supervisorGOGC)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)

	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	started := make(chan struct{})
	go func() {
		select {
		case s := <-signals:
			cancel()
			// For whoever runs the command, too.
			signals <- s
		case <-started:
		}
	}()
	cluster, err := launch.Up(starting, o)
	close(started)
	if err != nil {
		return err
	}
	debug.FreeOSMemory()
	err = runTied(cluster, args, signals)
	return errors.Join(err, cluster.Down())
}

// commandEnded says that the user's command ended with a code other than 0.
type commandEnded struct{ code int }

func (e *commandEnded) Error() string { return fmt.Sprintf("the command ended with code %d", e.code) }

// runTied runs the command to its end, passing signals on to it.
func runTied(cluster *launch.Cluster, args []string, signals <-chan os.Signal) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig(), "FLUX_TEST_KUBECONFIG="+cluster.Kubeconfig())
	if err := cluster.Tie(cmd, syscall.SIGTERM); err != nil {
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return &commandEnded{code: exitCode(exit)}
			}
			return err
		}
	}
}

// exitCode is the code a shell would give.
func exitCode(exit *exec.ExitError) int {
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}
