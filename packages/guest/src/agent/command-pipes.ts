/** The pipes between the agent and a command; every descriptor is closed when something fails. */
import { closeSync, openSync } from "node:fs";
import { Socket } from "node:net";
import type { ProcessEnd, Spawner, SpawnRequest } from "./spawn.ts";

export interface PipedProcess {
  readonly pid: number;
  readonly ended: Promise<ProcessEnd>;
  /** Absent: the command reads /dev/null. */
  readonly stdin: Socket | undefined;
  readonly stdout: Socket;
  readonly stderr: Socket;
}

/** Start a program with pipes for its output and, when `withInput`, its input. */
export function startPiped(
  spawner: Spawner,
  request: Omit<SpawnRequest, "stdin" | "stdout" | "stderr" | "terminal">,
  withInput: boolean,
): PipedProcess {
  /** Descriptors nobody else closes. */
  const open = new Set<number>();
  const mine = (fd: number): number => {
    open.add(fd);
    return fd;
  };
  const pipe = (): { readonly read: number; readonly write: number } => {
    const { read, write } = spawner.pipe();
    return { read: mine(read), write: mine(write) };
  };
  try {
    const input = withInput ? pipe() : undefined;
    const stdin = input?.read ?? mine(openSync("/dev/null", "r"));
    const output = { stdout: pipe(), stderr: pipe() };
    const child = { stdin, stdout: output.stdout.write, stderr: output.stderr.write };
    // `start` closes them.
    for (const fd of Object.values(child)) open.delete(fd);
    const { pid, ended } = spawner.start({ ...request, ...child, terminal: false });
    return {
      pid,
      ended,
      stdin: input && new Socket({ fd: input.write, readable: false }),
      stdout: new Socket({ fd: output.stdout.read, writable: false }),
      stderr: new Socket({ fd: output.stderr.read, writable: false }),
    };
  } catch (error) {
    for (const fd of open) closeSync(fd);
    throw error;
  }
}
