/** One program in a guest without the agent: its argv is the guest's first process, its output comes as bytes. */
import { once } from "node:events";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { GuestExit, GuestSpec, Isolation } from "@helmr/isolation";

export interface GuestProcessOptions {
  readonly isolation: Isolation;
  readonly spec: GuestSpec;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onOutput: (stream: "stdout" | "stderr", data: Uint8Array) => void;
}

/** For the rest of the output, once nothing of the guest is left. */
const readTimeoutMs = 5_000;

export type GuestProcessEnd = GuestExit | { readonly reason: "timed_out" };

/** Run to the end; rejects with the signal's reason when aborted, with an IsolationError when it could not start. */
export async function runGuestProcess(options: GuestProcessOptions): Promise<GuestProcessEnd> {
  options.signal?.throwIfAborted();
  const guest = await options.isolation.start(options.spec);
  const stop = () => void guest.destroy();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    stop();
  }, options.timeoutMs);
  options.signal?.addEventListener("abort", stop);
  try {
    guest.stream.end();
    const read = Promise.all([
      pump(guest.stream, (data) => options.onOutput("stdout", data)),
      pump(guest.stderr, (data) => options.onOutput("stderr", data)),
    ]);
    const exit = await guest.exited;
    await Promise.race([read, sleep(readTimeoutMs, undefined, { ref: false })]);
    options.signal?.throwIfAborted();
    return timedOut ? { reason: "timed_out" } : exit;
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", stop);
    await guest.destroy();
  }
}

/** Resolves when the stream is over, however it ends: a guest that is killed cuts it. */
async function pump(stream: Readable, onData: (data: Uint8Array) => void): Promise<void> {
  stream.on("data", onData);
  if (stream.readableEnded || stream.destroyed) return;
  await Promise.race([once(stream, "end"), once(stream, "close")]).catch(() => undefined);
}

/** How a program ended, for an author. */
export function describeEnd(
  end: GuestProcessEnd,
  limits: { readonly timeoutMs: number; readonly memoryMib: number },
): string {
  switch (end.reason) {
    case "exited":
      return `exited with code ${end.code}`;
    case "signalled":
      return `was ended by ${end.signal}`;
    case "out_of_memory":
      return `was killed: it used more than the ${limits.memoryMib} MiB of memory a build has`;
    case "timed_out":
      return `did not end within ${Math.round(limits.timeoutMs / 60_000)} minutes and was killed`;
    case "lost":
      return "was lost: the guest broke down; deploy again";
  }
}
