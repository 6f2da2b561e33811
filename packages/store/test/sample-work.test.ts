/** What waits, as the metrics tell it: by worker group, with runs of limited queues, builds, live copies, parked runs, schedules. */
import { sql } from "kysely";
import { afterEach, beforeEach, expect, test } from "vitest";
import { claimRuns, createSchedule, sampleWork } from "../src/index.ts";
import {
  type SeededEnvironment,
  seedEnvironment,
  seedStartedSession,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

let database: TestDatabase;
let seeded: SeededEnvironment;
beforeEach(async () => {
  database = await startTestDatabase();
  seeded = await seedEnvironment(database.db);
});
afterEach(() => database.stop());

const queue = async (kind: string, group = "default") =>
  (await sampleWork(database.db)).queues.find((each) => each.kind === kind && each.workerGroup === group);

test("an installation where nothing waits has its queues all the same", async () => {
  const sample = await sampleWork(database.db);
  expect(sample).toEqual({
    queues: ["build", "materialization", "run"].map((kind) => ({
      kind,
      workerGroup: "default",
      depth: 0,
      oldestSeconds: 0,
    })),
    runs: { queued: 0, running: 0, waiting: 0 },
    parkedRuns: 0,
    workers: [
      { state: "active", count: 0 },
      { state: "draining", count: 0 },
      { state: "gone", count: 0 },
    ],
    schedules: { due: 0, oldestDueSeconds: 0 },
  });
});

test("queued runs of limited and other queues by group, and how long the oldest waits; what is not due yet does not", async () => {
  const { db } = database;
  const task = await seedTask(db, seeded.scope);
  for (let n = 0; n < 3; n += 1) await seedStartedSession(db, seeded.scope, task);
  const limited = await seedTask(db, seeded.scope, { taskId: "limited", concurrencyLimit: 1 });
  await seedStartedSession(db, seeded.scope, limited);
  const [old, later, other] = (
    await sql<{ id: string }>`select id from runs where not limited order by id`.execute(db)
  ).rows;
  await sql`update runs set available_at = now() - interval '100 seconds' where id = ${old?.id}`.execute(db);
  await sql`update runs set available_at = now() + interval '1 hour' where id = ${later?.id}`.execute(db);
  await sql`insert into worker_groups (id, name) values ('00000000-0000-7000-8000-0000000000ff', 'gpu')`.execute(
    db,
  );
  await sql`update runs set worker_group_id = '00000000-0000-7000-8000-0000000000ff' where id = ${other?.id}`.execute(
    db,
  );
  const waiting = await queue("run");
  expect(waiting).toMatchObject({ depth: 2 });
  expect(waiting?.oldestSeconds).toBeGreaterThanOrEqual(100);
  expect(waiting?.oldestSeconds).toBeLessThan(1000);
  expect(await queue("run", "gpu")).toMatchObject({ depth: 1 });
  expect((await sampleWork(db)).runs).toEqual({ queued: 4, running: 0, waiting: 0 });
});

test("a waiting run is parked when it has no lease", async () => {
  const { db } = database;
  const worker = await seedWorker(db, seeded.workerGroupId);
  const task = await seedTask(db, seeded.scope);
  for (let n = 0; n < 2; n += 1) await seedStartedSession(db, seeded.scope, task);
  const claimed = await claimRuns(db, { workerInstanceId: worker, limit: 2, leaseDurationMs: 60_000 });
  expect(claimed).toHaveLength(2);
  await sql`update runs set status = 'waiting', execution_status = 'waiting'`.execute(db);
  await sql`update run_counts set running = 0, waiting = 2 where running <> 0`.execute(db);
  expect(await sampleWork(db)).toMatchObject({ parkedRuns: 0, runs: { waiting: 2 } });
  await sql`update runs set execution_status = 'parked', lease_id = null, lease_expires_at = null where id = ${claimed[0]?.id}`.execute(
    db,
  );
  expect(await sampleWork(db)).toMatchObject({ parkedRuns: 1, runs: { waiting: 2 } });
});

test("builds, live copies, workers and overdue schedules", async () => {
  const { db } = database;
  await seedWorker(db, seeded.workerGroupId);
  await seedTask(db, seeded.scope);
  await sql`update deployments set status = 'queued', deployed_at = null`.execute(db);
  expect(await queue("build")).toMatchObject({ depth: 1 });
  const input = {
    deduplicationKey: "s",
    taskId: "hello",
    cron: "0 0 29 2 *",
    timezone: "UTC",
    options: {},
    active: true,
  };
  await createSchedule(db, seeded.scope, input, { jitterMs: 0 });
  await sql`update schedules set due_at = now() - interval '50 seconds'`.execute(db);
  const sample = await sampleWork(db);
  expect(sample.workers).toContainEqual({ state: "active", count: 1 });
  expect(sample.schedules.due).toBe(1);
  expect(sample.schedules.oldestDueSeconds).toBeGreaterThanOrEqual(50);
});
