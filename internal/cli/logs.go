package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// logsOptions are the flags of `flux logs`.
type logsOptions struct {
	*Factory
	level         kind.Enum
	kind, name    string
	follow        bool
	tail          int64
	allNamespaces bool
	fluxNamespace string
	since         time.Duration
	sinceTime     string
}

func newLogs(f *Factory) *cobra.Command {
	o := &logsOptions{Factory: f, level: kind.Enum{Allowed: []string{"debug", "info", "error"}, Noun: "log level"}}
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Display formatted logs for Flux components",
		Long:  "The logs command displays formatted logs from various Flux components.",
		Example: `  # Print the reconciliation logs of all Flux objects
  flux logs --all-namespaces

  # Follow the logs of one object
  flux logs --kind=Kustomization --name=podinfo --namespace=default --follow

  # Print the errors of the last two minutes
  flux logs --all-namespaces --level=error --since=2m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.follow {
				return o.run(cmd.Context())
			}
			return f.bounded(cmd.Context(), o.run)
		},
	}
	flags := cmd.Flags()
	flags.Var(&o.level, "level", "log level, one of: debug, info, error")
	flags.StringVar(&o.kind, "kind", "", "displays errors of a particular toolkit kind e.g GitRepository")
	flags.StringVar(&o.name, "name", "", "specifies the name of the object logs to be displayed")
	flags.BoolVarP(&o.follow, "follow", "f", false, "specifies if the logs should be streamed")
	flags.Int64Var(&o.tail, "tail", -1, "lines of recent log file to display")
	flags.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "displays logs for objects across all namespaces")
	flags.StringVar(&o.fluxNamespace, "flux-namespace", f.home, "the namespace where the Flux components are running")
	flags.DurationVar(&o.since, "since", 0, "Only return logs newer than a relative duration like 5s, 2m, or 3h. Defaults to all logs. Only one of since-time / since may be used.")
	flags.StringVar(&o.sinceTime, "since-time", "", "Only return logs after a specific date (RFC3339). Defaults to all logs. Only one of since-time / since may be used.")
	return cmd
}

// run prints the log lines that pass the filters (cli 62).
func (o *logsOptions) run(ctx context.Context) error {
	lines := LogOptions{Follow: o.follow, Tail: o.tail}
	switch {
	case o.since > 0 && o.sinceTime != "":
		return &usageError{errors.New("at most one of --since and --since-time may be specified")}
	case o.since > 0:
		lines.Since = o.Clock.Now().Add(-o.since)
	case o.sinceTime != "":
		t, err := time.Parse(time.RFC3339, o.sinceTime)
		if err != nil {
			return &usageError{fmt.Errorf("--since-time '%s' is not a date of RFC 3339, such as 2026-01-31T12:00:00Z", o.sinceTime)}
		}
		lines.Since = t
	}
	source, err := o.source(ctx)
	if err != nil {
		return err
	}
	return source.Lines(ctx, lines, func(line []byte) {
		if text, ok := o.format(line, lines.Since); ok {
			fmt.Fprintln(o.Streams.Out, text)
		}
	})
}

// source is where the controllers of this cluster log to.
func (o *logsOptions) source(ctx context.Context) (LogSource, error) {
	config, err := o.RESTConfig()
	if err != nil {
		return nil, err
	}
	for _, find := range o.LogSources {
		source, err := find(ctx, config)
		if err != nil {
			return nil, err
		}
		if source != nil {
			return source, nil
		}
	}
	client, err := o.Ops()
	if err != nil {
		return nil, err
	}
	pods, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, &connectError{err}
	}
	return &podLogs{client: client, pods: pods, namespace: o.fluxNamespace}, nil
}

// logLine holds the keys of wire 18b; LegacyKind is what older controllers called the kind.
type logLine struct {
	Time       string `json:"ts"`
	Level      string `json:"level"`
	Message    string `json:"msg"`
	Error      string `json:"error"`
	Kind       string `json:"controllerKind"`
	LegacyKind string `json:"reconciler kind"`
	Name       string `json:"name"`
	Namespace  string `json:"namespace"`
}

// format renders one line, or reports that it is not to be shown.
func (o *logsOptions) format(line []byte, since time.Time) (string, bool) {
	var l logLine
	if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &l) != nil {
		return "", false
	}
	if l.Kind == "" {
		l.Kind = l.LegacyKind
	}
	hidden := o.level.Value != "" && l.Level != o.level.Value ||
		o.kind != "" && !strings.EqualFold(l.Kind, o.kind) ||
		o.name != "" && l.Name != o.name ||
		!o.allNamespaces && l.Namespace != o.Namespace()
	if hidden {
		return "", false
	}
	if !since.IsZero() {
		if t, err := time.Parse(time.RFC3339, l.Time); err == nil && t.Before(since) {
			return "", false
		}
	}
	about := l.Kind
	if l.Name != "" {
		about += "/" + l.Name + "." + l.Namespace
	}
	return strings.TrimRight(fmt.Sprintf("%s %s %s - %s %s", l.Time, l.Level, about, oneLine(l.Message), oneLine(l.Error)), " "), true
}
