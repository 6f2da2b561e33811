/** A command of the model, with limits: time, output, and nothing of the task's environment. */
import { spawn } from "node:child_process";
import { limits } from "./settings.ts";

export interface CommandResult {
  /** Null when it was ended by a signal. */
  readonly exitCode: number | null;
  /** stdout and stderr as they came. */
  readonly output: string;
  readonly timedOut: boolean;
}

export interface CommandOptions {
  readonly cwd: string;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
}

/** Rejects when it cannot be started, or when the run is cancelled. */
export async function runCommand(
  [file = "", ...args]: readonly string[],
  { cwd, signal, timeoutMs = limits.commandTimeoutMs }: CommandOptions,
): Promise<CommandResult> {
  signal.throwIfAborted();
  const { PATH, HOME, LANG } = process.env;
  const child = spawn(file, args, {
    cwd,
    // The task's environment may hold secrets: a command gets none of it.
    env: { PATH, HOME, LANG, CI: "true" },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let output = "";
  let timedOut = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output = keepEnds(output + text, limits.shownCharacters * 4);
    });
  }
  // The whole group, so that what the command started ends with it.
  const end = (): void => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
      process.kill(-child.pid, "SIGKILL");
  };
  const timer = setTimeout(() => {
    timedOut = true;
    end();
  }, timeoutMs);
  signal.addEventListener("abort", end, { once: true });
  try {
    const exitCode = await new Promise<number | null>((resolve, reject) =>
      child.once("close", resolve).once("error", reject),
    );
    signal.throwIfAborted();
    return { exitCode, output, timedOut };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

/** The beginning and the end of a long text: errors are at either. */
export function keepEnds(text: string, longest: number): string {
  if (text.length <= longest) return text;
  const half = Math.floor(longest / 2);
  const left = text.length - 2 * half;
  return `${text.slice(0, half)}\n[... ${left} characters left out ...]\n${text.slice(-half)}`;
}
