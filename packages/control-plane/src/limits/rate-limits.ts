/**
 * What is counted against abuse, how much of it is fine, and why: the one table. A route names its kind
 * (`rateLimit` in api/src/routes/route.ts); `failing_credential` is counted for every route that takes a credential.
 *
 * An address is an office or a cloud's exit as often as a person: limits by address are wide. Tokens have 256 random bits
 * and are not guessed at any rate; what their limits bound is the work an outsider can cause.
 */
import type { RateLimitKind } from "@helmr/api";

export interface RateLimit {
  /** `address`: of the client, an IPv6 one by its /64. `account`: the e-mail address in the body. `user`: who is signed in. */
  readonly by: "address" | "account" | "user";
  readonly max: number;
  readonly windowSeconds: number;
  readonly reason: string;
}

export type LimitName = RateLimitKind | "failing_credential";
export type RateLimits = Readonly<Record<LimitName, readonly RateLimit[]>>;

export const rateLimits: RateLimits = {
  sign_in_start: [
    { by: "address", max: 120, windowSeconds: 600, reason: "an office signs in on a Monday morning" },
    { by: "account", max: 10, windowSeconds: 900, reason: "each start is an e-mail into somebody's inbox" },
  ],
  sign_in_finish: [
    { by: "address", max: 240, windowSeconds: 600, reason: "two tries for every start from that address" },
  ],
  device_start: [
    { by: "address", max: 240, windowSeconds: 600, reason: "each start is a row that lives for ten minutes" },
  ],
  device_poll: [
    { by: "address", max: 1200, windowSeconds: 60, reason: "100 command lines that poll every five seconds" },
  ],
  user_code: [
    {
      by: "user",
      max: 100,
      windowSeconds: 600,
      reason: "a code has 40 random bits and lives ten minutes: nobody hits one in 100 tries",
    },
  ],
  invitation_accept: [
    {
      by: "user",
      max: 60,
      windowSeconds: 600,
      reason: "nobody is invited to more organizations in ten minutes",
    },
  ],
  public_stream: [
    {
      by: "address",
      max: 6000,
      windowSeconds: 60,
      reason: "an office of 100 open pages, each once a second",
    },
  ],
  public_completion: [
    {
      by: "address",
      max: 1200,
      windowSeconds: 60,
      reason: "all webhooks of one service come from one address",
    },
  ],
  failing_credential: [
    {
      by: "address",
      max: 3000,
      windowSeconds: 60,
      reason: "each costs a query: 50 a second from one address",
    },
  ],
};
