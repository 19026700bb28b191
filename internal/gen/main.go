// Command gen finishes what controller-gen makes of the types in api/, and writes the files that come from the registries
// of the program. `make generate` runs it, from the root of the module, after controller-gen.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	root := flag.String("root", ".", "root directory of the module")
	flag.Parse()
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	return errors.Join(stampCRDs(filepath.Join(root, "api", "crds")), writeTables(filepath.Join(root, "docs")))
}
