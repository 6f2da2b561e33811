/**
 * Several claimers at once on queues of several environments, with random keys, limits, priorities, pauses and ends: no lane
 * ever has more running than its limit (I6), a paused queue starts nothing, no priority is passed over by one claimer alone,
 * counts are right, and everything is claimed in the end.
 */
import fc from "fast-check";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ActingScope,
  type ClaimedRun,
  claimRuns,
  createRuns,
  type Database,
  finishRuns,
  listQueues,
  openDatabase,
  pauseQueue,
  resumeQueue,
  transaction,
} from "../src/index.ts";
import { applyDeploymentQueues } from "../src/runs/queues.ts";
import {
  type SeededTask,
  seedEnvironment,
  seedSession,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

interface Place {
  readonly scope: ActingScope;
  readonly task: SeededTask;
}

let database: TestDatabase;
/** Each with turns of its own, as control planes have them. */
let processes: Database[];
let worker: string;
let places: Place[];

beforeAll(async () => {
  database = await startTestDatabase();
  processes = [1, 2, 3].map(() => openDatabase({ url: database.url, maxConnections: 3 }));
  worker = await seedWorker(database.db, (await seedEnvironment(database.db)).workerGroupId);
  places = [];
  for (let environment = 0; environment < 3; environment += 1) {
    const { scope } = await seedEnvironment(database.db);
    for (const taskId of ["a", "b"])
      places.push({ scope, task: await seedTask(database.db, scope, { taskId }) });
  }
});
afterAll(async () => {
  for (const each of processes) await each.close();
  await database.stop();
});

interface World {
  readonly held: ClaimedRun[];
  readonly paused: Set<Place>;
  /** In this step, with claims beside it: they may have been before it or after. */
  limitChanged: boolean;
}
type Step = (world: World) => Promise<void>;

const placeAt = (index: number): Place => places[index % places.length] as Place;
const placeOf = async (run: ClaimedRun): Promise<Place> => {
  const place = places.find(({ task }) => task.deploymentTaskId === run.deployment_task_id);
  if (place === undefined) throw new Error("a run of another test was claimed");
  return place;
};

function enqueue(index: number, runs: readonly { key: string | undefined; priority: number }[]): Step {
  return async () => {
    const { scope, task } = placeAt(index);
    const sessions = await Promise.all(runs.map(() => seedSession(database.db, scope, task)));
    await createRuns(
      database.db,
      scope,
      runs.map(({ key, priority }, n) => ({
        ...(sessions[n] as { sessionId: string; workspaceId: string }),
        deploymentId: task.deploymentId,
        deploymentTaskId: task.deploymentTaskId,
        deploymentVersion: "1",
        taskId: task.taskId,
        queueName: task.queueName,
        concurrencyKey: key,
        priority,
        payloadJson: "{}",
        retryPolicy: { enabled: false },
        maxDurationSeconds: 60,
        apiVersion: "2026-06-06",
      })),
    );
  };
}

const claimBy = (db: Database, limit: number) =>
  claimRuns(db, { workerInstanceId: worker, limit, leaseDurationMs: 60_000 });

/** All of them at once. */
function claim(limits: readonly number[]): Step {
  return async (world) => {
    const claims = await Promise.all(
      limits.map((limit, n) => claimBy(processes[n % processes.length] as Database, limit)),
    );
    for (const runs of claims) {
      for (const run of runs) expect(world.paused.has(await placeOf(run))).toBe(false);
      world.held.push(...runs);
    }
  };
}

function finish(count: number): Step {
  return async (world) => {
    const ended = world.held.splice(0, count);
    await finishRuns(
      database.db,
      ended.map((run) => ({
        workerInstanceId: worker,
        leaseId: run.lease_id,
        fencing: run.fencing,
        outcome: { status: "succeeded" },
      })),
    );
  };
}

/** While claims and ends are under way. */
function setLimit(index: number, limit: number | null, meanwhile: Step): Step {
  return async (world) => {
    const { scope, task } = placeAt(index);
    await sql`insert into deployment_queues (deployment_id, name, concurrency_limit) values (${task.deploymentId}, ${task.queueName}, ${limit})
      on conflict (deployment_id, name) do update set concurrency_limit = excluded.concurrency_limit`.execute(
      database.db,
    );
    world.limitChanged = true;
    // A deployment of this queue alone: the environment's other one loses its limit.
    await Promise.all([
      transaction(database.db, (tx) => applyDeploymentQueues(tx, scope, task.deploymentId)),
      meanwhile(world),
    ]);
  };
}

function pause(index: number): Step {
  return async (world) => {
    const place = placeAt(index);
    const queue = await pauseQueue(database.db, place.scope, place.task.queueName);
    if (queue === undefined) return;
    expect(queue.paused_at).toBeInstanceOf(Date);
    world.paused.add(place);
  };
}

function resume(index: number): Step {
  return async (world) => {
    const place = placeAt(index);
    await resumeQueue(database.db, place.scope, place.task.queueName);
    world.paused.delete(place);
  };
}

/** I6; and what people are shown. `before`: how many ran in each lane after the last step. */
async function check(world: World, before: Map<string, number>): Promise<void> {
  const { rows } = await sql<{ lane: string; running: number; concurrency_limit: number | null }>`
    select concat_ws('|', r.environment_id, r.queue_name, r.lane_key) as lane, count(*) as running, q.concurrency_limit
    from runs r left join queues q on q.environment_id = r.environment_id and q.name = r.queue_name
    where r.lease_id is not null group by 1, 3`.execute(database.db);
  for (const { lane, running, concurrency_limit: limit } of rows) {
    // A limit that came, or was lowered, lets what runs finish, and adds nothing.
    if (limit !== null && !world.limitChanged) {
      expect(running).toBeLessThanOrEqual(Math.max(limit, before.get(lane) ?? 0));
    }
  }
  world.limitChanged = false;
  before.clear();
  for (const { lane, running } of rows) before.set(lane, running);
  const shown = await listQueues(database.db, placeAt(0).scope);
  const counts = await sql<{ name: string; queued: number; running: number }>`
    select queue_name as name, count(*) filter (where status = 'queued') as queued, count(*) filter (where status = 'running') as running
    from runs where environment_id = ${placeAt(0).scope.environmentId} group by 1`.execute(database.db);
  for (const { name, ...count } of counts.rows) {
    if (count.queued + count.running > 0)
      expect(shown.find((queue) => queue.name === name)).toMatchObject(count);
  }
  expect(world.held.every((run) => run.lease_id !== null)).toBe(true);
}

const index = fc.nat(5);
const run = fc.record({
  key: fc.option(fc.constantFrom("x", "y", "z"), { nil: undefined }),
  priority: fc.constantFrom(0, 0, 0, 1, -1, 2 ** 31 - 1, -(2 ** 31)),
});
const claimStep = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 }).map(claim);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.tuple(index, fc.array(run, { minLength: 1, maxLength: 8 })).map((args) => enqueue(...args)),
  },
  { weight: 6, arbitrary: claimStep },
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 8 }).map(finish) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(index, fc.option(fc.integer({ min: 1, max: 3 })), claimStep)
      .map(([place, limit, meanwhile]) => setLimit(place, limit, meanwhile)),
  },
  { weight: 2, arbitrary: index.map(pause) },
  { weight: 2, arbitrary: index.map(resume) },
);

test("random queues under concurrent claimers", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 30 }), async (steps) => {
      const world: World = { held: [], paused: new Set(), limitChanged: false };
      const before = new Map<string, number>();
      for (const next of steps) {
        await next(world);
        await check(world, before);
      }
      for (let place = 0; place < places.length; place += 1) await resume(place)(world);
      const queued = () => sql`select from runs where status = 'queued' limit 1`.execute(database.db);
      for (let rounds = 0; (await queued()).rows.length > 0; rounds += 1) {
        expect(rounds).toBeLessThan(300);
        await claim([4, 4])(world);
        await check(world, before);
        await finish(world.held.length)(world);
      }
      await finish(world.held.length)(world);
    }),
    { numRuns: Number(process.env.HELMR_PROPERTY_RUNS ?? 20), endOnFailure: true },
  );
});
