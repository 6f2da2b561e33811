/**
 * No query whose cost grows with the table: with 100,000 runs stored, every statement that the control plane, the
 * dispatcher and workers send while they serve is explained, as prepared statements are run (generic plans).
 */
import { sql } from "kysely";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ActingScope,
  appendToRun,
  type ClaimedRun,
  claimBuilds,
  claimRuns,
  countRuns,
  createRun,
  createWorkerGroup,
  type Database,
  defaultWorkerGroupId,
  expireBuildLeases,
  expireLeases,
  expireQueuedRuns,
  expireSessions,
  extendLeases,
  finishRuns,
  getRun,
  getSession,
  getWorker,
  hasDueWork,
  listGroupsWithWork,
  listRunEvents,
  listRunLogChunks,
  listRuns,
  listSessions,
  markGoneWorkers,
  noteWaitingForCapacity,
  openDatabase,
  readRunLogs,
  requestCancel,
  sampleWork,
  startRun,
  sweepIdempotencyKeys,
  systemActor,
  transaction,
} from "../src/index.ts";
import {
  fillQueuedRuns,
  fillRuns,
  type SeededTask,
  seedEnvironment,
  seedSession,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

const stored = 100_000;
/** Read whole is fine: they do not grow with runs. */
const smallTables = new Set([
  "worker_instances",
  "worker_groups",
  "queues",
  "paused_queues",
  "worker_groups",
  "deployments",
  "environments",
  "current_deployments",
  "worker_groups",
  // 64 rows of each environment.
  "run_counts",
  // Empty here.
  "schedules",
]);

let database: TestDatabase;
let db: Database;
let scope: ActingScope;
let worker: string;
let task: SeededTask;
let limited: SeededTask;
let ids: string[];
const sent = new Map<string, readonly unknown[]>();
const clientQuery = pg.Client.prototype.query;

beforeAll(async () => {
  database = await startTestDatabase();
  const seeded = await seedEnvironment(database.db);
  scope = seeded.scope;
  worker = await seedWorker(database.db, seeded.workerGroupId);
  task = await seedTask(database.db, scope);
  limited = await seedTask(database.db, scope, { taskId: "limited", concurrencyLimit: 1 });
  ids = await fillRuns(database.db, scope, task, stored);
  await sql`insert into idempotency_keys (environment_id, scope_name, key, fingerprint, resource_id, expires_at)
    select ${scope.environmentId}, 's', n::text, '', gen_random_uuid(), now() + interval '1 day'
    from generate_series(1, 20000) n`.execute(database.db);
  await sql`analyze idempotency_keys`.execute(database.db);
  await fillBacklog();
  for (let n = 0; n < 20; n += 1) await enqueue(n % 2 === 0 ? task : limited);
  db = openDatabase({ url: database.url, maxConnections: 2 });
  record();
});
afterAll(async () => {
  pg.Client.prototype.query = clientQuery;
  await db.close();
  await database.stop();
});

/** Runs that the worker cannot take: of another group, and too large for any worker. */
async function fillBacklog(): Promise<void> {
  const other = await seedEnvironment(database.db);
  const otherTask = await seedTask(database.db, other.scope);
  await fillQueuedRuns(database.db, other.scope, otherTask, { count: 8_000 });
  const { id } = await createWorkerGroup(database.db, { actor: systemActor("test") }, { name: "other" });
  await sql`with numbered as (select id, row_number() over () as n from runs
      where environment_id = ${other.scope.environmentId})
    update runs r set worker_group_id = case n.n % 2 when 0 then ${id}::uuid else r.worker_group_id end,
      needs_cpu = case n.n % 2 when 0 then 0 else 2147483647 end from numbered n where n.id = r.id`.execute(
    database.db,
  );
  await sql`vacuum analyze runs`.execute(database.db);
}

/** Keeps what is sent to the server, statement by statement. */
function record(): void {
  pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const [query] = args;
    if (typeof query === "object" && query !== null && "text" in query && "values" in query) {
      sent.set(String(query.text), query.values as unknown[]);
    }
    return Reflect.apply(clientQuery, this, args);
  } as typeof clientQuery;
}

async function enqueue(of: SeededTask): Promise<string> {
  const session = await seedSession(database.db, scope, of);
  const run = await createRun(database.db, scope, {
    ...session,
    deploymentId: of.deploymentId,
    deploymentTaskId: of.deploymentTaskId,
    deploymentVersion: "1",
    taskId: of.taskId,
    queueName: of.queueName,
    payloadJson: "{}",
    retryPolicy: { enabled: false },
    maxDurationSeconds: 60,
    ttl: "1h",
    apiVersion: "2026-06-06",
  });
  return run.id;
}

/** Everything that is sent while runs are served. */
async function serve(): Promise<void> {
  const id = ids[stored / 2] ?? "";
  const page = { after: 0, limit: 100 };
  await getRun(db, scope, id);
  for (const status of ["all", "live", "failed", "succeeded"] as const)
    await listRuns(db, scope, { status, limit: 100 });
  const session = (await getRun(db, scope, id))?.session_id ?? "";
  await listRuns(db, scope, { status: "all", limit: 100, sessionId: session });
  await countRuns(db, scope);
  await listRunEvents(db, scope, id, page);
  await listRunLogChunks(db, scope, id, page);
  await readRunLogs(db, scope, id);
  await getSession(db, scope, { id: session });
  await listSessions(db, scope, { limit: 100 });
  const claim = (limit: number) =>
    claimRuns(db, { workerInstanceId: worker, limit, leaseDurationMs: 30_000 });
  const claimed = await claim(5);
  const [first, second, third] = claimed.map((run: ClaimedRun) => ({
    workerInstanceId: worker,
    leaseId: run.lease_id,
    fencing: run.fencing,
    runId: run.id,
  }));
  if (first === undefined || second === undefined || third === undefined)
    throw new Error("too few runs were claimed");
  await startRun(db, { ...first, notes: [], guest: { pooled: true, startMs: 1 } });
  const occurredAt = "2026-01-01T00:00:00Z";
  const log = { kind: "log", number: 1, stream: "stdout", content: Buffer.from("x"), occurredAt } as const;
  await appendToRun(db, { ...first, items: [log] });
  await extendLeases(db, { workerInstanceId: worker, leases: [first], leaseDurationMs: 30_000 });
  await transaction(db, (tx) => requestCancel(tx, scope, second.runId, {}));
  await finishRuns(
    db,
    [first, second].map((lease) => ({ ...lease, outcome: { status: "succeeded" } as const })),
  );
  await sql`update runs set lease_expires_at = now() where id = ${third.runId}`.execute(database.db);
  await expireLeases(db, { limit: 100 });
  await expireQueuedRuns(db, 100);
  await expireSessions(db, 100);
  await sweepIdempotencyKeys(db, 100);
  await sampleWork(db);
  await listGroupsWithWork(db);
  await hasDueWork(db, defaultWorkerGroupId);
  await noteWaitingForCapacity(db, { limit: 10, afterMs: 0, busyAfterMs: 0 });
  await getWorker(db, worker);
  await claimBuilds(db, { workerInstanceId: worker, limit: 1, leaseDurationMs: 30_000 });
  await expireBuildLeases(db, { limit: 100 });
  await markGoneWorkers(db);
}

interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Index Cond"?: string;
  readonly Plans?: readonly PlanNode[];
}

function* nodesOf(node: PlanNode): Generator<PlanNode> {
  yield node;
  for (const child of node.Plans ?? []) yield* nodesOf(child);
}

/** The plan that a prepared statement keeps. */
async function explain(client: pg.Client, text: string, name: string, parameters: number): Promise<PlanNode> {
  await client.query(`prepare ${name} as ${text}`);
  const nulls = Array.from({ length: parameters }, () => "null").join(", ");
  const { rows } = await client.query(
    `explain (format json) execute ${name}${parameters > 0 ? `(${nulls})` : ""}`,
  );
  return (rows[0] as { "QUERY PLAN": { Plan: PlanNode }[] })["QUERY PLAN"][0]?.Plan as PlanNode;
}

test("every statement of the serving paths uses indexes", async () => {
  await serve();
  pg.Client.prototype.query = clientQuery;
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    await client.query("set plan_cache_mode = force_generic_plan");
    const bad: string[] = [];
    let explained = 0;
    for (const [text, values] of sent) {
      if (!/^\s*(select|with|insert|update|delete)/i.test(text)) continue;
      explained += 1;
      const plan = await explain(client, text, `s${explained}`, values.length);
      for (const node of nodesOf(plan)) {
        const table = node["Relation Name"] ?? "";
        if (node["Node Type"] === "Seq Scan" && !smallTables.has(table))
          bad.push(`${table}: ${text.slice(0, 300)}`);
      }
    }
    expect(bad).toEqual([]);
    expect(explained).toBeGreaterThan(30);
  } finally {
    await client.end();
  }
});

test.each([
  ["finding the lanes", "with recursive worker"],
  ["taking from them", "with worker as materialized"],
])("a claim reads no more than what it claims: %s", async (_, start) => {
  // Rows that an execution touched, from the server's own statistics of this one statement.
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  try {
    const [text, values] = [...sent].find(([each]) => each.includes(start)) ?? ["", []];
    await client.query("begin");
    const { rows } = await client.query({
      text: `explain (analyze, buffers, format json) ${text}`,
      values: values as unknown[],
    });
    await client.query("rollback");
    const plan = (
      rows[0] as { "QUERY PLAN": { Plan: { "Shared Hit Blocks": number; "Shared Read Blocks": number } }[] }
    )["QUERY PLAN"][0]?.Plan;
    expect((plan?.["Shared Hit Blocks"] ?? Infinity) + (plan?.["Shared Read Blocks"] ?? 0)).toBeLessThan(
      1000,
    );
  } finally {
    await client.end();
  }
});
