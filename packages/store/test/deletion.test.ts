/** Deleting an environment takes everything along; artifacts go when nothing refers to them; tokens when they are long over. */
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  appendInput,
  cancelToken,
  claimRuns,
  completeToken,
  createPublicAccessToken,
  createToken,
  createWait,
  finishRuns,
  markForDeletion,
  parkRun,
  purgePage,
  removeDiscardedArtifacts,
  startRuns,
  sweepPublicAccessTokens,
  sweepTokens,
  uuidv7,
} from "../src/index.ts";
import {
  seedEnvironment,
  seedStartedSession,
  seedStream,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());

const compatibility = "gvisor test x64";

/** An environment with a row in every table of streams, tokens and waits: one run parked, one that goes on from its checkpoint. */
async function fill() {
  const { db } = database;
  const { scope, workerGroupId } = await seedEnvironment(db);
  await sql`update environments set slug = ${`env-${uuidv7()}`} where id = ${scope.environmentId}`.execute(
    db,
  );
  const worker = await seedWorker(db, workerGroupId, { checkpoint_compatibility: compatibility });
  const task = await seedTask(db, scope);
  await seedStream(db, task, "answers", "input");
  const digests: string[] = [];
  let sessionId = "";
  for (const resumed of [false, true]) {
    ({ sessionId } = await seedStartedSession(db, scope, task));
    const lease = await leaseNext(worker);
    const { id: tokenId } = (await createToken(db, scope, { timeoutMs: 60_000, tags: [], metadata: {} }))
      .token;
    const made = await createWait(db, {
      ...lease,
      number: 1,
      waitFor: resumed ? { kind: "token", tokenId } : { kind: "stream", stream: "answers" },
      metadata: {},
      tags: [],
    });
    if (made.status === "lost") throw new Error("the lease is lost");
    const artifactDigest = `sha256:${made.wait.id}`;
    digests.push(artifactDigest);
    const parked = await parkRun(db, {
      ...lease,
      waitId: made.wait.id,
      manifest: { compatibility },
      artifactDigest,
      sizeBytes: 1,
      timings: {},
    });
    expect(parked.status).toBe("parked");
    if (resumed) {
      await completeToken(db, scope, tokenId, { dataJson: "1" });
      await leaseNext(worker);
    }
  }
  await appendInput(db, scope, { id: sessionId }, "answers", { data: "1" });
  await appendInput(db, scope, { id: sessionId }, "answers", { data: "2", correlationId: "c" });
  await createPublicAccessToken(db, scope, {
    scopeType: "session.input.send",
    session: { id: sessionId },
    stream: "answers",
    expiresAt: new Date(Date.now() + 60_000),
  });
  return { scope, digests, sessionId };
}

async function leaseNext(workerInstanceId: string) {
  const [claimed] = await claimRuns(database.db, { workerInstanceId, limit: 1, leaseDurationMs: 60_000 });
  if (claimed === undefined) throw new Error("nothing to claim");
  const lease = { workerInstanceId, leaseId: claimed.lease_id, fencing: claimed.fencing };
  await startRuns(database.db, [{ ...lease, notes: [], guest: { pooled: false, startMs: 1 } }]);
  return lease;
}

const count = async (table: string, where: ReturnType<typeof sql>) =>
  Number(
    (
      await sql<{ n: number }>`select count(*) as n from ${sql.table(table)} where ${where}`.execute(
        database.db,
      )
    ).rows[0]?.n,
  );
const discarded = async () =>
  (await database.db.selectFrom("discarded_artifacts").select("digest").execute()).map(
    ({ digest }) => digest,
  );

async function purgeAll(): Promise<void> {
  for (let pages = 0; (await purgePage(database.db)) !== undefined; pages += 1) {
    if (pages > 200) throw new Error("the purge does not end");
  }
}

test("streams, records, tokens, waits and checkpoints go with their environment, and with no other", async () => {
  const [gone, kept] = [await fill(), await fill()];
  const withEnvironment = [
    "session_streams",
    "session_continuations",
    "public_access_tokens",
    "tokens",
    "run_waits",
  ];
  const of = ({ scope }: typeof gone) => sql`environment_id = ${scope.environmentId}`;
  const before = await Promise.all(withEnvironment.map((table) => count(table, of(gone))));
  expect(Math.min(...before)).toBeGreaterThan(0);
  const [records, checkpoints] = [
    await count("stream_records", sql`true`),
    await count("run_checkpoints", sql`true`),
  ];
  expect([records, checkpoints]).toEqual([4, 4]);

  await markForDeletion(database.db, gone.scope, gone.scope, { force: true });
  await purgeAll();
  for (const table of withEnvironment) {
    expect([table, await count(table, of(gone))]).toEqual([table, 0]);
    expect([table, await count(table, of(kept))]).not.toEqual([table, 0]);
  }
  expect(await count("environments", sql`id = ${gone.scope.environmentId}`)).toBe(0);
  expect(await count("stream_records", sql`true`)).toBe(2);
  expect(await count("run_checkpoints", sql`true`)).toBe(2);
  // Both checkpoints, that of the parked run and that of the run on a worker.
  expect(await discarded()).toEqual(expect.arrayContaining(gone.digests));
  for (const digest of kept.digests) expect(await discarded()).not.toContain(digest);
});

test("an artifact is removed after its grace period, when nothing refers to it", async () => {
  const { digests } = await fill();
  const [referred] = digests as [string];
  const alone = `sha256:${uuidv7()}`;
  await sql`delete from discarded_artifacts`.execute(database.db);
  await sql`insert into discarded_artifacts (digest) values (${alone}), (${referred})`.execute(database.db);
  const removed: string[] = [];
  const remove = async (digest: string) => {
    removed.push(digest);
  };
  const sweep = (graceMs: number) => removeDiscardedArtifacts(database.db, { limit: 10, graceMs, remove });
  expect(await sweep(60_000)).toBe(0);
  expect(removed).toEqual([]);
  expect(await sweep(0)).toBe(2);
  expect(removed).toEqual([alone]);
  expect(await discarded()).toEqual([]);
});

test("what the store cannot remove stays noted", async () => {
  const digest = `sha256:${uuidv7()}`;
  await sql`insert into discarded_artifacts (digest) values (${digest})`.execute(database.db);
  const failing = removeDiscardedArtifacts(database.db, {
    limit: 10,
    graceMs: 0,
    remove: () => Promise.reject(new Error("the store is away")),
  });
  await expect(failing).rejects.toThrow("the store is away");
  expect(await discarded()).toEqual([digest]);
});

test("tokens go 90 days after their end, but none that a run waits for", async () => {
  const { db } = database;
  const { scope, workerGroupId } = await seedEnvironment(db);
  const make = async () =>
    (await createToken(db, scope, { timeoutMs: 1000, tags: [], metadata: {} })).token.id;
  const [completed, cancelled, waitedFor, recent, _expired] = [
    await make(),
    await make(),
    await make(),
    await make(),
    await make(),
  ];
  await completeToken(db, scope, completed, { dataJson: "1" });
  await cancelToken(db, scope, cancelled);
  const worker = await seedWorker(db, workerGroupId);
  const { sessionId } = await seedStartedSession(db, scope, await seedTask(db, scope));
  const lease = await leaseNext(worker);
  const wait = { ...lease, number: 1, metadata: {}, tags: [] };
  await createWait(db, { ...wait, waitFor: { kind: "token", tokenId: waitedFor } });
  await sql`update tokens set timeout_at = timeout_at - interval '91 days', created_at = created_at - interval '91 days',
      completed_at = completed_at - interval '91 days', cancelled_at = cancelled_at - interval '91 days'
    where id <> ${recent} and environment_id = ${scope.environmentId}`.execute(db);
  expect(await sweepTokens(db, 100)).toBe(3);
  const left = async () =>
    (
      await db.selectFrom("tokens").select("id").where("environment_id", "=", scope.environmentId).execute()
    ).map(({ id }) => id);
  expect((await left()).sort()).toEqual([waitedFor, recent].sort());
  await finishRuns(db, [{ ...lease, outcome: { status: "succeeded" } }]);
  expect(await sweepTokens(db, 100)).toBe(1);
  expect(await left()).toEqual([recent]);
  // The run's wait is still there to be looked at.
  expect(await count("run_waits", sql`token_id = ${waitedFor}`)).toBe(1);

  const expiresAt = new Date(Date.now() + 60_000);
  const pat = {
    scopeType: "session.input.send",
    session: { id: sessionId },
    stream: "x",
    expiresAt,
  } as const;
  const [old] = [
    await createPublicAccessToken(db, scope, pat),
    await createPublicAccessToken(db, scope, pat),
  ];
  const age = (interval: string) =>
    sql`update public_access_tokens set expires_at = now() - ${interval}::interval where id = ${old?.id}`.execute(
      db,
    );
  await age("6 days");
  expect(await sweepPublicAccessTokens(db, 100)).toBe(0);
  await age("8 days");
  expect(await sweepPublicAccessTokens(db, 100)).toBe(1);
});
