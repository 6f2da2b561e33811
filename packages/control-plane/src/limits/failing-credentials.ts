/**
 * Credentials that fail, counted by address: an outsider cannot have each of endless tokens looked up.
 *
 *   F1 While an address is over its limit, its credentials are refused unlooked-at, with 429.
 *   F2 One that was good here within the last hour is looked up all the same: a neighbour behind the same address who
 *      tries keys out does not lock people out who are at work.
 *   F3 Which addresses are over is known in this process: the check costs no round trip.
 */
import { addressSubject } from "./address.ts";
import { RateLimitedError, type RateLimiter } from "./rate-limiter.ts";

const rememberGoodMs = 60 * 60_000;
const maxRemembered = 10_000;

export interface FailingCredentials {
  /** Before a credential is looked up. Throws RateLimitedError (F1). */
  check(address: string, token: string): void;
  succeeded(token: string): void;
  /** Throws RateLimitedError when this was one too many. */
  failed(address: string): Promise<void>;
}

export function createFailingCredentials(limiter: RateLimiter): FailingCredentials {
  const refusedUntilMs = new Map<string, number>();
  const goodUntilMs = new Map<string, number>();
  return {
    check: (address, token) => {
      if (refusedUntilMs.size === 0) return;
      const leftMs = (refusedUntilMs.get(addressSubject(address)) ?? 0) - Date.now();
      if (leftMs <= 0 || (goodUntilMs.get(token) ?? 0) > Date.now()) return;
      throw new RateLimitedError(Math.ceil(leftMs / 1000));
    },
    succeeded: (token) => remember(goodUntilMs, token, Date.now() + rememberGoodMs),
    failed: async (address) => {
      const subject = addressSubject(address);
      try {
        await limiter.take("failing_credential", "address", subject);
      } catch (error) {
        if (error instanceof RateLimitedError) {
          remember(refusedUntilMs, subject, Date.now() + error.retryAfterSeconds * 1000);
        }
        throw error;
      }
    },
  };
}

/** The one remembered longest ago goes first. */
function remember(map: Map<string, number>, key: string, untilMs: number): void {
  map.delete(key);
  const [oldest] = map.keys();
  if (map.size >= maxRemembered && oldest !== undefined) map.delete(oldest);
  map.set(key, untilMs);
}
