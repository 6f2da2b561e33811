/**
 * Starts commands and terminals through the addon native/spawn.c: twice as fast in a guest as Node's own way, which copies
 * the agent's memory map first; with real pipes instead of socket pairs, which /dev/stdout cannot be opened on; and with a
 * controlling terminal, in images of any C library. Loaded with the first command.
 *
 *  P1  The addon starts and reaps only its own children; Node's are Node's.
 *  P2  Every descriptor given to a child is closed here, also when it could not be started.
 */
import { closeSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { getSystemErrorName } from "node:util";
import type { GuestUser } from "./users.ts";

interface Addon {
  spawn(
    text: Buffer,
    room: Buffer,
    argc: number,
    envc: number,
    uid: number,
    gid: number,
    stdin: number,
    stdout: number,
    stderr: number,
    terminal: 0 | 1,
  ): number;
  reap(pid: number): number;
  pipe(two: Buffer): number;
  ioctl(fd: number, request: number, data: Buffer): number;
}

export interface ProcessEnd {
  readonly code?: number;
  readonly signal?: string;
}

export interface SpawnRequest {
  /** Path of the program. */
  readonly file: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: GuestUser | undefined;
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
  /** The descriptors are a terminal, to become the controlling one. */
  readonly terminal: boolean;
}

const steps = ["process", "session", "folder", "user", "program"] as const;

/** Why a process could not be started. */
export class SpawnError extends Error {
  readonly step: (typeof steps)[number];
  /** Like "ENOENT". */
  readonly code: string;
  constructor(failure: number) {
    const step = steps[Math.floor(failure / 4096) - 1] ?? "process";
    const code = getSystemErrorName(-(failure % 4096));
    super(`${code}: the ${step} could not be set up.`);
    this.step = step;
    this.code = code;
  }
}

export class Spawner {
  readonly #addon: Addon;
  readonly #running = new Map<number, (end: ProcessEnd) => void>();

  /** Throws an Error when this guest's node cannot load the addon. */
  constructor(helmrFolder: string) {
    const module: { exports: unknown } = { exports: {} };
    process.dlopen(module, join(helmrFolder, `spawn-${process.arch}.node`));
    this.#addon = module.exports as Addon;
    process.on("SIGCHLD", () => this.#reap());
  }

  /** In a session and process group of its own. No text holds a NUL character. Throws a SpawnError. */
  start(request: SpawnRequest): { readonly pid: number; readonly ended: Promise<ProcessEnd> } {
    const { file, argv, env, cwd, user, stdin, stdout, stderr } = request;
    try {
      const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
      const texts = [file, cwd, ...argv, ...variables];
      const pid = this.#addon.spawn(
        Buffer.from(`${texts.join("\0")}\0`),
        Buffer.alloc(8 * (argv.length + variables.length + 2)),
        argv.length,
        variables.length,
        user?.uid ?? -1,
        user?.gid ?? -1,
        stdin,
        stdout,
        stderr,
        request.terminal ? 1 : 0,
      );
      if (pid < 0) throw new SpawnError(-pid);
      return { pid, ended: new Promise((resolve) => this.#running.set(pid, resolve)) };
    } finally {
      for (const fd of new Set([stdin, stdout, stderr])) closeSync(fd); // P2
    }
  }

  /** Ends of a new pipe. */
  pipe(): { readonly read: number; readonly write: number } {
    const two = Buffer.alloc(8);
    const result = this.#addon.pipe(two);
    if (result < 0) throw new Error(`No pipe: ${getSystemErrorName(result)}.`);
    return { read: two.readInt32LE(0), write: two.readInt32LE(4) };
  }

  ioctl(fd: number, request: number, data: Buffer): void {
    const result = this.#addon.ioctl(fd, request, data);
    if (result < 0) throw new Error(`ioctl: ${getSystemErrorName(result)}.`);
  }

  /** One signal may stand for several children. */
  #reap(): void {
    for (const [pid, resolve] of this.#running) {
      const status = this.#addon.reap(pid);
      if (status === -1) continue;
      this.#running.delete(pid);
      const signal = status & 0x7f;
      resolve(signal === 0 ? { code: (status >> 8) & 0xff } : { signal: signalName(signal) });
    }
  }
}

function signalName(number: number): string {
  const found = Object.entries(constants.signals).find(([, value]) => value === number);
  return found?.[0] ?? `signal ${number}`;
}
