// Command flux keeps clusters in sync with sources of configuration.
package main

import (
	"os"

	"github.com/seed-79636ae9/flux/internal/cli"
)

func main() {
	c := cli.System(os.Args[0])
	c.Kinds, c.Components = cli.Kinds(), cli.Components()
	os.Exit(cli.Main(c, os.Args[1:]))
}
