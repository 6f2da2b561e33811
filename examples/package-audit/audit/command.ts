/** Child processes with limits: time, output, and the run's cancellation; a command's whole process group ends with it. */
import { spawn } from "node:child_process";
import { join } from "node:path";

export interface CommandResult {
  /** Null when it was ended by a signal. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
}
export interface CommandOptions {
  readonly cwd: string;
  readonly timeoutMs: number;
  readonly env?: Readonly<Record<string, string>>;
}
/** Runs `argv` with npm's folders inside the scratch folder. */
export interface Npm {
  run(argv: readonly [string, ...string[]], options: CommandOptions): Promise<CommandResult>;
}

/** Enough for the lock file of a large tree; what comes after is read and dropped. */
const outputLimitBytes = 8 * 1024 * 1024;

export function createNpm(context: { readonly scratch: string; readonly signal: AbortSignal }): Npm {
  const env = {
    ...process.env,
    HOME: context.scratch,
    npm_config_cache: join(context.scratch, "npm-cache"),
    npm_config_update_notifier: "false",
    npm_config_fund: "false",
    npm_config_audit: "false",
    // A registry that does not answer ends the step, not the run's time limit.
    npm_config_fetch_retries: "2",
    npm_config_fetch_timeout: "30000",
  };
  return {
    run: (argv, options) => runCommand(argv, { ...options, env: { ...env, ...options.env } }, context.signal),
  };
}

async function runCommand(
  [file, ...args]: readonly [string, ...string[]],
  options: CommandOptions & { readonly env: NodeJS.ProcessEnv },
  signal: AbortSignal,
): Promise<CommandResult> {
  signal.throwIfAborted();
  const child = spawn(file, args, {
    cwd: options.cwd,
    env: options.env,
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let timedOut = false;
  // The group, so that what the command started ends with it.
  const end = (): void => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
      process.kill(-child.pid, "SIGKILL");
  };
  const timer = setTimeout(() => {
    timedOut = true;
    end();
  }, options.timeoutMs);
  signal.addEventListener("abort", end, { once: true });
  try {
    const closed = new Promise<number | null>((resolve, reject) =>
      child.once("close", resolve).once("error", reject),
    );
    const [exitCode, stdout, stderr] = await Promise.all([
      closed,
      readBounded(child.stdout),
      readBounded(child.stderr),
    ]);
    signal.throwIfAborted();
    return { exitCode, stdout, stderr, timedOut };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

async function readBounded(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of stream) {
    if (size < outputLimitBytes) chunks.push(chunk);
    size += chunk.length;
  }
  return Buffer.concat(chunks).toString("utf8");
}

/** The last lines of what a failed command said. */
export function tail(result: CommandResult, lines = 15): string {
  const text = `${result.stdout}\n${result.stderr}`.trim().split("\n").slice(-lines).join("\n");
  return result.timedOut ? `ended after its time limit\n${text}` : text;
}
