/** Runs the real `helmr` command as a child process, the way a user does. */
import { join } from "node:path";
import { execa } from "execa";

export const repositoryRoot = join(import.meta.dirname, "..", "..");
const shim = join(repositoryRoot, "packages", "cli", "bin", "helmr.mjs");

export interface CliResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | undefined;
}

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly input?: string;
  readonly timeoutMs?: number;
}

/** Run `helmr ...args`; never rejects for a non-zero exit code. */
export async function helmr(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const result = await execa(process.execPath, [shim, ...args], {
    reject: false,
    cwd: options.cwd ?? repositoryRoot,
    env: { NO_COLOR: "1", ...options.env },
    timeout: options.timeoutMs ?? 180_000,
    killSignal: "SIGKILL",
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
  });
  return { stdout: result.stdout, stderr: result.stderr, exitCode: result.exitCode };
}

/** As `helmr`, with `--json`: fails with both outputs unless it exited 0 and printed JSON. */
export async function helmrJson<T>(args: readonly string[], options: CliOptions = {}): Promise<T> {
  const result = await helmr([...args, "--json"], options);
  if (result.exitCode !== 0) {
    throw new Error(`helmr ${args.join(" ")} exited ${result.exitCode}\n${result.stdout}\n${result.stderr}`);
  }
  return JSON.parse(result.stdout) as T;
}
