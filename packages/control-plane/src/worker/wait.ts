/** Long polls: try, wait for a hint, try again, until something is there or the time is over. */
import type { LiveBus } from "@helmr/coordination";
import { slowPollMs, WakeUp } from "../http/wake-up.ts";

export interface LongPoll<T> {
  readonly bus: LiveBus;
  readonly topic: string;
  readonly waitMs: number;
  /** How often it is tried without a hint; default about once a second. */
  readonly slowPollMs?: number;
  /** Ends the wait: the caller hung up, or the server closes. */
  readonly signal: AbortSignal;
  /** Undefined: nothing yet. */
  readonly attempt: () => Promise<T | undefined>;
}

/** The first result there is, undefined when the time is over. */
export async function longPoll<T>(options: LongPoll<T>): Promise<T | undefined> {
  const { bus, topic, waitMs, slowPollMs: pollMs = slowPollMs, signal, attempt } = options;
  const deadline = performance.now() + waitMs;
  // Subscribed before the first attempt: what is queued after it is not missed.
  using wakeUp = new WakeUp(bus, topic, signal);
  for (;;) {
    const result = await attempt();
    const leftMs = deadline - performance.now();
    if (result !== undefined || leftMs <= 0 || signal.aborted) return result;
    // Jitter, so that waiting workers do not ask in step.
    await wakeUp.wait(Math.min(leftMs, pollMs * (0.75 + Math.random() / 2)));
    if (signal.aborted) return undefined;
  }
}
