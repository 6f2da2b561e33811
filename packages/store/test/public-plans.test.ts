/** The statements behind the public routes use an index that ends at their limit, however large the tables are. */
import {
  type ActingScope,
  ensureDefaultTenant,
  getSession,
  listDeployments,
  listSessions,
} from "@helmr/store";
import { seedEnvironment, seedTask, startTestDatabase, type TestDatabase } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";

const stored = 20_000;
let database: TestDatabase;
let scope: ActingScope;
beforeAll(async () => {
  database = await startTestDatabase({ maxConnections: 1 });
  ({ scope } = await seedEnvironment(database.db));
  const { deploymentId } = await seedTask(database.db, scope);
  await sql`insert into sessions (id, environment_id, project_id, task_id, initial_deployment_id, active_deployment_id,
      external_id, start_fingerprint, status, updated_at)
    select gen_random_uuid(), ${scope.environmentId}, ${scope.projectId}, 'task-' || i % 50, ${deploymentId},
      ${deploymentId}, 'ext-' || i, '', case when i % 1000 = 0 then 'closed' else 'open' end, now() - i * interval '1 second'
    from generate_series(1, ${stored}::int) i`.execute(database.db);
  await sql`insert into deployments (id, environment_id, project_id, version, status, content_hash, source_digest,
      source_size_bytes, api_version, bundle_format_version, worker_protocol_version, created_at)
    select gen_random_uuid(), ${scope.environmentId}, ${scope.projectId}, '20200101.' || i, 'failed', '', '', 0, '', 2, '',
      now() - i * interval '1 hour' from generate_series(1, ${stored}::int) i`.execute(database.db);
  await sql`analyze`.execute(database.db);
});
afterAll(() => database.stop());

/** Rows that the statement read, by the server's own counters, while `work` ran. */
async function rowsRead(work: () => Promise<unknown>): Promise<number> {
  const count = async () => {
    await sql`select pg_stat_force_next_flush()`.execute(database.db);
    const { rows } = await sql<{
      n: number;
    }>`select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint as n
      from pg_stat_user_tables where relname in ('sessions', 'deployments')`.execute(database.db);
    return rows[0]?.n ?? 0;
  };
  const before = await count();
  await work();
  return (await count()) - before;
}

test.each<[string, () => Promise<unknown>]>([
  ["all sessions", () => listSessions(database.db, scope, { limit: 50 })],
  ["sessions of a rare status", () => listSessions(database.db, scope, { status: "closed", limit: 50 })],
  [
    "sessions of a status that none has",
    () => listSessions(database.db, scope, { status: "expired", limit: 50 }),
  ],
  ["sessions of a task", () => listSessions(database.db, scope, { taskId: "task-7", limit: 50 })],
  [
    "of a task and status",
    () => listSessions(database.db, scope, { taskId: "task-0", status: "closed", limit: 50 }),
  ],
  ["of a task that none has", () => listSessions(database.db, scope, { taskId: "nothing", limit: 50 })],
  ["by external id", () => listSessions(database.db, scope, { externalId: "ext-77", limit: 50 })],
  ["one by external id", () => getSession(database.db, scope, { externalId: "ext-77" })],
  ["deployments", () => listDeployments(database.db, scope, 50)],
])("%s", async (_name, work) => {
  // The prepared statement's generic plan is used from the sixth execution on.
  for (let i = 0; i < 7; i += 1) await work();
  expect(await rowsRead(work)).toBeLessThanOrEqual(60);
});

test("the default tenant is made once, however many ask", async () => {
  const tenants = await Promise.all(Array.from({ length: 5 }, () => ensureDefaultTenant(database.db)));
  for (const tenant of tenants) expect(tenant).toEqual(tenants[0]);
  const other = await ensureDefaultTenant(database.db, { project: "other" });
  expect(other.production.organizationId).toBe(tenants[0]?.production.organizationId);
  expect(other.production.projectId).not.toBe(tenants[0]?.production.projectId);
});
