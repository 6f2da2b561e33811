/** W5: what a worker holds never exceeds what it registered with, whoever claims at once; and why runs wait that nobody takes. */
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import {
  type ActingScope,
  claimBuilds,
  claimMaterializations,
  claimRuns,
  createBootstrapToken,
  createWorkerGroup,
  getWorker,
  listRunEvents,
  noteWaitingForCapacity,
  registerWorker,
  requestMaterialization,
  systemActor,
  touchWorker,
  uuidv7,
} from "../src/index.ts";
import {
  type SeededTask,
  seedEnvironment,
  seededSandbox,
  seedSession,
  seedStartedSession,
  seedTask,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

const operator = { actor: systemActor("test") };
const capacity = { runs: 100, builds: 1, cpu: 16, memory_mib: 8192, disk_mib: 40_000, slots: 6 };

let database: TestDatabase;
let scope: ActingScope;
let secret: string;
let groupId: string;
let groups = 0;

beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());

/** Each test has a group and an environment of its own. */
beforeEach(async () => {
  ({ scope } = await seedEnvironment(database.db));
  groups += 1;
  const group = await createWorkerGroup(database.db, operator, { name: `group-${groups}` });
  groupId = group.id;
  secret = (await createBootstrapToken(database.db, operator, group.id, { name: "t" }))?.secret ?? "";
});

async function newWorker(
  own: Partial<typeof capacity> = {},
  capabilities: Record<string, unknown> = { architecture: "x64" },
): Promise<string> {
  const workerInstanceId = uuidv7();
  const all = { ...capacity, ...own };
  await registerWorker(database.db, secret, {
    workerInstanceId,
    name: "w",
    version: "1",
    capacity: all,
    capabilities,
  });
  return workerInstanceId;
}

/** A deployment of the group, whose sandbox asks for this. */
async function newTask(
  resources: { cpu: number; memory_mib: number; disk_mib: number },
  architecture: string | null = null,
): Promise<SeededTask> {
  const task = await seedTask(database.db, scope, { taskId: `t-${uuidv7()}` });
  const definition = { ...seededSandbox, definition: { ...seededSandbox.definition, resources } };
  await sql`update deployment_sandboxes set definition = ${JSON.stringify(definition)}::jsonb
    where id = ${task.deploymentSandboxId}`.execute(database.db);
  await sql`update deployments set worker_group_id = ${groupId}, architecture = ${architecture}
    where id = ${task.deploymentId}`.execute(database.db);
  return task;
}

const start = async (task: SeededTask): Promise<string> => {
  await sql`update current_deployments set deployment_id = ${task.deploymentId}
    where environment_id = ${scope.environmentId}`.execute(database.db);
  return (await seedStartedSession(database.db, scope, task)).runId;
};
const claim = (workerInstanceId: string, limit = 10) =>
  claimRuns(database.db, { workerInstanceId, limit, leaseDurationMs: 60_000 });

async function heldBy(worker: string) {
  const row = await getWorker(database.db, worker);
  if (row === undefined) throw new Error("the worker is not there");
  return row;
}

/** Small, so that a failing seed says what to look at. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
}

test("capacity is never exceeded under concurrent claims, and all that fits runs in the end", async () => {
  const seed = Number(process.env.HELMR_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  const next = random(seed);
  const workers = [await newWorker(), await newWorker({ slots: 3, cpu: 4, memory_mib: 4096 })];
  const tasks = await Promise.all(
    Array.from({ length: 4 }, () =>
      newTask({ cpu: 1 + next(4), memory_mib: 256 * (1 + next(8)), disk_mib: 1000 * (1 + next(8)) }),
    ),
  );
  const runs: string[] = [];
  const task = () => tasks[next(tasks.length)] as SeededTask;
  for (let n = 0; n < 24; n += 1) runs.push(await start(task()));
  const copies = 6;
  for (let n = 0; n < copies; n += 1) {
    const { workspaceId } = await seedSession(database.db, scope, task());
    await requestMaterialization(database.db, scope, workspaceId);
  }
  const done = new Set<string>();
  for (let round = 0; done.size < runs.length + copies; round += 1) {
    if (round > 200) throw new Error(`seed ${seed}: ${done.size} of ${runs.length + copies} were taken`);
    await Promise.all(
      workers.flatMap((workerInstanceId) =>
        Array.from({ length: 3 }, async () => {
          const [taken, live] = await Promise.all([
            claim(workerInstanceId, 1 + next(6)),
            claimMaterializations(database.db, { workerInstanceId, limit: 1 + next(3), lostAfterMs: 60_000 }),
          ]);
          return taken.length + live.length;
        }),
      ),
    );
    for (const worker of workers) {
      const row = await heldBy(worker);
      const total = row.capacity as typeof capacity;
      const said = { seed, round, held: row };
      expect(row.held_slots, JSON.stringify(said)).toBeLessThanOrEqual(total.slots);
      expect(row.held_cpu, JSON.stringify(said)).toBeLessThanOrEqual(total.cpu);
      expect(row.held_memory_mib, JSON.stringify(said)).toBeLessThanOrEqual(total.memory_mib);
      expect(row.held_disk_mib, JSON.stringify(said)).toBeLessThanOrEqual(total.disk_mib);
      expect(row.free_slots).toBe(total.slots - row.held_slots);
    }
    // Some of what is held ends.
    const { rows } = await sql<{ id: string; kind: string }>`
      select id, 'run' as kind from runs where worker_group_id = ${groupId} and lease_id is not null
      union all select id, 'copy' from workspace_materializations where worker_group_id = ${groupId}
        and lease_id is not null and ended_at is null order by id`.execute(database.db);
    for (const { id, kind } of rows) {
      done.add(id);
      if (next(3) === 0) continue;
      if (kind === "run")
        await sql`update runs set status = 'succeeded', execution_status = 'finished', lease_id = null, ended_at = now()
          where id = ${id}`.execute(database.db);
      else
        await sql`update workspace_materializations set state = 'stopped', ended_at = now() where id = ${id}`.execute(
          database.db,
        );
    }
    // A copy whose workspace was claimed before is looked at again after a while: at once here.
    await sql`update workspace_materializations set updated_at = now() - interval '1 minute'
      where state = 'requested' and worker_group_id = ${groupId}`.execute(database.db);
  }
}, 120_000);

test("two claims of one worker for its last place: one of them gets it", async () => {
  const worker = await newWorker({ slots: 1 });
  const task = await newTask({ cpu: 1, memory_mib: 64, disk_mib: 64 });
  for (let n = 0; n < 8; n += 1) await start(task);
  const claims = await Promise.all(Array.from({ length: 8 }, () => claim(worker)));
  expect(claims.flat()).toHaveLength(1);
});

test("a run that does not fit stays, and those that do are not held up by it", async () => {
  const worker = await newWorker({ cpu: 4 });
  const [large, small] = [
    await newTask({ cpu: 5, memory_mib: 64, disk_mib: 64 }),
    await newTask({ cpu: 2, memory_mib: 64, disk_mib: 64 }),
  ];
  await start(large);
  const fitting = [await start(small), await start(small)];
  await start(small);
  expect((await claim(worker)).map((run) => run.id).sort()).toEqual(fitting.sort());
  expect(await claim(worker)).toEqual([]);
});

test("a worker that tells no slots is given what it asks for", async () => {
  const worker = uuidv7();
  const { slots: _slots, disk_mib: _disk, ...older } = capacity;
  await registerWorker(database.db, secret, {
    workerInstanceId: worker,
    name: "older",
    version: "0",
    capacity: { ...older, cpu: 1 },
    capabilities: {},
  });
  const task = await newTask({ cpu: 4, memory_mib: 64, disk_mib: 64 });
  for (let n = 0; n < 3; n += 1) await start(task);
  expect(await claim(worker)).toHaveLength(3);
});

test("architecture, group and draining decide, too", async () => {
  const arm = await newTask({ cpu: 1, memory_mib: 64, disk_mib: 64 }, "arm64");
  const run = await start(arm);
  const x64 = await newWorker();
  expect(await claim(x64)).toEqual([]);
  const right = await newWorker({}, { architecture: "arm64" });
  await touchWorker(database.db, right, { draining: true });
  expect(await claim(right)).toEqual([]);
  expect(
    await claimBuilds(database.db, { workerInstanceId: right, limit: 1, leaseDurationMs: 1000 }),
  ).toEqual([]);
  await touchWorker(database.db, right, { draining: false });
  expect((await claim(right)).map(({ id }) => id)).toEqual([run]);
});

const now = { limit: 100, afterMs: 0, busyAfterMs: 0 };
const reasonsOf = async (runId: string) =>
  (await listRunEvents(database.db, scope, runId, { after: 0, limit: 100 }))
    .filter((event) => event.kind === "run.waiting_for_capacity")
    .map((event) => event.attributes as Record<string, unknown>);
const noted = async (runId: string) =>
  (await noteWaitingForCapacity(database.db, now)).filter((run) => run.runId === runId).length;

test("why a run waits: said once for each reason, with what is needed and what there is", async () => {
  const large = await newWorker({ cpu: 32 });
  const filler = await start(await newTask({ cpu: 1, memory_mib: 64, disk_mib: 64 }));
  expect((await claim(large)).map(({ id }) => id)).toEqual([filler]);
  await touchWorker(database.db, large, { draining: true });
  const run = await start(await newTask({ cpu: 32, memory_mib: 512, disk_mib: 1024 }, "x64"));
  expect(await noted(run)).toBe(1);
  expect(await noted(run)).toBe(0);
  await newWorker({}, { architecture: "arm64" });
  expect(await noted(run)).toBe(1);
  const small = await newWorker();
  expect(await noted(run)).toBe(1);
  expect(await noted(run)).toBe(0);
  await touchWorker(database.db, large, { draining: false });
  expect(await noted(run)).toBe(1);
  expect(await noted(run)).toBe(0);
  expect(await reasonsOf(run)).toMatchObject([
    { reason: "no_workers", needed: { cpu: 32, architecture: "x64" } },
    { reason: "architecture", message: expect.stringContaining("x64") },
    { reason: "too_large", needed: { cpu: 32, memory_mib: 512 }, best_available: { cpu: 16 } },
    { reason: "busy", best_available: { cpu: 31 } },
  ]);
  expect([...(await claim(small)), ...(await claim(large))]).toEqual([]);
  await sql`update runs set status = 'succeeded', execution_status = 'finished', lease_id = null, ended_at = now()
    where id = ${filler}`.execute(database.db);
  expect((await claim(large)).map(({ id }) => id)).toEqual([run]);
  const row = await database.db
    .selectFrom("runs")
    .select("waiting_reason")
    .where("id", "=", run)
    .executeTakeFirst();
  expect(row).toEqual({ waiting_reason: null });
});

test("of a backlog that only waits for its turn the first ones say so, and none too early", async () => {
  const worker = await newWorker({ slots: 1 });
  const task = await newTask({ cpu: 1, memory_mib: 64, disk_mib: 64 });
  for (let n = 0; n < 6; n += 1) await start(task);
  expect(await claim(worker)).toHaveLength(1);
  const ours = async (input: Parameters<typeof noteWaitingForCapacity>[1]) =>
    (await noteWaitingForCapacity(database.db, input)).filter(
      (run) => run.environmentId === scope.environmentId,
    );
  expect(await ours({ ...now, busyAfterMs: 600_000 })).toEqual([]);
  expect(await ours({ ...now, limit: 2 })).toHaveLength(2);
  expect(await ours({ ...now, limit: 2 })).toEqual([]);
});
