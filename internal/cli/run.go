package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/internal/app"
)

// NewRun is the command that runs controllers. Its flags depend on the components it is given, so that it reads
// its arguments itself.
func NewRun(f *Factory) *cobra.Command {
	return &cobra.Command{
		Use:   "run [component...]",
		Short: "Run controllers",
		Long: `The run command runs the named components in one process, all of them when none is named.

Flags that several components have carry the component's short name: --kustomize-concurrent.
Started under the name of one component, flux takes that component's flags under their plain names.`,
		Example: `  # Run all components
  flux run

  # Run two of them
  flux run source-controller kustomize-controller --kustomize-concurrent=20`,
		Annotations:        map[string]string{noNamespace: "true"},
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			names := len(args)
			if i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") }); i >= 0 {
				names = i
			}
			return f.runComponents(cmd, args[:names], args[names:], false)
		},
	}
}

// runComponents parses the flags of the components and runs them until the context ends.
func (f *Factory) runComponents(cmd *cobra.Command, names, flags []string, plain bool) error {
	fs := pflag.NewFlagSet(cmd.Name(), pflag.ContinueOnError)
	fs.SetOutput(f.Streams.Err)
	o, err := app.New(names, plain, fs)
	if err != nil {
		return &usageError{err}
	}
	fs.Usage = func() {}
	if err := fs.Parse(flags); errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintf(f.Streams.Out, "%s\n\nUsage:\n  %s\n\nFlags:\n%s", cmd.Long, cmd.UseLine(), fs.FlagUsages())
		return nil
	} else if err != nil {
		return &usageError{err}
	}
	if fs.NArg() > 0 {
		return &usageError{fmt.Errorf("unexpected argument %q: components come before flags", fs.Arg(0))}
	}
	o.Version, o.LogTo = f.Version, f.Streams.Err
	return app.Run(cmd.Context(), o)
}

// Controller runs a single component if the program or its first argument has the component's upstream name, with
// the flags that 2.9's controller has. It reports whether it did.
func Controller(ctx context.Context, c Config, args0 string, args []string) (code int, was bool) {
	name := filepath.Base(args0)
	if !slices.Contains(app.Names(), name) {
		if len(args) == 0 || !slices.Contains(app.Names(), args[0]) {
			return 0, false
		}
		name, args = args[0], args[1:]
	}
	f := newFactory(c)
	cmd := &cobra.Command{Use: name, Long: "Runs " + name + "."}
	cmd.SetContext(ctx)
	if err := f.runComponents(cmd, []string{name}, args, true); err != nil {
		f.Failf("%s", err)
		return 1, true
	}
	return 0, true
}
