/**
 * Whose run is next: one environment's backlog, of whatever shape, delays no other environment's first run, nor its priorities;
 * nor does one concurrency key's another's. HELMR_TEST_BACKLOG (default 3,000) is how large it is.
 */
import { sql } from "kysely";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  type ActingScope,
  claimRuns,
  createRun,
  openDatabase,
  pauseQueue,
  resumeQueue,
} from "../src/index.ts";
import {
  type FillQueued,
  fillQueuedRuns,
  type SeededTask,
  seedEnvironment,
  seedSession,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

interface Tenant {
  readonly scope: ActingScope;
  readonly task: SeededTask;
}

const backlog = Number(process.env.HELMR_TEST_BACKLOG ?? 3000);
let database: TestDatabase;
let worker: string;
beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());

beforeEach(async () => {
  await sql`truncate runs, run_events, run_counts, paused_queues cascade`.execute(database.db);
  worker = await seedWorker(database.db, (await seedEnvironment(database.db)).workerGroupId);
});

async function tenant(options: { concurrencyLimit?: number } = {}): Promise<Tenant> {
  const { scope } = await seedEnvironment(database.db);
  return { scope, task: await seedTask(database.db, scope, options) };
}

type Extra = { priority?: number; concurrencyKey?: string; queueName?: string };
async function enqueue({ scope, task }: Tenant, extra: Extra = {}): Promise<string> {
  const run = await createRun(database.db, scope, {
    ...(await seedSession(database.db, scope, task)),
    deploymentId: task.deploymentId,
    deploymentTaskId: task.deploymentTaskId,
    deploymentVersion: "1",
    taskId: task.taskId,
    queueName: task.queueName,
    payloadJson: "{}",
    retryPolicy: { enabled: false },
    maxDurationSeconds: 60,
    apiVersion: "2026-06-06",
    ...extra,
  });
  return run.id;
}

const fill = async ({ scope, task }: Tenant, options: FillQueued): Promise<void> => {
  await fillQueuedRuns(database.db, scope, task, options);
  await sql`analyze runs, sessions, workspaces`.execute(database.db);
};
const claim = (limit: number, workerInstanceId = worker) =>
  claimRuns(database.db, { workerInstanceId, limit, leaseDurationMs: 60_000 });
const ids = async (limit: number) => (await claim(limit)).map((run) => run.id);

describe("the backlog of one environment does not delay the first run of another", () => {
  const shapes: [string, FillQueued, { concurrencyLimit?: number }][] = [
    ["of one queue", { count: backlog }, {}],
    ["of one concurrency key each", { count: backlog, concurrencyKey: "n::text" }, {}],
    ["of a queue with a limit", { count: backlog, limited: true }, { concurrencyLimit: 1 }],
    [
      "of a limit per key",
      { count: backlog, limited: true, concurrencyKey: "n::text" },
      { concurrencyLimit: 1 },
    ],
    ["of one priority each", { count: backlog, priority: "n" }, {}],
  ];
  test.each(shapes)("%s", async (_, filled, options) => {
    const [large, small] = [await tenant(options), await tenant()];
    await fill(large, filled);
    expect(await claim(1)).toMatchObject([{ environment_id: large.scope.environmentId }]);
    const first = await enqueue(small, { priority: -(2 ** 31) });
    expect(await ids(1)).toEqual([first]);
    // Nobody else is there: it gets all that is wanted.
    const isLimitedAsWhole = options.concurrencyLimit !== undefined && filled.concurrencyKey === undefined;
    expect(await claim(16)).toHaveLength(isLimitedAsWhole ? 0 : 16);
    const second = await enqueue(small);
    expect(await ids(4)).toContain(second);
  });

  test("paused, and many such environments", async () => {
    for (let n = 0; n < 40; n += 1) {
      const held = await tenant();
      await fillQueuedRuns(database.db, held.scope, held.task, { count: 5, concurrencyKey: "n::text" });
      await pauseQueue(database.db, held.scope, held.task.queueName);
    }
    expect(await claim(1)).toEqual([]);
    const first = await enqueue(await tenant());
    expect(await ids(1)).toEqual([first]);
    expect(await claim(1)).toEqual([]);
  });
});

test("what a claim reads does not grow with backlogs, nor with what has ended", async () => {
  const { query } = pg.Client.prototype;
  const sent: { text: string; values: unknown[] }[] = [];
  const large = await tenant();
  await fill(large, { count: backlog });
  await fill(large, { count: backlog, concurrencyKey: "n::text", priority: "1" });
  for (let n = 0; n < 200; n += 1) {
    const { scope, task } = await tenant();
    await fillQueuedRuns(database.db, scope, task, { count: 3 });
  }
  await sql`update runs set status = 'succeeded', execution_status = 'finished', ended_at = now()
    where environment_id = ${large.scope.environmentId} and available_at < now() - interval '1 day' + ${backlog / 2} * interval '1 millisecond'`.execute(
    database.db,
  );
  await sql`vacuum analyze runs`.execute(database.db);
  pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const [asked] = args as [{ text?: string; values?: unknown[] }];
    if (asked.text?.includes("worker as materialized"))
      sent.push({ text: asked.text, values: asked.values ?? [] });
    return Reflect.apply(query, this, args);
  } as typeof query;
  try {
    await claim(1);
  } finally {
    pg.Client.prototype.query = query;
  }
  expect(sent).toHaveLength(2);
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    for (const { text, values } of sent) {
      await client.query("begin");
      const { rows } = await client.query({
        text: `explain (analyze, buffers, format json) ${text}`,
        values,
      });
      await client.query("rollback");
      const [{ Plan: plan }] = (rows[0] as { "QUERY PLAN": [{ Plan: Record<string, number> }] })[
        "QUERY PLAN"
      ];
      // 16 environments, up to 32 lanes in one of them: some pages each.
      expect((plan["Shared Hit Blocks"] ?? Infinity) + (plan["Shared Read Blocks"] ?? 0)).toBeLessThan(2500);
    }
  } finally {
    await client.end();
  }
});

test("environments share what is claimed evenly, whatever their backlogs and priorities", async () => {
  const tenants = [await tenant(), await tenant(), await tenant()];
  await fill(tenants[0] as Tenant, { count: 200 });
  await fill(tenants[1] as Tenant, { count: 200, priority: "2147483647" });
  await fill(tenants[2] as Tenant, { count: 200, concurrencyKey: "n::text" });
  const counts = new Map(tenants.map(({ scope }) => [scope.environmentId, 0]));
  for (let claims = 1; claims <= 30; claims += 1) {
    for (const { environment_id: id } of await claim(1 + (claims % 4)))
      counts.set(id, (counts.get(id) ?? 0) + 1);
    expect(Math.max(...counts.values()) - Math.min(...counts.values())).toBeLessThanOrEqual(1);
  }
});

test("concurrency keys of a queue take turns, with a limit and without", async () => {
  for (const options of [{}, { concurrencyLimit: 3 }]) {
    const one = await tenant(options);
    const limited = options.concurrencyLimit !== undefined;
    await fill(one, { count: 100, concurrencyKey: "'a'", limited });
    await claim(1);
    const first = await enqueue(one, { concurrencyKey: "b" });
    expect(await ids(1)).toEqual([first]);
    await enqueue(one, { concurrencyKey: "b" });
    const lanes = (await claim(2)).length;
    expect(lanes).toBe(2);
    await sql`truncate runs cascade`.execute(database.db);
  }
});

test("priority is exact in an environment, beyond any number of keys", async () => {
  const one = await tenant();
  await fill(one, { count: backlog, concurrencyKey: "n::text" });
  const low = await enqueue(one, { priority: -1, concurrencyKey: "0" });
  const [high, higher] = [
    await enqueue(one, { priority: 1, concurrencyKey: "zz" }),
    await enqueue(one, { priority: 2, concurrencyKey: "z" }),
  ];
  expect(await ids(1)).toEqual([higher]);
  expect(await ids(2)).toContain(high);
  expect(await ids(16)).not.toContain(low);
});

test("full lanes in front do not hide an open one behind them", async () => {
  const one = await tenant({ concurrencyLimit: 1 });
  await fill(one, {
    count: 200,
    concurrencyKey: "lpad((n / 2)::text, 3, '0')",
    limited: true,
    priority: "5",
  });
  for (let claimed = -1; claimed !== 0; ) claimed = (await claim(50)).length;
  const { rows } = await sql<{ n: number }>`select count(*) as n from runs where status = 'running'`.execute(
    database.db,
  );
  expect(rows).toEqual([{ n: 100 }]);
  const open = await enqueue(one, { concurrencyKey: "zzz" });
  expect(await ids(1)).toEqual([open]);
});

test("every lane has its turn, also when there are more than one claim looks at, and new ones keep coming", async () => {
  const one = await tenant();
  await fill(one, { count: 300, concurrencyKey: "'k' || lpad((n % 150)::text, 3, '0')" });
  const last = await enqueue(one, { concurrencyKey: "k999" });
  const seen = new Set<string>();
  for (let claims = 0; claims < 200 && !seen.has(last); claims += 1) {
    await enqueue(one, { concurrencyKey: `k000-${claims}` });
    for (const id of await ids(2)) seen.add(id);
  }
  expect(seen).toContain(last);
});

describe("a paused queue", () => {
  test("starts nothing, whatever its shape; others of the environment go on; resumed, it does", async () => {
    const one = await tenant();
    const other = { ...one, task: await seedTask(database.db, one.scope, { taskId: "other" }) };
    await fill(one, { count: 50, concurrencyKey: "n::text", priority: "n % 7" });
    await pauseQueue(database.db, one.scope, one.task.queueName);
    const free = await enqueue(other, { priority: -5 });
    expect(await ids(10)).toEqual([free]);
    expect(await claim(10)).toEqual([]);
    await resumeQueue(database.db, one.scope, one.task.queueName);
    expect(await claim(100)).toHaveLength(50);
  });

  test("of the same name in another environment is another", async () => {
    const [one, two] = [await tenant(), await tenant()];
    await pauseQueue(database.db, one.scope, one.task.queueName);
    await enqueue(one);
    const free = await enqueue(two);
    expect(await ids(10)).toEqual([free]);
  });
});

test("two processes, each with turns of its own, take disjoint runs and leave nobody out", async () => {
  const tenants = [await tenant(), await tenant(), await tenant({ concurrencyLimit: 2 })];
  for (const each of tenants) await fill(each, { count: 30, limited: each === tenants[2] });
  const second = openDatabase({ url: database.url, maxConnections: 4 });
  try {
    const claimed = await Promise.all(
      [database.db, second, database.db, second].map((db) =>
        claimRuns(db, { workerInstanceId: worker, limit: 4, leaseDurationMs: 60_000 }),
      ),
    );
    const runs = claimed.flat();
    expect(new Set(runs.map((run) => run.id)).size).toBe(runs.length);
    const of = ({ scope }: Tenant) => runs.filter((run) => run.environment_id === scope.environmentId).length;
    expect(of(tenants[2] as Tenant)).toBe(2);
    expect(Math.min(...tenants.map(of))).toBeGreaterThan(0);
  } finally {
    await second.close();
  }
});
