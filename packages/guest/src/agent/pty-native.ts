/**
 * The binary of node-pty (`@lydell/node-pty`, see native/fetch-pty.sh): a process in a session of its own whose controlling
 * terminal is a new pseudo-terminal. Loaded when the first terminal is opened.
 *
 * node-pty's JavaScript is left out: it writes to the terminal through a blocking stream, so that a program that does not
 * read would stop the agent, and takes its output as fast as it comes.
 */
import { join } from "node:path";

export interface PtyBinary {
  /** `env`: `NAME=value`. uid and gid -1: those of this process. `fd` does not block. */
  fork(
    file: string,
    args: readonly string[],
    env: readonly string[],
    cwd: string,
    cols: number,
    rows: number,
    uid: number,
    gid: number,
    utf8: boolean,
    helperPath: string,
    onExit: (code: number, signal: number) => void,
  ): { readonly fd: number; readonly pid: number };
  resize(fd: number, cols: number, rows: number): void;
}

let loaded: PtyBinary | undefined;

/** Throws an Error that says what to do when this guest cannot load it. */
export function ptyBinary(helmrFolder: string): PtyBinary {
  if (loaded !== undefined) return loaded;
  const module: { exports: unknown } = { exports: {} };
  try {
    process.dlopen(module, join(helmrFolder, `pty-${process.arch}.node`));
  } catch (error) {
    throw new Error(
      "Terminals need an image with glibc 2.28 or later and libstdc++ (Debian, Ubuntu, Fedora, ...), not Alpine: start it " +
        'from one, such as image("...").from("node:24-bookworm-slim"). Commands without a terminal work in this one. ' +
        `(${(error as Error).message})`,
    );
  }
  loaded = module.exports as PtyBinary;
  return loaded;
}
