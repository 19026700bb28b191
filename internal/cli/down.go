package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/local"
)

// downOptions are the flags of flux down.
type downOptions struct {
	*Factory
	dir    string
	remove bool
}

// NewDown returns the constructor of the down command.
func NewDown(f *Factory) *cobra.Command {
	o := &downOptions{Factory: f}
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the environment of flux up",
		Long: `The down command stops the environment of the current directory, or of the nearest directory above that has one, and waits
until all its processes are gone. Its data goes too, unless the environment was started with --keep. A demo repository in
./flux-demo stays: it is yours.`,
		Example: `  # Stop
  flux down

  # Stop, and remove what --keep would keep
  flux down --delete`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{noNamespace: "true"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.bounded(cmd.Context(), o.run)
		},
	}
	cmd.Flags().StringVar(&o.dir, "dir", "", "data directory of the environment (default: that of the current directory)")
	cmd.Flags().BoolVar(&o.remove, "delete", false, "also remove state that was to be kept")
	return cmd
}

func (o *downOptions) run(ctx context.Context) error {
	directory, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the current directory: %w", err)
	}
	places := local.UserPlaces()
	data, err := places.Locate(directory, o.dir)
	if err != nil {
		return explainEnvironment(err)
	}
	state, left, err := local.Down(ctx, places, data, o.remove)
	if err != nil {
		return err
	}
	if left {
		o.Successf("environment of %s stopped; its state is kept: flux up goes on with it, flux down --delete removes it", state.Directory)
	} else {
		o.Successf("environment of %s stopped and removed", state.Directory)
	}
	if state.Repo == "" && state.Following.Clone != "" {
		o.Successf("%s stays: it is yours", state.Following.Clone)
	}
	return nil
}

// explainEnvironment adds the command that starts what was not found, or the one that names it.
func explainEnvironment(err error) error {
	var absent *local.ErrNoEnvironment
	if !errors.As(err, &absent) {
		return err
	}
	return hinted(err, "flux up")
}
