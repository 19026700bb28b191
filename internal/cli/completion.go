package cli

import (
	"github.com/spf13/cobra"
)

func newCompletion(f *Factory) *cobra.Command {
	cmd := group("completion", nil, "Generate shell completion code")
	cmd.Long = "The completion sub-commands generate completion scripts for several shells."
	shells := []struct {
		name, example string
		write         func(root *cobra.Command) error
	}{
		{"bash", "  # Load completion for the current shell\n  . <(flux completion bash)", func(r *cobra.Command) error { return r.GenBashCompletionV2(f.Streams.Out, true) }},
		{"fish", "  # Keep completion for every new shell\n  flux completion fish > ~/.config/fish/completions/flux.fish", func(r *cobra.Command) error { return r.GenFishCompletion(f.Streams.Out, true) }},
		{"powershell", "  # Load completion for the current shell\n  flux completion powershell | Out-String | Invoke-Expression", func(r *cobra.Command) error { return r.GenPowerShellCompletionWithDesc(f.Streams.Out) }},
		{"zsh", "  # Load completion for the current shell\n  . <(flux completion zsh)", func(r *cobra.Command) error { return r.GenZshCompletion(f.Streams.Out) }},
	}
	for _, s := range shells {
		cmd.AddCommand(&cobra.Command{
			Use:         s.name,
			Short:       "Generate completion for " + s.name,
			Long:        "The completion " + s.name + " command prints the completion script of " + s.name + ".",
			Example:     s.example,
			Args:        cobra.NoArgs,
			Annotations: map[string]string{noNamespace: "true"},
			RunE:        func(cmd *cobra.Command, _ []string) error { return s.write(cmd.Root()) },
		})
	}
	return cmd
}
