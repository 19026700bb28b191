package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// eventsOptions are the flags of `flux events`.
type eventsOptions struct {
	*Factory
	allNamespaces, watch, full bool
	about                      string
	types                      []string
}

func newEvents(f *Factory) *cobra.Command {
	o := &eventsOptions{Factory: f}
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Display Kubernetes events for Flux resources",
		Long:  "The events sub-command shows Kubernetes events from Flux resources.",
		Example: `  # Display events for flux resources in default namespace
  flux events -n default

  # Display events for flux resources in all namespaces
  flux events -A

  # Display events for a Kustomization and its source
  flux events --for Kustomization/podinfo

  # Display whole messages, such as those with the logs of Helm
  flux events --for HelmRelease/podinfo --full

  # Follow the warnings
  flux events -A --types=Warning --watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.watch {
				return o.run(cmd.Context())
			}
			return f.bounded(cmd.Context(), o.run)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "indicate if the events should be shown from all namespaces")
	flags.BoolVarP(&o.watch, "watch", "w", false, "indicate if the events should be streamed")
	flags.BoolVar(&o.full, "full", false, "print messages of several lines whole, not only their first line")
	flags.StringVar(&o.about, "for", "", "get events for a particular object")
	flags.StringSliceVar(&o.types, "types", nil, "filter events for certain types (valid types are: Normal, Warning)")
	return cmd
}

// run prints the events of toolkit objects, oldest first (cli 63).
func (o *eventsOptions) run(ctx context.Context) error {
	for _, t := range o.types {
		if t != corev1.EventTypeNormal && t != corev1.EventTypeWarning {
			return &usageError{fmt.Errorf("--types '%s' is not Normal or Warning", t)}
		}
	}
	client, err := o.Ops()
	if err != nil {
		return err
	}
	wanted, namespaces, err := o.wanted(ctx, client)
	if err != nil {
		return err
	}
	var events []corev1.Event
	versions := map[string]string{}
	for _, ns := range namespaces {
		objects, version, err := client.List(ctx, ops.Event(), ns, ops.ListOptions{})
		if err != nil {
			return err
		}
		versions[ns] = version
		for _, obj := range objects {
			if e, ok := o.parse(obj); ok && wanted(e) {
				events = append(events, e)
			}
		}
	}
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return cmp.Compare(lastSeen(a).UnixNano(), lastSeen(b).UnixNano()) })
	if len(events) == 0 && !o.watch {
		where := o.Namespace() + " namespace"
		if o.allNamespaces {
			where = "any namespace"
		}
		o.Failf("no events found in %s", where)
		return nil
	}
	header := []string{"LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"}
	if o.allNamespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	t := newTable(header...)
	cut := false
	for _, e := range events {
		cut = o.add(t, e) || cut
	}
	if err := t.print(o.Streams.Out, true); err != nil {
		return err
	}
	if cut {
		o.Warnf("messages of several lines are cut: use --full to see them whole")
	}
	if !o.watch {
		return nil
	}
	return o.follow(ctx, client, versions, wanted, t)
}

// follow prints events as they happen.
func (o *eventsOptions) follow(ctx context.Context, client *ops.Client, versions map[string]string, wanted func(corev1.Event) bool, t *table) error {
	seen := make(chan corev1.Event)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(versions))
	for ns, version := range versions {
		go func() {
			failed <- client.Watch(ctx, ops.Event(), ns, version, ops.ListOptions{}, func(change watch.EventType, obj kind.Object) {
				e, ok := o.parse(obj)
				if change == watch.Deleted || !ok || !wanted(e) {
					return
				}
				select {
				case seen <- e:
				case <-ctx.Done():
				}
			})
		}()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case e := <-seen:
			o.add(t, e)
			if err := t.print(o.Streams.Out, false); err != nil {
				return err
			}
		}
	}
}

// parse reads an event of a toolkit object of one of the asked types.
func (o *eventsOptions) parse(obj kind.Object) (corev1.Event, bool) {
	var e corev1.Event
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, &e); err != nil {
		return e, false
	}
	gvk := schema.FromAPIVersionAndKind(e.InvolvedObject.APIVersion, e.InvolvedObject.Kind)
	if _, known := o.Kinds.ForGroupKind(gvk.GroupKind()); !known {
		return e, false
	}
	return e, len(o.types) == 0 || slices.Contains(o.types, e.Type)
}

// wanted tells which events belong to --for, and in which namespaces they are.
func (o *eventsOptions) wanted(ctx context.Context, client *ops.Client) (func(corev1.Event) bool, []string, error) {
	scope := o.Namespace()
	if o.allNamespaces {
		scope = ""
	}
	if o.about == "" {
		return func(corev1.Event) bool { return true }, []string{scope}, nil
	}
	word, name, _ := strings.Cut(o.about, "/")
	k, known := o.Kinds.Named(word)
	if !known {
		return nil, nil, &usageError{fmt.Errorf("--for '%s' names no Flux kind", o.about)}
	}
	objects, _, err := client.List(ctx, k, scope, ops.ListOptions{Name: name})
	if err != nil {
		return nil, nil, err
	}
	if name != "" && len(objects) == 0 && !o.allNamespaces {
		return nil, nil, &ops.NotFoundError{Kind: k, Namespace: scope, Name: name}
	}
	refs := map[kind.Ref]bool{}
	namespaces := map[string]bool{scope: true}
	for _, obj := range objects {
		o.story(ctx, client, k, obj, refs)
	}
	for r := range refs {
		namespaces[r.Namespace] = true
	}
	if namespaces[""] {
		namespaces = map[string]bool{"": true}
	}
	wanted := func(e corev1.Event) bool {
		i := e.InvolvedObject
		// Events outlive their objects: those of the named kind are shown also when it is gone.
		return i.Kind == k.Kind && (name == "" || i.Name == name) && (scope == "" || i.Namespace == scope) ||
			refs[kind.Ref{Kind: i.Kind, Namespace: i.Namespace, Name: i.Name}]
	}
	return wanted, slices.Sorted(maps.Keys(namespaces)), nil
}

// story collects an object, its source and the source's source, and what else its kind names.
func (o *eventsOptions) story(ctx context.Context, client *ops.Client, k kind.Kind, obj kind.Object, refs map[kind.Ref]bool) {
	if refs[obj.Ref()] {
		return
	}
	refs[obj.Ref()] = true
	if k.Related != nil {
		for _, r := range k.Related(obj) {
			refs[r] = true
		}
	}
	if k.Source == nil {
		return
	}
	ref := k.Source(obj)
	if ref == nil {
		return
	}
	sk, known := o.Kinds.Named(ref.Kind)
	var source kind.Object
	err := errors.New("unknown kind")
	if known && sk.Source != nil {
		source, err = client.Get(ctx, sk, ref.Namespace, ref.Name)
	}
	if err != nil {
		refs[*ref] = true
		return
	}
	o.story(ctx, client, sk, source, refs)
}

// add adds the row of an event to a table and tells whether its message was cut.
func (o *eventsOptions) add(t *table, e corev1.Event) (cut bool) {
	head, rest := headline(e.Message)
	switch {
	case o.cuts(rest):
		head = fmt.Sprintf("%s (+%d lines)", head, len(rest))
	case !o.full:
		head = strings.Join(append([]string{head}, rest...), " ")
	}
	row := []string{o.seen(e), e.Type, e.Reason, e.InvolvedObject.Kind + "/" + e.InvolvedObject.Name, head}
	if o.allNamespaces {
		row = append([]string{e.Namespace}, row...)
	}
	t.add(row...)
	if o.full {
		t.below(rest)
	}
	return o.cuts(rest)
}

// cuts tells whether what follows the headline of a message is left out. A single line takes no more room than saying so.
func (o *eventsOptions) cuts(rest []string) bool { return len(rest) > 1 && !o.full }

// headline is the first line of a message, along with those that it only announces, and the lines that follow.
func headline(message string) (head string, rest []string) {
	for line := range strings.Lines(message) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case head == "":
			head = line
		case len(rest) == 0 && strings.HasSuffix(head, ":"):
			head += " " + line
		default:
			rest = append(rest, line)
		}
	}
	return head, rest
}

// lastSeen is when the event last happened.
func lastSeen(e corev1.Event) time.Time {
	switch {
	case e.Series != nil && !e.Series.LastObservedTime.IsZero():
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.FirstTimestamp.Time
}

// seen renders the age of an event, and for repeated ones how often and since when.
func (o *eventsOptions) seen(e corev1.Event) string {
	count := e.Count
	if e.Series != nil {
		count = e.Series.Count
	}
	first := e.FirstTimestamp.Time
	if first.IsZero() {
		first = e.EventTime.Time
	}
	if count < 2 || first.IsZero() {
		return o.age(lastSeen(e))
	}
	return fmt.Sprintf("%s (x%d over %s)", o.age(lastSeen(e)), count, duration.HumanDuration(o.Clock.Since(first)))
}
