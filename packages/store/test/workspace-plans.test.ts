/** What somebody does with one workspace reads its own rows, however many others, versions and artifacts there are. */
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ActingScope,
  archiveWorkspace,
  createWorkspace,
  forkWorkspace,
  getVersion,
  getWorkspace,
  listVersions,
  listWorkspaces,
  purgeArchived,
  releaseReservations,
  removeDiscardedArtifacts,
  reserveArtifacts,
  reserveVersion,
  restoreVersion,
  updateWorkspace,
  uuidv7,
} from "../src/index.ts";
import {
  seedEnvironment,
  seedTask,
  seedVersion,
  startTestDatabase,
  type TestDatabase,
  testTree,
} from "../test-support/index.ts";

const stored = 20_000;
let database: TestDatabase;
let scope: ActingScope;
beforeAll(async () => {
  // One connection: its statistics are flushed by itself.
  database = await startTestDatabase({ maxConnections: 1 });
  const { db } = database;
  ({ scope } = await seedEnvironment(db));
  const { deploymentSandboxId } = await seedTask(db, scope);
  await sql`insert into workspaces (id, environment_id, project_id, deployment_sandbox_id, sandbox_id, sandbox_fingerprint,
      external_id, state, desired_state, dirty_state, created_at)
    select gen_random_uuid(), ${scope.environmentId}, ${scope.projectId}, ${deploymentSandboxId}, 'box', 'f', 'e' || n, 'active',
      'active', 'clean', now() - n * interval '1 second' from generate_series(1, ${stored}::integer) n`.execute(
    db,
  );
  await sql`insert into workspace_versions (id, environment_id, workspace_id, kind, reason, manifest_digest, content_digest,
      artifact_encoding, artifact_entry_count, size_bytes)
    select gen_random_uuid(), environment_id, id, 'user', 'upload', 'sha256:' || id, 'c', 'e', 1, 1 from workspaces`.execute(
    db,
  );
  await sql`insert into workspace_version_artifacts (version_id, digest)
    select id, manifest_digest || n from workspace_versions, generate_series(1, 2) n`.execute(db);
  await sql`insert into artifact_reservations (digest, lease_id)
    select 'sha256:r' || n, gen_random_uuid() from generate_series(1, ${stored}::integer) n`.execute(db);
  await sql`analyze`.execute(db);
});
afterAll(() => database.stop());

async function rowsRead(): Promise<number> {
  await sql`select pg_stat_force_next_flush()`.execute(database.db);
  const { rows } = await sql<{ n: number }>`select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint as n
    from pg_stat_user_tables`.execute(database.db);
  return rows[0]?.n ?? 0;
}

test("each step reads a few rows", async () => {
  const { db } = database;
  const read: Record<string, number> = {};
  const step = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const before = await rowsRead();
    const result = await work();
    read[name] = (await rowsRead()) - before;
    return result;
  };
  const create = {
    sandboxId: "box",
    externalId: "mine",
    metadata: {},
    tags: [],
    idempotencyKey: "k",
    idempotencyKeyTtlMs: 1000,
  };
  const { id } = (await step("create", () => createWorkspace(db, scope, create))).workspace;
  await step("get", () => getWorkspace(db, scope, id));
  await step("list", () => listWorkspaces(db, scope, { limit: 10 }));
  await step("list by external id", () => listWorkspaces(db, scope, { externalId: "mine", limit: 10 }));
  await step("update", () => updateWorkspace(db, scope, id, { tags: ["t"] }));
  const leaseId = uuidv7();
  await step("reserve", () => reserveArtifacts(db, leaseId, testTree("a", "b").artifacts));
  await step("release", () => releaseReservations(db, leaseId));
  const first = await step("upload", () => seedVersion(db, scope, id, testTree("a", "b")));
  await step("upload again", () => seedVersion(db, scope, id, testTree("a", "c")));
  await step("versions", () => listVersions(db, scope, id, { limit: 10 }));
  await step("version", () => getVersion(db, scope, id, first));
  await step("hold", () => reserveVersion(db, first, leaseId));
  await step("restore", () => restoreVersion(db, scope, id, first, undefined));
  await step("fork", () => forkWorkspace(db, scope, id, {}));
  await step("archive", () => archiveWorkspace(db, scope, id, -1000));
  await step("purge", async () => {
    while (await purgeArchived(db));
  });
  await step("collect", () =>
    removeDiscardedArtifacts(db, { limit: 10, graceMs: 0, remove: async () => undefined }),
  );
  expect(Object.entries(read).filter(([, rows]) => rows > 250)).toEqual([]);
  expect(Object.keys(read)).toHaveLength(17);
});
