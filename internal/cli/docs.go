package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newDocgen(f *Factory) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:         "docgen",
		Short:       "Generate the documentation for the CLI commands.",
		Hidden:      true,
		Args:        cobra.NoArgs,
		Annotations: map[string]string{noNamespace: "true"},
		RunE:        func(cmd *cobra.Command, _ []string) error { return WriteDocs(cmd.Root(), path) },
	}
	cmd.Flags().StringVar(&path, "path", "./docs/cmd", "path to write the generated documentation to")
	return cmd
}

// WriteDocs writes one Markdown page per command into dir, and removes pages of commands that are gone. The same
// tree gives the same bytes on every machine.
func WriteDocs(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create the folder of the command reference: %w", err)
	}
	pages := map[string]string{}
	collect(root, pages)
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write the command reference: %w", err)
		}
	}
	old, err := filepath.Glob(filepath.Join(dir, "flux*.md"))
	if err != nil {
		return fmt.Errorf("list the command reference: %w", err)
	}
	for _, path := range old {
		if _, keep := pages[filepath.Base(path)]; keep {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove a stale page of the command reference: %w", err)
		}
	}
	return nil
}

func collect(cmd *cobra.Command, pages map[string]string) {
	if cmd.Hidden || cmd.Name() == "help" {
		return
	}
	pages[pageName(cmd)] = page(cmd)
	for _, sub := range cmd.Commands() {
		collect(sub, pages)
	}
}

func pageName(cmd *cobra.Command) string {
	return strings.ReplaceAll(cmd.CommandPath(), " ", "_") + ".md"
}

func page(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n%s\n", cmd.CommandPath(), cmd.Short)
	if cmd.Long != "" && cmd.Long != cmd.Short {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(cmd.Long))
	}
	if cmd.Runnable() {
		fmt.Fprintf(&b, "\n```\n%s\n```\n", cmd.UseLine())
	}
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(&b, "\nAliases: `%s`\n", strings.Join(cmd.Aliases, "`, `"))
	}
	if cmd.Example != "" {
		fmt.Fprintf(&b, "\n## Examples\n\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
	}
	flags(&b, "Flags", cmd.NonInheritedFlags())
	if cmd.HasParent() && cmd.Runnable() {
		flags(&b, "Inherited flags", below(cmd))
		fmt.Fprintf(&b, "\nFlags of all commands: [%s](%s)\n", cmd.Root().CommandPath(), pageName(cmd.Root()))
	}
	var sub []string
	for _, c := range cmd.Commands() {
		if !c.Hidden && c.Name() != "help" {
			sub = append(sub, fmt.Sprintf("- [%s](%s): %s", c.CommandPath(), pageName(c), c.Short))
		}
	}
	if len(sub) > 0 {
		fmt.Fprintf(&b, "\n## Commands\n\n%s\n", strings.Join(sub, "\n"))
	}
	if cmd.HasParent() {
		fmt.Fprintf(&b, "\nUp: [%s](%s)\n", cmd.Parent().CommandPath(), pageName(cmd.Parent()))
	}
	return b.String()
}

// below are the flags a command inherits from groups, without those of the root.
func below(cmd *cobra.Command) *pflag.FlagSet {
	out := pflag.NewFlagSet("", pflag.ContinueOnError)
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		if cmd.Root().PersistentFlags().Lookup(f.Name) == nil {
			out.AddFlag(f)
		}
	})
	return out
}

func flags(b *strings.Builder, title string, set *pflag.FlagSet) {
	var rows []string
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" && f.Value.Type() == "bool" {
			return
		}
		name := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			name = "`-" + f.Shorthand + "`, " + name
		}
		def := ""
		if f.DefValue != "" && f.DefValue != "[]" {
			def = "`" + f.DefValue + "`"
		}
		escape := strings.NewReplacer("|", `\|`, "\n", " ").Replace
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |", name, escape(f.Value.Type()), escape(def), escape(f.Usage)))
	})
	if len(rows) > 0 {
		fmt.Fprintf(b, "\n## %s\n\n| Flag | Type | Default | Meaning |\n|---|---|---|---|\n%s\n", title, strings.Join(rows, "\n"))
	}
}
