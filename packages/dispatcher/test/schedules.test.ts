/** Schedules fired by several dispatchers at once, over Redis that is flushed, killed and back; on a clock of the test's own. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nextSlots } from "@helmr/api";
import { createFolderStore } from "@helmr/artifacts";
import {
  createMemoryBus,
  createMemoryFireIndex,
  createRedisFireIndex,
  type FireIndex,
} from "@helmr/coordination";
import { redisPrograms, startRedis, type TestRedis } from "@helmr/coordination/testing";
import { type ActingScope, claimFires, createSchedule, deleteSchedule, uuidv7 } from "@helmr/store";
import { seedEnvironment, seedTask, startTestDatabase, type TestDatabase } from "@helmr/store/testing";
import { sql } from "kysely";
import pino from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { createDispatcher, type Dispatcher } from "../src/index.ts";

/** `HELMR_TEST_SCHEDULES=10000` lets every one of them fire, which takes minutes. */
const firing = Number(process.env.HELMR_TEST_SCHEDULES ?? 600);
const schedulesInAll = 10_000;
const limit = { timeout: Math.max(120_000, firing * 200), interval: 20 };
const minuteMs = 60_000;
const jitterMs = 30_000;
const start = Date.parse("2026-06-01T10:00:30Z");

let database: TestDatabase;
let scope: ActingScope;
let folder: string;
let nowMs = start;
const running: Dispatcher[] = [];
const indexes: FireIndex[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "helmr-schedules-"));
  database = await startTestDatabase({ maxConnections: 30 });
});
afterAll(async () => {
  await database.stop();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  nowMs = start;
  await sql`delete from schedules`.execute(database.db);
  scope = (await seedEnvironment(database.db)).scope;
  await seedTask(database.db, scope);
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((dispatcher) => dispatcher.stop()));
  await Promise.all(indexes.splice(0).map((index) => index.close()));
});

function startDispatcher(fireIndex: FireIndex, settings = {}): Dispatcher {
  indexes.push(fireIndex);
  const dispatcher = createDispatcher({
    db: database.db,
    bus: createMemoryBus(),
    artifacts: createFolderStore(folder),
    fireIndex,
    schedules: { repairEveryMs: 200, triggerEveryMs: 20, jitterMs, ...settings },
    scheduleClock: () => new Date(nowMs),
    logger: pino({ level: process.env.HELMR_TEST_LOG ?? "silent" }),
  });
  dispatcher.start();
  running.push(dispatcher);
  return dispatcher;
}

const create = (cron: string, deduplicationKey = uuidv7()) =>
  createSchedule(
    database.db,
    scope,
    { deduplicationKey, taskId: "hello", cron, timezone: "UTC", options: {}, active: true },
    { jitterMs, now: new Date(start) },
  );

/** Nothing is due at the test's time: what was has fired. */
async function settled(): Promise<void> {
  await vi.waitUntil(async () => {
    const { rows } = await sql`select from schedules where due_at <= ${new Date(nowMs)} limit 1`.execute(
      database.db,
    );
    return rows.length === 0;
  }, limit);
}

/** `schedule id -> slots`, as the sessions' payloads tell. */
async function firedSlots(): Promise<Map<string, string[]>> {
  const { rows } = await sql<{ schedule_id: string; slots: string[] }>`
    select schedule_id, array_agg(payload::jsonb->>'timestamp' order by payload::jsonb->>'timestamp') as slots
    from runs where environment_id = ${scope.environmentId} group by schedule_id`.execute(database.db);
  return new Map(rows.map(({ schedule_id, slots }) => [schedule_id, slots]));
}

const slotsOf = new Map<string, Date[]>();
/** Slots of `cron` after the start: enough for the minutes of a test. */
function slotsFrom(cron: string): Date[] {
  const known = slotsOf.get(cron) ?? nextSlots(cron, "UTC", new Date(start), 10);
  slotsOf.set(cron, known);
  return known;
}

function expectedSlots(cron: string, toMs: number): string[] {
  return slotsFrom(cron)
    .filter((slot) => slot.getTime() <= toMs)
    .map((slot) => slot.toISOString());
}

/** Many schedules by one statement each thousand; resolves to cron by id. */
async function plant(count: number, cronOf: (n: number) => string): Promise<Map<string, string>> {
  const crons = new Map<string, string>();
  for (let from = 0; from < count; from += 1000) {
    const rows = Array.from({ length: Math.min(1000, count - from) }, (_, n) => {
      const cron = cronOf(from + n);
      const slot = slotsFrom(cron)[0] as Date;
      const due = new Date(slot.getTime() + ((from + n) % jitterMs));
      return { id: uuidv7(), cron, slot, due };
    });
    await database.db
      .insertInto("schedules")
      .values(
        rows.map(({ id, cron, slot, due }) => ({
          id,
          environment_id: scope.environmentId,
          project_id: scope.projectId,
          type: "imperative" as const,
          task_id: "hello",
          deduplication_key: id,
          cron,
          timezone: "UTC",
          next_fire_at: slot,
          due_at: due,
        })),
      )
      .execute();
    for (const { id, cron } of rows) crons.set(id, cron);
  }
  return crons;
}

/** Three dispatchers fire through four minutes; then each slot of each schedule must have one session. */
async function everySlotOnce(
  newIndex: () => FireIndex,
  options: { schedules: number; firing: number; inTheMiddle?: () => Promise<unknown> },
): Promise<void> {
  const minutes = 4;
  // Most are for another hour; of the others some come every minute.
  const crons = await plant(options.schedules, (n) => {
    if (n >= options.firing) return `${n % 60} 3 * * *`;
    return n % 20 === 0 ? "* * * * *" : `${1 + (n % minutes)} 10 * * *`;
  });
  for (let n = 0; n < 3; n += 1) startDispatcher(newIndex());
  const endMs = start + minutes * minuteMs;
  for (let isMiddle = false; nowMs < endMs; ) {
    nowMs += minuteMs / 4;
    if (!isMiddle && nowMs > start + 1.5 * minuteMs) {
      isMiddle = true;
      await options.inTheMiddle?.();
    }
    await settled();
  }
  await Promise.all(running.splice(0).map((dispatcher) => dispatcher.stop()));
  const fired = await firedSlots();
  const { rows: planned } = await sql<{ id: string; next: Date }>`select id, next_fire_at as next
    from schedules where environment_id = ${scope.environmentId}`.execute(database.db);
  expect(planned).toHaveLength(options.schedules);
  for (const { id, next } of planned) {
    const cron = crons.get(id) ?? "";
    // What lies between the start and the slot that is next has fired; no more, none twice.
    const expected = expectedSlots(cron, Math.min(next.getTime() - 1, endMs));
    expect([id, cron, fired.get(id) ?? []]).toEqual([id, cron, expected]);
    expect(next.getTime()).toBeGreaterThan(endMs - jitterMs);
  }
}

describe.each(redisPrograms)("%s", (program) => {
  let redis: TestRedis;
  beforeAll(async () => {
    redis = await startRedis(program);
  });
  beforeEach(() => redis.command("FLUSHALL"));
  afterAll(() => redis.stop());
  const newIndex = () => createRedisFireIndex({ url: redis.url });

  test("three dispatchers, 10,000 schedules, Redis flushed in the middle: every slot exactly once", async () => {
    await everySlotOnce(newIndex, {
      schedules: schedulesInAll,
      firing,
      inTheMiddle: () => redis.command("FLUSHALL"),
    });
  });

  test("Redis killed: what is due fires all the same; back and empty: it is asked again", async () => {
    const { id } = await create("* * * * *");
    for (let n = 0; n < 2; n += 1) startDispatcher(newIndex());
    const passMinutes = async (count: number) => {
      for (let n = 0; n < count; n += 1) {
        nowMs += minuteMs;
        await settled();
      }
    };
    await passMinutes(2);
    await redis.kill();
    await passMinutes(2);
    await redis.start();
    await passMinutes(2);
    expect((await firedSlots()).get(id)).toEqual(expectedSlots("* * * * *", nowMs - jitterMs));
    // The repair puts it back, once the next slot, with whatever jitter it has, is within its lookahead.
    nowMs += minuteMs / 3;
    await vi.waitUntil(
      async () => (await redis.command("ZCARD helmr:schedules:fires")).startsWith(":1"),
      limit,
    );
  });

  test("Redis that is wrong about everything: entries of nothing, too early, and none where one should be", async () => {
    const [soon, later] = [await create("1 10 * * *"), await create("3 10 * * *")];
    const gone = await create("1 10 * * *");
    const index = newIndex();
    indexes.push(index);
    await vi.waitUntil(
      () =>
        index.put([later.id, gone.id, uuidv7()].map((id) => ({ id, dueMs: start - 1 }))).then(
          () => true,
          () => false,
        ),
      limit,
    );
    await deleteSchedule(database.db, scope, gone.id);
    startDispatcher(newIndex());
    nowMs = start + minuteMs;
    await settled();
    expect([...(await firedSlots()).keys()]).toEqual([soon.id]);
    nowMs = start + 3 * minuteMs;
    await settled();
    expect([...(await firedSlots()).keys()].sort()).toEqual([soon.id, later.id].sort());
  });
});

test("without Redis, each dispatcher by itself: every slot exactly once", async () => {
  await everySlotOnce(createMemoryFireIndex, { schedules: 300, firing: 120 });
});

test("a dispatcher that dies with a lease: another fires the slot when the lease is over, once", async () => {
  const { id } = await create("1 10 * * *");
  nowMs = start + minuteMs;
  const leaseMs = 5 * minuteMs;
  const [lost] = await claimFires(database.db, { limit: 1, leaseMs, now: new Date(nowMs) });
  expect(lost?.id).toBe(id);
  startDispatcher(createMemoryFireIndex(), { leaseMs });
  nowMs += leaseMs;
  await settled();
  expect((await firedSlots()).get(id)).toEqual(["2026-06-01T10:01:00.000Z"]);
});

test("a task that is not deployed: attempts with their pauses, then the slot is skipped and the reason is there", async () => {
  const { id } = await create("1 10 1 6 *");
  await seedTask(database.db, scope, { taskId: "other" });
  startDispatcher(createMemoryFireIndex(), { maxAttempts: 3 });
  const read = async () =>
    (
      await sql<{ attempt: number; last_error: string | null; next_fire_at: Date }>`
        select attempt, last_error, next_fire_at from schedules where id = ${id}`.execute(database.db)
    ).rows[0];
  nowMs = start + minuteMs;
  await settled();
  expect(await read()).toMatchObject({
    attempt: 1,
    last_error: expect.stringContaining("not in the current"),
  });
  for (const pause of [1, 4]) {
    nowMs += pause * minuteMs;
    await settled();
  }
  const row = await read();
  expect(row?.last_error).toContain("after 3 attempts");
  expect(row?.next_fire_at.toISOString()).toBe("2027-06-01T10:01:00.000Z");
  expect(await firedSlots()).toEqual(new Map());
});
