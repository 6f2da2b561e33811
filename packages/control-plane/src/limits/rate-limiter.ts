/**
 * Counts requests against the table of limits: in Redis for all processes together, or in this process's memory.
 *
 *   L1 Redis never holds a request up for longer than `redisTimeoutMs`; what it does not answer is counted in memory.
 *   L2 After a failure Redis is left alone for `redisPauseMs`, so that a dead one costs one request that wait, not each.
 *   L3 Memory holds at most `maxKeys` subjects per limit; the one seen first is forgotten.
 *   L4 Subjects are stored by their sha256: no e-mail address lies in Redis.
 */
import { createHash } from "node:crypto";
import { ApiError } from "@helmr/api";
import type { Logger } from "pino";
import { RateLimiterMemory, RateLimiterRedis, RateLimiterRes } from "rate-limiter-flexible";
import { createClient } from "redis";
import { type LimitName, type RateLimit, type RateLimits, rateLimits } from "./rate-limits.ts";

/** 429. The message is the same for every kind and subject. */
export class RateLimitedError extends ApiError {
  readonly retryAfterSeconds: number;
  constructor(retryAfterSeconds: number) {
    super(429, `too many requests; try again in ${retryAfterSeconds} seconds`);
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export interface RateLimiter {
  /** Counts one for the subject where the kind has a limit by that; throws RateLimitedError when it is one too many. */
  take(name: LimitName, by: RateLimit["by"], subject: string | undefined): Promise<void>;
  close(): Promise<void>;
}

export interface RateLimiterOptions {
  /** `redis://…`; without one, every process counts for itself. */
  readonly redisUrl?: string | undefined;
  readonly logger: Logger;
  /** Instead of the table's, for the kinds that are named. */
  readonly limits?: Partial<RateLimits> | undefined;
}

const redisTimeoutMs = 250;
const redisPauseMs = 5_000;
const maxRedisPauseBetweenConnectsMs = 2_000;
const maxRedisQueue = 1_000;
const maxKeys = 20_000;

export function createRateLimiter(options: RateLimiterOptions): RateLimiter {
  const redis = options.redisUrl === undefined ? undefined : connectRedis(options.redisUrl, options.logger);
  const limits = { ...rateLimits, ...options.limits };
  const counters = new Map<string, Counter>();
  for (const [name, list] of Object.entries(limits)) {
    for (const limit of list) {
      const memory = memoryCounter(limit);
      const key = `${name}:${limit.by}`;
      counters.set(key, redis === undefined ? memory : redis.counter(`helmr:limit:${key}`, limit, memory));
    }
  }
  return {
    take: async (name, by, subject) => {
      const counter = counters.get(`${name}:${by}`);
      if (counter === undefined || subject === undefined) return;
      const refused = await counter(createHash("sha256").update(subject).digest("base64url")); // L4
      if (refused !== undefined)
        throw new RateLimitedError(Math.max(1, Math.ceil(refused.msBeforeNext / 1000)));
    },
    close: async () => redis?.close(),
  };
}

/** Counts one; what refuses it when it is one too many. */
type Counter = (key: string) => Promise<RateLimiterRes | undefined>;

async function refusal(consumed: Promise<RateLimiterRes>): Promise<RateLimiterRes | undefined> {
  try {
    await consumed;
    return undefined;
  } catch (error) {
    if (error instanceof RateLimiterRes) return error;
    throw error;
  }
}

/** L3 */
function memoryCounter({ max, windowSeconds }: RateLimit): Counter {
  const limiter = new RateLimiterMemory({ points: max, duration: windowSeconds });
  const seen = new Set<string>();
  return async (key) => {
    seen.add(key);
    const [oldest] = seen;
    if (seen.size > maxKeys && oldest !== undefined) {
      seen.delete(oldest);
      await limiter.delete(oldest);
    }
    return await refusal(limiter.consume(key));
  };
}

interface RedisCounters {
  counter(prefix: string, limit: RateLimit, memory: Counter): Counter;
  close(): void;
}

/** L1, L2. Connects, and connects again, in the background. */
function connectRedis(url: string, logger: Logger): RedisCounters {
  const client = createClient({
    url,
    disableOfflineQueue: true,
    commandsQueueMaxLength: maxRedisQueue,
    socket: { reconnectStrategy: (tries) => Math.min(50 * 2 ** tries, maxRedisPauseBetweenConnectsMs) },
  });
  let pausedUntilMs = 0;
  let failing = false;
  let closed = false;
  const failed = (error: unknown): void => {
    if (failing || closed) return;
    failing = true;
    // Of the error only its words: an address with a password in it is no part of them, the options are.
    const reason = error instanceof Error ? error.message || error.name : String(error);
    logger.warn({ reason }, "rate limits are counted in this process only: Redis does not answer");
  };
  const works = (): void => {
    if (failing) logger.info("rate limits are counted in Redis again");
    failing = false;
  };
  client.on("error", failed);
  client.connect().catch(failed);
  return {
    counter: (keyPrefix, { max, windowSeconds }, memory) => {
      const limiter = new RateLimiterRedis({
        storeClient: client,
        useRedisPackage: true,
        rejectIfRedisNotReady: true,
        keyPrefix,
        points: max,
        duration: windowSeconds,
      });
      return async (key) => {
        if (!client.isReady || Date.now() < pausedUntilMs) return await memory(key);
        try {
          const refused = await within(redisTimeoutMs, refusal(limiter.consume(key)));
          works();
          return refused;
        } catch (error) {
          pausedUntilMs = Date.now() + redisPauseMs;
          failed(error);
          return await memory(key);
        }
      };
    },
    close: () => {
      closed = true;
      if (client.isOpen) client.destroy();
    },
  };
}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
    work.catch(() => undefined);
  }
}
