/** Three dispatchers at once, each of them with nothing to spare: what has ended goes once, all of it and nothing else. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { createFolderStore } from "@helmr/artifacts";
import { createMemoryBus } from "@helmr/coordination";
import { countRuns, uuidv7 } from "@helmr/store";
import {
  fillRuns,
  seedEnvironment,
  seedTask,
  startTestDatabase,
  type TestDatabase,
} from "@helmr/store/testing";
import { sql } from "kysely";
import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDispatcher } from "../src/index.ts";

let database: TestDatabase;
let folder: string;
beforeAll(async () => {
  database = await startTestDatabase({ maxConnections: 20 });
  folder = await mkdtemp(join(tmpdir(), "helmr-retention-"));
});
afterAll(async () => {
  await database.stop();
  await rm(folder, { recursive: true, force: true });
});

const count = async (table: string) =>
  (await sql<{ n: number }>`select count(*)::integer as n from ${sql.table(table)}`.execute(database.db))
    .rows[0]?.n ?? 0;

test("sessions, events, archived workspaces and reservations go while three dispatchers are at it", async () => {
  const { db } = database;
  const artifacts = createFolderStore(folder);
  const { scope } = await seedEnvironment(db);
  const runs = await fillRuns(db, scope, await seedTask(db, scope), 400);
  const [old, young] = [runs.slice(0, 300), runs.slice(300)];
  await sql`update runs set ended_at = now() - interval '91 days' where id = any (${old}::uuid[])`.execute(
    db,
  );
  await sql`update sessions set status = 'closed', updated_at = now() - interval '91 days'
    where current_run_id = any (${old.slice(0, 200)}::uuid[])`.execute(db);
  await sql`update sessions set schedule_id = ${uuidv7()}, created_at = now() - interval '91 days'
    where current_run_id = any (${old.slice(200)}::uuid[])`.execute(db);
  await sql`update workspaces set state = 'archived', desired_state = 'archived', auto_delete_at = now()
    where id in (select workspace_id from runs where id = any (${old.slice(0, 50)}::uuid[]))`.execute(db);
  const { digest } = await artifacts.put(Readable.from(["never referred to"]), { maxBytes: 100 });
  await sql`insert into artifact_reservations (digest, lease_id, created_at)
    values (${digest}, ${uuidv7()}, now() - interval '2 days')`.execute(db);

  const intervals = {
    removeEventsMs: 5,
    closeScheduledMs: 5,
    removeSessionsMs: 5,
    purgeArchivedMs: 5,
    sweepReservationsMs: 5,
    removeArtifactsMs: 5,
    artifactGraceMs: 0,
  };
  const logger = pino({ level: "silent" });
  const dispatchers = [1, 2, 3].map(() =>
    createDispatcher({ db, bus: createMemoryBus(), artifacts, logger, intervals }),
  );
  for (const dispatcher of dispatchers) dispatcher.start();
  try {
    const limit = { timeout: 60_000 };
    await expect.poll(() => count("runs"), limit).toBe(200);
    const closed = async () =>
      (
        await sql<{ n: number }>`select count(*)::integer as n from sessions where status = 'closed'
          and terminal_reason->>'reason' = 'schedule_session_idle'`.execute(db)
      ).rows[0]?.n;
    await expect.poll(closed, limit).toBe(100);
    const kept = async () =>
      (
        await sql<{
          n: number;
        }>`select count(*)::integer as n from run_events e join runs r on r.id = e.run_id
          where r.id = any (${old}::uuid[])`.execute(db)
      ).rows[0]?.n;
    await expect.poll(kept, limit).toBe(100);
    const deleted = async () =>
      (
        await sql<{
          n: number;
        }>`select count(*)::integer as n from workspaces where state = 'deleted'`.execute(db)
      ).rows[0]?.n;
    await expect.poll(deleted, limit).toBe(50);
    await expect.poll(() => count("artifact_reservations"), limit).toBe(0);
    await expect.poll(() => artifacts.has(digest), limit).toBe(false);
  } finally {
    await Promise.all(dispatchers.map((dispatcher) => dispatcher.stop()));
  }
  expect(await countRuns(db, scope)).toMatchObject({ succeeded: 200 });
  const { rows } = await sql<{ n: number }>`select count(*)::integer as n from run_events
    where run_id = any (${young}::uuid[])`.execute(db);
  expect(rows).toEqual([{ n: 200 }]);
});
