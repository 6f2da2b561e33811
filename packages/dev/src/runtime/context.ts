/** What every installer here is given, and the one kind of error they throw. */
import { homedir } from "node:os";
import { join } from "node:path";
import { StartError } from "../start-error.ts";

export interface RuntimeContext {
  /** `${XDG_CACHE_HOME:-~/.cache}/helmr`: outside any clone, keyed by version below. */
  readonly cacheDir: string;
  readonly imagesDir: string;
  readonly architecture: "x64" | "arm64";
  /** One line for a person who waits. */
  readonly log: (line: string) => void;
}

/** Something this machine needs could not be had; the message names it and the command that mends it. */
export class RuntimeError extends StartError {
  override readonly name = "RuntimeError";
}

/** The user's cache, as the XDG base directory specification places it. */
export function defaultCacheDir(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "helmr");
}

export function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** The command that starts the same thing as root with this shell's Node and Go. */
export const asRoot = 'sudo env "PATH=$PATH" npm run quickstart';

/** First line of an error's message, for a log line that goes on. */
export function reason(error: unknown): string {
  // fetch says "fetch failed" and keeps what failed in the cause.
  const cause = error instanceof TypeError && error.cause instanceof Error ? `: ${error.cause.message}` : "";
  const message = error instanceof Error ? `${error.message}${cause}` : String(error);
  return message.trim().split("\n").slice(0, 3).join("; ").slice(0, 400);
}
