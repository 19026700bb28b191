// Command flux keeps clusters in sync with sources of configuration.
package main

import (
	"os"

	"github.com/seed-79636ae9/flux/internal/cli"
)

func main() {
	os.Exit(cli.Run(os.Args))
}
