/**
 * Live copies and runs of the same workspaces: random steps of workers, operators and time, two at once, on a real database.
 * After every pair the invariants of ../src/materializations/lifecycle.ts hold; in the end every run gets its workspace.
 */
import fc from "fast-check";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ActingScope,
  appendToMaterialization,
  attachRequested,
  bindRunCopies,
  claimMaterializations,
  claimRuns,
  createExec,
  createRun,
  createWait,
  expireLeases,
  expireMaterializations,
  expireWaits,
  finishMaterialization,
  finishRuns,
  type LeaseRef,
  type MaterializationRef,
  parkRun,
  pollWorkspaces,
  requestMaterialization,
  requestStop,
  startMaterialization,
  startRuns,
  yieldToRuns,
} from "../src/index.ts";
import {
  type SeededTask,
  seedEnvironment,
  seedSession,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

const compatibility = "model";
const lostAfterMs = 60_000;
const idleStopMs = 60_000;
let database: TestDatabase;
let scope: ActingScope;
let workers: string[];
let task: SeededTask;

beforeAll(async () => {
  database = await startTestDatabase({ maxConnections: 8 });
  const seeded = await seedEnvironment(database.db);
  scope = seeded.scope;
  const capabilities = { checkpoint_compatibility: compatibility };
  workers = [
    await seedWorker(database.db, seeded.workerGroupId, capabilities),
    await seedWorker(database.db, seeded.workerGroupId, capabilities),
  ];
  task = await seedTask(database.db, scope);
});
afterAll(() => database.stop());

interface World {
  readonly workspaces: readonly { readonly workspaceId: string; readonly sessionId: string }[];
  /** Every lease that a worker was ever given, of copies and of runs. */
  readonly copies: MaterializationRef[];
  readonly runs: LeaseRef[];
}
type Step = (world: World) => Promise<unknown>;

const pick = <T>(items: readonly T[], index: number): T | undefined =>
  items[index % Math.max(1, items.length)];
const workerOf = (index: number) => pick(workers, index) ?? "";

/** What an operator may be told: the workspace is in use, or busy. */
async function orRefused(work: Promise<unknown>): Promise<void> {
  await work.catch((error: { status?: number }) => {
    if (error.status !== 409 && error.status !== 503) throw error;
  });
}

const steps = {
  request: (at: number) => async (world: World) => {
    const workspace = pick(world.workspaces, at);
    if (workspace) await orRefused(requestMaterialization(database.db, scope, workspace.workspaceId));
  },
  exec: (at: number) => async (world: World) => {
    const workspace = pick(world.workspaces, at);
    if (workspace)
      await orRefused(createExec(database.db, scope, workspace.workspaceId, { command: ["true"] }));
  },
  stop: (at: number) => async (world: World) => {
    const workspace = pick(world.workspaces, at);
    if (workspace) await requestStop(database.db, scope, workspace.workspaceId, { idempotencyKeyTtlMs: 1 });
  },
  enqueue: (at: number) => async (world: World) => {
    const session = pick(world.workspaces, at);
    if (session === undefined) return;
    await createRun(database.db, scope, {
      ...session,
      deploymentId: task.deploymentId,
      deploymentTaskId: task.deploymentTaskId,
      deploymentVersion: "1",
      taskId: task.taskId,
      queueName: task.queueName,
      payloadJson: "{}",
      retryPolicy: { enabled: false },
      maxDurationSeconds: 900,
      apiVersion: "2026-06-06",
    });
  },
  claimRuns: (at: number) => async (world: World) => {
    const workerInstanceId = workerOf(at);
    const claimed = await claimRuns(database.db, { workerInstanceId, limit: 2, leaseDurationMs: 60_000 });
    for (const run of claimed) {
      const lease = { workerInstanceId, leaseId: run.lease_id, fencing: run.fencing };
      world.runs.push(lease);
      await startRuns(database.db, [{ ...lease, notes: [], guest: { pooled: false, startMs: 1 } }]);
    }
  },
  claimCopies: (at: number) => async (world: World) => {
    const workerInstanceId = workerOf(at);
    const claimed = await claimMaterializations(database.db, { workerInstanceId, limit: 2, lostAfterMs });
    for (const copy of claimed)
      world.copies.push({ materializationId: copy.id, workerInstanceId, fencing: copy.fencing });
  },
  /** Finds the guests of its runs, and brings up what it has. */
  work: (at: number) => async (world: World) => {
    const workerInstanceId = workerOf(at);
    await bindRunCopies(database.db, workerInstanceId);
    const { attached } = await pollWorkspaces(database.db, workerInstanceId, []);
    for (const { materializationId, fencing } of attached)
      world.copies.push({ materializationId, workerInstanceId, fencing });
    for (const copy of world.copies.filter((each) => each.workerInstanceId === workerInstanceId))
      await startMaterialization(database.db, { ...copy, idleStopMs });
  },
  exit: (at: number) => async (world: World) => {
    const copy = pick(world.copies, at);
    const active = await sql<{ id: string; number: number }>`select e.id, m.append_number + 1 as number
      from workspace_execs e join workspace_materializations m on m.id = e.materialization_id
      where m.id = ${copy?.materializationId ?? null} and e.state in ('queued', 'materializing', 'running')`.execute(
      database.db,
    );
    const [exec] = active.rows;
    if (copy === undefined || exec === undefined) return;
    const item = {
      kind: "exec.exited",
      number: exec.number,
      exec_id: exec.id,
      state: "exited",
      exit_code: 0,
    } as const;
    await appendToMaterialization(database.db, { ...copy, items: [item] });
  },
  finishCopy: (at: number, failed: boolean) => async (world: World) => {
    const copy = pick(world.copies, at);
    if (copy === undefined) return;
    const outcome = failed
      ? ({ status: "failed", message: "m", unsaved: false } as const)
      : ({ status: "stopped" } as const);
    await finishMaterialization(database.db, { ...copy, outcome });
  },
  finishRun: (at: number) => async (world: World) => {
    const run = pick(world.runs, at);
    if (run) await finishRuns(database.db, [{ ...run, outcome: { status: "succeeded" } }]);
  },
  park: (at: number) => async (world: World) => {
    const run = pick(world.runs, at);
    if (run === undefined) return;
    const waitFor = { kind: "timer", dueAt: new Date(Date.now() + 3_600_000) } as const;
    const made = await createWait(database.db, { ...run, number: 1, waitFor, metadata: {}, tags: [] });
    if (made.status === "lost") return;
    await parkRun(database.db, {
      ...run,
      waitId: made.wait.id,
      manifest: { compatibility },
      artifactDigest: `sha256:${made.wait.id}`,
      sizeBytes: 1,
      timings: {},
    });
  },
  loseRun: (at: number) => async (world: World) => {
    const run = pick(world.runs, at);
    await sql`update runs set lease_expires_at = now(), lost_count = 0 where lease_id = ${run?.leaseId ?? null}`.execute(
      database.db,
    );
    await expireLeases(database.db, { limit: 100 });
  },
  loseCopy: (at: number) => async (world: World) => {
    const copy = pick(world.copies, at);
    await sql`update workspace_materializations set reservation_expires_at = now()
      where id = ${copy?.materializationId ?? null} and run_id is null`.execute(database.db);
    await sweep();
  },
  yield: (at: number) => () => yieldToRuns(database.db, workerOf(at)),
  passTime: () => async () => {
    await sql`update runs set available_at = now() - interval '1 minute' where status = 'queued'`.execute(
      database.db,
    );
    await sql`update workspace_materializations set updated_at = now() - interval '10 seconds',
      created_at = now() - interval '10 seconds' where state = 'requested'`.execute(database.db);
  },
};

async function sweep(): Promise<void> {
  await expireMaterializations(database.db, { limit: 100, lostAfterMs });
  await attachRequested(database.db, 100);
}

async function checkInvariants(world: World): Promise<void> {
  const ids = world.workspaces.map(({ workspaceId }) => workspaceId);
  const { rows } = await sql<{ what: string; id: string }>`
    select 'M1: two writers' as what, workspace_id as id from workspace_execs
      where workspace_id = any (${ids}::uuid[]) and state in ('queued', 'materializing', 'running')
      group by workspace_id having count(*) > 1
    union all
    select 'M3: a leased copy beside a run with a lease', m.id from workspace_materializations m
      join runs r on r.workspace_id = m.workspace_id and r.lease_id is not null
      where m.workspace_id = any (${ids}::uuid[]) and m.ended_at is null and m.run_id is null and m.state <> 'requested'
    union all
    select 'M4: an exec in a copy that has ended', e.id from workspace_execs e
      join workspace_materializations m on m.id = e.materialization_id
      where e.workspace_id = any (${ids}::uuid[]) and e.state in ('queued', 'materializing', 'running')
        and m.ended_at is not null
    union all
    select 'M4: commands of a copy that has ended', m.id from workspace_commands c
      join workspace_materializations m on m.id = c.materialization_id
      where m.workspace_id = any (${ids}::uuid[]) and m.ended_at is not null
    union all
    select 'a parked run with a live copy', m.id from workspace_materializations m join runs r on r.id = m.run_id
      where m.workspace_id = any (${ids}::uuid[]) and m.ended_at is null and r.execution_status = 'parked'`.execute(
    database.db,
  );
  expect(rows).toEqual([]);
  for (const copy of world.copies) await checkFenced(copy);
}

/** M2: a write counts exactly when the row names the worker and the fencing number, and its run has the lease. */
async function checkFenced(copy: MaterializationRef): Promise<void> {
  const { rows } = await sql<{ held: boolean }>`
    select m.ended_at is null and m.worker_instance_id is not distinct from ${copy.workerInstanceId} and m.fencing_generation = ${copy.fencing}
      and (m.run_id is null or exists (select from runs r where r.id = m.run_id and r.lease_id = m.lease_id)) as held
    from workspace_materializations m where m.id = ${copy.materializationId}`.execute(database.db);
  const appended = await appendToMaterialization(database.db, { ...copy, items: [] });
  expect(appended !== undefined).toBe(rows[0]?.held);
}

/** Operators go home; workers do what they are told: every run gets its workspace, and ends. */
async function drain(world: World): Promise<void> {
  const left = async () => {
    const ids = world.workspaces.map(({ workspaceId }) => workspaceId);
    const { rows } = await sql<{ id: string }>`select id from runs where workspace_id = any (${ids}::uuid[])
      and status in ('queued', 'running', 'waiting')`.execute(database.db);
    return rows.length;
  };
  for (let rounds = 0; (await left()) > 0; rounds += 1) {
    expect(rounds).toBeLessThan(60);
    await steps.passTime()();
    await sql`update run_waits set timeout_at = now() where status = 'pending'`.execute(database.db);
    await expireWaits(database.db, { limit: 100 });
    for (const at of [0, 1]) {
      await steps.claimCopies(at)(world);
      await steps.work(at)(world);
    }
    for (let at = 0; at < world.copies.length; at += 1) await steps.exit(at)(world);
    for (const at of [0, 1]) await steps.yield(at)();
    for (const copy of world.copies) {
      const { rows } = await sql`select from workspace_materializations where id = ${copy.materializationId}
        and state = 'stopping'`.execute(database.db);
      if (rows.length > 0)
        await finishMaterialization(database.db, { ...copy, outcome: { status: "stopped" } });
    }
    for (const at of [0, 1]) await steps.claimRuns(at)(world);
    for (let at = 0; at < world.runs.length; at += 1) await steps.finishRun(at)(world);
    await sweep();
  }
}

const index = fc.nat(30);
const indexed = [
  "request",
  "exec",
  "stop",
  "enqueue",
  "claimRuns",
  "claimCopies",
  "work",
  "exit",
  "finishRun",
  "park",
  "loseRun",
  "loseCopy",
  "yield",
] as const;
const step: fc.Arbitrary<Step> = fc.oneof(
  ...indexed.map((name) => ({ weight: 3, arbitrary: index.map((at): Step => steps[name](at)) })),
  { weight: 4, arbitrary: index.map((at): Step => steps.work(at)) },
  {
    weight: 2,
    arbitrary: fc.tuple(index, fc.boolean()).map(([at, failed]): Step => steps.finishCopy(at, failed)),
  },
  { weight: 2, arbitrary: fc.constant<Step>(() => sweep()) },
  { weight: 2, arbitrary: fc.constant<Step>(steps.passTime()) },
);

test("runs and operators share workspaces, whatever happens at once", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(step, step), { minLength: 5, maxLength: 25 }), async (pairs) => {
      const world: World = {
        workspaces: [
          await seedSession(database.db, scope, task),
          await seedSession(database.db, scope, task),
        ],
        copies: [],
        runs: [],
      };
      for (const pair of pairs) {
        await Promise.all(pair.map((run) => run(world)));
        await checkInvariants(world);
      }
      await drain(world);
      await checkInvariants(world);
      await sql`update workspace_materializations set state = 'stopped', ended_at = now() where ended_at is null`.execute(
        database.db,
      );
    }),
    { numRuns: Number(process.env.HELMR_PROPERTY_RUNS ?? 25), endOnFailure: true },
  );
});
