package main

import (
	"bufio"
	"fmt"

	"github.com/spf13/cobra"
)

func (p *program) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes commands, flags and their values",
		Example: `  source <(natsentry completion bash)
  natsentry completion zsh > "${fpath[1]}/_natsentry"
  natsentry completion fish > ~/.config/fish/completions/natsentry.fish`,
		Args:        cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs:   shells,
		Annotations: offlineCommand,
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.print(func(w *bufio.Writer) error {
				switch root := cmd.Root(); args[0] {
				case "bash":
					return root.GenBashCompletionV2(w, true)
				case "zsh":
					return root.GenZshCompletion(w)
				case "fish":
					return root.GenFishCompletion(w, true)
				}
				return fmt.Errorf("no completion for %s", args[0])
			})
		},
	}
}
