/** What time does to live copies of workspaces, and whom the dispatcher tells. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFolderStore } from "@helmr/artifacts";
import { createMemoryBus } from "@helmr/coordination";
import {
  type ActingScope,
  claimMaterializations,
  createExec,
  getExec,
  getMaterialization,
  listRunEvents,
  requestMaterialization,
  startMaterialization,
} from "@helmr/store";
import {
  type SeededTask,
  seedEnvironment,
  seedSession,
  seedStartedSession,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "@helmr/store/testing";
import { sql } from "kysely";
import pino from "pino";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createDispatcher } from "../src/index.ts";

let database: TestDatabase;
let scope: ActingScope;
let task: SeededTask;
let worker: string;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "helmr-dispatcher-"));
  database = await startTestDatabase();
  const seeded = await seedEnvironment(database.db);
  scope = seeded.scope;
  task = await seedTask(database.db, scope);
  worker = await seedWorker(database.db, seeded.workerGroupId);
});
afterAll(async () => {
  await database.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A workspace with a live copy that is up. */
async function liveCopy(idleStopMs: number, command?: string[]) {
  const { db } = database;
  const { workspaceId } = await seedSession(db, scope, task);
  await requestMaterialization(db, scope, workspaceId);
  const created = command && (await createExec(db, scope, workspaceId, { command }));
  const execId = typeof created === "object" ? created.row.id : "";
  const [copy] = await claimMaterializations(db, { workerInstanceId: worker, limit: 1, lostAfterMs: 60_000 });
  if (copy === undefined) throw new Error("nothing to claim");
  const ref = { materializationId: copy.id, workerInstanceId: worker, fencing: copy.fencing };
  await startMaterialization(db, { ...ref, idleStopMs });
  return { workspaceId, execId, id: copy.id };
}

test("idle copies are told to stop, silent ones are lost, waiting runs say why, and who follows is told", async () => {
  const { db } = database;
  const idle = await liveCopy(1);
  const silent = await liveCopy(60_000, ["sleep"]);
  const used = await liveCopy(60_000, ["vim"]);
  const forgotten = await liveCopy(60_000);
  await sql`update workspace_materializations set reservation_expires_at = now() where id = ${silent.id}`.execute(
    db,
  );
  await sql`update workspaces set auto_stop_at = null where id = ${forgotten.workspaceId}`.execute(db);
  const { runId } = await seedStartedSession(db, scope, task);
  await sql`update runs set workspace_id = ${used.workspaceId}, available_at = now() - interval '1 minute'
    where id = ${runId}`.execute(db);
  const told = new Set<string>();
  const bus = createMemoryBus();
  for (const topic of [
    `exec:${silent.execId}`,
    `workspaces:${worker}`,
    `run:${runId}`,
    `workspace:${silent.workspaceId}`,
  ])
    bus.subscribe(topic, () => told.add(topic));
  const dispatcher = createDispatcher({
    db,
    bus,
    artifacts: createFolderStore(folder),
    logger: pino({ level: "silent" }),
    intervals: { expireCopiesMs: 20, stopIdleMs: 20 },
    liveCopies: { idleStopMs: 3_600_000 },
  });
  dispatcher.start();
  const stateOf = async ({ id, workspaceId }: { id: string; workspaceId: string }) =>
    (await getMaterialization(db, scope, { workspaceId, id }))?.state;
  try {
    await vi.waitUntil(async () => (await stateOf(idle)) === "stopping", { timeout: 20_000 });
    await vi.waitUntil(async () => (await stateOf(silent)) === "lost", { timeout: 20_000 });
    await vi.waitUntil(() => told.size === 4, { timeout: 20_000 });
    const { workspaceId } = silent;
    expect((await getExec(db, scope, { workspaceId, id: silent.execId }))?.state).toBe("lost");
    expect(await stateOf(used)).toBe("running");
    const events = await listRunEvents(db, scope, runId, { after: 0, limit: 100 });
    const waiting = events.filter(({ kind }) => kind === "run.waiting_for_workspace");
    expect(waiting).toMatchObject([
      { attributes: { workspace_id: used.workspaceId, materialization_id: used.id } },
    ]);
    const planned = async () =>
      (
        await sql<{
          at: Date | null;
        }>`select auto_stop_at as at from workspaces where id = ${forgotten.workspaceId}`.execute(db)
      ).rows[0]?.at;
    await vi.waitUntil(async () => (await planned()) !== null, { timeout: 20_000 });
  } finally {
    await dispatcher.stop();
    await bus.close();
  }
});

test("what a command wrote is removed some time after its end, and that of one that runs stays", async () => {
  const { db } = database;
  const ended = await liveCopy(60_000, ["make"]);
  const active = await liveCopy(60_000, ["tail"]);
  const ids = [ended.execId, active.execId];
  await sql`insert into workspace_stream_chunks (resource_id, stream, offset_start, offset_end, id, workspace_id, data, observed_at)
    select id, 'stdout', 0, 1, gen_random_uuid(), workspace_id, 'x', now() from workspace_execs
    where id = any (${ids}::uuid[])`.execute(db);
  await sql`update workspace_execs set stdout_cursor = 1 where id = any (${ids}::uuid[])`.execute(db);
  await sql`update workspace_execs set state = 'exited', exited_at = now() where id = ${ended.execId}`.execute(
    db,
  );
  const bus = createMemoryBus();
  const dispatcher = createDispatcher({
    db,
    bus,
    artifacts: createFolderStore(folder),
    logger: pino({ level: "silent" }),
    intervals: { removeStreamsMs: 20, streamKeepMs: 1 },
  });
  dispatcher.start();
  const left = async () => {
    const { rows } = await sql<{ id: string }>`select resource_id as id from workspace_stream_chunks
      where resource_id = any (${ids}::uuid[])`.execute(db);
    return rows.map(({ id }) => id);
  };
  try {
    await vi.waitUntil(async () => (await left()).length < 2, { timeout: 20_000 });
    expect(await left()).toEqual([active.execId]);
    const { workspaceId } = ended;
    expect(await getExec(db, scope, { workspaceId, id: ended.execId })).toMatchObject({ stdout_retained: 1 });
  } finally {
    await dispatcher.stop();
    await bus.close();
  }
});
