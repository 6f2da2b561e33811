import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { createFolderStore } from "@helmr/artifacts";
import { createMemoryBus } from "@helmr/coordination";
import { type ActingScope, claimRuns, createRun, getRun } from "@helmr/store";
import {
  type SeededTask,
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

async function enqueue(ttl?: string) {
  const session = await seedSession(database.db, scope, task);
  return await createRun(database.db, scope, {
    ...session,
    deploymentId: task.deploymentId,
    deploymentTaskId: task.deploymentTaskId,
    deploymentVersion: "1",
    taskId: task.taskId,
    queueName: task.queueName,
    payloadJson: "{}",
    retryPolicy: { enabled: false },
    maxDurationSeconds: 60,
    ttl,
    apiVersion: "2026-06-06",
  });
}

/** Of each record of a sign-in one that is long over, and one that is to be kept. */
async function seedSignIns(db: TestDatabase["db"]): Promise<void> {
  const { rows } = await sql<{ id: string }>`insert into users (id, email, display_name)
    values (gen_random_uuid(), 'a@example.com', 'A') returning id`.execute(db);
  for (const [name, at] of [
    ["over", sql`now() - interval '31 days'`],
    ["kept", sql`now()`],
  ] as const) {
    await sql`insert into magic_links (token_hash, email, redirect_after, expires_at)
      values (${Buffer.from(name)}, 'a@example.com', '/', ${at})`.execute(db);
    await sql`insert into oauth_attempts (state_hash, provider, browser_hash, code_verifier, redirect_after, expires_at)
      values (${Buffer.from(name)}, 'oidc', '', 'v', '/', ${at})`.execute(db);
    await sql`insert into device_codes (id, device_code_hash, user_code, status, interval_seconds, expires_at)
      values (gen_random_uuid(), ${Buffer.from(name)}, ${name}, 'pending', 5, ${at})`.execute(db);
    await sql`insert into user_sessions (id, user_id, token_hash, kind, expires_at)
      values (gen_random_uuid(), ${rows[0]?.id}, ${Buffer.from(name)}, 'cli', ${at})`.execute(db);
  }
}

test("time does what it does to runs, sessions and keys, and waiting workers are told", async () => {
  const { db } = database;
  const bus = createMemoryBus();
  let hints = 0;
  bus.subscribe("work:default", () => {
    hints += 1;
  });
  const lost = await enqueue();
  await claimRuns(db, { workerInstanceId: worker, limit: 1, leaseDurationMs: 0 });
  const expiring = await enqueue("1ms");
  const { sessionId } = await seedSession(db, scope, task);
  await sql`update sessions set expires_at = now() - interval '1 second' where id = ${sessionId}`.execute(db);
  await sql`insert into idempotency_keys (environment_id, scope_name, key, fingerprint, resource_id, expires_at)
    values (${scope.environmentId}, 's', 'k', '', ${sessionId}, now())`.execute(db);
  const artifacts = createFolderStore(folder);
  const { digest } = await artifacts.put(Readable.from(["a checkpoint"]), { maxBytes: 100 });
  await sql`insert into discarded_artifacts (digest) values (${digest})`.execute(db);
  await sql`insert into public_access_tokens (id, environment_id, token_hash, scope_type, session_id, stream, expires_at)
    values (${sessionId}, ${scope.environmentId}, '', 'session.input.send', ${sessionId}, 's', now() - interval '1 year')`.execute(
    db,
  );
  await sql`insert into tokens (id, environment_id, status, timeout_at)
    values (${sessionId}, ${scope.environmentId}, 'pending', now() - interval '1 year')`.execute(db);
  await sql`update worker_instances set last_heartbeat_at = now() - interval '1 hour'`.execute(db);
  await seedSignIns(db);

  const intervals = {
    reconcileMs: 5,
    expireQueuedMs: 5,
    expireLeasesMs: 5,
    expireSessionsMs: 5,
    sweepKeysMs: 5,
    sweepIdentityMs: 5,
    purgeDeletedMs: 5,
    sweepTokensMs: 5,
    removeArtifactsMs: 5,
    artifactGraceMs: 0,
  };
  const logger = pino({ level: "silent" });
  const dispatcher = createDispatcher({ db, bus, artifacts, logger, intervals });
  dispatcher.start();
  try {
    const status = async (id: string) => (await getRun(db, scope, id))?.status;
    await expect.poll(() => status(expiring.id)).toBe("expired");
    await expect.poll(async () => (await getRun(db, scope, lost.id))?.lost_count).toBe(1);
    expect(await status(lost.id)).toBe("queued");
    await expect.poll(() => hints).toBeGreaterThan(0);
    const one = async (query: ReturnType<typeof sql>) => (await query.execute(db)).rows[0];
    await expect
      .poll(() => one(sql`select status from sessions where id = ${sessionId}`))
      .toEqual({ status: "expired" });
    await expect.poll(() => one(sql`select count(*) from idempotency_keys`)).toEqual({ count: 0 });
    await expect.poll(() => one(sql`select count(*) from public_access_tokens`)).toEqual({ count: 0 });
    await expect.poll(() => one(sql`select count(*) from tokens`)).toEqual({ count: 0 });
    await expect.poll(() => one(sql`select count(*) from discarded_artifacts`)).toEqual({ count: 0 });
    expect(await artifacts.has(digest)).toBe(false);
    for (const table of ["magic_links", "oauth_attempts", "device_codes", "user_sessions"]) {
      await expect
        .poll(() => one(sql`select count(*) from ${sql.table(table)}`), { message: table })
        .toEqual({ count: 1 });
      expect(
        await one(sql`select expires_at > now() - interval '1 hour' as kept from ${sql.table(table)}`),
      ).toEqual({ kept: true });
    }
    await expect.poll(() => one(sql`select state from worker_instances`)).toEqual({ state: "gone" });
  } finally {
    await dispatcher.stop();
    await bus.close();
  }
});
