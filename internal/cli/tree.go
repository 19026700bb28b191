package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/kind"
	"github.com/seed-79636ae9/flux/internal/ops"
)

// treeOptions are the flags of one `flux tree` command.
type treeOptions struct {
	*Factory
	compact bool
	output  string
}

func newTree(f *Factory) *cobra.Command {
	cmd := group("tree", nil, "Print the resources reconciled by Flux")
	cmd.Long = "The tree command shows the list of resources reconciled by a Flux object."
	words := func(k kind.Kind) (path, aliases []string) {
		return k.Words, append(append([]string{}, k.Aliases...), treeAliases(k)...)
	}
	cross(cmd, with(f.Kinds, kind.Tree), words, groupShort("Print the objects of"), func(k kind.Kind, cmd *cobra.Command) {
		o := &treeOptions{Factory: f}
		cmd.Use += nameArg
		cmd.Short = "Print the resource inventory of a " + k.Kind
		cmd.Long = fmt.Sprintf("The tree command prints the resource inventory of a %s, and of the Flux objects in it.", k.Kind)
		cmd.Example = fmt.Sprintf("  # Print the resources managed by the root object\n  flux tree %s flux-system", k.Label())
		cmd.Args = exactly(k.Label() + " name")
		cmd.ValidArgsFunction = f.completeNames(k)
		if k.Owner != nil {
			cmd.Flags().BoolVar(&o.compact, "compact", false, "list Flux resources only")
			cmd.Example += "\n\n  # Print the Flux resources managed by it\n  flux tree " + k.Label() + " flux-system --compact"
		}
		cmd.Flags().StringVarP(&o.output, "output", "o", "", "the format in which the tree should be printed. can be 'json' or 'yaml'")
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			return f.bounded(cmd.Context(), func(ctx context.Context) error { return o.run(ctx, k, args[0]) })
		}
	})
	return cmd
}

// treeAliases keep 2.9's list of aliases, which repeats the name.
func treeAliases(k kind.Kind) []string {
	if len(k.Words) == 1 {
		return k.Words
	}
	return nil
}

// run draws the tree (cli 65).
func (o *treeOptions) run(ctx context.Context, k kind.Kind, name string) error {
	switch o.output {
	case "", "json", "yaml":
	default:
		return &usageError{fmt.Errorf("unknown output format '%s', use json or yaml", o.output)}
	}
	client, err := o.Ops()
	if err != nil {
		return err
	}
	obj, err := client.Get(ctx, k, o.Namespace(), name)
	if err != nil {
		return err
	}
	root, err := client.Tree(ctx, o.Kinds, k, obj, ops.TreeOptions{Compact: o.compact})
	if err != nil {
		return err
	}
	if o.output != "" {
		return printAs(o.Streams.Out, o.output, treeDocument(root))
	}
	var b strings.Builder
	b.WriteString(nodeName(root) + "\n")
	draw(&b, root, "")
	_, err = o.Streams.Out.Write([]byte(b.String()))
	return err
}

func nodeName(n *ops.Node) string {
	if n.Namespace == "" {
		return n.Kind + "/" + n.Name
	}
	return n.Kind + "/" + n.Namespace + "/" + n.Name
}

func draw(b *strings.Builder, n *ops.Node, indent string) {
	for i, c := range n.Children {
		branch, below := "├── ", "│   "
		if i == len(n.Children)-1 {
			branch, below = "└── ", "    "
		}
		b.WriteString(indent + branch + nodeName(c) + "\n")
		draw(b, c, indent+below)
	}
}

// treeDocument is the machine form of a tree.
func treeDocument(n *ops.Node) map[string]any {
	resource := map[string]any{"name": n.Name, "kind": n.Kind, "version": n.Version}
	if n.Namespace != "" {
		resource["namespace"] = n.Namespace
	}
	if n.Group != "" {
		resource["group"] = n.Group
	}
	doc := map[string]any{"resource": resource}
	var children []any
	for _, c := range n.Children {
		children = append(children, treeDocument(c))
	}
	if len(children) > 0 {
		doc["resources"] = children
	}
	return doc
}
