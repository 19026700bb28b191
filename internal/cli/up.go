package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/local"
)

// upOptions are the flags of flux up.
type upOptions struct {
	*Factory
	local.Options
}

// NewUp returns the constructor of the up command.
func NewUp(f *Factory) *cobra.Command {
	o := &upOptions{Factory: f}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster with simulated pods on this machine that follows a Git repository",
		Long: `The up command starts an environment for the current directory, in the background: a Kubernetes control plane with
simulated pods, the controllers, a Git server and an image registry, all on 127.0.0.1. Without --repo it makes a demo
repository in ./flux-demo; push to it and watch the cluster follow. Nothing is downloaded and no container runs.

The kubeconfig is printed as a line to evaluate. Where there is no kubeconfig at all, the other flux commands find the
environment by themselves.`,
		Example: `  # Start with a demo repository in ./flux-demo
  flux up

  # Let kubectl and flux use it, also where there is a kubeconfig
  eval "$(flux up)"

  # Follow the commits of a working tree
  flux up --repo ~/src/fleet --path clusters/staging

  # Follow a repository elsewhere
  flux up --repo https://github.com/stefanprodan/podinfo --path kustomize

  # Go on next time with what was there
  flux up --keep`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{noNamespace: "true"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.bounded(cmd.Context(), o.run)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Repo, "repo", "", "directory in a Git working tree, or http(s) URL, to follow instead of a demo repository")
	flags.StringVar(&o.Path, "path", "", "directory of the manifests in the repository (default: that of --repo, its root for a URL, apps in the demo)")
	flags.StringVar(&o.Branch, "branch", "", "branch to follow (default: the one the repository is on)")
	flags.StringVar(&o.Data, "dir", "", "data directory; new, empty or of an earlier run (default: below the user's cache directory)")
	flags.BoolVar(&o.Keep, "keep", false, "keep the state when the environment is stopped, and go on with it next time")
	flags.IntVar(&o.Ports.Kubernetes, "port", 0, "port of the API server on 127.0.0.1; 0 takes a free one")
	flags.IntVar(&o.Ports.Git, "git-port", 0, "port of the Git server on 127.0.0.1; 0 takes a free one")
	flags.IntVar(&o.Ports.Registry, "registry-port", 0, "port of the image registry on 127.0.0.1; 0 takes a free one")
	return cmd
}

func (o *upOptions) run(ctx context.Context) error {
	var err error
	if o.Directory, err = os.Getwd(); err != nil {
		return fmt.Errorf("find the current directory: %w", err)
	}
	o.Options.Version = o.Config.Version
	places := local.UserPlaces()
	state, err := local.Up(ctx, places, o.Options, o.report)
	var running *local.ErrRunning
	var sync *local.ErrSync
	switch {
	case errors.As(err, &running):
		o.tellf("✔ already up since %s; nothing was changed", state.Started.Local().Format("15:04:05 on 2 January"))
		o.exportLine(state)
		return nil
	case errors.As(err, &sync):
		o.exportLine(state)
		return hinted(fmt.Errorf("%w; the environment stays up and tries again", err), "flux status")
	case errors.Is(err, context.DeadlineExceeded):
		return hinted(err, "flux up --timeout 15m")
	case err != nil:
		return err
	}
	o.exportLine(state)
	o.nextSteps(state)
	return nil
}

// tellf writes to a person; a program that reads the output gets the data alone.
func (o *upOptions) tellf(format string, args ...any) {
	if o.Streams.Live {
		fmt.Fprintf(o.Streams.Err, format+"\n", args...)
	}
}

func (o *upOptions) report(p local.Progress) {
	if p.Warning != "" {
		o.Warnf("%s", oneLine(p.Warning))
		return
	}
	o.tellf("✔ %s", p.Text)
}

// exportLine is the one line of data: what a shell evaluates.
func (o *upOptions) exportLine(state local.State) {
	fmt.Fprintf(o.Streams.Out, "export KUBECONFIG=%s\n", shellQuote(state.Kubeconfig))
}

func (o *upOptions) nextSteps(state local.State) {
	o.tellf("\nPods here are simulated: they become ready, but no container runs.")
	o.tellf("Evaluate the line above to use this cluster with kubectl, or with flux where you have another kubeconfig.\n")
	if state.Repo == "" {
		o.tellf("Next:\n  cd %s\n  edit apps/web/deployment.yaml, then: git commit -am \"Try it\" && git push\n  flux get all            what follows what, and how far it is\n  flux tree kustomization %s", local.DemoDir, local.Name)
	} else {
		o.tellf("Next:\n  flux get all            what follows what, and how far it is\n  flux tree kustomization %s", local.Name)
	}
	o.tellf("  flux status             what runs here\n  flux down               stop it")
}

// shellQuote quotes a path for a POSIX shell where it needs to be.
func shellQuote(s string) string {
	plain := true
	for _, r := range s {
		if !(r == '/' || r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			plain = false
		}
	}
	if plain {
		return s
	}
	quoted := "'"
	for _, r := range s {
		if r == '\'' {
			quoted += `'\''`
			continue
		}
		quoted += string(r)
	}
	return quoted + "'"
}

// NewEnvironment returns the constructor of the hidden command that runs an environment in the background, with the controllers of
// this program.
func NewEnvironment(controllers local.Controllers) func(*Factory) *cobra.Command {
	return func(f *Factory) *cobra.Command {
		return &cobra.Command{
			Use:         local.BackgroundCommand,
			Short:       "Run the environment of flux up",
			Hidden:      true,
			Args:        cobra.NoArgs,
			Annotations: map[string]string{noNamespace: "true"},
			RunE: func(cmd *cobra.Command, _ []string) error {
				return local.Background(cmd.Context(), f.Streams.In, f.Streams.Err, controllers)
			},
		}
	}
}
