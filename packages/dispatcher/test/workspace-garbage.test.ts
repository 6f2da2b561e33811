/**
 * Garbage collection never takes what a version or a checkpoint needs, and leaves nothing behind: workers, people and the
 * dispatcher at once, on a real database and a real store, without any grace period. Contents come from a small pool, so that
 * what was just removed is wanted again all the time. The seed is printed; HELMR_TEST_SEED repeats a run's choices.
 */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiError } from "@helmr/api";
import { type ArtifactStore, createFolderStore } from "@helmr/artifacts";
import { applyFiles, openVersion, WorkspaceVersionError } from "@helmr/artifacts/versions";
import {
  type ActingScope,
  ArtifactsNotReservedError,
  archiveWorkspace,
  claimRuns,
  createWait,
  createWorkspace,
  type Database,
  finishRuns,
  forkWorkspace,
  getVersion,
  getWorkspace,
  type LeaseRef,
  listVersions,
  listWorkspaces,
  markForDeletion,
  parkRun,
  purgeArchived,
  purgePage,
  readResume,
  recordUpload,
  recordVersion,
  releaseReservations,
  removeDiscardedArtifacts,
  reserveArtifacts,
  reserveVersion,
  restoreVersion,
  startRuns,
  sweepReservations,
  uuidv7,
} from "@helmr/store";
import {
  type SeededTask,
  seedEnvironment,
  seedStartedSession,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";

const seed = Number(process.env.HELMR_TEST_SEED ?? Date.now() % 2 ** 31);
const rounds = 12;
/** Shorter than a slow save takes under load: what it then finds missing is refused, never recorded. */
const reservationKeepMs = 2_000;

let database: TestDatabase;
let db: Database;
let folder: string;
let artifacts: ArtifactStore;
let scope: ActingScope;
let workerGroupId: string;
let task: SeededTask;
beforeAll(async () => {
  console.log(`HELMR_TEST_SEED=${seed}`);
  database = await startTestDatabase({ maxConnections: 20 });
  ({ db } = database);
  folder = await mkdtemp(join(tmpdir(), "helmr-garbage-"));
  artifacts = createFolderStore(folder);
  ({ scope, workerGroupId } = await seedEnvironment(db));
  task = await seedTask(db, scope);
  await sql`update deployments set source_digest = ${`sha256:${"0".repeat(64)}`}`.execute(db);
});
afterAll(async () => {
  await database.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Small and seeded: the same choices for the same seed, whatever the interleaving. */
function choices(of: string) {
  let state = [...of].reduce((sum, char) => Math.imul(sum ^ char.charCodeAt(0), 0x9e3779b1), seed) >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { below: (limit: number) => Math.floor(next() * limit), chance: (p: number) => next() < p };
}
type Choices = ReturnType<typeof choices>;

/** One of few: each is a pack of its own where it comes alone. */
const contentOf = (n: number) => Buffer.from(`content ${n}\n`.repeat(400));

/** A tree out of the pool on top of `base`, its artifacts reserved and stored. */
async function build(leaseId: string, base: string | undefined, pick: Choices) {
  const files = Array.from({ length: 1 + pick.below(3) }, () => ({
    path: `f${pick.below(4)}`,
    content: contentOf(pick.below(6)),
  }));
  return await applyFiles({
    artifacts,
    base: base === undefined ? undefined : { manifestDigest: base },
    replace: pick.chance(0.5),
    files,
    reserve: (digests) => reserveArtifacts(db, leaseId, digests),
  });
}

const encoded = <T extends object>(tree: T) => ({ ...tree, artifactEncoding: "helmr-tree-1" });

async function claim(workerInstanceId: string) {
  await seedStartedSession(db, scope, task);
  for (;;) {
    const [run] = await claimRuns(db, { workerInstanceId, limit: 1, leaseDurationMs: 600_000 });
    if (run !== undefined) {
      const lease = { workerInstanceId, leaseId: run.lease_id, fencing: run.fencing };
      await startRuns(db, [{ ...lease, notes: [], guest: { pooled: false, startMs: 1 } }]);
      return { run, lease };
    }
    await sleep(5);
  }
}

async function saveRun(lease: LeaseRef, base: string | undefined, pick: Choices) {
  const tree = await build(lease.leaseId, base, pick);
  const recorded = await recordVersion(db, {
    ...lease,
    reason: "run",
    tree: encoded(tree),
    skipped: [],
    timings: {},
    keepSystemVersions: 2,
  });
  if (recorded.status === "lost") throw new Error("the lease is lost");
  return recorded;
}

/** Runs that save again and again; what a worker holds is never missing for it. */
async function worker(name: string): Promise<void> {
  const pick = choices(name);
  const id = await seedWorker(db, workerGroupId);
  for (let round = 0; round < rounds / 2; round += 1) {
    const { run, lease } = await claim(id);
    let base = run.base_manifest_digest ?? undefined;
    for (let n = 0; n < 4; n += 1) {
      if (pick.chance(0.2)) await build(lease.leaseId, base, pick); // given up
      base = (await saveRun(lease, base, pick)).manifestDigest;
    }
    await finishRuns(db, [{ ...lease, outcome: { status: "succeeded" } }]);
  }
}

/** A run parks, goes on, saves much more than is kept: its checkpoint's version stays. Resolves to its run. */
async function parkedRun(name: string): Promise<{ readonly runId: string; readonly versionId: string }> {
  const pick = choices(name);
  // Nobody else's worker resumes it.
  const compatibility = `gvisor ${name}`;
  const id = await seedWorker(db, workerGroupId, { checkpoint_compatibility: compatibility });
  const { run, lease } = await claim(id);
  const { versionId } = await saveRun(lease, run.base_manifest_digest ?? undefined, pick);
  const wait = await createWait(db, {
    ...lease,
    number: 1,
    waitFor: { kind: "timer", dueAt: new Date(Date.now() + 3_600_000) },
    metadata: {},
    tags: [],
  });
  if (wait.status === "lost") throw new Error("the lease is lost");
  const parked = await parkRun(db, {
    ...lease,
    waitId: wait.wait.id,
    manifest: { compatibility },
    artifactDigest: `sha256:${"0".repeat(32)}${wait.wait.id.replaceAll("-", "")}`,
    sizeBytes: 1,
    workspaceVersionId: versionId,
    timings: {},
  });
  expect(parked.status).toBe("parked");
  await sql`update runs set status = 'queued', execution_status = 'resume_queued', available_at = now(), priority = 9
    where id = ${run.id}`.execute(db);
  for (;;) {
    const [again] = await claimRuns(db, { workerInstanceId: id, limit: 1, leaseDurationMs: 600_000 });
    if (again === undefined) {
      await sleep(5);
      continue;
    }
    const resumed = { workerInstanceId: id, leaseId: again.lease_id, fencing: again.fencing };
    if (again.id === run.id) {
      let base: string | undefined;
      for (let n = 0; n < 6; n += 1) base = (await saveRun(resumed, base, pick)).manifestDigest;
      return { runId: run.id, versionId };
    }
    await finishRuns(db, [{ ...resumed, outcome: { status: "succeeded" } }]);
  }
}

const refusals = new Set([404, 409]);
/** What a person may be told in the middle of all that; everything else fails the test. */
const toldNo = (error: unknown) =>
  (error instanceof ApiError && refusals.has(error.status)) ||
  error instanceof ArtifactsNotReservedError ||
  // The base of an upload into a workspace that was archived and emptied meanwhile.
  (error instanceof WorkspaceVersionError && error.reason === "artifact_missing");

/** Uploads, forks, restores and archives, on workspaces of anybody. */
async function person(name: string, done: { count: number }): Promise<void> {
  const pick = choices(name);
  for (let round = 0; round < rounds * 2; round += 1) {
    try {
      await act(pick);
      done.count += 1;
    } catch (error) {
      if (!toldNo(error)) throw error;
    }
  }
}

async function act(pick: Choices): Promise<void> {
  const known = await listWorkspaces(db, scope, { limit: 20 });
  const workspace = known[pick.below(known.length)];
  const what = pick.below(6);
  if (workspace === undefined || what === 0) {
    const request = { sandboxId: "box", metadata: {}, tags: [], idempotencyKeyTtlMs: 1000 };
    await upload((await createWorkspace(db, scope, request)).workspace.id, pick);
  } else if (what <= 2) await upload(workspace.id, pick);
  else if (what === 3) await forkWorkspace(db, scope, workspace.id, {});
  else if (what === 4) {
    const versions = await listVersions(db, scope, workspace.id, { limit: 10 });
    const version = versions[pick.below(versions.length)];
    if (version !== undefined) await restoreVersion(db, scope, workspace.id, version.id, undefined);
  } else if (pick.chance(0.5)) await archiveWorkspace(db, scope, workspace.id, 0);
}

async function upload(workspaceId: string, pick: Choices): Promise<void> {
  const current = (await getWorkspace(db, scope, workspaceId))?.current_version_id ?? undefined;
  const base = current === undefined ? undefined : await getVersion(db, scope, workspaceId, current);
  const leaseId = uuidv7();
  try {
    const tree = await build(leaseId, base?.manifest_digest, pick);
    if (pick.chance(0.2)) return; // given up
    await recordUpload(db, scope, {
      workspaceId,
      leaseId,
      baseVersionId: current,
      tree: encoded(tree),
      what: {},
    });
  } finally {
    // A crash in between: the sweep finds it.
    if (pick.chance(0.8)) await releaseReservations(db, leaseId);
  }
}

/** Reads versions that may go meanwhile; what is held is there. */
async function reader(name: string): Promise<void> {
  const pick = choices(name);
  for (let round = 0; round < rounds * 2; round += 1) {
    const known = await listWorkspaces(db, scope, { limit: 20 });
    const workspace = known[pick.below(known.length)];
    const [version] = workspace ? await listVersions(db, scope, workspace.id, { limit: 1 }) : [];
    if (version === undefined) {
      await sleep(5);
      continue;
    }
    const leaseId = uuidv7();
    if (await reserveVersion(db, version.id, leaseId)) await readAll(version.manifest_digest);
    await releaseReservations(db, leaseId);
  }
}

/** Every byte of every file; contents say themselves whether they are right. */
async function readAll(manifestDigest: string): Promise<number> {
  const tree = await openVersion(artifacts, manifestDigest);
  let files = 0;
  for (const entry of tree.entries()) {
    if (entry.kind !== "file") continue;
    const bytes = await buffer(tree.read(entry.pathBytes));
    const n = Number(/^content (\d+)\n/.exec(bytes.toString())?.[1]);
    expect(bytes.equals(contentOf(n))).toBe(true);
    files += 1;
  }
  return files;
}

const collect = () =>
  removeDiscardedArtifacts(db, { limit: 50, graceMs: 0, remove: (digest) => artifacts.delete(digest) });

async function dispatcher(isOver: () => boolean, removed: { count: number }): Promise<void> {
  while (!isOver()) {
    removed.count += await collect();
    await sweepReservations(db, { limit: 100, olderThanMs: reservationKeepMs });
    await purgeArchived(db);
    await sleep(1);
  }
}

async function storedDigests(): Promise<string[]> {
  const prefixes = await readdir(join(folder, "sha256"));
  const names = await Promise.all(prefixes.map((prefix) => readdir(join(folder, "sha256", prefix))));
  return names.flat();
}

test("what versions and checkpoints need is there, whoever saves, forks, deletes and sweeps; in the end nothing is left", async () => {
  let isOver = false;
  const [acted, removed] = [{ count: 0 }, { count: 0 }];
  const sweeping = [1, 2].map(() => dispatcher(() => isOver, removed));
  const working = [
    ...["w1", "w2", "w3"].map(worker),
    ...["p1", "p2", "p3"].map((name) => person(name, acted)),
    ...["r1", "r2"].map(reader),
  ];
  const parking = ["c1", "c2"].map(parkedRun);
  try {
    await Promise.all([...working, ...parking]);
  } finally {
    isOver = true;
    await Promise.allSettled([...working, ...parking]);
    await Promise.all(sweeping);
  }
  // It was about something.
  expect(acted.count).toBeGreaterThan(rounds);
  expect(removed.count).toBeGreaterThan(rounds);

  const versions = await db.selectFrom("workspace_versions").select(["id", "manifest_digest"]).execute();
  expect(versions.length).toBeGreaterThan(5);
  for (const { manifest_digest } of versions) await readAll(manifest_digest);
  for (const parked of parking) {
    const { runId, versionId } = await parked;
    expect(versions.map(({ id }) => id)).toContain(versionId);
    expect((await readResume(db, runId))?.workspaceVersion?.id).toBe(versionId);
  }

  await sql`update environments set slug = 'gone' where id = ${scope.environmentId}`.execute(db);
  await markForDeletion(db, scope, scope, { force: true });
  while ((await purgePage(db)) !== undefined);
  await sweepReservations(db, { limit: 10_000, olderThanMs: 0 });
  while ((await collect()) > 0);
  expect(await storedDigests()).toEqual([]);
}, 180_000);
