/** Emptying a small environment reads its own rows, however many others there are: the checks of references included. */
import { createEnvironment, markForDeletion, previewDeletion, purgePage } from "@helmr/store";
import {
  fillRuns,
  seedEnvironment,
  seedTask,
  startTestDatabase,
  type TestDatabase,
} from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";

const stored = 20_000;
const own = 200;
let database: TestDatabase;
beforeAll(async () => {
  // One connection: its statistics are flushed by itself.
  database = await startTestDatabase({ maxConnections: 1 });
});
afterAll(() => database.stop());

async function rowsRead(): Promise<number> {
  await sql`select pg_stat_force_next_flush()`.execute(database.db);
  const { rows } = await sql<{ n: number }>`select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint as n
    from pg_stat_user_tables`.execute(database.db);
  return rows[0]?.n ?? 0;
}

test("a deletion costs what it deletes", async () => {
  const { db } = database;
  const { scope } = await seedEnvironment(db);
  await fillRuns(db, scope, await seedTask(db, scope), stored);
  const names = { slug: "small", name: "", colorHex: "#000000" };
  const small = await createEnvironment(db, scope, scope.projectId, names);
  const target = { ...scope, environmentId: small?.id ?? "" };
  const task = await seedTask(db, target);
  await fillRuns(db, target, task, own);
  for (let n = 0; n < 20; n += 1) await seedTask(db, target);
  await sql`analyze`.execute(db);

  const before = await rowsRead();
  expect(await previewDeletion(db, scope.organizationId, target)).toMatchObject({
    sessions: own,
    deployments: 21,
  });
  expect(await markForDeletion(db, scope, target, { force: false })).toBe(true);
  while ((await purgePage(db)) !== undefined);
  const read = (await rowsRead()) - before;
  const { rows } = await sql`select from sessions where environment_id = ${target.environmentId}`.execute(db);
  expect(rows).toEqual([]);
  // A run, its session, workspace and two events, each found, locked and checked for references a few times.
  expect(read).toBeLessThan(own * 60);
});
