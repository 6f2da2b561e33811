/** `helmr dev --json` as a child process: what the tests of the whole system talk to. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { repositoryRoot } from "./cli.ts";

export interface DevProcess {
  readonly url: string;
  readonly api_key: string;
  readonly project: string;
  readonly environment: string;
  readonly pid: number;
  /** Everything written to stderr so far. */
  log(): string;
  /** Send a signal and wait until the process is gone; its exit code (null when killed by the signal). */
  end(signal: NodeJS.Signals): Promise<number | null>;
}

const startTimeoutMs = 240_000;
const stopTimeoutMs = 60_000;

/** Start a stack on `dataDir` and wait until it says that it is ready. */
export async function startDevProcess(dataDir: string, args: readonly string[] = []): Promise<DevProcess> {
  const child = spawn(
    process.execPath,
    [join(repositoryRoot, "packages/cli/bin/helmr.mjs"), "dev", "--json", "--data-dir", dataDir, ...args],
    { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, XDG_CONFIG_HOME: join(dataDir, "config") } },
  );
  let log = "";
  child.stderr.on("data", (data: Buffer) => {
    log = (log + data.toString()).slice(-8 * 1024 * 1024);
  });
  const line = await firstLine(child, () => log);
  const ready = JSON.parse(line) as Pick<DevProcess, "url" | "api_key" | "project" | "environment">;
  if (child.pid === undefined) throw new Error("helmr dev has no pid");
  return { ...ready, pid: child.pid, log: () => log, end: (signal) => end(child, signal, () => log) };
}

async function firstLine(child: ChildProcess, log: () => string): Promise<string> {
  if (!child.stdout) throw new Error("stdout is not piped");
  const lines = createInterface({ input: child.stdout });
  const timer = setTimeout(() => child.kill("SIGKILL"), startTimeoutMs);
  try {
    for await (const line of lines) return line;
    throw new Error(`helmr dev ended before it was ready:\n${log()}`);
  } finally {
    clearTimeout(timer);
    child.stdout.resume();
  }
}

async function end(child: ChildProcess, signal: NodeJS.Signals, log: () => string): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exited = once(child, "exit");
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
  const [code] = (await exited) as [number | null];
  clearTimeout(timer);
  if (code === null && signal !== "SIGKILL") throw new Error(`helmr dev did not stop in time:\n${log()}`);
  return code;
}
