import { createMemoryBus } from "@helmr/coordination";
import fc from "fast-check";
import { expect, test } from "vitest";
import { WorkGate } from "./work-gate.ts";

const topic = "work:test";
/** Long enough to end a hang, never waited for. */
const waitMs = 30_000;

/** Items that one of the workers named may take. */
function startGroup(options: { readonly probeMs?: number } = {}) {
  const bus = createMemoryBus();
  const items: { readonly for: ReadonlySet<number> }[] = [];
  const gate = new WorkGate({
    bus,
    topic,
    hasDueWork: async () => items.length > 0,
    probeMs: options.probeMs ?? waitMs,
  });
  let attempts = 0;
  const closing = new AbortController();
  const take = (worker: number, limitMs = waitMs, signal = closing.signal) =>
    gate.take({
      waitMs: limitMs,
      signal,
      attempt: async () => {
        attempts += 1;
        await Promise.resolve();
        const at = items.findIndex((item) => item.for.has(worker));
        return at === -1 ? undefined : items.splice(at, 1)[0];
      },
    });
  return {
    bus,
    items,
    take,
    closing,
    attempts: () => attempts,
    add: (workers: readonly number[]) => items.push({ for: new Set(workers) }),
    hint: () => bus.publish(topic),
  };
}

const sixteen = Array.from({ length: 16 }, (_, n) => n);
const settled = () => new Promise((resolve) => setTimeout(resolve, 20));

test("a hint for one item wakes the first who waits and the next, not all", async () => {
  const group = startGroup();
  const waiting = sixteen.map((worker) => group.take(worker));
  await settled();
  expect(group.attempts()).toBe(16);
  group.add(sixteen);
  group.hint();
  expect(await Promise.race(waiting)).toBeDefined();
  await settled();
  expect(group.attempts()).toBe(18);
  group.closing.abort();
  await Promise.all(waiting);
});

test("one hint for many items serves all of them", async () => {
  const group = startGroup();
  const waiting = sixteen.map((worker) => group.take(worker));
  await settled();
  for (let n = 0; n < 10; n += 1) group.add(sixteen);
  group.hint();
  await expect.poll(() => group.items.length).toBe(0);
  group.closing.abort();
  expect((await Promise.all(waiting)).filter((found) => found !== undefined)).toHaveLength(10);
});

test("what only the last one can take reaches it with the hint", async () => {
  const group = startGroup();
  const waiting = sixteen.map((worker) => group.take(worker));
  await settled();
  group.add([15]);
  group.hint();
  expect(await waiting[15]).toBeDefined();
  group.closing.abort();
  await Promise.all(waiting);
});

test("a hint while somebody tries for the first time is not lost", async () => {
  const group = startGroup();
  const waiting = group.take(0);
  queueMicrotask(() => {
    group.add([0]);
    group.hint();
  });
  expect(await waiting).toBeDefined();
});

test("a lost hint is found, and an attempt that fails is the caller's alone", async () => {
  const group = startGroup({ probeMs: 20 });
  const bus = group.bus;
  const waiting = group.take(0);
  await settled();
  group.add([0]);
  expect(await waiting).toBeDefined();

  let isAway = false;
  const gate = new WorkGate({ bus, topic, hasDueWork: async () => false, probeMs: waitMs });
  const attempt = async () => {
    if (isAway) throw new Error("no database");
    return undefined;
  };
  const { signal } = new AbortController();
  const failing = [1, 2].map(() => gate.take({ waitMs, signal, attempt }));
  await settled();
  isAway = true;
  bus.publish(topic);
  for (const each of failing) await expect(each).rejects.toThrow("no database");
});

test("waits end with their time and their caller", async () => {
  const group = startGroup();
  expect(await group.take(0, 10)).toBe(undefined);
  expect(await group.take(0, 0)).toBe(undefined);
  const hangUp = new AbortController();
  const waiting = group.take(0, waitMs, hangUp.signal);
  await settled();
  hangUp.abort();
  expect(await waiting).toBe(undefined);
});

test("whoever comes and goes, every item that somebody waiting may take is taken", async () => {
  const workers = fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ for: workers, pause: fc.boolean(), lost: fc.boolean() }), { maxLength: 20 }),
      async (steps) => {
        const group = startGroup({ probeMs: 10 });
        let served = 0;
        const loops = Array.from({ length: 8 }, async (_, worker) => {
          while (!group.closing.signal.aborted) {
            if ((await group.take(worker, 15)) !== undefined) served += 1;
          }
        });
        for (const step of steps) {
          group.add(step.for);
          if (!step.lost) group.hint();
          if (step.pause) await new Promise((resolve) => setTimeout(resolve, 1));
        }
        await expect.poll(() => served, { timeout: 10_000, interval: 1 }).toBe(steps.length);
        group.closing.abort();
        await Promise.all(loops);
      },
    ),
    { numRuns: 50 },
  );
});
