/** What has ended goes when its time is over, nothing else does, and each page reads what it removes. */
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ActingScope,
  appendDeploymentEvents,
  appendInput,
  appendRunEvents,
  cancelSession,
  claimRuns,
  closeScheduledSessions,
  closeSession,
  countRuns,
  finishRuns,
  getRun,
  getSession,
  listRunEvents,
  purgeArchived,
  readRunLogs,
  removeDeploymentEvents,
  removeRunEvents,
  removeSessions,
  startRuns,
  startSessionAnd,
  uuidv7,
} from "../src/index.ts";
import {
  fillRuns,
  type SeededTask,
  seedEnvironment,
  seedStartedSession,
  seedStream,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

const dayMs = 86_400_000;
let database: TestDatabase;
let scope: ActingScope;
let task: SeededTask;
let worker: string;
beforeAll(async () => {
  // One connection: its statistics are flushed by itself.
  database = await startTestDatabase({ maxConnections: 1 });
  const seeded = await seedEnvironment(database.db);
  scope = seeded.scope;
  task = await seedTask(database.db, scope);
  await seedStream(database.db, task, "answers", "input");
  worker = await seedWorker(database.db, seeded.workerGroupId);
});
afterAll(() => database.stop());

const page = { limit: 100, keepMs: 30 * dayMs };

/** Claims the oldest queued run, and ends it. */
async function runNext(): Promise<void> {
  const { db } = database;
  const [claimed] = await claimRuns(db, { workerInstanceId: worker, limit: 1, leaseDurationMs: 60_000 });
  if (claimed === undefined) throw new Error("nothing to claim");
  const lease = { workerInstanceId: worker, leaseId: claimed.lease_id, fencing: claimed.fencing };
  await startRuns(db, [{ ...lease, notes: [], guest: { pooled: false, startMs: 1 } }]);
  await finishRuns(db, [{ ...lease, outcome: { status: "succeeded" } }]);
}

async function scheduled(scheduleId: string): Promise<string> {
  const started = await startSessionAnd(
    database.db,
    scope,
    {
      taskId: task.taskId,
      payload: {},
      metadata: {},
      tags: [],
      idempotencyKey: uuidv7(),
      idempotencyKeyTtlMs: 1000,
      schedule: { id: scheduleId, timestamp: "2026-01-01T00:00:00.000Z" },
      apiVersion: "2026-06-06",
    },
    async () => {},
  );
  return started?.session.id ?? "";
}

/** As if all of it had happened that long ago. */
async function age(sessionId: string, days: number): Promise<void> {
  const at = sql`now() - ${days}::integer * interval '1 day'`;
  await sql`update sessions set created_at = ${at}, updated_at = ${at} where id = ${sessionId}`.execute(
    database.db,
  );
  await sql`update runs set ended_at = ${at} where session_id = ${sessionId} and ended_at is not null`.execute(
    database.db,
  );
}

async function drain(step: () => Promise<boolean>): Promise<void> {
  for (let pages = 0; await step(); pages += 1) if (pages > 1000) throw new Error("it never ends");
}

const kinds = async (runId: string) =>
  (await listRunEvents(database.db, scope, runId, { after: 0, limit: 500 })).map(({ kind }) => kind);

test("of a run that ended long ago its terminal event stays, in its place, and what it wrote is called truncated", async () => {
  const { db } = database;
  const old = await seedStartedSession(db, scope, task);
  await runNext();
  await sql`insert into run_logs (run_id, seq, run_lease_id, attempt_number, stream, observed_seq, content, occurred_at)
    select ${old.runId}, 1000 + n, gen_random_uuid(), 1, 'stdout', n, 'x', now() from generate_series(1, 1200) n`.execute(
    db,
  );
  await sql`update runs set stdout_bytes = 1200 where id = ${old.runId}`.execute(db);
  const young = await seedStartedSession(db, scope, task);
  await runNext();
  const live = await seedStartedSession(db, scope, task);
  const before = { young: await kinds(young.runId), live: await kinds(live.runId) };
  await age(old.sessionId, 31);
  const [terminal] = (await listRunEvents(db, scope, old.runId, { after: 0, limit: 500 })).filter(
    ({ kind }) => kind === "run.completed",
  );

  await drain(() => removeRunEvents(db, page));

  expect(await listRunEvents(db, scope, old.runId, { after: 0, limit: 500 })).toEqual([terminal]);
  expect(await readRunLogs(db, scope, old.runId)).toMatchObject({
    stdout: Buffer.alloc(0),
    stdoutBytes: 1200,
    truncated: true,
  });
  expect(await getRun(db, scope, old.runId)).toMatchObject({ status: "succeeded" });
  expect({ young: await kinds(young.runId), live: await kinds(live.runId) }).toEqual(before);
  expect(await removeRunEvents(db, page)).toBe(false);
  await cancelSession(db, scope, { id: live.sessionId }, "done");
});

test("of an old build only how it ended stays", async () => {
  const { db } = database;
  const { deploymentId } = await seedTask(db, (await seedEnvironment(db)).scope);
  await appendDeploymentEvents(db, deploymentId, [{ kind: "deployment.building" }]);
  await appendDeploymentEvents(db, deploymentId, [{ kind: "deployment.deployed" }]);
  const left = async () =>
    (
      await sql<{ kind: string }>`select kind from deployment_events where deployment_id = ${deploymentId}
        order by seq`.execute(db)
    ).rows.map(({ kind }) => kind);
  await drain(() => removeDeploymentEvents(db, page));
  expect(await left()).toEqual(["deployment.building", "deployment.deployed"]);
  await sql`update deployments set created_at = now() - interval '31 days' where id = ${deploymentId}`.execute(
    db,
  );
  await drain(() => removeDeploymentEvents(db, page));
  expect(await left()).toEqual(["deployment.deployed"]);
});

test("a session that a schedule started is closed when it is idle for long, and only then", async () => {
  const { db } = database;
  const idle = await scheduled(uuidv7());
  await runNext();
  const hasInput = await scheduled(uuidv7());
  await runNext();
  const recent = await scheduled(uuidv7());
  await runNext();
  const live = await scheduled(uuidv7());
  const { sessionId: own } = await seedStartedSession(db, scope, task);
  await sql`update runs set available_at = now() + interval '1 hour' where session_id in (${live}, ${own})`.execute(
    db,
  );
  for (const id of [idle, hasInput, live, own]) await age(id, 8);
  await sql`insert into session_continuations (session_id, environment_id)
    values (${hasInput}, ${scope.environmentId})`.execute(db);
  await closeScheduledSessions(db, { limit: 100, idleMs: 7 * dayMs });
  const { rows } = await sql<{ id: string }>`select id from sessions where status = 'closed'
    and id = any (${[idle, hasInput, recent, live, own]}::uuid[])`.execute(db);
  expect(rows.map(({ id }) => id)).toEqual([idle]);
  expect(await getSession(db, scope, { id: idle })).toMatchObject({ status: "closed" });
  for (const id of [hasInput, recent, live, own]) await cancelSession(db, scope, { id }, "done");
});

test("a session goes with its runs and streams when it ended long ago; its workspace stays, unless a schedule had it", async () => {
  const { db } = database;
  const keep = { keepMs: 90 * dayMs };
  const old = await seedStartedSession(db, scope, task);
  await runNext();
  await appendRunEvents(db, old.runId, [{ kind: "x" }]);
  await appendInput(db, scope, { id: old.sessionId }, "answers", { data: "1" });
  await cancelSession(db, scope, { id: old.sessionId }, "done");
  const ofSchedule = await scheduled(uuidv7());
  await runNext();
  const shared = await scheduled(uuidv7());
  await runNext();
  const workspaceOf = async (id: string) =>
    (await sql<{ w: string }>`select workspace_id as w from sessions where id = ${id}`.execute(db)).rows[0]
      ?.w ?? "";
  const [oldSpace, itsSpace, sharedSpace] = [
    await workspaceOf(old.sessionId),
    await workspaceOf(ofSchedule),
    await workspaceOf(shared),
  ];
  // Somebody else has a session in it.
  const { sessionId: guest } = await seedStartedSession(db, scope, task);
  await sql`update sessions set workspace_id = ${sharedSpace} where id = ${guest}`.execute(db);
  const live = await seedStartedSession(db, scope, task);
  for (const id of [ofSchedule, shared]) await closeSession(db, scope, { id }, "done");
  for (const id of [old.sessionId, ofSchedule, shared]) await age(id, 91);
  // Its run is still to hear that it was cancelled.
  await sql`update sessions set status = 'cancelled', updated_at = now() - interval '91 days'
    where id = ${live.sessionId}`.execute(db);
  const counted = await countRuns(db, scope);

  await drain(() => removeSessions(db, keep));

  for (const id of [old.sessionId, ofSchedule, shared])
    expect(await getSession(db, scope, { id })).toBe(undefined);
  for (const id of [guest, live.sessionId]) expect(await getSession(db, scope, { id })).not.toBe(undefined);
  for (const [table, column] of [
    ["run_events", "run_id"],
    ["runs", "id"],
  ] as const) {
    const { rows } =
      await sql`select from ${sql.table(table)} where ${sql.ref(column)} = ${old.runId}`.execute(db);
    expect(rows).toEqual([]);
  }
  const streams = await sql`select from session_streams where session_id = ${old.sessionId}`.execute(db);
  expect(streams.rows).toEqual([]);
  const after = await countRuns(db, scope);
  const byRow = await sql<{ n: number }>`select count(*)::integer as n from runs
    where environment_id = ${scope.environmentId} and status = 'succeeded'`.execute(db);
  expect(after.succeeded).toBe(byRow.rows[0]?.n);
  expect(after.succeeded).toBeLessThan(counted.succeeded);
  const states = await sql<{ id: string; state: string }>`select id, state from workspaces
    where id = any (${[oldSpace, itsSpace, sharedSpace]}::uuid[])`.execute(db);
  expect(Object.fromEntries(states.rows.map(({ id, state }) => [id, state]))).toEqual({
    [oldSpace]: "active",
    [itsSpace]: "archived",
    [sharedSpace]: "active",
  });
  await drain(() => purgeArchived(db));
  const gone = await sql<{ state: string }>`select state from workspaces where id = ${itsSpace}`.execute(db);
  expect(gone.rows).toEqual([{ state: "deleted" }]);
});

test("a page costs what it removes, however much else there is, and nothing when there is nothing", async () => {
  const { db } = database;
  const { scope: other } = await seedEnvironment(db);
  const others = await seedTask(db, other);
  await fillRuns(db, other, others, 20_000);
  const old = await fillRuns(db, other, others, 100);
  await sql`update runs set ended_at = now() - interval '91 days' where id = any (${old}::uuid[])`.execute(
    db,
  );
  await sql`update sessions set status = 'closed', updated_at = now() - interval '91 days'
    where current_run_id = any (${old}::uuid[])`.execute(db);
  await sql`analyze`.execute(db);
  const reads = async (work: () => Promise<unknown>) => {
    const before = await rowsRead();
    await work();
    return (await rowsRead()) - before;
  };
  expect(await reads(() => removeRunEvents(db, page))).toBeLessThan(100 * 12);
  expect(await reads(() => drain(() => removeSessions(db, { keepMs: 90 * dayMs })))).toBeLessThan(100 * 40);
  expect((await sql`select from runs where id = any (${old}::uuid[])`.execute(db)).rows).toEqual([]);
  await drain(() => removeRunEvents(db, page));
  const idle = await reads(async () => {
    await removeRunEvents(db, page);
    await removeDeploymentEvents(db, page);
    await closeScheduledSessions(db, { limit: 100, idleMs: 7 * dayMs });
    await removeSessions(db, { keepMs: 90 * dayMs });
  });
  expect(idle).toBeLessThan(200);
});

async function rowsRead(): Promise<number> {
  await sql`select pg_stat_force_next_flush()`.execute(database.db);
  const { rows } = await sql<{ n: number }>`select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint as n
    from pg_stat_user_tables`.execute(database.db);
  return rows[0]?.n ?? 0;
}
