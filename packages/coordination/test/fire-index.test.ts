/** One contract for every fire index; and what Redis may do to it. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { createMemoryFireIndex, createRedisFireIndex, type FireIndex } from "../src/index.ts";
import { redisPrograms, startRedis, type TestRedis } from "../test-support/index.ts";

const nowMs = 1_780_000_000_000;
const leaseMs = 300_000;
const limit = { timeout: 30_000, interval: 10 };

const open: FireIndex[] = [];
const keep = (index: FireIndex): FireIndex => {
  open.push(index);
  return index;
};
afterEach(async () => {
  await Promise.all(open.splice(0).map((index) => index.close()));
});

const claim = (index: FireIndex, atMs = nowMs, max = 100) =>
  index.claim({ nowMs: atMs, limit: max, leaseMs });
const idsOf = (entries: readonly { readonly id: string }[]) => entries.map(({ id }) => id);

/** `create` gives several that share their entries, as dispatchers do. */
function contract(create: () => Promise<readonly FireIndex[]>): void {
  it("gives what is due, the earliest first, up to the limit", async () => {
    const [index] = await create();
    if (!index) throw new Error("no index");
    await index.put([
      { id: "late", dueMs: nowMs + 1 },
      { id: "b", dueMs: nowMs },
      { id: "a", dueMs: nowMs - 5 },
      { id: "c", dueMs: nowMs },
    ]);
    await index.put([]);
    expect(idsOf(await claim(index, nowMs, 2))).toEqual(["a", "b"]);
    expect(idsOf(await claim(index, nowMs, 2))).toEqual(["c"]);
    expect(await claim(index)).toEqual([]);
    expect(idsOf(await claim(index, nowMs + 1))).toEqual(["late"]);
  });

  it("holds one entry per schedule: the last put counts", async () => {
    const [index] = await create();
    if (!index) throw new Error("no index");
    await index.put([{ id: "a", dueMs: nowMs }]);
    await index.put([{ id: "a", dueMs: nowMs + 10 }]);
    expect(await claim(index)).toEqual([]);
    expect(idsOf(await claim(index, nowMs + 10))).toEqual(["a"]);
    await index.put([{ id: "a", dueMs: nowMs }]);
    expect(idsOf(await claim(index))).toEqual(["a"]);
  });

  it("gives a claim that nobody settled again when its time is over", async () => {
    const [index] = await create();
    if (!index) throw new Error("no index");
    await index.put([{ id: "a", dueMs: nowMs }]);
    await claim(index);
    expect(await claim(index, nowMs + leaseMs)).toEqual([]);
    expect(idsOf(await claim(index, nowMs + leaseMs + 1))).toEqual(["a"]);
  });

  it("settles a claim: the next time, or nothing; a claim that is not the entry's any more changes nothing", async () => {
    const [index] = await create();
    if (!index) throw new Error("no index");
    await index.put(["next", "gone", "again"].map((id) => ({ id, dueMs: nowMs })));
    const claims = await claim(index);
    const settle = (id: string, nextMs: number | undefined) =>
      index.settle(claims.filter((entry) => entry.id === id).map((entry) => ({ ...entry, nextMs })));
    await settle("next", nowMs + 60_000);
    await settle("gone", undefined);
    await index.put([{ id: "again", dueMs: nowMs }]);
    const later = await claim(index);
    expect(idsOf(later)).toEqual(["again"]);
    await settle("again", undefined); // The first claim, which is over.
    await settle("next", undefined);
    expect(idsOf(await claim(index, nowMs + 60_000))).toEqual(["next"]);
    expect(idsOf(await claim(index, nowMs + 2 * leaseMs))).toEqual(["again", "next"].sort());
  });

  it("gives each entry to one of many who ask at once", async () => {
    const indexes = await create();
    const ids = Array.from({ length: 500 }, (_, n) => `s${n}`);
    await indexes[0]?.put(ids.map((id) => ({ id, dueMs: nowMs })));
    const claimed = await Promise.all(
      Array.from({ length: 60 }, (_, n) => claim(indexes[n % indexes.length] as FireIndex, nowMs, 10)),
    );
    expect(claimed.flatMap(idsOf).sort()).toEqual(ids.sort());
  });
}

describe("memory", () => {
  contract(async () => [keep(createMemoryFireIndex())]);
});

describe.each(redisPrograms)("%s", (program) => {
  let redis: TestRedis;
  const problems: string[] = [];
  const newIndex = () =>
    keep(
      createRedisFireIndex({
        url: redis.url,
        onProblem: (reason) => problems.push(reason),
        onRecovered: () => problems.push("recovered"),
      }),
    );
  /** Connected, and empty. */
  const ready = async (count: number) => {
    const indexes = Array.from({ length: count }, newIndex);
    await vi.waitUntil(async () => {
      const answers = await Promise.allSettled(indexes.map((index) => claim(index, 0)));
      return answers.every(({ status }) => status === "fulfilled");
    }, limit);
    await redis.command("FLUSHALL");
    return indexes;
  };
  beforeAll(async () => {
    redis = await startRedis(program);
  });
  afterAll(() => redis.stop());
  afterEach(() => {
    problems.length = 0;
  });

  contract(() => ready(3));

  it("killed: it says so at once; back and empty: it goes on", async () => {
    const [index] = await ready(1);
    if (!index) throw new Error("no index");
    await index.put([{ id: "a", dueMs: nowMs }]);
    await redis.kill();
    await expect(claim(index)).rejects.toThrow();
    await expect(index.put([{ id: "a", dueMs: nowMs }])).rejects.toThrow();
    await redis.start();
    await vi.waitUntil(
      () =>
        claim(index).then(
          (entries) => entries.length === 0,
          () => false,
        ),
      limit,
    );
    expect(problems.at(-1)).toBe("recovered");
    for (const problem of problems) expect(problem).not.toContain(redis.url);
  });

  it("hung: it says so within its limit, and goes on afterwards", async () => {
    const [index] = await ready(1);
    if (!index) throw new Error("no index");
    redis.pause();
    try {
      await expect(claim(index)).rejects.toThrow("did not answer within");
    } finally {
      redis.resume();
    }
    await vi.waitUntil(
      () =>
        index.put([{ id: "b", dueMs: nowMs }]).then(
          () => true,
          () => false,
        ),
      limit,
    );
    expect(idsOf(await claim(index))).toEqual(["b"]);
  });
});
