/** What a guest under test is made of, and helpers to run one to its end. */
import { randomUUID } from "node:crypto";
import { text } from "node:stream/consumers";
import type { Guest, GuestExit, GuestSpec, Isolation } from "../src/isolation.ts";

export interface Bench {
  readonly isolation: Isolation;
  /** The root filesystem of rootfs.ts. */
  readonly root: string;
  /** A folder for the suite's own files, removed afterwards. */
  readonly scratch: string;
  /** A second driver instance on the same host, made on demand and closed by the suite. */
  readonly another: (name: string) => Isolation;
  /** Paths and names that must be empty when no guest is left (I3); relative to the host. */
  readonly leftovers: () => Promise<string[]>;
}

export interface Outcome {
  readonly exit: GuestExit;
  readonly stdout: string;
  readonly stderr: string;
}

export function guestSpec(
  bench: Bench,
  argv: readonly string[],
  changes: Partial<GuestSpec> = {},
): GuestSpec {
  return {
    id: `t-${randomUUID().slice(0, 8)}`,
    root: { path: bench.root, digest: "test" },
    argv,
    env: { HOME: "/root" },
    cwd: "/",
    user: { uid: 0, gid: 0, additionalGids: [] },
    mounts: [],
    resources: { cpu: 1, memoryMib: 512, diskMib: 256 },
    network: { mode: "none" },
    maxProcesses: 128,
    ...changes,
  };
}

export const shell = (script: string): string[] => ["/bin/sh", "-c", script];
export const node = (script: string): string[] => ["/usr/bin/node", "-e", script];

export async function finish(guest: Guest): Promise<Outcome> {
  const [stdout, stderr, exit] = await Promise.all([text(guest.stream), text(guest.stderr), guest.exited]);
  return { exit, stdout, stderr };
}

/** Run to the end and return what it printed; a guest that fails shows its stderr in the assertion. */
export async function run(
  bench: Bench,
  argv: readonly string[],
  changes: Partial<GuestSpec> = {},
): Promise<Outcome> {
  return finish(await bench.isolation.start(guestSpec(bench, argv, changes)));
}

/** Resolves with everything printed up to and including the first match. */
export async function waitForOutput(guest: Guest, pattern: RegExp): Promise<string> {
  let seen = "";
  return new Promise((resolve, reject) => {
    const onData = (chunk: Buffer) => {
      seen += chunk.toString();
      if (!pattern.test(seen)) return;
      guest.stream.off("data", onData);
      guest.stream.pause(); // What comes next is the next reader's; a flowing stream would drop it.
      resolve(seen);
    };
    guest.stream.on("data", onData);
    guest.stream.resume();
    guest.stream.once("end", () => reject(new Error(`the guest ended after ${JSON.stringify(seen)}`)));
  });
}
