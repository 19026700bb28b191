package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// getOptions are the flags of `flux get` and below.
type getOptions struct {
	*Factory
	allNamespaces  bool
	watch          bool
	noHeader       bool
	statusSelector string
	labelSelector  string
	output         string
}

func newGet(f *Factory) *cobra.Command {
	o := &getOptions{Factory: f}
	cmd := group("get", nil, "Get the resources and their status")
	cmd.Long = "The get sub-commands print the statuses of Flux resources."
	flags := cmd.PersistentFlags()
	flags.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "list the requested object(s) across all namespaces")
	flags.BoolVar(&o.noHeader, "no-header", false, "skip the header when printing the results")
	flags.BoolVarP(&o.watch, "watch", "w", false, "After listing/getting the requested object, watch for changes.")
	flags.StringVar(&o.statusSelector, "status-selector", "", "specify the status condition name and the desired state to filter the get result, e.g. ready=false")
	flags.StringVarP(&o.labelSelector, "label-selector", "l", "", "filter objects by label selector")
	flags.StringVarP(&o.output, "output", "o", "", "output format: json, yaml, wide or name; a table by default")

	parent := func(word string) *cobra.Command {
		g := group(word, []string{strings.TrimSuffix(word, "s")}, "Get "+strings.TrimSuffix(word, "s")+" statuses")
		if word == "sources" || word == "images" {
			g.AddCommand(newGetAll(o, word, f.Kinds.Under(word)))
		}
		return g
	}
	words := func(k kind.Kind) (path, aliases []string) { return k.ListWords, k.ListAliases }
	cross(cmd, f.Kinds, words, parent, func(k kind.Kind, cmd *cobra.Command) {
		columns := shown{}
		cmd.Use += nameArg
		cmd.Short = "Get " + k.Kind + " statuses"
		cmd.Long = fmt.Sprintf("The %s command prints the statuses of %s objects.", k.ListCommand()[len("flux "):], k.Kind)
		cmd.Example = fmt.Sprintf("  # List all %s objects and their status\n  %s --all-namespaces\n\n  # List those that are not ready\n  %s -A --status-selector ready=false",
			k.Kind, k.ListCommand(), k.ListCommand())
		cmd.Args = atMostName
		cmd.ValidArgsFunction = f.completeNames(k)
		for _, c := range k.Columns {
			if c.Flag != "" {
				columns[c.Flag] = cmd.Flags().Bool(c.Flag, false, "show the "+strings.ToLower(c.Header)+" column")
			}
		}
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			var name string
			if len(args) == 1 {
				name = args[0]
			}
			if o.watch {
				return o.follow(cmd.Context(), k, name, columns)
			}
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, name, columns) })
		}
	})
	cmd.AddCommand(newGetAll(o, "", f.Kinds))
	return cmd
}

func newGetAll(o *getOptions, word string, kinds kind.Set) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "all",
		Short: strings.TrimSpace("Get all " + word + " resources and statuses"),
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.watch {
				return &usageError{errors.New("--watch takes one kind: 'all' cannot be watched")}
			}
			return o.bounded(cmd.Context(), func(ctx context.Context) error { return o.all(ctx, kinds) })
		},
	}
	return cmd
}

// shown are the columns switched on by flags of a kind.
type shown map[string]*bool

func (s shown) has(c kind.Column, wide bool) bool {
	if c.Flag != "" {
		return s[c.Flag] != nil && *s[c.Flag]
	}
	return !c.Wide || wide
}

func (o *getOptions) scope() string {
	if o.allNamespaces {
		return ""
	}
	return o.Namespace()
}

func (o *getOptions) validate() error {
	if _, err := parseStatusSelector(o.statusSelector); err != nil {
		return &usageError{err}
	}
	if !slices.Contains([]string{"", "json", "yaml", "wide", "name"}, o.output) {
		return &usageError{fmt.Errorf("unknown output format '%s', use json, yaml, wide or name", o.output)}
	}
	return nil
}

// run prints the objects of one kind (cli 8).
func (o *getOptions) run(ctx context.Context, k kind.Kind, name string, columns shown) error {
	if err := o.validate(); err != nil {
		return err
	}
	client, err := o.Ops()
	if err != nil {
		return err
	}
	objects, _, err := client.List(ctx, k, o.scope(), ops.ListOptions{Name: name, LabelSelector: o.labelSelector})
	if err != nil {
		return err
	}
	if len(objects) == 0 {
		return o.nothing(k, name)
	}
	if objects, err = o.selected(k, objects); err != nil {
		return err
	}
	if handled, err := o.machine([]listed{{k, objects}}); handled {
		return err
	}
	return o.table(k, objects, columns, "").print(o.Streams.Out, !o.noHeader)
}

func (o *getOptions) nothing(k kind.Kind, name string) error {
	where := fmt.Sprintf("%q", o.Namespace())
	if o.allNamespaces {
		where = "any"
	}
	if name != "" {
		return hinted(fmt.Errorf("%s object '%s' not found in %s namespace", k.Kind, name, where), "%s -A", k.ListCommand())
	}
	if o.allNamespaces {
		return fmt.Errorf("no %s objects found in any namespace", k.Kind)
	}
	return hinted(fmt.Errorf("no %s objects found in %s namespace", k.Kind, where), "%s -A", k.ListCommand())
}

// listed are the objects of a kind.
type listed struct {
	kind.Kind
	objects []kind.Object
}

// all prints the tables of several kinds, without those that are empty or not installed (cli 8).
func (o *getOptions) all(ctx context.Context, kinds kind.Set) error {
	if err := o.validate(); err != nil {
		return err
	}
	client, err := o.Ops()
	if err != nil {
		return err
	}
	found := make([]listed, len(kinds))
	errs := make([]error, len(kinds))
	var wg sync.WaitGroup
	for i, k := range kinds {
		wg.Go(func() {
			found[i].Kind = k
			found[i].objects, _, errs[i] = client.List(ctx, k, o.scope(), ops.ListOptions{LabelSelector: o.labelSelector})
		})
	}
	wg.Wait()
	for i := range found {
		var unserved *ops.NotInstalledError
		if errs[i] != nil && !errors.As(errs[i], &unserved) {
			return errs[i]
		}
		if found[i].objects, err = o.selected(found[i].Kind, found[i].objects); err != nil {
			return err
		}
	}
	found = slices.DeleteFunc(found, func(l listed) bool { return len(l.objects) == 0 })
	if handled, err := o.machine(found); handled {
		return err
	}
	for i, l := range found {
		if i > 0 {
			fmt.Fprintln(o.Streams.Out)
		}
		t := o.table(l.Kind, l.objects, shown{}, strings.ToLower(l.Kind.Kind)+"/")
		if err := t.print(o.Streams.Out, !o.noHeader); err != nil {
			return err
		}
	}
	return nil
}

// header and row are the two halves of a table of a kind (cli 12).
func (o *getOptions) header(k kind.Kind, columns shown) []string {
	var h []string
	if o.allNamespaces {
		h = append(h, "NAMESPACE")
	}
	h = append(h, "NAME")
	for _, c := range k.Columns {
		if columns.has(c, o.output == "wide") {
			h = append(h, c.Header)
		}
	}
	h = append(h, "READY", "MESSAGE")
	if o.output == "wide" {
		h = append(h, "AGE")
	}
	return h
}

func (o *getOptions) row(k kind.Kind, obj kind.Object, columns shown, prefix string) []string {
	short := func(s string) string { return s }
	if k.ShortenHashes {
		short = kind.ShortenHashes
	}
	var r []string
	if o.allNamespaces {
		r = append(r, obj.GetNamespace())
	}
	r = append(r, prefix+obj.GetName())
	for _, c := range k.Columns {
		if !columns.has(c, o.output == "wide") {
			continue
		}
		v := c.Value(obj)
		if c.Header == "REVISION" {
			v = short(v)
		}
		r = append(r, v)
	}
	ready, message := k.Readiness(obj)
	r = append(r, ready, short(message))
	if o.output == "wide" {
		r = append(r, o.age(obj.GetCreationTimestamp().Time))
	}
	return r
}

func (o *getOptions) table(k kind.Kind, objects []kind.Object, columns shown, prefix string) *table {
	t := newTable(o.header(k, columns)...)
	for _, obj := range objects {
		t.add(o.row(k, obj, columns, prefix)...)
	}
	return t
}

// follow prints the objects of a kind and a row for every change, until interrupted.
func (o *getOptions) follow(ctx context.Context, k kind.Kind, name string, columns shown) error {
	if err := o.validate(); err != nil {
		return err
	}
	if o.output != "" && o.output != "wide" {
		return &usageError{fmt.Errorf("--watch prints a table: it cannot be combined with --output=%s", o.output)}
	}
	client, err := o.Ops()
	if err != nil {
		return err
	}
	list := ops.ListOptions{Name: name, LabelSelector: o.labelSelector}
	objects, rv, err := client.List(ctx, k, o.scope(), list)
	if err != nil {
		return err
	}
	if objects, err = o.selected(k, objects); err != nil {
		return err
	}
	t := o.table(k, objects, columns, "")
	if err := t.print(o.Streams.Out, !o.noHeader); err != nil {
		return err
	}
	return client.Watch(ctx, k, o.scope(), rv, list, func(e watch.EventType, obj kind.Object) {
		if e == watch.Deleted {
			return
		}
		if matching, err := o.selected(k, []kind.Object{obj}); err == nil && len(matching) == 1 {
			t.add(o.row(k, obj, columns, "")...)
			_ = t.print(o.Streams.Out, false)
		}
	})
}

// machine prints the formats made for programs: one list, also of a single object.
func (o *getOptions) machine(found []listed) (handled bool, err error) {
	var objects []*unstructured.Unstructured
	for _, l := range found {
		for _, obj := range l.objects {
			objects = append(objects, obj.Unstructured)
		}
	}
	switch o.output {
	case "name":
		for _, l := range found {
			for _, obj := range l.objects {
				fmt.Fprintf(o.Streams.Out, "%s.%s/%s\n", strings.ToLower(l.Kind.Kind), l.Group, obj.GetName())
			}
		}
		return true, nil
	case "json", "yaml":
		items := make([]any, len(objects))
		for i := range objects {
			items[i] = objects[i].Object
		}
		v := map[string]any{"apiVersion": "v1", "kind": "List", "metadata": map[string]any{}, "items": items}
		return true, printAs(o.Streams.Out, o.output, v)
	}
	return false, nil
}

// statusSelector is type=value or type!=value (cli 9).
type statusSelector struct {
	condition, value string
	differs          bool
}

func parseStatusSelector(s string) (*statusSelector, error) {
	if s == "" {
		return nil, nil
	}
	condition, value, ok := strings.Cut(s, "=")
	differs := strings.HasSuffix(condition, "!")
	condition = strings.TrimSuffix(condition, "!")
	if !ok || condition == "" || value == "" || strings.ContainsAny(value, "=,") {
		return nil, fmt.Errorf("--status-selector '%s' is not of the form type=status or type!=status", s)
	}
	return &statusSelector{condition, value, differs}, nil
}

func (o *getOptions) selected(k kind.Kind, objects []kind.Object) ([]kind.Object, error) {
	sel, err := parseStatusSelector(o.statusSelector)
	if err != nil || sel == nil {
		return objects, err
	}
	var out []kind.Object
	for _, obj := range objects {
		status := ""
		if c, found := obj.Condition(sel.condition); found {
			status = c.Status
		}
		if k.IsStatic(obj) && strings.EqualFold(sel.condition, "Ready") {
			status = "True"
		}
		if strings.EqualFold(status, sel.value) != sel.differs {
			out = append(out, obj)
		}
	}
	return out, nil
}
