// Command flux keeps clusters in sync with sources of configuration.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/app"
	"github.com/seed-79636ae9/flux/internal/cli"
)

func main() {
	c := cli.System(os.Args[0])
	c.Kinds, c.Components = cli.Kinds(), cli.Components()
	c.LogSources = []cli.LogSourceFunc{cli.LocalLogs(c.Clock)}
	c.Extra = []func(*cli.Factory) *cobra.Command{cli.NewUp, cli.NewDown, cli.NewStatus, cli.NewEnvironment(app.Controllers(c.Version))}
	os.Exit(cli.Main(c, os.Args[1:]))
}
