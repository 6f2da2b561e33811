/** Which errors the waiting loops survive (contract 1.3), and for how long. */
import { HelmrApiError, TransportError } from "../errors.ts";

/** Contract 6.2. */
export const reconnectDelayMs = 1000;
/** A server that fails this long without one success is not waited for any more. */
const maxOutageMs = 10 * 60_000;

/** Network failures, 5xx, 408 and 429; everything else says the same the next time. */
export function isRetryable(error: unknown): boolean {
  if (error instanceof TransportError) return true;
  return (
    error instanceof HelmrApiError && (error.status >= 500 || error.status === 408 || error.status === 429)
  );
}

/** Counts the time since the last success of a loop. */
export class Outage {
  #since: number | undefined;

  /** The loop got something from the server. */
  over(): void {
    this.#since = undefined;
  }

  /** Throws `error` when it is not worth another attempt. */
  record(error: unknown): void {
    if (!isRetryable(error)) throw error;
    this.#since ??= Date.now();
    if (Date.now() - this.#since > maxOutageMs) throw error;
  }

  /** The result of `work`, or undefined when it failed in a way that another attempt may mend. */
  async attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      const result = await work();
      this.over();
      return result;
    } catch (error) {
      this.record(error);
      return undefined;
    }
  }
}
