/** Counting, in memory and in a real Redis that dies, hangs and comes back. */

import { startRedis, type TestRedis } from "@helmr/coordination/testing";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { addressSubject } from "../src/limits/address.ts";
import { createFailingCredentials } from "../src/limits/failing-credentials.ts";
import { createRateLimiter, RateLimitedError, type RateLimiter } from "../src/limits/rate-limiter.ts";

const logged: Record<string, unknown>[] = [];
const logger = pino(
  { level: "info" },
  { write: (line: string) => void logged.push(JSON.parse(line) as Record<string, unknown>) },
);
const hour = 3600;
const limits = {
  device_start: [{ by: "address", max: 3, windowSeconds: hour, reason: "test" }],
  failing_credential: [{ by: "address", max: 2, windowSeconds: hour, reason: "test" }],
} as const;

const open: RateLimiter[] = [];
function newLimiter(
  redisUrl?: string,
  overrides: Parameters<typeof createRateLimiter>[0]["limits"] = limits,
) {
  const limiter = createRateLimiter({ logger, redisUrl, limits: overrides });
  open.push(limiter);
  return limiter;
}
afterEach(async () => {
  await Promise.all(open.splice(0).map((limiter) => limiter.close()));
  logged.length = 0;
});

/** How many of `tries` were let through. */
async function letThrough(limiter: RateLimiter, subject: string, tries: number): Promise<number> {
  const results = await Promise.allSettled(
    Array.from({ length: tries }, () => limiter.take("device_start", "address", subject)),
  );
  for (const result of results) {
    if (result.status === "rejected") expect(result.reason).toBeInstanceOf(RateLimitedError);
  }
  return results.filter(({ status }) => status === "fulfilled").length;
}

describe("in memory", () => {
  it("lets the limit through for each subject, and says when to come back", async () => {
    const limiter = newLimiter();
    expect(await letThrough(limiter, "a", 5)).toBe(3);
    expect(await letThrough(limiter, "b", 3)).toBe(3);
    const refused = await limiter.take("device_start", "address", "a").catch((error: unknown) => error);
    expect(refused).toMatchObject({ status: 429 });
    const { retryAfterSeconds } = refused as RateLimitedError;
    expect(retryAfterSeconds).toBeGreaterThan(hour - 120);
    expect(retryAfterSeconds).toBeLessThanOrEqual(hour);
  });

  it("counts nothing where there is no limit by that, or nobody", async () => {
    const limiter = newLimiter();
    for (let n = 0; n < 5; n += 1) {
      await limiter.take("device_start", "user", "a");
      await limiter.take("device_start", "address", undefined);
    }
  });

  it("forgets the window's count when the window is over", async () => {
    const limiter = newLimiter(undefined, {
      device_start: [{ by: "address", max: 1, windowSeconds: 1, reason: "test" }],
    });
    await limiter.take("device_start", "address", "a");
    await vi.waitUntil(
      () =>
        limiter.take("device_start", "address", "a").then(
          () => true,
          () => false,
        ),
      { timeout: 30_000, interval: 100 },
    );
  });

  it("keeps a bounded number of subjects", async () => {
    const limiter = newLimiter();
    expect(await letThrough(limiter, "first", 4)).toBe(3);
    for (let n = 0; n < 20_000; n += 1) await limiter.take("device_start", "address", `other ${n}`);
    expect(await letThrough(limiter, "first", 1)).toBe(1);
  });
});

describe("in Redis", () => {
  let redis: TestRedis;
  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis.stop());

  /** A new limiter counts in memory until its connection is up; that it is, is seen by a count two of them share. */
  async function sharing(): Promise<[RateLimiter, RateLimiter]> {
    const pair: [RateLimiter, RateLimiter] = [newLimiter(redis.url), newLimiter(redis.url)];
    await vi.waitUntil(() => areSharing(pair), { timeout: 30_000, interval: 50 });
    return pair;
  }

  let probes = 0;
  async function areSharing([one, two]: readonly [RateLimiter, RateLimiter]): Promise<boolean> {
    probes += 1;
    const subject = `probe ${probes}`;
    return (await letThrough(one, subject, 3)) === 3 && (await letThrough(two, subject, 1)) === 0;
  }

  it("counts for all processes together", async () => {
    const [one, two] = await sharing();
    const counts = await Promise.all([letThrough(one, "shared", 5), letThrough(two, "shared", 5)]);
    expect(counts[0] + counts[1]).toBe(3);
  });

  it("counts in memory while Redis is gone, says so once, and counts there again when it is back", async () => {
    const pair = await sharing();
    logged.length = 0;
    await redis.kill();
    expect(await letThrough(pair[0], "without", 5)).toBe(3);
    expect(await letThrough(pair[1], "without", 5)).toBe(3);
    const warnings = logged.filter(({ msg }) => String(msg).includes("in this process only"));
    expect(warnings).toHaveLength(2); // one of each
    await redis.start();
    await vi.waitUntil(() => areSharing(pair), { timeout: 60_000, interval: 200 });
    expect(logged.some(({ msg }) => String(msg).includes("counted in Redis again"))).toBe(true);
  });

  it("does not wait for a Redis that hangs, and leaves it alone for a while", async () => {
    const [limiter] = await sharing();
    redis.pause();
    try {
      expect(await letThrough(limiter, "hanging", 5)).toBe(3);
      // What was refused by now is refused from memory: nothing is sent to Redis in the pause.
      expect(await letThrough(limiter, "hanging", 1)).toBe(0);
    } finally {
      redis.resume();
    }
    expect(logged.some(({ reason }) => String(reason).includes("no answer within 250 ms"))).toBe(true);
  });

  it("starts without one, and says nothing secret", async () => {
    const limiter = newLimiter("redis://user:planted-password@127.0.0.1:1");
    expect(await letThrough(limiter, "none", 5)).toBe(3);
    await vi.waitUntil(() => logged.length > 0, { timeout: 30_000 });
    expect(JSON.stringify(logged)).not.toContain("planted-password");
  });
});

describe("failing credentials", () => {
  it("are refused unlooked-at over the limit, but for one that was good here", async () => {
    const failing = createFailingCredentials(newLimiter());
    failing.succeeded("good token");
    await failing.failed("10.0.0.1");
    await failing.failed("10.0.0.1");
    failing.check("10.0.0.1", "unknown token");
    await expect(failing.failed("10.0.0.1")).rejects.toThrow(RateLimitedError);
    expect(() => failing.check("10.0.0.1", "unknown token")).toThrow(RateLimitedError);
    failing.check("10.0.0.1", "good token");
    failing.check("10.0.0.2", "unknown token");
  });
});

describe("addresses", () => {
  it.each([
    ["127.0.0.1", "127.0.0.1"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8:1:2:ffff::", "2001:db8:1:2::/64"],
    ["::1", "::/64"],
    ["not an address", "not an address"],
  ])("%s counts as %s", (address, subject) => {
    expect(addressSubject(address)).toBe(subject);
  });
});
