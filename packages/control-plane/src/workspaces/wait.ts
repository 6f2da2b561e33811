/** Requests that wait for a live copy: until it is gone, or until its worker has answered. */
import { ApiError } from "@helmr/api";
import type { Actor } from "@helmr/store";
import type { FastifyReply } from "fastify";
import type { Context } from "../context.ts";
import { slowPollMs, WakeUp } from "../http/wake-up.ts";

/** The caller of a request that waits: asked again whether it may, and noticed when it hangs up. */
export interface WaitingCall {
  readonly actor: Actor;
  readonly reply: FastifyReply;
  stillAllowed(): Promise<boolean>;
}

export interface Waiting<T> {
  /** Bus topic that hints at news. */
  readonly topic: string;
  readonly waitMs: number;
  /** Undefined: not yet. */
  readonly attempt: () => Promise<T | undefined>;
  /** What the caller is told when it took too long: what to do. */
  readonly tooLong: string;
}

/** How often a caller who waits is asked again whether it may. */
const askAgainMs = 1000;

/** The first answer there is. Takes a place among the streams while it waits; 503 when it takes too long, 429 when too many of the actor's wait. */
export async function waitFor<T>(context: Context, call: WaitingCall, waiting: Waiting<T>): Promise<T> {
  const endMs = performance.now() + waiting.waitMs;
  const gone = new AbortController();
  call.reply.raw.once("close", () => gone.abort());
  const signal = AbortSignal.any([gone.signal, context.ending]);
  // Subscribed before the first attempt: what comes after it is not missed.
  using wakeUp = new WakeUp(context.bus, waiting.topic, signal);
  const first = await waiting.attempt();
  if (first !== undefined) return first;
  using _place = context.streams.reserve(call.actor);
  let lastAskedMs = performance.now();
  for (;;) {
    const leftMs = endMs - performance.now();
    if (leftMs <= 0) throw new ApiError(503, waiting.tooLong);
    await wakeUp.wait(Math.min(slowPollMs, leftMs));
    if (signal.aborted) throw new ApiError(503, "the server is closing; try again");
    if (performance.now() - lastAskedMs >= askAgainMs) {
      if (!(await call.stillAllowed())) throw new ApiError(401, "the credential was revoked");
      lastAskedMs = performance.now();
    }
    const result = await waiting.attempt();
    if (result !== undefined) return result;
  }
}

/** How long a request waits for a live copy that is being saved and stopped. */
const maxStopMs = 60_000;

/** Repeat what found the live copy stopping, until it is gone. */
export async function afterStop<T>(
  context: Context,
  call: WaitingCall,
  workspaceId: string,
  attempt: () => Promise<T | "stopping">,
): Promise<T> {
  const done = await waitFor<{ readonly value: T }>(context, call, {
    topic: `workspace:${workspaceId}`,
    waitMs: maxStopMs,
    attempt: async () => {
      const value = await attempt();
      return value === "stopping" ? undefined : { value };
    },
    tooLong: "the workspace's live copy is still being saved and stopped; try again",
  });
  return done.value;
}
