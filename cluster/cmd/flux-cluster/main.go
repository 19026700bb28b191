// Command flux-cluster runs a Kubernetes control plane with simulated pods on this machine: etcd, kube-apiserver,
// kube-controller-manager and a pod simulator, as children of one process.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/cluster/internal/child"
	"github.com/seed-79636ae9/flux/cluster/internal/release"
	"github.com/seed-79636ae9/flux/cluster/internal/supervisor"
)

func main() {
	os.Exit(run(os.Args))
}

func run(args []string) int {
	// Before any command line of ours: the parts read their own flags.
	if len(args) > 2 && args[1] == supervisor.PartCommand {
		if err := child.Run(args[2], args[3:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", args[2], err)
			return 1
		}
		return 0
	}
	// The linked programs have put flags of their own into the global set, which cobra would offer beside ours.
	pflag.CommandLine = pflag.NewFlagSet(args[0], pflag.ContinueOnError)
	root := rootCommand()
	root.SetArgs(args[1:])
	err := root.Execute()
	var ended *commandEnded
	switch {
	case err == nil:
		return 0
	case errors.As(err, &ended):
		// The command has said itself what there was to say.
		return ended.code
	}
	fmt.Fprintf(os.Stderr, "flux-cluster: %v\n", err)
	return 1
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "flux-cluster",
		Short:         "A Kubernetes control plane with simulated pods on this machine",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		// With a body, however small, cobra judges the arguments: a misspelt command is an error.
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	if v, err := release.Linked(); err == nil {
		root.Version = fmt.Sprintf("kubernetes %s, etcd %s, kwok %s", v.Kubernetes, v.Etcd, v.Kwok)
		root.SetVersionTemplate("{{.Version}}\n")
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(runCommand(), execCommand(), statusCommand(), stopCommand())
	return root
}
