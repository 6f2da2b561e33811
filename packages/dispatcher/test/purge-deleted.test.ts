/** What the dispatcher does with deleted environments: empties them, and removes sources that no deployment has any more. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { type ArtifactStore, createFolderStore } from "@helmr/artifacts";
import { createMemoryBus } from "@helmr/coordination";
import {
  type ActingScope,
  claimRuns,
  createDeployment,
  createEnvironment,
  createRun,
  markForDeletion,
  purgePage,
  removeDiscardedArtifacts,
} from "@helmr/store";
import {
  seedEnvironment,
  seedSession,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "@helmr/store/testing";
import { sql } from "kysely";
import pino from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDispatcher } from "../src/index.ts";

let database: TestDatabase;
let folder: string;
let artifacts: ArtifactStore;
let seeded: Awaited<ReturnType<typeof seedEnvironment>>;
beforeAll(async () => {
  database = await startTestDatabase();
  folder = await mkdtemp(join(tmpdir(), "helmr-dispatcher-"));
  artifacts = createFolderStore(folder);
  seeded = await seedEnvironment(database.db);
});
afterAll(async () => {
  await database.stop();
  await rm(folder, { recursive: true, force: true });
});

let environments = 0;
async function newEnvironment(): Promise<ActingScope> {
  environments += 1;
  const names = { slug: `e-${environments}`, name: "", colorHex: "#000000" };
  const row = await createEnvironment(database.db, seeded.scope, seeded.scope.projectId, names);
  if (row === undefined) throw new Error("the project is gone");
  return { ...seeded.scope, environmentId: row.id };
}

let sources = 0;
const put = async (text?: string) => {
  sources += 1;
  const bytes = Buffer.from(text ?? `source ${sources}`);
  return (await artifacts.put(Readable.from([bytes]), { maxBytes: 1000 })).digest;
};

const deploy = (scope: ActingScope, digest: string) =>
  createDeployment(
    database.db,
    scope,
    {
      contentHash: digest,
      sourceDigest: digest,
      sourceSizeBytes: 1,
      apiVersion: "2026-06-06",
      bundleFormatVersion: 2,
      workerProtocolVersion: "helmr.worker.v1",
    },
    () => artifacts.has(digest),
  );

const mark = (scope: ActingScope) => markForDeletion(database.db, scope, scope, { force: true });
async function purgeAll(): Promise<void> {
  while ((await purgePage(database.db)) !== undefined);
}
const removeSources = () =>
  removeDiscardedArtifacts(database.db, {
    limit: 100,
    graceMs: 0,
    remove: (digest) => artifacts.delete(digest),
  });

test("an environment is emptied, its workers are told, and a source goes with its last deployment", async () => {
  const { db } = database;
  const [first, second] = [await newEnvironment(), await newEnvironment()];
  const [shared, own] = [await put(), await put()];
  for (const digest of [shared, own]) await deploy(first, digest);
  await deploy(second, shared);
  const task = await seedTask(db, first);
  await sql`update deployments set source_digest = ${own} where id = ${task.deploymentId}`.execute(db);
  const run = await createRun(db, first, {
    ...(await seedSession(db, first, task)),
    deploymentId: task.deploymentId,
    deploymentTaskId: task.deploymentTaskId,
    deploymentVersion: "1",
    taskId: task.taskId,
    queueName: task.queueName,
    payloadJson: "{}",
    retryPolicy: { enabled: false },
    maxDurationSeconds: 60,
    apiVersion: "2026-06-06",
  });
  const worker = await seedWorker(db, seeded.workerGroupId);
  await claimRuns(db, { workerInstanceId: worker, limit: 1, leaseDurationMs: 60_000 });
  const bus = createMemoryBus();
  const told = new Set<string>();
  for (const topic of [`worker:${worker}`, `run:${run.id}`]) bus.subscribe(topic, () => told.add(topic));

  expect(await mark(first)).toBe(true);
  const logger = pino({ level: "silent" });
  const dispatcher = createDispatcher({
    db,
    bus,
    artifacts,
    logger,
    intervals: { purgeDeletedMs: 5, removeArtifactsMs: 5, artifactGraceMs: 0 },
  });
  dispatcher.start();
  try {
    const limit = { timeout: 30_000 };
    await expect.poll(() => artifacts.has(own), limit).toBe(false);
    const count = async () =>
      (await sql`select from environments where id = ${first.environmentId}`.execute(db)).rows.length;
    await expect.poll(count, limit).toBe(0);
    await expect.poll(() => told.size, limit).toBe(2);
    expect(await artifacts.has(shared)).toBe(true);
    expect(await mark(second)).toBe(true);
    await expect.poll(() => artifacts.has(shared), limit).toBe(false);
    await expect
      .poll(async () => (await sql`select from discarded_artifacts`.execute(db)).rows.length, limit)
      .toBe(0);
  } finally {
    await dispatcher.stop();
    await bus.close();
  }
});

test("a crash between the rows and the source leaves the note, and the next process removes the source", async () => {
  const scope = await newEnvironment();
  const digest = await put();
  await deploy(scope, digest);
  await mark(scope);
  await purgeAll();
  const crash = removeDiscardedArtifacts(database.db, {
    limit: 100,
    graceMs: 0,
    remove: async () => {
      throw new Error("the store is out of reach");
    },
  });
  await expect(crash).rejects.toThrow("out of reach");
  expect(await artifacts.has(digest)).toBe(true);
  expect(await removeSources()).toBe(1);
  expect(await artifacts.has(digest)).toBe(false);
  expect(await removeSources()).toBe(0);
});

test("a source that is uploaded again while it is removed: its deployment has it, or is refused", async () => {
  for (let round = 0; round < 10; round += 1) {
    const [gone, fresh] = [await newEnvironment(), await newEnvironment()];
    const text = `raced ${round}`;
    const digest = await put(text);
    await deploy(gone, digest);
    await mark(gone);
    await purgeAll();
    const [uploaded] = await Promise.allSettled([
      put(text).then(() => deploy(fresh, digest)),
      removeSources(),
    ]);
    if (uploaded.status === "fulfilled") expect(await artifacts.has(digest)).toBe(true);
    else expect(uploaded.reason).toMatchObject({ status: 503 });
    await removeSources();
    if (uploaded.status === "fulfilled") expect(await artifacts.has(digest)).toBe(true);
  }
});

test("a page is bounded, however much there is", async () => {
  const scope = await newEnvironment();
  await sql`insert into idempotency_keys (environment_id, scope_name, key, fingerprint, resource_id, expires_at)
    select ${scope.environmentId}, 's', n::text, '', gen_random_uuid(), now() + interval '1 day'
    from generate_series(1, 5000) n`.execute(database.db);
  await mark(scope);
  const left: number[] = [];
  while ((await purgePage(database.db)) !== undefined) {
    const { rows } =
      await sql`select from idempotency_keys where environment_id = ${scope.environmentId}`.execute(
        database.db,
      );
    left.push(rows.length);
  }
  expect(left).toEqual([3000, 1000, 0, 0]);
});
