/** Starts processes of the image's user with the agent's channel on file descriptor 3. No validator is loaded here. */
import { type ChildProcess, spawn } from "node:child_process";
import { statSync } from "node:fs";
import type { Duplex, Readable } from "node:stream";
import type { GuestUser } from "./users.ts";

export interface GuestProcess {
  readonly child: ChildProcess;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** File descriptor 3 of the process. */
  readonly channel: Duplex;
  readonly env: Readonly<Record<string, string>>;
  /** Resolves when the main process ended; its children may hold the pipes still. */
  readonly exited: Promise<ProcessExit>;
}

export interface ProcessExit {
  readonly code: number | undefined;
  readonly signal: string | undefined;
  /** It could not be started. */
  readonly error: Error | undefined;
}

export interface ProcessSpec {
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly user: GuestUser | undefined;
}

/** Start a process in a session of its own, so that it and its children can be told from the agent's. */
export function startProcess(spec: ProcessSpec): GuestProcess {
  const [command = "", ...args] = spec.argv;
  const child = spawn(command, args, {
    cwd: isFolder(spec.cwd) ? spec.cwd : "/",
    env: spec.env,
    detached: true,
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    ...(spec.user === undefined ? {} : { uid: spec.user.uid, gid: spec.user.gid }),
  });
  const [, stdout, stderr, channel] = child.stdio;
  if (stdout === null || stderr === null || stdout === undefined || stderr === undefined) {
    throw new Error("A process was started without its pipes.");
  }
  // A process that dies while something is written to it: its exit tells the story.
  channel?.on("error", () => channel.destroy());
  return {
    child,
    stdout: stdout as Readable,
    stderr: stderr as Readable,
    channel: channel as Duplex,
    env: spec.env,
    exited: exitOf(child),
  };
}

function exitOf(child: ChildProcess): Promise<ProcessExit> {
  return new Promise((resolve) => {
    child.once("error", (error) => resolve({ code: undefined, signal: undefined, error }));
    child.once("exit", (code, signal) =>
      resolve({ code: code ?? undefined, signal: signal ?? undefined, error: undefined }),
    );
  });
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}
