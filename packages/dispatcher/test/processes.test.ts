/** `helmr-dispatcher` as processes of their own, joined by Redis: one of them is killed. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRedisBus } from "@helmr/coordination";
import { redisPrograms, startRedis, type TestRedis } from "@helmr/coordination/testing";
import { type ActingScope, createSchedule } from "@helmr/store";
import { seedEnvironment, seedTask, startTestDatabase, type TestDatabase } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

const program = join(import.meta.dirname, "../bin/helmr-dispatcher.mjs");
const limit = { timeout: 120_000, interval: 50 };
const schedules = 60;

let database: TestDatabase;
let scope: ActingScope;
let folder: string;
let redis: TestRedis | undefined;
const children: ChildProcess[] = [];
beforeEach(async () => {
  database = await startTestDatabase();
  scope = (await seedEnvironment(database.db)).scope;
  await seedTask(database.db, scope);
  folder = await mkdtemp(join(tmpdir(), "helmr-dispatchers-"));
});
afterEach(async () => {
  await Promise.all(children.splice(0).map((child) => end(child, "SIGKILL")));
  await redis?.stop();
  await database.stop();
  await rm(folder, { recursive: true, force: true });
});

async function end(child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exited = once(child, "exit");
  child.kill(signal);
  await exited;
  return child.exitCode;
}

/** Resolves when it is ready. */
async function start(
  variables: Record<string, string>,
): Promise<ChildProcess & { readonly metricsUrl: string }> {
  const { PATH, HOME } = process.env;
  const child = spawn(process.execPath, [program], {
    env: {
      PATH,
      HOME,
      HELMR_DATABASE_URL: database.url,
      HELMR_CAS_URI: `file://${folder}`,
      HELMR_METRICS_LISTEN: "127.0.0.1:0",
      HELMR_SCHEDULE_JITTER: "0s",
      HELMR_SCHEDULE_REPAIR_EVERY: "300ms",
      HELMR_SCHEDULE_LEASE: "2s",
      ...variables,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (data: Buffer) => {
      output = (output + data.toString()).slice(-64 * 1024);
    });
  }
  await vi.waitUntil(() => {
    if (child.exitCode !== null) throw new Error(`helmr-dispatcher ended:\n${output}`);
    return output.includes("helmr-dispatcher is ready");
  }, limit);
  const metricsUrl = /"url":"([^"]+)","msg":"metrics are served"/.exec(output)?.[1] ?? "";
  return Object.assign(child, { metricsUrl });
}

/** Far from now by themselves: what fires is what the test makes due. */
async function plant(): Promise<void> {
  for (let n = 0; n < schedules; n += 1) {
    const input = { deduplicationKey: `s${n}`, taskId: "hello", cron: "0 0 29 2 *", timezone: "UTC" };
    await createSchedule(database.db, scope, { ...input, options: {}, active: true }, { jitterMs: 0 });
  }
}

/** Every schedule has a slot that is due now: that of so many minutes ago. */
async function makeDue(minutesAgo = 0): Promise<void> {
  await sql`update schedules set due_at = now(),
    next_fire_at = date_trunc('minute', now()) - make_interval(mins => ${minutesAgo}::integer)`.execute(
    database.db,
  );
}
const runsPerSchedule = async () =>
  (
    await sql<{ n: number }>`select count(r.id) as n from schedules s left join runs r on r.schedule_id = s.id
      group by s.id`.execute(database.db)
  ).rows.map(({ n }) => n);

test.each(redisPrograms)(
  "%s joins them: hints arrive, a killed one is made up for, nothing fires twice",
  async (server) => {
    redis = await startRedis(server);
    const joined = { HELMR_REDIS_URL: redis.url };
    const [killed, stays] = await Promise.all([start(joined), start(joined)]);
    if (killed === undefined || stays === undefined) throw new Error("no processes");
    const bus = createRedisBus({ url: redis.url });
    let hints = 0;
    bus.subscribe("work:default", () => {
      hints += 1;
    });
    try {
      await plant();
      await makeDue();
      await vi.waitUntil(async () => (await runsPerSchedule()).some((n) => n > 0), limit);
      expect(await end(killed, "SIGKILL")).toBeNull();
      await vi.waitUntil(async () => (await runsPerSchedule()).every((n) => n > 0), limit);
      expect(await runsPerSchedule()).toEqual(Array.from({ length: schedules }, () => 1));
      await vi.waitUntil(() => hints > 1, limit);
      expect(await end(stays, "SIGTERM")).toBe(0);
    } finally {
      await bus.close();
    }
  },
);

test.each(redisPrograms)(
  "%s is hung, flushed and killed in the middle: what is due fires once each time, and hints come again",
  async (server) => {
    redis = await startRedis(server);
    const there = redis;
    const dispatcher = await start({ HELMR_REDIS_URL: there.url });
    await plant();
    const fires = async (times: number) => {
      // A slot is a minute: one that fired already does not fire again.
      await makeDue(10 - times);
      await vi.waitUntil(async () => (await runsPerSchedule()).every((n) => n === times), limit);
    };
    await fires(1);
    there.pause();
    try {
      await fires(2);
    } finally {
      there.resume();
    }
    await there.command("FLUSHALL");
    await fires(3);
    await there.kill();
    await fires(4);
    await there.start();
    await fires(5);
    const bus = createRedisBus({ url: there.url });
    let hints = 0;
    bus.subscribe("work:default", () => {
      hints += 1;
    });
    try {
      await vi.waitUntil(() => hints > 0, limit); // Its own wake-up when it is subscribed.
      const before = hints;
      await fires(6);
      await vi.waitUntil(() => hints > before, limit);
    } finally {
      await bus.close();
    }
    expect(await end(dispatcher, "SIGTERM")).toBe(0);
  },
);

test("stopped while they fire: what it has begun is finished, the rest is another's", async () => {
  const stops = await start({ HELMR_SCHEDULE_LEASE: "5m" });
  await plant();
  await makeDue();
  await vi.waitUntil(async () => (await runsPerSchedule()).some((n) => n > 0), { ...limit, interval: 2 });
  expect(await end(stops, "SIGTERM")).toBe(0);
  // A fire that it had claimed and left would be another's only when the lease is over.
  const { rows } = await sql`select id from schedules where lease_expires_at is not null`.execute(
    database.db,
  );
  expect(rows).toEqual([]);
  await start({ HELMR_SCHEDULE_LEASE: "5m" });
  await vi.waitUntil(async () => (await runsPerSchedule()).every((n) => n > 0), limit);
  expect(await runsPerSchedule()).toEqual(Array.from({ length: schedules }, () => 1));
});

test("connections that are cut while they fire: each slot fires once, and no schedule is errored", async () => {
  const dispatcher = await start({});
  await plant();
  await makeDue();
  const cut = async () =>
    (
      await sql`select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'helmr-dispatcher' and datname = current_database()`.execute(database.db)
    ).rows.length;
  let cuts = 0;
  await vi.waitUntil(
    async () => {
      if (cuts < 10) cuts += (await cut()) > 0 ? 1 : 0;
      return (await runsPerSchedule()).every((n) => n > 0);
    },
    { timeout: 120_000, interval: 10 },
  );
  expect(cuts).toBeGreaterThan(0);
  expect(await runsPerSchedule()).toEqual(Array.from({ length: schedules }, () => 1));
  const { rows } = await sql`select last_error from schedules where last_error is not null`.execute(
    database.db,
  );
  expect(rows).toEqual([]);

  const metrics = await (await fetch(`${dispatcher.metricsUrl}/metrics`)).text();
  const value = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, "m").exec(metrics)?.[1]);
  // An answer that was cut off may have been a fire: it is tried again, and superseded.
  expect(value('helmr_schedule_fires_total\\{outcome="fired"\\}')).toBeGreaterThan(0);
  expect(value("helmr_schedule_fire_lag_seconds_count")).toBeGreaterThan(0);
  expect(value('helmr_queue_depth\\{kind="run",worker_group="default"\\}')).toBe(schedules);
  expect(value('helmr_dispatcher_loop_lag_seconds\\{loop="trigger-schedules"\\}')).toBeLessThan(120);
  expect(value("helmr_database_connections_max")).toBe(20);
  expect((await fetch(`${dispatcher.metricsUrl}/readyz`)).status).toBe(200);
});

test("refuses settings that cannot be, all of them at once", async () => {
  const wrong = {
    HELMR_SCHEDULE_LEASE: "0s",
    HELMR_SCHEDULE_REPAIR_LIMIT: "0",
    HELMR_SCHEDULE_TRIGGER_CONCURRENCY: "many",
    HELMR_SCHEDULE_JITTER: "40d",
    HELMR_REDIS_URL: "http://here",
  };
  const problems = Object.keys(wrong).map((name) => `(?=[\\s\\S]*${name}: must)`);
  await expect(start(wrong)).rejects.toThrow(new RegExp(problems.join("")));
  await expect(
    start({ HELMR_SCHEDULE_REPAIR_EVERY: "30s", HELMR_SCHEDULE_REPAIR_LOOKAHEAD: "40s" }),
  ).rejects.toThrow("HELMR_SCHEDULE_REPAIR_LOOKAHEAD: must be at least twice");
});
