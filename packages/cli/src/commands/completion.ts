/** `helmr completion <shell>`: the script a shell loads; it asks `helmr complete` (../completion.ts) at every tab. */
import { Argument, type Command } from "commander";
import { declare } from "../command.ts";

const name = "helmr";

export function register(program: Command): void {
  declare(program, "completion", "Print the completion script of a shell", [
    "source <(helmr completion bash)",
    `helmr completion zsh > "\${fpath[1]}/_helmr"`,
    "helmr completion fish > ~/.config/fish/completions/helmr.fish",
  ])
    .addArgument(new Argument("<shell>", "which shell").choices(["bash", "zsh", "fish"]))
    .action(async (shell: string) => {
      const { script } = await import("@bomb.sh/tab");
      script(shell, name, name);
    });
}
