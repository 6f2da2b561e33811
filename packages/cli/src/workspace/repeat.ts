/** Requests that may be repeated, because they carry an idempotency key or change nothing. */
import { setTimeout as sleep } from "node:timers/promises";
import { type ApiClient, isTransient } from "../client/api-client.ts";
import { outageLimitMs } from "./byte-stream.ts";

const pauseMs = 500;

/** The result of `work`, tried again while the server is away, for five minutes at most. */
export async function repeated<T>(api: ApiClient, work: () => Promise<T>): Promise<T> {
  const startedMs = performance.now();
  for (;;) {
    try {
      return await work();
    } catch (error) {
      api.signal.throwIfAborted();
      if (!isTransient(error) || performance.now() - startedMs > outageLimitMs) throw error;
    }
    await sleep(pauseMs, undefined, { signal: api.signal });
  }
}
