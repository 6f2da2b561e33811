/** The three queues as the benchmark sees them: each enqueues single jobs from many callers and drains a backlog. */
import { randomBytes } from "node:crypto";
import {
  type ClaimedRun,
  claimRuns,
  createRun,
  type Database,
  type FinishInput,
  type FinishResult,
  finishRuns,
  migrate,
  openDatabase,
  type StartInput,
  type StartResult,
  startRuns,
  uuidv7,
} from "@helmr/store";
import { type SeededTask, seedEnvironment, seedTask, seedWorker } from "@helmr/store/testing";
import { Logger, makeWorkerUtils, type RunnerOptions, run, type WorkerUtils } from "graphile-worker";
import { sql } from "kysely";
import { PgBoss } from "pg-boss";
import { Batcher } from "../packages/control-plane/src/worker/batcher.ts";

/** Callers that enqueue at once, and jobs in work at once. */
export const concurrency = 16;

export interface Contender {
  readonly name: string;
  /** Not timed. */
  prepare(jobs: number): Promise<void>;
  enqueueOne(index: number): Promise<unknown>;
  /** Take and finish that many jobs, `concurrency` in work at once. */
  drain(jobs: number): Promise<void>;
  close(): Promise<void>;
}

/** Helmr's store, called as the control plane calls it for a worker with 16 slots. */
export async function helmr(url: string): Promise<Contender> {
  const db = openDatabase({ url, maxConnections: concurrency });
  await migrate(db);
  const { scope, workerGroupId } = await seedEnvironment(db);
  const task = await seedTask(db, scope);
  const workerInstanceId = await seedWorker(db, workerGroupId);
  let sessions: { sessionId: string; workspaceId: string }[] = [];
  // As in packages/control-plane/src/worker.
  const starts = new Batcher<StartInput, StartResult>({
    run: (inputs) => startRuns(db, inputs),
    maxBatch: 100,
    concurrency: 1,
  });
  const finishes = new Batcher<FinishInput, FinishResult>({
    run: (inputs) => finishRuns(db, inputs),
    maxBatch: 100,
    concurrency: 1,
  });

  const execute = async (claimed: ClaimedRun) => {
    const lease = { workerInstanceId, leaseId: claimed.lease_id, fencing: claimed.fencing };
    await starts.call({ ...lease, notes: [], guest: { pooled: true, startMs: 1 } });
    const result = await finishes.call({
      ...lease,
      outcome: { status: "succeeded", outputJson: '{"ok":true}' },
    });
    if (result.status !== "accepted") throw new Error(`a run ended ${result.status}`);
  };
  return {
    name: "helmr",
    prepare: async (jobs) => {
      sessions = await seedSessions(db, scope, task, jobs);
    },
    enqueueOne: async (index) => {
      const session = sessions[index];
      if (session === undefined) throw new Error("prepare made too few sessions");
      await createRun(db, scope, {
        ...session,
        deploymentId: task.deploymentId,
        deploymentTaskId: task.deploymentTaskId,
        deploymentVersion: "20260606.1",
        taskId: task.taskId,
        queueName: task.queueName,
        payloadJson: `{"index":${index}}`,
        retryPolicy: { enabled: false },
        maxDurationSeconds: 900,
        apiVersion: "2026-06-06",
      });
    },
    drain: (jobs) =>
      leaseLoop(
        jobs,
        (limit) => claimRuns(db, { workerInstanceId, limit, leaseDurationMs: 30_000 }),
        execute,
      ),
    close: () => db.close(),
  };
}

/** As packages/worker does it: one poll at a time, for exactly the slots that are free. */
async function leaseLoop<Item>(
  jobs: number,
  poll: (free: number) => Promise<readonly Item[]>,
  execute: (item: Item) => Promise<void>,
): Promise<void> {
  const active = new Set<Promise<void>>();
  let taken = 0;
  while (taken < jobs) {
    if (active.size >= concurrency) await Promise.race(active);
    for (const item of await poll(concurrency - active.size)) {
      taken += 1;
      const done: Promise<void> = execute(item).finally(() => active.delete(done));
      active.add(done);
    }
  }
  await Promise.all(active);
}

export async function seedSessions(
  db: Database,
  scope: { projectId: string; environmentId: string },
  task: SeededTask,
  count: number,
): Promise<{ sessionId: string; workspaceId: string }[]> {
  const rows = Array.from({ length: count }, () => ({ sessionId: uuidv7(), workspaceId: uuidv7() }));
  const input = JSON.stringify(rows);
  await sql`insert into workspaces (id, environment_id, project_id, deployment_sandbox_id, sandbox_id, sandbox_fingerprint,
      state, desired_state, dirty_state)
    select "workspaceId", ${scope.environmentId}, ${scope.projectId}, ${task.deploymentSandboxId}, 'box', 'f', 'active',
      'active', 'clean'
    from json_to_recordset(${input}::json) as x ("workspaceId" uuid)`.execute(db);
  await sql`insert into sessions (id, environment_id, project_id, task_id, initial_deployment_id, active_deployment_id,
      start_fingerprint, status, workspace_id)
    select "sessionId", ${scope.environmentId}, ${scope.projectId}, ${task.taskId}, ${task.deploymentId},
      ${task.deploymentId}, ${randomBytes(32)}, 'open', "workspaceId"
    from json_to_recordset(${input}::json) as x ("sessionId" uuid, "workspaceId" uuid)`.execute(db);
  return rows;
}

/** graphile-worker with its default settings but the concurrency, or with its batching switched on. */
export async function graphileWorker(url: string, batching: boolean): Promise<Contender> {
  const logger = new Logger(() => () => undefined);
  const utils: WorkerUtils = await makeWorkerUtils({
    connectionString: url,
    logger,
    maxPoolSize: concurrency,
  } as RunnerOptions);
  await utils.migrate();
  return {
    name: batching ? "graphile-worker, batching" : "graphile-worker",
    prepare: async () => undefined,
    enqueueOne: (index) => utils.addJob("bench", { index }),
    drain: (jobs) => drainGraphile(url, jobs, batching, logger),
    close: async () => {
      await utils.release();
    },
  };
}

async function drainGraphile(url: string, jobs: number, batching: boolean, logger: Logger): Promise<void> {
  const finished = Promise.withResolvers<void>();
  const preset = { worker: { localQueue: { size: 100 }, completeJobBatchDelay: 0 } };
  const runner = await run({
    connectionString: url,
    concurrency,
    maxPoolSize: concurrency + 2,
    noHandleSignals: true,
    logger,
    taskList: { bench: async () => undefined },
    ...(batching ? { preset } : {}),
  });
  let done = 0;
  // After the job's row is gone, so that what is timed is complete.
  runner.events.on("job:complete", () => {
    done += 1;
    if (done === jobs) finished.resolve();
  });
  await finished.promise;
  await runner.stop();
}

/**
 * pg-boss. Without batching: as many loops as the concurrency, each takes a job and completes it, with no pause between
 * (its own worker pauses 0.5 s or more after a single job). With batching: its own worker in burst mode, which takes and
 * completes as many jobs as the concurrency together.
 */
export async function pgBoss(url: string, batching: boolean): Promise<Contender> {
  const boss = new PgBoss({ connectionString: url, max: concurrency, supervise: false, schedule: false });
  // Idle connections report the end of the server at the end of the benchmark.
  boss.on("error", () => undefined);
  await boss.start();
  await boss.createQueue("bench");
  return {
    name: batching ? "pg-boss, batching" : "pg-boss",
    prepare: async () => undefined,
    enqueueOne: (index) => boss.send("bench", { index }),
    drain: (jobs) => (batching ? drainBossInBatches(boss, jobs) : drainBossOneByOne(boss, jobs)),
    close: () => boss.stop({ graceful: false }),
  };
}

async function drainBossOneByOne(boss: PgBoss, jobs: number): Promise<void> {
  let left = jobs;
  const worker = async () => {
    while (left > 0) {
      const [job] = await boss.fetch("bench");
      if (job === undefined) return;
      left -= 1;
      await boss.complete("bench", job.id);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
}

async function drainBossInBatches(boss: PgBoss, jobs: number): Promise<void> {
  const finished = Promise.withResolvers<void>();
  let taken = 0;
  const options = { batchSize: concurrency, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 };
  await boss.work("bench", options, async (batch) => {
    taken += batch.length;
    if (taken === jobs) finished.resolve();
  });
  await finished.promise;
  // Waits until the last batch is written as completed.
  await boss.offWork("bench", { wait: true });
}
