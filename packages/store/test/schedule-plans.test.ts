/** What dispatchers ask all the time, and the routes of schedules, read about what they return, however many there are. */
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ActingScope,
  type ClaimedFire,
  claimFires,
  fireSchedule,
  getSchedule,
  listPlannedFires,
  listRuns,
  listSchedules,
} from "../src/index.ts";
import {
  fillRuns,
  seedEnvironment,
  seedTask,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

const stored = 20_000;
const now = new Date("2026-06-01T10:00:00Z");
let database: TestDatabase;
let scope: ActingScope;
let ids: string[];
beforeAll(async () => {
  database = await startTestDatabase({ maxConnections: 1 });
  ({ scope } = await seedEnvironment(database.db));
  const task = await seedTask(database.db, scope);
  // Each a minute after the other: of those that are due soon there are few.
  const { rows } = await sql<{
    id: string;
  }>`insert into schedules (id, environment_id, project_id, type, task_id,
      deduplication_key, cron, timezone, next_fire_at, due_at, created_at)
    select gen_random_uuid(), ${scope.environmentId}, ${scope.projectId}, 'imperative', 'hello', 'k' || n, '0 0 * * *', 'UTC',
      ${now}::timestamptz + (n - 20) * interval '1 minute', ${now}::timestamptz + (n - 20) * interval '1 minute',
      now() - n * interval '1 second'
    from generate_series(1, ${stored}::int) n returning id`.execute(database.db);
  ids = rows.map(({ id }) => id);
  await fillRuns(database.db, scope, task, 5_000);
  await sql`update runs set schedule_id = ${ids[0]} where id in (select id from runs limit 20)`.execute(
    database.db,
  );
  await sql`analyze`.execute(database.db);
});
afterAll(() => database.stop());

/** Rows of both tables that were read, by the server's own counters. The sixth time a prepared statement is planned for good. */
async function rowsRead(work: () => Promise<unknown>): Promise<number> {
  for (let warm = 0; warm < 6; warm += 1) await work();
  const count = async () => {
    await sql`select pg_stat_force_next_flush()`.execute(database.db);
    const { rows } = await sql<{
      n: number;
    }>`select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::bigint as n
      from pg_stat_user_tables where relname in ('schedules', 'runs')`.execute(database.db);
    return rows[0]?.n ?? 0;
  };
  const before = await count();
  await work();
  return (await count()) - before;
}

const claim = (more: object) => claimFires(database.db, { limit: 10, leaseMs: 0, now, ...more });
test.each<[string, () => Promise<unknown>]>([
  [
    "a page of what is due soon",
    () => listPlannedFires(database.db, { lookaheadMs: 40_000, limit: 100, now }),
  ],
  [
    "the page after it",
    () =>
      listPlannedFires(database.db, {
        lookaheadMs: 40_000,
        limit: 100,
        now,
        after: { id: ids[0] ?? "", dueAt: now },
      }),
  ],
  ["nothing is due", () => claimFires(database.db, { limit: 10, leaseMs: 0, now: new Date(0) })],
  ["a claim of some", () => claim({ ids: ids.slice(0, 10) })],
  ["a claim of whatever is due", () => claim({})],
  ["one", () => getSchedule(database.db, scope, ids[5_000] ?? "")],
  ["a list", () => listSchedules(database.db, scope, 50)],
  ["runs of one", () => listRuns(database.db, scope, { status: "all", limit: 20, scheduleId: ids[0] ?? "" })],
])("%s", async (_name, work) => {
  expect(await rowsRead(work)).toBeLessThan(200);
});

test("a fire", async () => {
  const [fire] = await claim({ leaseMs: 60_000 });
  const read = await rowsRead(() => fireSchedule(database.db, fire as ClaimedFire, { jitterMs: 0 }));
  expect(read).toBeLessThan(200);
});
