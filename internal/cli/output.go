package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// printAs writes a value as json or yaml.
func printAs(w io.Writer, format string, v any) error {
	if format == "yaml" {
		data, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("render yaml: %w", err)
		}
		_, err = w.Write(data)
		return err
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printDocument writes one document of a YAML stream (cli 22).
func printDocument(w io.Writer, v any) error {
	data, err := yaml.Marshal(v)
	if err != nil {
		return fmt.Errorf("render yaml: %w", err)
	}
	_, err = fmt.Fprintf(w, "---\n%s", data)
	return err
}

// age renders how long ago something was, as kubectl does.
func (f *Factory) age(t time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(f.Clock.Since(t))
}

// completionTimeout keeps a shell responsive when the cluster is not.
const completionTimeout = 2 * time.Second

// completeNames completes the names of the objects of a kind.
func (f *Factory) completeNames(k kind.Kind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if err := f.resolve(cmd.Flags()); err != nil {
			return nil, none
		}
		client, err := f.Ops()
		if err != nil {
			return nil, none
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		objects, _, err := client.List(ctx, k, f.Namespace(), ops.ListOptions{})
		if err != nil {
			return nil, none
		}
		taken := map[string]bool{}
		for _, a := range args {
			taken[a] = true
		}
		var names []string
		for _, o := range objects {
			if !taken[o.GetName()] {
				names = append(names, o.GetName())
			}
		}
		return names, none
	}
}
