/** A control plane on a PostgreSQL of its own, without worker, and a history of finished runs in it. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiKeyScopes } from "@helmr/api";
import { createFolderStore } from "@helmr/artifacts";
import { createControlPlane } from "@helmr/control-plane";
import { createMemoryBus, type LiveBus } from "@helmr/coordination";
import {
  type ClaimedRun,
  claimRuns,
  createApiKey,
  createRuns,
  createSecretCipher,
  type Database,
  ensureDefaultTenant,
  finishRuns,
  migrate,
  openDatabase,
  type RunOutcome,
  type Scope,
  startEmbeddedPostgres,
  startRuns,
  systemActor,
} from "@helmr/store";
import { type SeededTask, seedTask, seedWorker } from "@helmr/store/testing";
import { sql } from "kysely";
import { pino } from "pino";
import { hold } from "./leftovers.ts";
import { seedSessions } from "./queue-contenders.ts";

export interface ApiFixture extends AsyncDisposable {
  readonly url: string;
  readonly apiKey: string;
  readonly db: Database;
  readonly bus: LiveBus;
  readonly scope: Scope;
  readonly databaseUrl: string;
  /** Ends its connections and empties its caches; returns its process id. Pools connect again by themselves. */
  restartPostgres(): Promise<number>;
}

/** PostgreSQL that syncs every commit, migrated, with the default tenant; the control plane listens on a free port. */
export async function startApiOnly(): Promise<ApiFixture> {
  const folder = await mkdtemp(join(tmpdir(), "helmr-bench-api-"));
  const parts = new AsyncDisposableStack();
  const starting = startParts(folder, parts);
  const dispose = hold(async () => {
    await starting.catch(() => undefined); // its failure is the caller's to report
    await parts.disposeAsync();
    await rm(folder, { recursive: true, force: true });
  });
  try {
    return { ...(await starting), [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function startParts(
  folder: string,
  parts: AsyncDisposableStack,
): Promise<Omit<ApiFixture, typeof Symbol.asyncDispose>> {
  const startServer = () => startEmbeddedPostgres({ dataDir: join(folder, "postgres"), durable: true });
  let server = await startServer();
  parts.defer(() => server.stop());
  const db = openDatabase({ url: server.url });
  parts.defer(() => db.close());
  await migrate(db);
  const { production: scope } = await ensureDefaultTenant(db);
  const { rawKey: apiKey } = await createApiKey(
    db,
    { ...scope, actor: systemActor("bench") },
    { name: "bench", scopes: apiKeyScopes },
  );
  const bus = createMemoryBus();
  parts.defer(() => bus.close());
  const controlPlane = createControlPlane({
    db,
    bus,
    artifacts: createFolderStore(join(folder, "artifacts")),
    secretCipher: createSecretCipher({ current: randomBytes(32).toString("base64") }),
    authSecret: randomBytes(32),
    config: { publicUrl: "http://127.0.0.1" },
    logger: pino({ level: "error" }, pino.destination(2)),
  });
  parts.defer(() => controlPlane.close());
  const restartPostgres = async () => {
    await server.stop();
    server = await startServer();
    return server.pid;
  };
  const url = await controlPlane.listen({ host: "127.0.0.1", port: 0 });
  return { url, apiKey, db, bus, scope, databaseUrl: server.url, restartPostgres };
}

const tasks = 10;
/** Runs that go through the store's own transitions: one batch a task. The rest are copies of them. */
const batchRuns = 100;

/**
 * `total` finished runs (a multiple of 1,000) with session, workspace, counters and all their events: 10 tasks, 90 %
 * succeeded, the rest failed or cancelled. Returns their ids.
 *
 * The first 1,000 are made by the store's transitions (500 a second), the others are copies of their rows, each set a
 * second older than the one before.
 */
export async function seedRuns({ db, scope }: ApiFixture, total: number): Promise<string[]> {
  const { rows } = await sql<{
    id: string;
  }>`insert into worker_groups (id, name) values (gen_random_uuid(), 'default')
    on conflict (name) do update set name = excluded.name returning id`.execute(db);
  const [group] = rows;
  if (group === undefined) throw new Error("an upsert returned no row");
  const workerInstanceId = await seedWorker(db, group.id);
  for (let n = 0; n < tasks; n += 1) {
    const task = await seedTask(db, scope, { taskId: `task-${n}` });
    await seedBatch(db, scope, task, workerInstanceId, batchRuns);
  }
  await copyRuns(db, total / (tasks * batchRuns) - 1);
  await sql`vacuum analyze`.execute(db);
  const ids = await sql<{ id: string }>`select id from runs`.execute(db);
  if (ids.rows.length !== total) throw new Error(`${ids.rows.length} of ${total} runs were stored`);
  return ids.rows.map(({ id }) => id);
}

/** What a copy of a row does not share with it, per table; `c` is the row of `copies`, `r` the original. */
const copied = {
  workspaces: ["c.workspace_id = r.id", "'id', new_workspace_id"],
  sessions: [
    "c.session_id = r.id",
    "'id', new_session_id, 'workspace_id', new_workspace_id, 'updated_at', r.updated_at - age",
  ],
  runs: [
    "c.run_id = r.id",
    `'id', new_run_id, 'session_id', new_session_id, 'workspace_id', new_workspace_id,
      'created_at', r.created_at - age, 'ended_at', r.ended_at - age`,
  ],
  run_events: ["c.run_id = r.run_id", "'run_id', new_run_id"],
} as const;

/** `times` copies of everything stored. */
async function copyRuns(db: Database, times: number): Promise<void> {
  await sql`create unlogged table copies as
    select id as run_id, session_id, workspace_id, age, uuidv7(-age) as new_run_id, uuidv7(-age) as new_session_id,
      uuidv7(-age) as new_workspace_id
    from (select *, row_number() over () as place from runs), generate_series(1, ${times}::int) as n,
      lateral (select (n * ${tasks * batchRuns}::int + place) * interval '1 second' as age)`.execute(db);
  await sql`analyze copies`.execute(db);
  for (const [table, [join, changes]] of Object.entries(copied)) {
    const { rows } = await sql<{ names: string }>`select string_agg(quote_ident(column_name), ', ') as names
      from information_schema.columns
      where table_schema = 'public' and table_name = ${table} and is_generated = 'NEVER'`.execute(db);
    const names = sql.raw(rows[0]?.names ?? "");
    await sql`insert into ${sql.table(table)} (${names}) select ${names} from (
      select n.* from ${sql.table(table)} r join copies c on ${sql.raw(join)},
        lateral jsonb_populate_record(r, jsonb_build_object(${sql.raw(changes)})) as n) as n`.execute(db);
  }
  await sql`update run_counts set succeeded = succeeded * ${times + 1}::int, failed = failed * ${times + 1}::int,
    cancelled = cancelled * ${times + 1}::int`.execute(db);
  await sql`drop table copies`.execute(db);
}

async function seedBatch(
  db: Database,
  scope: Scope,
  task: SeededTask,
  workerInstanceId: string,
  count: number,
): Promise<void> {
  const sessions = await seedSessions(db, scope, task, count);
  await createRuns(
    db,
    scope,
    sessions.map((session, index) => ({
      ...session,
      deploymentId: task.deploymentId,
      deploymentTaskId: task.deploymentTaskId,
      deploymentVersion: "20260606.1",
      taskId: task.taskId,
      queueName: task.queueName,
      payloadJson: JSON.stringify({ index, repository: "https://example.com/some/repository.git" }),
      metadata: { step: "done", percent: 100 },
      tags: ["bench", `customer:${index % 97}`],
      retryPolicy: { enabled: false },
      maxDurationSeconds: 900,
      apiVersion: "2026-06-06",
    })),
  );
  const claimed: ClaimedRun[] = [];
  while (claimed.length < count) {
    const limit = count - claimed.length; // The store takes fewer at once.
    const more = await claimRuns(db, { workerInstanceId, limit, leaseDurationMs: 300_000 });
    if (more.length === 0) throw new Error(`${claimed.length} of ${count} seeded runs were claimed`);
    claimed.push(...more);
  }
  const leases = claimed.map(({ lease_id: leaseId, fencing }) => ({ workerInstanceId, leaseId, fencing }));
  await startRuns(
    db,
    leases.map((lease) => ({ ...lease, notes: [], guest: { pooled: true, startMs: 0 } })),
  );
  const results = await finishRuns(
    db,
    leases.map((lease, index) => ({ ...lease, outcome: outcomeOf(index) })),
  );
  const accepted = results.filter(({ status }) => status === "accepted").length;
  if (accepted !== count) throw new Error(`${accepted} of ${count} seeded runs were finished`);
}

function outcomeOf(index: number): RunOutcome {
  if (index % 20 === 0) return { status: "cancelled", reason: "not needed any more" };
  if (index % 20 === 1) {
    const message = "the tests of the repository failed";
    return {
      status: "failed",
      failureKind: "task_failed",
      message,
      detail: { name: "Error", message },
      retryable: false,
    };
  }
  return { status: "succeeded", outputJson: '{"ok":true,"files":12,"summary":"all tests pass"}' };
}
