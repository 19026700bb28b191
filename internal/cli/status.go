package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"github.com/seed-79636ae9/flux/internal/local"
)

// statusOptions are the flags of flux status.
type statusOptions struct {
	*Factory
	dir, output string
}

// NewStatus returns the constructor of the status command.
func NewStatus(f *Factory) *cobra.Command {
	o := &statusOptions{Factory: f}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the environment of flux up runs",
		Long: `The status command shows the processes, ports, versions and memory of the environment of the current directory, or of the
nearest directory above that has one, and how far its cluster has followed the repository. It fails when nothing runs.`,
		Example: `  # What runs here?
  flux status

  # For programs
  flux status -o json`,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{noNamespace: "true"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.bounded(cmd.Context(), o.run)
		},
	}
	cmd.Flags().StringVar(&o.dir, "dir", "", "data directory of the environment (default: that of the current directory)")
	cmd.Flags().StringVarP(&o.output, "output", "o", "text", "text, json or yaml")
	return cmd
}

func (o *statusOptions) run(ctx context.Context) error {
	directory, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("find the current directory: %w", err)
	}
	data, err := local.UserPlaces().Locate(directory, o.dir)
	if err != nil {
		return explainEnvironment(err)
	}
	status, err := local.ReadStatus(ctx, data)
	if err != nil {
		return err
	}
	switch o.output {
	case "json", "yaml":
		err = printAs(o.Streams.Out, o.output, status)
	case "text":
		err = o.print(o.Streams.Out, status)
	default:
		return &usageError{fmt.Errorf("--output is '%s': choose text, json or yaml", o.output)}
	}
	if err != nil {
		return err
	}
	if !status.Running {
		return hinted(errors.New("the environment is not running"), "flux up")
	}
	return nil
}

func (o *statusOptions) print(w io.Writer, s local.Status) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, text)
		}
	}
	row("Directory", "%s", s.Directory)
	row("Phase", "%s", s.Phase)
	row("Error", "%s", oneLine(s.Error))
	if s.Running {
		row("Up", "%s", duration.HumanDuration(o.Clock.Since(s.Started)))
		row("Kubernetes", "%s", s.Kubernetes)
		row("Pods", "simulated: no container runs")
		row("API server", "%s", s.Server)
		row("Git server", "http://127.0.0.1:%d", s.Ports.Git)
		row("Webhooks", "http://127.0.0.1:%d", s.Ports.Hooks)
		row("Registry", "%s", s.Registry)
		row("Sync", "%s", syncLine(s))
	}
	row("Repository", "%s", s.Following.URL)
	row("Working tree", "%s", s.Following.Clone)
	row("Kubeconfig", "%s", s.Kubeconfig)
	row("Log", "%s", s.Log)
	row("Kept", "%t", s.Keep)
	if err := table.Flush(); err != nil || !s.Running {
		return err
	}
	fmt.Fprintln(w)
	fmt.Fprintln(table, "PROCESS\tSTATE\tID\tRESTARTS\tMEMORY")
	for _, p := range s.Processes {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d MiB\n", p.Name, p.State, p.PID, p.Restarts, p.Memory>>20)
	}
	fmt.Fprintf(table, "total\t\t\t\t%d MiB\n", s.Memory>>20)
	return table.Flush()
}

func syncLine(s local.Status) string {
	switch {
	case !s.Controllers:
		return "this build runs no controllers"
	case s.SyncError != "":
		return "unknown: " + oneLine(s.SyncError)
	case s.Sync == nil:
		return "not yet"
	case s.Sync.Suspended:
		return "suspended at " + s.Sync.Revision
	case s.Sync.Ready:
		return "in sync with " + s.Sync.Revision
	}
	return "not in sync: " + oneLine(s.Sync.Message)
}

// LocalLogs is a LogSourceFunc: it knows the log file of the controllers when the connection leads to an environment of flux up.
func LocalLogs(clock clock.WithTicker) LogSourceFunc {
	return func(_ context.Context, config *rest.Config) (LogSource, error) {
		state, ok := local.UserPlaces().Serving(config.Host)
		if !ok || !state.Controllers {
			return nil, nil
		}
		return LogFile{Path: state.Log, Clock: clock}, nil
	}
}

// useEnvironment turns the commands to the environment of flux up where the user has no kubeconfig whatsoever: someone who has one,
// or works inside a cluster, is never led elsewhere.
func (f *Factory) useEnvironment() {
	if f.knowsCluster(clientcmd.RecommendedHomeFile) {
		return
	}
	directory, err := os.Getwd()
	if err != nil {
		return
	}
	*f.kube.KubeConfig = local.UserPlaces().Kubeconfig(directory)
}

// knowsCluster tells whether anything says which cluster is meant; homeFile is the kubeconfig in the user's home directory.
func (f *Factory) knowsCluster(homeFile string) bool {
	if *f.kube.KubeConfig != "" || *f.kube.APIServer != "" || f.Getenv(clientcmd.RecommendedConfigPathEnvVar) != "" || f.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		return true
	}
	_, err := os.Stat(homeFile)
	return err == nil
}
