import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type ActingScope,
  appendToRun,
  type ClaimedRun,
  claimRuns,
  countRuns,
  createRun,
  createRuns,
  expireLeases,
  expireQueuedRuns,
  extendLeases,
  finishRuns,
  getRun,
  type LeaseRef,
  listRunEvents,
  listRuns,
  type RunOutcome,
  readRunLogs,
  requestCancel,
  startRun,
  transaction,
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
let workerGroupId: string;
let worker: string;
beforeAll(async () => {
  database = await startTestDatabase();
  ({ scope, workerGroupId } = await seedEnvironment(database.db));
  worker = await seedWorker(database.db, workerGroupId);
});
afterAll(() => database.stop());

async function enqueue(
  task: SeededTask,
  extra: Partial<Parameters<typeof createRun>[2]> = {},
  workspace?: string,
) {
  const { sessionId, workspaceId } = await seedSession(database.db, scope, task, workspace);
  return await createRun(database.db, scope, {
    sessionId,
    workspaceId,
    deploymentId: task.deploymentId,
    deploymentTaskId: task.deploymentTaskId,
    deploymentVersion: "20260606.1",
    taskId: task.taskId,
    queueName: task.queueName,
    payloadJson: '{"n":  1}',
    retryPolicy: { enabled: false },
    maxDurationSeconds: 900,
    apiVersion: "2026-06-06",
    ...extra,
  });
}

const claim = (limit: number, workerInstanceId = worker) =>
  claimRuns(database.db, { workerInstanceId, limit, leaseDurationMs: 30_000 });
const leaseOf = (run: ClaimedRun, workerInstanceId = worker): LeaseRef => ({
  workerInstanceId,
  leaseId: run.lease_id,
  fencing: run.fencing,
});
const finish = async (run: ClaimedRun, outcome: RunOutcome) =>
  (await finishRuns(database.db, [{ ...leaseOf(run), outcome }]))[0];
const succeed = (run: ClaimedRun) => finish(run, { status: "succeeded", outputJson: '{"ok":  true}' });
const kinds = async (id: string) =>
  (await listRunEvents(database.db, scope, id, { after: 0, limit: 1000 })).map((event) => event.kind);

async function claimOne(): Promise<ClaimedRun> {
  const [run] = await claim(1);
  if (run === undefined) throw new Error("nothing to claim");
  return run;
}

test("a run from the queue to its end, with every record", async () => {
  const task = await seedTask(database.db, scope);
  const created = await enqueue(task);
  expect(created).toMatchObject({ status: "queued", execution_status: "queued", event_seq: 1 });
  const run = await claimOne();
  expect(run).toMatchObject({
    id: created.id,
    payload: '{"n":  1}',
    metadata: "{}",
    attempt_number: 1,
    fencing: 1,
  });
  await startRun(database.db, {
    ...leaseOf(run),
    notes: ["no memory limit"],
    guest: { pooled: true, startMs: 12 },
  });
  const items = [
    {
      kind: "log",
      number: 1,
      stream: "stdout",
      content: Buffer.from([0xff, 0x41]),
      occurredAt: "2026-01-01T00:00:00Z",
    },
    {
      kind: "metadata",
      number: 2,
      operation: { op: "set", key: "__proto__", valueJson: '"\\u0000x"' },
      occurredAt: "2026-01-01T00:00:00Z",
    },
    {
      kind: "log",
      number: 3,
      stream: "stderr",
      content: Buffer.from("oh"),
      occurredAt: "2026-01-01T00:00:00Z",
    },
  ] as const;
  expect(await appendToRun(database.db, { ...leaseOf(run), items })).toMatchObject({ acknowledged: 3 });
  expect(await appendToRun(database.db, { ...leaseOf(run), items })).toMatchObject({ acknowledged: 3 });
  expect(await succeed(run)).toMatchObject({ status: "accepted", runId: run.id });
  expect(await getRun(database.db, scope, run.id)).toMatchObject({
    status: "succeeded",
    execution_status: "finished",
    output: '{"ok":  true}',
    exit_code: 0,
    lease_id: null,
    stdout_bytes: 2,
  });
  expect(await kinds(run.id)).toEqual([
    "run.created",
    "run_lease.leased",
    "run_lease.started",
    "run_lease.note",
    "log.stdout",
    "run.metadata.updated",
    "log.stderr",
    "run.completed",
  ]);
  const logs = await readRunLogs(database.db, scope, run.id);
  expect(logs).toMatchObject({ cursor: 7, stdoutBytes: 2, stderrBytes: 2, truncated: false });
  expect(logs?.stdout).toEqual(Buffer.from([0xff, 0x41]));
});

test("a repeated or stale write has no effect", async () => {
  const task = await seedTask(database.db, scope);
  await enqueue(task);
  const run = await claimOne();
  const stale = { ...leaseOf(run), fencing: run.fencing - 1 };
  expect(
    await startRun(database.db, { ...stale, notes: [], guest: { pooled: false, startMs: 1 } }),
  ).toBeUndefined();
  expect(await finishRuns(database.db, [{ ...stale, outcome: { status: "succeeded" } }])).toEqual([
    { status: "lost" },
  ]);
  const twice = { ...leaseOf(run), outcome: { status: "succeeded" } } as const;
  expect((await finishRuns(database.db, [twice, twice])).map((result) => result?.status)).toEqual([
    "accepted",
    "lost",
  ]);
  expect((await succeed(run))?.status).toBe("lost");
});

test("a failure is retried as the policy says, then final", async () => {
  const task = await seedTask(database.db, scope);
  const created = await enqueue(task, {
    retryPolicy: { maxAttempts: 2, backoff: { minMs: 1, jitter: "none" } },
  });
  const failure = {
    status: "failed",
    failureKind: "task_failed",
    message: "boom",
    detail: { name: "Error", exit_code: 3 },
    exitCode: 3,
    retryable: true,
  } as const;
  expect((await finish(await claimOne(), failure))?.status).toBe("retry_scheduled");
  expect(await getRun(database.db, scope, created.id)).toMatchObject({
    status: "queued",
    execution_status: "retry_scheduled",
  });
  await expect.poll(async () => (await claim(1))[0]?.attempt_number).toBe(2);
  const again = await getRun(database.db, scope, created.id);
  const lease = { workerInstanceId: worker, leaseId: again?.lease_id ?? "", fencing: again?.fencing ?? 0 };
  await finishRuns(database.db, [{ ...lease, outcome: failure }]);
  expect(await getRun(database.db, scope, created.id)).toMatchObject({
    status: "failed",
    exit_code: 3,
    failure_kind: "task_failed",
    failure_detail: { message: "boom", name: "Error", exit_code: 3 },
  });
});

describe("cancel", () => {
  test("a queued run ends at once; again is rejected", async () => {
    const run = await enqueue(await seedTask(database.db, scope));
    const cancel = () =>
      transaction(database.db, (tx) => requestCancel(tx, scope, run.id, { reason: "no need" }));
    expect(await cancel()).toMatchObject({ outcome: "applied", run: { status: "cancelled" } });
    expect(await cancel()).toMatchObject({ outcome: "rejected" });
    expect(await kinds(run.id)).toEqual(["run.created", "run.cancelled"]);
  });

  test("a running run hears of it by heartbeat, and the cancel wins over success", async () => {
    await enqueue(await seedTask(database.db, scope));
    const run = await claimOne();
    const request = { reason: "stop", force: true };
    const result = await transaction(database.db, (tx) => requestCancel(tx, scope, run.id, request));
    expect(result).toMatchObject({
      outcome: "pending",
      workerInstanceId: worker,
      run: { status: "running" },
    });
    const leases = [{ leaseId: run.lease_id, fencing: run.fencing }];
    const beat = { workerInstanceId: worker, leases, leaseDurationMs: 30_000 };
    expect(await extendLeases(database.db, beat)).toEqual([
      { leaseId: run.lease_id, status: "active", cancel: { reason: "stop", force: true } },
    ]);
    await succeed(run);
    expect(await getRun(database.db, scope, run.id)).toMatchObject({
      status: "cancelled",
      exit_code: null,
      output: null,
    });
    expect(await kinds(run.id)).toEqual([
      "run.created",
      "run_lease.leased",
      "run.cancel_requested",
      "run.cancelled",
    ]);
  });
});

test("a lost run is queued again, and failed at the third loss", async () => {
  const created = await enqueue(await seedTask(database.db, scope));
  for (let loss = 1; loss <= 3; loss += 1) {
    const run = await claimOne();
    if (loss > 1)
      await startRun(database.db, { ...leaseOf(run), notes: [], guest: { pooled: false, startMs: 1 } });
    expect(await expireLeases(database.db, { limit: 10 })).toEqual([]);
    const [swept] = await expireLeases(database.db, { limit: 10, workerInstanceId: worker });
    expect(swept).toMatchObject({ runId: created.id, requeued: loss < 3 });
  }
  expect(await getRun(database.db, scope, created.id)).toMatchObject({
    status: "failed",
    failure_kind: "worker_lease_expired",
  });
  expect((await kinds(created.id)).filter((kind) => kind !== "run_lease.leased")).toEqual([
    "run.created",
    "run_lease.abandoned_requeued",
    "run_lease.started",
    "run.execution_lost",
    "run.workspace_changes_lost",
    "run_lease.lost_requeued",
    "run_lease.started",
    "run.execution_lost",
    "run.workspace_changes_lost",
    "run_lease.lost_failed",
    "run.failed",
  ]);
});

test("a queued run whose ttl is over is not claimed, and expires", async () => {
  const run = await enqueue(await seedTask(database.db, scope), { ttl: "1ms" });
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(await claim(10)).toEqual([]);
  expect(await expireQueuedRuns(database.db, 10)).toMatchObject([{ runId: run.id }]);
  const [, event] = await listRunEvents(database.db, scope, run.id, { after: 0, limit: 10 });
  expect(event).toMatchObject({ kind: "run.expired", message: "run.expired", attributes: { ttl: "1ms" } });
});

test("priority first, then age", async () => {
  const task = await seedTask(database.db, scope);
  const low = await enqueue(task, { priority: -1 });
  const [first, second] = [await enqueue(task), await enqueue(task)];
  const high = await enqueue(task, { priority: 5 });
  const claimed = await claim(10);
  expect(claimed.map((run) => run.id)).toEqual([high.id, first.id, second.id, low.id]);
  for (const run of claimed) await succeed(run);
});

test("a lane never has more running than the queue's limit, under concurrent claimers", async () => {
  const task = await seedTask(database.db, scope, { taskId: "limited", concurrencyLimit: 2 });
  for (let index = 0; index < 8; index += 1) await enqueue(task, index < 4 ? {} : { concurrencyKey: "b" });
  const claims = await Promise.all(Array.from({ length: 6 }, () => claim(3)));
  const claimed = claims.flat();
  expect(claimed).toHaveLength(4);
  await succeed(claimed[0] as ClaimedRun);
  const next = await claim(10);
  expect(next).toHaveLength(1);
  for (const run of [...claimed.slice(1), ...next]) await succeed(run);
  for (let rest = await claim(10); rest.length > 0; rest = await claim(10))
    for (const run of rest) await succeed(run);
});

test("one run of a workspace at a time, and only where its files are", async () => {
  const task = await seedTask(database.db, scope);
  const first = await enqueue(task);
  const second = await enqueue(task, {}, first.workspace_id);
  const [a, b] = await Promise.all([claim(5), claim(5)]);
  const claimed = [...a, ...b];
  expect(claimed).toHaveLength(1);
  await succeed(claimed[0] as ClaimedRun);
  const other = await seedWorker(database.db, workerGroupId);
  expect(await claim(5, other)).toEqual([]);
  const rest = await claim(5);
  expect(rest.map((run) => run.id)).toEqual([claimed[0]?.id === first.id ? second.id : first.id]);
  await succeed(rest[0] as ClaimedRun);
});

test("counts and lists agree with the runs", async () => {
  const counts = await countRuns(database.db, scope);
  for (const status of ["queued", "succeeded", "failed", "cancelled", "expired"] as const) {
    expect(await listRuns(database.db, scope, { status, limit: 200 })).toHaveLength(counts[status]);
  }
  expect(await listRuns(database.db, scope, { status: "live", limit: 200 })).toEqual([]);
});

test("another environment's runs do not exist", async () => {
  const run = await enqueue(await seedTask(database.db, scope));
  const other = (await seedEnvironment(database.db)).scope;
  expect(await getRun(database.db, other, run.id)).toBeUndefined();
  expect(await listRunEvents(database.db, other, run.id, { after: 0, limit: 10 })).toEqual([]);
  expect(await readRunLogs(database.db, other, run.id)).toBeUndefined();
  expect(await transaction(database.db, (tx) => requestCancel(tx, other, run.id, {}))).toBeUndefined();
  await succeed(await claimOne());
});

test("a batch is one statement with all its events", async () => {
  const task = await seedTask(database.db, scope);
  const input = async () => {
    const { sessionId, workspaceId } = await seedSession(database.db, scope, task);
    return {
      sessionId,
      workspaceId,
      deploymentId: task.deploymentId,
      deploymentTaskId: task.deploymentTaskId,
      deploymentVersion: "1",
      taskId: task.taskId,
      queueName: task.queueName,
      payloadJson: "null",
      retryPolicy: { enabled: false },
      maxDurationSeconds: 60,
      apiVersion: "2026-06-06",
    } as const;
  };
  await createRuns(database.db, scope, [await input(), await input(), await input()]);
  const claimed = await claim(10);
  const results = await finishRuns(
    database.db,
    claimed.map((run) => ({ ...leaseOf(run), outcome: { status: "succeeded" } as const })),
  );
  expect(results.map((result) => result.status)).toEqual(["accepted", "accepted", "accepted"]);
});
