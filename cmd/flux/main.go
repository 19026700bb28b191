// Command flux is a stand-in.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/seed-79636ae9/flux/internal/app"
)

func main() {
	fs := pflag.NewFlagSet("run", pflag.ExitOnError)
	o, err := app.New([]string{"source-controller", "kustomize-controller"}, false, fs)
	if err == nil {
		err = fs.Parse(os.Args[4:])
	}
	if err == nil {
		err = app.Run(ctrl.SetupSignalHandler(), o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
