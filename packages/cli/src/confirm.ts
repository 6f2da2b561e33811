/** Asking before something is gone. */
import { CliError, exitCodes, usageError } from "./errors.ts";

/** Resolves when the person said yes, or `--yes` did; without a terminal only `--yes` can. */
export async function confirm(question: string, yes: boolean | undefined): Promise<void> {
  if (yes) return;
  if (!process.stdin.isTTY || !process.stderr.isTTY)
    throw usageError("nobody can be asked here", "add --yes to say that this is meant");
  const { confirm: ask, isCancel } = await import("@clack/prompts");
  const answer = await ask({ message: question, initialValue: false, output: process.stderr });
  if (isCancel(answer))
    throw new CliError("interrupted, nothing was done", { exitCode: exitCodes.interrupted });
  if (!answer) throw new CliError("nothing was done", { exitCode: exitCodes.usage });
}
