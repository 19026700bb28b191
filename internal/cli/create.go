package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// createOptions are the flags of `flux create`.
type createOptions struct {
	*Factory
	export   bool
	interval time.Duration
	labels   []string
	// fetchTimeout is a flag of `flux create source`.
	fetchTimeout time.Duration
}

func newCreate(f *Factory) *cobra.Command {
	o := &createOptions{Factory: f}
	cmd := group("create", nil, "Create or update sources and resources")
	cmd.Long = "The create sub-commands generate sources and resources."
	flags := cmd.PersistentFlags()
	flags.BoolVar(&o.export, "export", false, "export in YAML format to stdout")
	flags.DurationVar(&o.interval, "interval", time.Minute, "source sync interval")
	flags.StringSliceVar(&o.labels, "label", nil, "set labels on the resource (can specify multiple labels with commas: label1=value1,label2=value2)")
	parent := func(word string) *cobra.Command {
		g := group(word, nil, "Create or update "+word+" resources")
		if word == "source" {
			g.PersistentFlags().DurationVar(&o.fetchTimeout, "fetch-timeout", 0, "set a timeout for fetch operations performed by source-controller (e.g. 'git clone' or 'helm repo update')")
		}
		return g
	}
	var kinds kind.Set
	for _, k := range f.Kinds {
		if k.Create != nil {
			kinds = append(kinds, k)
		}
	}
	cross(cmd, kinds, single, parent, func(k kind.Kind, cmd *cobra.Command) {
		cmd.Use += nameArg
		cmd.Short, cmd.Long, cmd.Example = k.Create.Short, k.Create.Long, k.Create.Example
		cmd.Args = exactly(k.Kind + " name")
		build := k.Create.Bind(cmd.Flags())
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, build, args[0]) })
		}
	})
	cmd.AddCommand(newCreateSecret(o))
	return cmd
}

// run makes an object and prints it, or applies it and waits until it is ready (cli 21-23).
func (o *createOptions) run(ctx context.Context, k kind.Kind, build kind.Build, name string) error {
	if err := kind.ValidateName(name); err != nil {
		return &usageError{err}
	}
	labels, err := parseLabels(o.labels)
	if err != nil {
		return &usageError{err}
	}
	if !o.export {
		o.Generatef("generating %s", k.Title())
	}
	made, err := build(ctx, kind.CreateInput{
		Name: name, Namespace: o.Namespace(), Labels: labels, Interval: o.interval, Timeout: o.fetchTimeout,
		Export: o.export, UI: o.ui(),
	})
	if err != nil {
		return o.buildError(err)
	}
	obj, err := toObject(made.Object)
	if err != nil {
		return err
	}
	if o.export {
		return printDocument(o.Streams.Out, ops.Export(obj).Object)
	}
	if o.verbose {
		if err := printDocument(o.Streams.Err, ops.Export(obj).Object); err != nil {
			return err
		}
	}
	client, err := o.Ops()
	if err != nil {
		return err
	}
	if made.Secret != nil {
		o.Actionf("applying secret with %s credentials", k.Label())
		secret, err := toObject(made.Secret)
		if err != nil {
			return err
		}
		if err := client.SaveSecret(ctx, secret); err != nil {
			return err
		}
		o.Successf("authentication configured")
	}
	o.Actionf("applying %s", k.Title())
	created, err := client.Save(ctx, k, obj)
	if err != nil {
		return err
	}
	if created {
		o.Successf("%s created", k.Title())
	} else {
		o.Successf("%s updated", k.Title())
	}
	return o.await(ctx, client, k, name)
}

// buildError points to the help, unless the error is not about the flags.
func (o *createOptions) buildError(err error) error {
	if errors.Is(err, ops.ErrRefused) || ofNetwork(err) {
		return err
	}
	return &usageError{err}
}

func (o *createOptions) await(ctx context.Context, client *ops.Client, k kind.Kind, name string) error {
	o.Waitf("waiting for %s reconciliation", k.Title())
	live := o.live()
	ready, err := client.AwaitReady(ctx, k, o.Namespace(), name, live.show)
	live.clear()
	if err != nil {
		return fmt.Errorf("%s %s is not ready: %w", k.Title(), name, err)
	}
	if ready.Suspended() {
		o.Warnf("%s %s is suspended", k.Title(), name)
	}
	if k.Create.Done != nil {
		o.Successf("%s", k.Create.Done(ready))
	}
	if k.Done != nil {
		o.Successf("%s", k.Done(ready))
	}
	return nil
}

// toObject turns a typed object, whose apiVersion and kind are set, into the form the verbs work on.
func toObject(typed any) (kind.Object, error) {
	// Through JSON, as the API server would see it: durations and times become strings.
	data, err := json.Marshal(typed)
	if err != nil {
		return kind.Object{}, fmt.Errorf("render object: %w", err)
	}
	var m map[string]any
	// The reader of Kubernetes keeps whole numbers whole, to their last digit.
	if err := utiljson.Unmarshal(data, &m); err != nil {
		return kind.Object{}, fmt.Errorf("render object: %w", err)
	}
	delete(m, "status")
	if meta, ok := m["metadata"].(map[string]any); ok {
		delete(meta, "creationTimestamp")
	}
	return kind.Object{Unstructured: &unstructured.Unstructured{Object: m}}, nil
}

// parseLabels reads k=v pairs and checks them by the rules of Kubernetes (cli 23).
func parseLabels(pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("label '%s' is not of the form key=value", pair)
		}
		if errs := validation.IsQualifiedName(key); len(errs) > 0 {
			return nil, fmt.Errorf("label key '%s' is invalid: %s", key, brief(errs[0]))
		}
		if errs := validation.IsValidLabelValue(value); len(errs) > 0 {
			return nil, fmt.Errorf("value '%s' of label '%s' is invalid: %s", value, key, brief(errs[0]))
		}
		out[key] = value
	}
	return out, nil
}

// brief leaves out the examples and patterns that Kubernetes puts into its messages.
func brief(message string) string {
	message, _, _ = strings.Cut(message, " (e.g.")
	return message
}
