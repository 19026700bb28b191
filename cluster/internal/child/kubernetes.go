package child

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"

	"github.com/seed-79636ae9/flux/cluster/internal/release"
)

func runAPIServer(args []string) error {
	return runCommand(apiserver.NewAPIServerCommand(), args)
}

func runControllers(args []string) error {
	return runCommand(controllers.NewControllerManagerCommand(), args)
}

func runCommand(command *cobra.Command, args []string) error {
	if err := release.Stamp(); err != nil {
		return err
	}
	command.SetArgs(args)
	if code := cli.Run(command); code != 0 {
		return fmt.Errorf("%s ended with code %d", command.Name(), code)
	}
	return nil
}
