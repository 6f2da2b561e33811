/** The command as a child process, the way a user runs it, with a configuration folder of its own. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa, type ResultPromise } from "execa";

export interface Result {
  readonly exitCode: number | undefined;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** Both as text. */
  readonly out: string;
  readonly err: string;
}

export interface Options {
  readonly url?: string;
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

const shim = join(import.meta.dirname, "..", "..", "bin", "helmr.mjs");

/** Run to the end; never rejects for a non-zero exit code. */
export async function helmr(args: readonly string[], options: Options = {}): Promise<Result> {
  const config = await mkdtemp(join(tmpdir(), "helmr-cli-test-"));
  try {
    return await resultOf(start(args, config, options));
  } finally {
    await rm(config, { recursive: true, force: true });
  }
}

type Started = ResultPromise<{ reject: false; encoding: "buffer" }>;

/** Start, let `meanwhile` act on the running process, and wait for its end. */
export async function helmrWhile(
  args: readonly string[],
  options: Options,
  meanwhile: (child: Started) => Promise<void>,
): Promise<Result> {
  const config = await mkdtemp(join(tmpdir(), "helmr-cli-test-"));
  try {
    const child = start(args, config, options);
    await meanwhile(child);
    return await resultOf(child);
  } finally {
    await rm(config, { recursive: true, force: true });
  }
}

function start(args: readonly string[], config: string, options: Options): Started {
  return execa(process.execPath, [shim, ...args], {
    reject: false,
    encoding: "buffer",
    stripFinalNewline: false,
    extendEnv: false,
    env: {
      PATH: process.env.PATH ?? "",
      HOME: config,
      XDG_CONFIG_HOME: config,
      XDG_CACHE_HOME: join(tmpdir(), "helmr-cli-test-cache"),
      ...(options.url === undefined ? {} : { HELMR_API_URL: options.url, HELMR_API_KEY: "hlmr_sk_test" }),
      ...options.env,
    },
    timeout: 60_000,
    killSignal: "SIGKILL",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
  }) as Started;
}

async function resultOf(child: Started): Promise<Result> {
  const result = await child;
  const stdout = Buffer.from(result.stdout ?? []);
  const stderr = Buffer.from(result.stderr ?? []);
  return { exitCode: result.exitCode, stdout, stderr, out: stdout.toString(), err: stderr.toString() };
}
