package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/seed-79636ae9/flux/internal/kind"
)

// cross hangs one command per kind below a verb. leaf makes the command named by the last word; words of the
// kind before it become groups, made by parent when first met.
func cross(verb *cobra.Command, kinds kind.Set, words func(kind.Kind) (path, aliases []string),
	parent func(word string) *cobra.Command, leaf func(kind.Kind, *cobra.Command)) {
	groups := map[string]*cobra.Command{}
	for _, k := range kinds {
		path, aliases := words(k)
		under := verb
		for _, word := range path[:len(path)-1] {
			g, met := groups[word]
			if !met {
				g = parent(word)
				groups[word] = g
				under.AddCommand(g)
			}
			under = g
		}
		cmd := &cobra.Command{Use: path[len(path)-1], Aliases: slices.Clone(aliases)}
		leaf(k, cmd)
		under.AddCommand(cmd)
	}
}

// single names a kind for verbs that act on one object.
func single(k kind.Kind) (path, aliases []string) { return k.Words, k.Aliases }

// with leaves the kinds that answer to a verb.
func with(kinds kind.Set, v kind.Verb) kind.Set {
	var out kind.Set
	for _, k := range kinds {
		if k.Has(v) {
			out = append(out, k)
		}
	}
	return out
}

// nameArg is the placeholder of the name in usage lines.
const nameArg = " [name]"

// groupShort is the help text of the groups below a verb.
func groupShort(verb string) func(string) *cobra.Command {
	return func(word string) *cobra.Command {
		return group(word, nil, verb+" "+word+" resources")
	}
}
