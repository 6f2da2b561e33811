/** Saved versions: recorded by who holds the workspace, kept while something needs them, pruned. */
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type ActingScope,
  ArtifactsNotReservedError,
  type ClaimedRun,
  claimRuns,
  createWait,
  expireLeases,
  failRestore,
  finishRuns,
  isLeaseHeld,
  type LeaseRef,
  listRunEvents,
  parkRun,
  readResume,
  recordVersion,
  releaseReservations,
  removeDiscardedArtifacts,
  reserveArtifacts,
  restoreVersion,
  type SavedTree,
  startRuns,
  sweepReservations,
  uuidv7,
} from "../src/index.ts";
import {
  type SeededTask,
  seedEnvironment,
  seedStartedSession,
  seedStream,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
  testDigest,
  testTree,
} from "../test-support/index.ts";

const compatibility = "gvisor test x64";
let database: TestDatabase;
let scope: ActingScope;
let worker: string;
let task: SeededTask;
beforeAll(async () => {
  database = await startTestDatabase();
  const environment = await seedEnvironment(database.db);
  ({ scope } = environment);
  worker = await seedWorker(database.db, environment.workerGroupId, {
    checkpoint_compatibility: compatibility,
  });
  task = await seedTask(database.db, scope);
  await seedStream(database.db, task, "answers", "input");
});
afterAll(() => database.stop());

interface Leased extends LeaseRef {
  readonly claimed: ClaimedRun;
}

async function lease(): Promise<Leased> {
  const [claimed] = await claimRuns(database.db, {
    workerInstanceId: worker,
    limit: 1,
    leaseDurationMs: 30_000,
  });
  if (claimed === undefined) throw new Error("nothing to claim");
  const ref = { workerInstanceId: worker, leaseId: claimed.lease_id, fencing: claimed.fencing };
  await startRuns(database.db, [{ ...ref, notes: [], guest: { pooled: false, startMs: 1 } }]);
  return { ...ref, claimed };
}

async function running(): Promise<Leased> {
  await seedStartedSession(database.db, scope, task);
  return await lease();
}

const finish = (run: LeaseRef) => finishRuns(database.db, [{ ...run, outcome: { status: "succeeded" } }]);

const record = ({ workerInstanceId, leaseId, fencing }: LeaseRef, tree: SavedTree, more = {}) =>
  recordVersion(database.db, {
    workerInstanceId,
    leaseId,
    fencing,
    reason: "run",
    tree,
    skipped: [],
    timings: { scan: 1 },
    keepSystemVersions: 50,
    ...more,
  });

async function save(run: LeaseRef, tree: SavedTree, more = {}): Promise<string> {
  await reserveArtifacts(database.db, run.leaseId, tree.artifacts);
  const recorded = await record(run, tree, more);
  if (recorded.status === "lost") throw new Error("the lease is lost");
  return recorded.versionId;
}

const workspaceOf = (run: Leased) =>
  database.db
    .selectFrom("workspaces")
    .selectAll()
    .where("id", "=", run.claimed.workspace_id)
    .executeTakeFirstOrThrow();
const versionsOf = (run: Leased) =>
  database.db
    .selectFrom("workspace_versions")
    .selectAll()
    .where("workspace_id", "=", run.claimed.workspace_id)
    .orderBy("created_at")
    .execute();
const eventsOf = (run: Leased) =>
  listRunEvents(database.db, scope, run.claimed.id, { after: 0, limit: 1000 });
const reservations = async (leaseId: string) =>
  (
    await database.db
      .selectFrom("artifact_reservations")
      .select("digest")
      .where("lease_id", "=", leaseId)
      .execute()
  ).map(({ digest }) => digest);
const noted = async () =>
  (await database.db.selectFrom("discarded_artifacts").select("digest").execute()).map(
    ({ digest }) => digest,
  );

/** What one sweep of everything that is noted removes. */
async function collect(): Promise<string[]> {
  const removed: string[] = [];
  const remove = async (digest: string) => {
    removed.push(digest);
  };
  await removeDiscardedArtifacts(database.db, { limit: 1000, graceMs: 0, remove });
  return removed.sort();
}

describe("recording", () => {
  test("a run's save becomes the current version, with its event; the next run starts with it", async () => {
    const run = await running();
    expect(run.claimed).toMatchObject({ base_version_id: null, workspace_state: "active" });
    const tree = testTree("a", "b");
    const id = await save(run, tree, { skipped: [{ path: "pipe", kind: "fifo" }] });
    expect(await reservations(run.leaseId)).toEqual([]);
    const [version] = await versionsOf(run);
    expect(version).toMatchObject({
      id,
      kind: "system",
      reason: "run",
      run_id: run.claimed.id,
      parent_version_id: null,
      manifest_digest: tree.manifestDigest,
      artifact_entry_count: 2,
    });
    expect(await workspaceOf(run)).toMatchObject({ current_version_id: id, dirty_state: "clean" });
    const saved = (await eventsOf(run)).find((event) => event.kind === "run.workspace_saved");
    expect(saved?.attributes).toMatchObject({
      workspace_version_id: id,
      skipped: [{ path: "pipe", kind: "fifo" }],
    });
    await expireLeases(database.db, { limit: 10, workerInstanceId: worker });
    const again = await lease();
    expect(again.claimed).toMatchObject({
      id: run.claimed.id,
      base_version_id: id,
      base_manifest_digest: tree.manifestDigest,
      workspace_is_here: false,
    });
    const lost = (await eventsOf(run)).find((event) => event.kind === "run.workspace_changes_lost");
    expect(lost?.attributes).toMatchObject({
      since_version_id: id,
      since: version?.created_at.toISOString(),
    });
    expect((await workspaceOf(run)).dirty_state).toBe("dirty_state_lost");
    const next = await save(again, testTree("a", "c"), { parentVersionId: id });
    expect((await versionsOf(run)).at(-1)).toMatchObject({ id: next, parent_version_id: id });
    expect((await workspaceOf(run)).dirty_state).toBe("clean");
    await finish(again);
  });

  test("the same content, also of a repeated request, is the version that is there", async () => {
    const run = await running();
    const tree = testTree("same");
    const id = await save(run, tree);
    expect(await record(run, tree)).toMatchObject({ status: "unchanged", versionId: id });
    // Packed otherwise: what was stored for it is given back.
    const packed = { ...testTree("other pack"), contentDigest: tree.contentDigest };
    expect(await save(run, packed)).toBe(id);
    expect(await versionsOf(run)).toHaveLength(1);
    expect(await reservations(run.leaseId)).toEqual([]);
    expect(await noted()).toEqual(expect.arrayContaining([packed.manifestDigest, testDigest("other pack")]));
    await finish(run);
  });

  test("another lease, worker or fencing number records and reserves nothing", async () => {
    const run = await running();
    const tree = testTree("late");
    await reserveArtifacts(database.db, run.leaseId, tree.artifacts);
    for (const wrong of [
      { leaseId: uuidv7() },
      { workerInstanceId: uuidv7() },
      { fencing: run.fencing - 1 },
    ]) {
      expect(await record({ ...run, ...wrong }, tree)).toEqual({ status: "lost" });
      expect(await isLeaseHeld(database.db, { ...run, ...wrong })).toBe(false);
    }
    expect(await isLeaseHeld(database.db, run)).toBe(true);
    await finish(run);
    expect(await record(run, tree)).toEqual({ status: "lost" });
    expect(await versionsOf(run)).toEqual([]);
  });

  test("artifacts count when they are reserved, the parent's, or referred to elsewhere; else it says which", async () => {
    const run = await running();
    const base = await save(run, testTree("kept", "old"));
    await save(run, testTree("another", "x"), { parentVersionId: base });
    const tree = testTree("kept", "new");
    await expect(record(run, tree, { parentVersionId: base })).rejects.toThrow(ArtifactsNotReservedError);
    // What of them was stored does not stay forever.
    expect(await noted()).toContain(testDigest("new"));
    await reserveArtifacts(database.db, run.leaseId, [tree.manifestDigest, testDigest("new")]);
    const recorded = await record(run, tree, { parentVersionId: base });
    expect(recorded.status).toBe("recorded");
    expect((await versionsOf(run)).at(-1)?.parent_version_id).toBe(base);
    // Of no version of this workspace's line, but referred to.
    await reserveArtifacts(database.db, run.leaseId, [testTree("x", "y").manifestDigest, testDigest("y")]);
    expect((await record(run, testTree("x", "y"))).status).toBe("recorded");
    // So many are not looked for one by one, wherever they are: they have to be reserved.
    const many = testTree(...Array.from({ length: 101 }, (_, n) => `many ${n}`));
    await reserveArtifacts(database.db, run.leaseId, many.artifacts);
    await record(run, many);
    const third = await running();
    await expect(record(third, many)).rejects.toThrow(ArtifactsNotReservedError);
    await reserveArtifacts(database.db, third.leaseId, many.artifacts);
    expect((await record(third, many)).status).toBe("recorded");
    await finish(third);
    // A parent that is not the workspace's does not count.
    const other = await running();
    await save(other, testTree("theirs"), { parentVersionId: base });
    expect((await versionsOf(other))[0]?.parent_version_id).toBeNull();
    await finish(run);
    await finish(other);
  });
});

describe("keeping and removing", () => {
  test("system versions beyond the number to keep go, but not the current one nor a checkpoint's", async () => {
    const run = await running();
    await database.db.deleteFrom("discarded_artifacts").execute();
    const ids: string[] = [];
    const keep = { keepSystemVersions: 2 };
    ids.push(await save(run, testTree("shared", "v0"), keep));
    const wait = await createWait(database.db, {
      ...run,
      number: 1,
      waitFor: { kind: "timer", dueAt: new Date(Date.now() + 3_600_000) },
      metadata: {},
      tags: [],
    });
    if (wait.status === "lost") throw new Error("the lease is lost");
    await sql`insert into run_checkpoints (id, run_id, wait_id, manifest, artifact_digest, size_bytes, workspace_version_id)
      values (${uuidv7()}, ${run.claimed.id}, ${wait.wait.id}, '{}', ${testDigest("image")}, 1, ${ids[0]})`.execute(
      database.db,
    );
    for (let n = 1; n < 5; n += 1) {
      const reason = n === 2 ? "request" : "run";
      ids.push(
        await save(run, testTree("shared", `v${n}`), { ...keep, reason, parentVersionId: ids.at(-1) }),
      );
    }
    const left = (await versionsOf(run)).map(({ id }) => id);
    expect(left).toEqual([ids[0], ids[2], ids[3], ids[4]]);
    const gone = [testTree("shared", "v1").manifestDigest, testDigest("v1")].sort();
    expect((await noted()).sort()).toEqual(gone);
    expect(await collect()).toEqual(gone);
    await finish(run);
  });

  test("a reservation keeps its artifact until its lease is over and it is old", async () => {
    const run = await running();
    const digest = testDigest("reserved");
    await reserveArtifacts(database.db, run.leaseId, [digest, digest]);
    await sql`insert into discarded_artifacts (digest) values (${digest}) on conflict do nothing`.execute(
      database.db,
    );
    expect(await collect()).not.toContain(digest);
    await sweepReservations(database.db, { limit: 1000, olderThanMs: 0 });
    expect(await reservations(run.leaseId)).toEqual([digest]);
    await finish(run);
    await sweepReservations(database.db, { limit: 1000, olderThanMs: 3_600_000 });
    expect(await reservations(run.leaseId)).toEqual([digest]);
    expect(await sweepReservations(database.db, { limit: 1000, olderThanMs: 0 })).toBeGreaterThan(0);
    expect(await reservations(run.leaseId)).toEqual([]);
    expect(await collect()).toContain(digest);
    // Of an upload that was given up.
    const upload = uuidv7();
    await reserveArtifacts(database.db, upload, [digest]);
    await releaseReservations(database.db, upload);
    expect(await collect()).toContain(digest);
  });
});

describe("a restore beside the claim of a queued run", () => {
  test("either it is refused, or the run starts with what was restored", async () => {
    const run = await running();
    const workspaceId = run.claimed.workspace_id;
    const first = await save(run, testTree("race", "1"));
    await save(run, testTree("race", "2"));
    await finish(run);
    const seen = { refused: 0, restored: 0 };
    for (let round = 0; round < 40; round += 1) {
      const { runId } = await seedStartedSession(database.db, scope, task);
      await sql`update runs set workspace_id = ${workspaceId}, priority = 9 where id = ${runId}`.execute(
        database.db,
      );
      const claim = () =>
        claimRuns(database.db, { workerInstanceId: worker, limit: 1, leaseDurationMs: 30_000 });
      const [claimed, restored] = await Promise.all([
        claim(),
        restoreVersion(database.db, scope, workspaceId, first, undefined).catch((error: unknown) => {
          expect(error).toMatchObject({ code: "workspace_in_use" });
          return undefined;
        }),
      ]);
      // Not claimed: the restore had locked it.
      const [got] = claimed.length > 0 ? claimed : await claim();
      expect(got?.id).toBe(runId);
      if (restored === undefined) seen.refused += 1;
      else {
        seen.restored += 1;
        expect(got?.base_version_id).toBe(restored.id);
      }
      const lease = { workerInstanceId: worker, leaseId: got?.lease_id ?? "", fencing: got?.fencing ?? 0 };
      await finish(lease);
    }
    expect(seen.refused + seen.restored).toBe(40);
  });
});

describe("parked runs", () => {
  test("the checkpoint's version goes along, and a checkpoint that is given up says what the retry starts with", async () => {
    const run = await running();
    const version = await save(run, testTree("parked"), { reason: "checkpoint" });
    const made = await createWait(database.db, {
      ...run,
      number: 1,
      waitFor: { kind: "stream", stream: "answers" },
      metadata: {},
      tags: [],
    });
    if (made.status === "lost") throw new Error("the lease is lost");
    const park = (workspaceVersionId: string) =>
      parkRun(database.db, {
        ...run,
        waitId: made.wait.id,
        manifest: { compatibility },
        artifactDigest: testDigest(`image of ${run.claimed.id}`),
        sizeBytes: 1,
        workspaceVersionId,
        timings: {},
      });
    await expect(park(uuidv7())).rejects.toThrow("no version of the run's workspace");
    const copy = uuidv7();
    await sql`insert into workspace_materializations (id, environment_id, project_id, workspace_id, deployment_sandbox_id,
        run_id, state) values (${copy}, ${scope.environmentId}, ${scope.projectId}, ${run.claimed.workspace_id},
        ${task.deploymentSandboxId}, ${run.claimed.id}, 'running')`.execute(database.db);
    await sql`insert into workspace_execs (id, environment_id, workspace_id, materialization_id, command, state)
      values (${copy}, ${scope.environmentId}, ${run.claimed.workspace_id}, ${copy}, '["top"]', 'running')`.execute(
      database.db,
    );
    expect((await park(version)).status).toBe("resolved");
    await sql`update workspace_execs set state = 'exited' where id = ${copy}`.execute(database.db);
    await sql`update workspace_materializations set state = 'stopped', ended_at = now() where id = ${copy}`.execute(
      database.db,
    );
    expect((await park(version)).status).toBe("parked");
    expect(await readResume(database.db, run.claimed.id)).toMatchObject({
      workspaceVersion: { id: version, manifestDigest: testTree("parked").manifestDigest },
    });
    await sql`update runs set status = 'queued', execution_status = 'resume_queued', available_at = now()
      where id = ${run.claimed.id}`.execute(database.db);
    const resumed = await lease();
    await failRestore(database.db, { ...resumed, message: "damaged", permanent: true });
    const failed = (await eventsOf(run)).find((event) => event.kind === "run.restore_failed");
    expect(failed?.attributes).toMatchObject({ checkpoint: "discarded", workspace_version_id: version });
  });
});
