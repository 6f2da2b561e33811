/** `helmr-control` as a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { vi } from "vitest";

const program = join(import.meta.dirname, "../../bin/helmr-control.mjs");

export type Variables = Readonly<Record<string, string | undefined>>;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Run a command to its end. */
export async function helmrControl(args: readonly string[], variables: Variables): Promise<Ended> {
  const running = run(args, variables);
  return await running.ended;
}

export interface ServingControl {
  readonly url: string;
  readonly pid: number;
  /** All that it has written so far, stdout and stderr. */
  output(): string;
  signal(name: NodeJS.Signals): void;
  readonly ended: Promise<Ended>;
  /** Stop it as an operator does; fails unless it exits with 0. */
  stop(): Promise<void>;
}

/** Wait until it serves. */
export async function startControl(variables: Variables): Promise<ServingControl> {
  const running = run(["serve"], variables);
  let url: string | undefined;
  await vi.waitUntil(
    () => {
      if (running.child.exitCode !== null) throw new Error(`helmr-control ended:\n${running.output()}`);
      url = /"url":"([^"]+)"[^\n]*is ready/.exec(running.output())?.[1];
      return url !== undefined;
    },
    { timeout: 60_000, interval: 20 },
  );
  const { child, output, ended } = running;
  if (url === undefined || child.pid === undefined) throw new Error("helmr-control has no address");
  return {
    url,
    pid: child.pid,
    output,
    ended,
    signal: (name) => child.kill(name),
    stop: async () => {
      child.kill("SIGTERM");
      const { code } = await ended;
      if (code !== 0) throw new Error(`helmr-control exited with ${code}:\n${output()}`);
    },
  };
}

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  output(): string;
}

const endTimeoutMs = 120_000;

function run(args: readonly string[], variables: Variables): Running {
  const { PATH, HOME, TMPDIR } = process.env;
  const env = { PATH, HOME, TMPDIR, NO_COLOR: "1", ...variables } as NodeJS.ProcessEnv;
  const child = spawn(process.execPath, [program, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].on("data", (data: Buffer) => {
      text[name] += data.toString();
    });
  }
  const timer = setTimeout(() => child.kill("SIGKILL"), endTimeoutMs).unref();
  const ended = once(child, "close").then(([code]) => {
    clearTimeout(timer);
    return { code: code as number | null, ...text };
  });
  return { child, ended, output: () => `${text.stdout}${text.stderr}` };
}
