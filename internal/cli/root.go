package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/app"
	"github.com/spf13/pflag"
)

// NewRoot builds the whole command tree.
func NewRoot(c Config) *cobra.Command {
	_, root := newRoot(c)
	return root
}

func newRoot(c Config) (*Factory, *cobra.Command) {
	f := newFactory(c)
	root := &cobra.Command{
		Use:   "flux",
		Short: "Command line utility for assembling Kubernetes CD pipelines",
		Long: `Flux keeps clusters in sync with sources of configuration, such as Git repositories and OCI artifacts,
and applies updates to them when there is something new to deploy.`,
		Example: `  # Check prerequisites
  flux check --pre

  # Install the controllers in the current cluster
  flux install

  # Follow a Git repository
  flux create source git podinfo \
    --url=https://github.com/stefanprodan/podinfo \
    --branch=master

  # Apply what a path of it holds
  flux create kustomization podinfo \
    --source=podinfo \
    --path="./kustomize" \
    --prune=true

  # List all objects
  flux get all -A

  # Ask for a reconcile now
  flux reconcile kustomization podinfo --with-source`,
		Version:       c.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Annotations[noNamespace] != "" {
				return nil
			}
			return f.resolve(cmd.Flags())
		},
	}
	if c.Program == "kubectl-flux" {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl flux"}
	}
	root.SetVersionTemplate("flux version {{.Version}}\n")
	root.SetIn(c.Streams.In)
	root.SetOut(c.Streams.Out)
	root.SetErr(c.Streams.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &usageError{err}
	})
	root.CompletionOptions.DisableDefaultCmd = true
	f.addFlags(root.PersistentFlags())
	root.AddCommand(
		newGet(f), newReconcile(f), newTrigger(f), newSuspend(f), newResume(f), newApprove(f), newCreate(f), newDelete(f), newExport(f),
		newBuild(f), newPush(f), newPull(f), newTag(f), newList(f), newDiff(f),
		newEvents(f), newLogs(f), newStats(f), newTrace(f), newTree(f), newDebug(f),
		newCheck(f), newInstall(f), newUninstall(f), newVersion(f), newCompletion(f), newDocgen(f),
	)
	for _, extra := range c.Extra {
		root.AddCommand(extra(f))
	}
	keepOffStdout(root, c.Streams)
	return f, root
}

// keepOffStdout sends the notes on deprecated flags, which cobra prints among the data, to standard error.
func keepOffStdout(cmd *cobra.Command, s Streams) {
	deprecated := false
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { deprecated = deprecated || f.Deprecated != "" })
	if deprecated {
		help := cmd.HelpFunc()
		cmd.SetOut(s.Err)
		cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
			c.SetOut(s.Out)
			help(c, args)
		})
	}
	for _, sub := range cmd.Commands() {
		keepOffStdout(sub, s)
	}
}

// noNamespace marks commands that neither need nor judge the namespace flags.
const noNamespace = "flux/no-namespace"

// Run is the program: args are those of the process, its name first. It returns the exit code (cli 2).
func Run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := System(args[0])
	if code, was := Controller(ctx, c, args[0], args[1:]); was {
		return code
	}
	c.Kinds, c.Components = Kinds(), Components()
	c.LogSources = []LogSourceFunc{LocalLogs(c.Clock)}
	c.Extra = []func(*Factory) *cobra.Command{NewRun, NewUp, NewDown, NewStatus, NewEnvironment(app.Controllers(c.Version))}
	return run(ctx, c, args[1:])
}

func run(ctx context.Context, c Config, args []string) int {
	f, root := newRoot(c)
	root.SetArgs(args)
	cmd, err := root, unknown(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errChanges):
		f.Warnf("%s", err)
		return 1
	}
	f.Failf("%s", f.describe(err, cmd.CommandPath()))
	if code, convErr := strconv.Atoi(cmd.Annotations[exitOnError]); convErr == nil {
		return code
	}
	return 1
}

// exitOnError is the exit code of a command's errors where 1 is an answer (cli 2).
const exitOnError = "flux/exit-on-error"

// unknown finds a misspelt word below a group command, for which cobra would print help and report success.
func unknown(root *cobra.Command, args []string) error {
	if slices.Contains(args, "-h") || slices.Contains(args, "--help") {
		return nil
	}
	// Shells ask for completions through commands that cobra adds while it runs.
	if len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		return nil
	}
	// Otherwise the word after --version would be taken for its value.
	root.InitDefaultVersionFlag()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return &usageError{err}
	}
	if cmd.Runnable() || !cmd.HasSubCommands() {
		return nil
	}
	if len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
		return nil
	}
	return hinted(fmt.Errorf("unknown command %q for %q", rest[0], cmd.CommandPath()), "%s --help", cmd.CommandPath())
}

func program(args0 string) string {
	return strings.TrimSuffix(filepath.Base(args0), ".exe")
}

// BuildVersion is the version Go stamped into this binary, "v0.0.0-dev" where it stamped none.
func BuildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "v0.0.0-dev"
	}
	return info.Main.Version
}

// exactly is cobra.ExactArgs with an error that says what is missing.
func exactly(what ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(what):
			return &usageError{fmt.Errorf("%s is required", what[len(args)])}
		case len(args) > len(what):
			return &usageError{fmt.Errorf("unexpected argument '%s'", args[len(what)])}
		}
		return nil
	}
}

// atMostName accepts one name or none.
func atMostName(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return &usageError{fmt.Errorf("unexpected argument '%s': name one object or none", args[1])}
	}
	return nil
}

// group is a command that only holds others.
func group(use string, aliases []string, short string) *cobra.Command {
	return &cobra.Command{Use: use, Aliases: aliases, Short: short}
}
