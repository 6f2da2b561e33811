/** What a pause holds and what it does not, and what takes a place of a limited queue. */
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import {
  type ActingScope,
  type ClaimedRun,
  claimRuns,
  completeToken,
  createRun,
  createToken,
  createWait,
  expireQueuedRuns,
  finishRuns,
  getRun,
  listQueues,
  parkRun,
  pauseQueue,
  promoteDeployment,
  resumeQueue,
  startRun,
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

let database: TestDatabase;
let scope: ActingScope;
let task: SeededTask;
let worker: string;
beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());
beforeEach(async () => {
  await sql`truncate runs, run_events, run_counts, paused_queues cascade`.execute(database.db);
  const seeded = await seedEnvironment(database.db);
  scope = seeded.scope;
  task = await seedTask(database.db, scope, { concurrencyLimit: 1 });
  worker = await seedWorker(database.db, seeded.workerGroupId, { checkpoint_compatibility: "x" });
});

async function enqueue(extra: { ttl?: string; retries?: number } = {}): Promise<string> {
  const run = await createRun(database.db, scope, {
    ...(await seedSession(database.db, scope, task)),
    deploymentId: task.deploymentId,
    deploymentTaskId: task.deploymentTaskId,
    deploymentVersion: "1",
    taskId: task.taskId,
    queueName: task.queueName,
    payloadJson: "{}",
    retryPolicy:
      extra.retries === undefined ? { enabled: false } : { enabled: true, maxAttempts: extra.retries },
    maxDurationSeconds: 60,
    apiVersion: "2026-06-06",
    ttl: extra.ttl,
  });
  return run.id;
}

const claim = () => claimRuns(database.db, { workerInstanceId: worker, limit: 10, leaseDurationMs: 60_000 });
const ids = async () => (await claim()).map((run) => run.id);
const leaseOf = (run: ClaimedRun) => ({
  workerInstanceId: worker,
  leaseId: run.lease_id,
  fencing: run.fencing,
});
const queue = async () => (await listQueues(database.db, scope, task.queueName))[0];

/** A run that was claimed, started, and is parked on a token. */
async function parked(): Promise<{ readonly id: string; answer(): Promise<unknown> }> {
  const id = await enqueue();
  const [run] = await claim();
  if (run?.id !== id) throw new Error("the run was not claimed");
  await startRun(database.db, { ...leaseOf(run), notes: [], guest: { pooled: true, startMs: 1 } });
  const { token } = await createToken(database.db, scope, { timeoutMs: 3_600_000, tags: [], metadata: {} });
  const waitFor = { kind: "token", tokenId: token.id } as const;
  const made = await createWait(database.db, { ...leaseOf(run), number: 1, waitFor, metadata: {}, tags: [] });
  if (made.status === "lost") throw new Error("the lease is lost");
  expect(await enqueue().then(ids)).toEqual([]); // It waits with its guest: the place is taken.
  const done = await parkRun(database.db, {
    ...leaseOf(run),
    waitId: made.wait.id,
    manifest: { compatibility: "x" },
    artifactDigest: `sha256:${id}`,
    sizeBytes: 1,
    timings: {},
  });
  expect(done.status).toBe("parked");
  return { id, answer: () => completeToken(database.db, scope, token.id, { dataJson: "1" }) };
}

test("a parked run holds no place, and takes one again when it resumes, before runs that start", async () => {
  const waiting = await parked();
  expect(await queue()).toMatchObject({ queued: 1, running: 0, waiting: 1 });
  const [other] = await claim();
  expect(other?.id).toBeDefined();
  await waiting.answer();
  expect(await claim()).toEqual([]);
  await enqueue();
  if (other !== undefined) {
    await finishRuns(database.db, [{ ...leaseOf(other), outcome: { status: "succeeded" } }]);
  }
  expect(await ids()).toEqual([waiting.id]);
  expect(await claim()).toEqual([]);
});

test("a parked run of a paused queue goes on; those that have not started wait, and expire", async () => {
  const waiting = await parked();
  const short = await enqueue({ ttl: "1ms" });
  await pauseQueue(database.db, scope, task.queueName);
  expect(await claim()).toEqual([]);
  await waiting.answer();
  expect(await ids()).toEqual([waiting.id]);
  await sql`select pg_sleep(0.01)`.execute(database.db);
  await expireQueuedRuns(database.db, 10);
  expect((await getRun(database.db, scope, short))?.status).toBe("expired");
  expect(await queue()).toMatchObject({ queued: 1, running: 1, waiting: 0 });
});

test("a retry waits as a first attempt does", async () => {
  const id = await enqueue({ retries: 2 });
  const [run] = await claim();
  await pauseQueue(database.db, scope, task.queueName);
  if (run === undefined) throw new Error("the run was not claimed");
  const outcome = {
    status: "failed",
    failureKind: "task_failed",
    message: "m",
    detail: {},
    retryable: true,
  } as const;
  await finishRuns(database.db, [{ ...leaseOf(run), outcome }]);
  await sql`update runs set available_at = now() where id = ${id}`.execute(database.db);
  expect(await claim()).toEqual([]);
  await resumeQueue(database.db, scope, task.queueName);
  expect(await ids()).toEqual([id]);
});

test("a pause stays through promotions, also one that leaves the queue out", async () => {
  await enqueue();
  const paused = await pauseQueue(database.db, scope, task.queueName);
  const other = await seedTask(database.db, scope, { taskId: "other", queueName: "other" });
  const timing = { jitterMs: 0 };
  for (const id of [other.deploymentId, task.deploymentId, other.deploymentId]) {
    await promoteDeployment(database.db, scope, { id }, undefined, timing);
    expect(await queue()).toMatchObject({
      paused_at: paused?.paused_at,
      declared: id === task.deploymentId,
      queued: 1,
    });
    expect(await claim()).toEqual([]);
  }
  const resumed = await resumeQueue(database.db, scope, task.queueName);
  expect(resumed?.queue.paused_at).toBeNull();
  expect(resumed?.workerGroupIds).toHaveLength(1);
  expect(await claim()).toHaveLength(1);
});

test("pausing twice keeps the first time, resuming what is not paused changes nothing, an unknown queue is none", async () => {
  const first = await pauseQueue(database.db, scope, task.queueName);
  expect((await pauseQueue(database.db, scope, task.queueName))?.paused_at).toEqual(first?.paused_at);
  await resumeQueue(database.db, scope, task.queueName);
  expect(await resumeQueue(database.db, scope, task.queueName)).toMatchObject({ workerGroupIds: [] });
  expect(await pauseQueue(database.db, scope, "nothing")).toBeUndefined();
  expect(await resumeQueue(database.db, scope, "nothing")).toBeUndefined();
  const { scope: stranger } = await seedEnvironment(database.db);
  expect(await pauseQueue(database.db, stranger, task.queueName)).toBeUndefined();
  const { rows } = await sql<{
    action: string;
    resource_id: string;
  }>`select action, resource_id from audit_log
    where environment_id = ${scope.environmentId} order by id`.execute(database.db);
  expect(rows).toEqual(
    ["queue.pause", "queue.resume"].map((action) => ({ action, resource_id: task.queueName })),
  );
});
