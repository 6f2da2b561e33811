/**
 * When a request is tried again: as often and with the pauses of the limits, after failures that may pass.
 *
 * The SDK's own strategies share a budget between all requests of a client. A server that is started anew while 40 parts are
 * on their way uses it up at once, and then each of them fails at its first try.
 */
import type { S3ClientConfig } from "@aws-sdk/client-s3";
import { pauseMs, type S3Limits } from "./limits.ts";

type RetryStrategy = Extract<
  Awaited<Exclude<S3ClientConfig["retryStrategy"], undefined>>,
  { acquireInitialRetryToken: unknown }
>;
type Token = Awaited<ReturnType<RetryStrategy["acquireInitialRetryToken"]>>;

/** The server received other bytes than were sent. */
const damaged = ["BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"];

export function retries(limits: S3Limits): RetryStrategy {
  const token = (count: number): Token => ({
    getRetryCount: () => count,
    getRetryDelay: () => (count === 0 ? 0 : pauseMs(count + 1, limits)),
  });
  return {
    acquireInitialRetryToken: async () => token(0),
    refreshRetryTokenForRetry: async (failed, { errorType, error }) => {
      const count = failed.getRetryCount() + 1;
      const hopeless =
        errorType === "CLIENT_ERROR" && !damaged.includes((error as Error | undefined)?.name ?? "");
      // The SDK throws the request's own error then.
      if (hopeless || count >= limits.attempts) throw new Error("not tried again");
      return token(count);
    },
    recordSuccess: () => undefined,
  };
}
