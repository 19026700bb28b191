package app

import (
	"context"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/seed-79636ae9/flux/internal/local"
)

// Controllers returns all components, for an environment on this machine.
func Controllers(version string) local.Controllers {
	return func(ctx context.Context, l local.ControllersOptions) error {
		fs := pflag.NewFlagSet("environment", pflag.ContinueOnError)
		o, err := New(nil, false, fs)
		if err != nil {
			return err
		}
		o.Version, o.LogTo, o.Started = version, l.Log, l.Started
		err = fs.Parse([]string{
			"--kubeconfig=" + l.Kubeconfig,
			"--source-storage-path=" + filepath.Join(l.Dir, "artifacts"),
			"--source-storage-addr=" + l.ArtifactsAddr,
			"--source-storage-adv-addr=" + l.ArtifactsAddr,
			"--notify-events-addr=" + l.ArtifactsAddr,
			"--receiverAddr=" + l.HooksAddr,
			"--metrics-addr=" + l.MetricsAddr,
			"--health-addr=" + l.HealthAddr,
		})
		if err != nil {
			return err
		}
		return Run(ctx, o)
	}
}
