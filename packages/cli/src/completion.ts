/** Shell completion: what the shells' scripts ask for (`helmr complete -- <words>`), answered from the commands themselves. */
import tab from "@bomb.sh/tab/commander";
import type { Command } from "commander";

/** Add the command that answers a shell. Not part of the help: nobody types it. */
export function attachCompletion(program: Command): void {
  tab(program);
}
